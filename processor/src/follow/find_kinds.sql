-- The numbers of kinds of actions (event types, sources, object types, whether there is an object), of those that
-- have one.
select no, event_type, source, object_type, has_object::text
  from (select event_type, source, object_type, has_object::boolean
          from unnest($1::text[], $2::text[], $3::text[], $4::text[])
               as it (event_type, source, object_type, has_object)) as wanted
  join action_kinds using (event_type, source, object_type, has_object)
