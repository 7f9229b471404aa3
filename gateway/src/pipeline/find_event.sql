-- The event of a key on the day it was stored; from $3 on, so that the index on the time helps.
select event_type, user_id, object_type, object_id, source, occurred_at, received_at, src
  from events
 where stored_on = $1 and event_key = $2 and occurred_at >= $3
 limit 1
