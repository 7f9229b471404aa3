-- Numbers kinds of actions (event types, sources, object types, whether there is an object), sorted
-- by the caller; one that somebody else numbers meanwhile is left out.
insert into action_kinds (event_type, source, object_type, has_object)
select event_type, source, object_type, object::boolean
  from unnest($1::text[], $2::text[], $3::text[], $4::text[])
       as wanted (event_type, source, object_type, object)
on conflict do nothing
returning no, event_type, source, object_type, has_object::text
