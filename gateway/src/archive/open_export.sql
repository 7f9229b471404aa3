-- Opens a cursor over all events of a time ($1 inclusive, $2 exclusive) with a type, user, object type,
-- object id and source, each if it is given, in the order in which they are stored; at most $8.
declare exported no scroll cursor for
select event_id, event_type, user_id, object_type, object_id, occurred_at, received_at, source,
       session_id, properties::text as properties, context::text as context
  from events
 where occurred_at >= $1 and occurred_at < $2
   and ($3::text is null or event_type = $3)
   and ($4::text is null or user_id = $4)
   and ($5::text is null or object_type = $5)
   and ($6::text is null or object_id = $6)
   and ($7::text is null or source = $7)
 limit $8::bigint
