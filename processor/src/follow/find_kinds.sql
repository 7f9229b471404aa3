-- The numbers of kinds of actions that have one: event types, sources, object types, whether there
-- is an object.
select no, event_type, source, object_type, has_object::text
  from unnest($1::text[], $2::text[], $3::text[], $4::text[])
       as wanted (event_type, source, object_type, object)
  join action_kinds using (event_type, source, object_type)
 where has_object = wanted.object::boolean
