-- Enters a job; forgets those that ended a month ago, since their rejects are people's data.
with forgotten as (
    delete from imports where finished_at < now() - interval '30 days'
)
insert into imports (id, name, owner, dry_run, reading, bytes)
values ($1, $2, $3, $4, $5, $6)
