-- The numbers of kinds of actions (event types, sources, object types, whether there is an object); those
-- that have none get one. Nobody else may number kinds meanwhile.
with wanted as materialized (
         select event_type, source, object_type, object::boolean as has_object
           from unnest($1::text[], $2::text[], $3::text[], $4::text[])
                as it (event_type, source, object_type, object)),
     known as materialized (
         select no, event_type, source, object_type, has_object
           from wanted join action_kinds using (event_type, source, object_type, has_object)),
     entered as (
         insert into action_kinds (event_type, source, object_type, has_object)
         select event_type, source, object_type, has_object from wanted
          where (event_type, source, object_type, has_object)
                not in (select event_type, source, object_type, has_object from known)
         returning no, event_type, source, object_type, has_object)
select no, event_type, source, object_type, has_object::text from known
 union all
select no, event_type, source, object_type, has_object::text from entered
