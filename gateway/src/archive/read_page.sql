-- The newest events from $1 on that lie behind a place (time $2, position $3), with a type, user, object
-- type, object id and source, each if it is given; at most $9.
select event_id, event_type, user_id, object_type, object_id, occurred_at, received_at, source,
       session_id, properties::text as properties, context::text as context, src
  from events
 where occurred_at >= $1 and occurred_at <= $2 and (occurred_at, src) < ($2, $3::bigint)
   and ($4::text is null or event_type = $4)
   and ($5::text is null or user_id = $5)
   and ($6::text is null or object_type = $6)
   and ($7::text is null or object_id = $7)
   and ($8::text is null or source = $8)
 order by occurred_at desc, src desc
 limit $9
