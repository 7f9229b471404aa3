-- What counters, rollups and statistics need of the events of one source between two positions
-- ($1 inclusive, $2 exclusive), in offset order.
select event_type, source, user_id, object_type, object_id, occurred_at, src
  from events
 where src >= $1 and src < $2
 order by src
