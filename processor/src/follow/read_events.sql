-- The events of one source between two positions ($1 inclusive, $2 exclusive), in offset order.
select event_id, event_type, user_id, object_type, object_id, occurred_at, received_at, source,
       session_id, properties::text as properties, context::text as context, event_key, src
  from events
 where src >= $1 and src < $2
 order by src
