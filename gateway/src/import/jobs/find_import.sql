-- One job as it is now.
select id, name, owner, state, dry_run, reading, bytes, bytes_read, accepted, rejected, rate, eta, rejects,
       first_events, detail, created_at, finished_at, as_of
  from imports
 where id = $1
