-- Adds notifications to the history; those that are there already stay as they are.
-- $1: an array of CloudEvents as in the topic `notifications`.
insert into notifications (
    id, rule, severity, status, subject, object_type, object_id, user_id,
    observed, expected, score, text, occurred_at, data
)
select
    event ->> 'id', data ->> 'rule', data ->> 'severity', data ->> 'status', event ->> 'subject',
    data ->> 'objectType', data ->> 'objectId', data ->> 'userId',
    (data ->> 'observed')::double precision, (data ->> 'expected')::double precision,
    (data ->> 'score')::double precision, data ->> 'text', (event ->> 'time')::timestamptz, data
from unnest($1::jsonb[]) as event, lateral (select event -> 'data' as data) as member
on conflict do nothing
