-- The numbers of objects (types, ids); those that have none get one. Nobody else may number objects meanwhile.
with wanted as materialized (
         select * from unnest($1::text[], $2::text[]) as it (object_type, object_id)),
     known as materialized (
         select no, object_type, object_id from wanted join objects using (object_type, object_id)),
     entered as (
         insert into objects (object_type, object_id)
         select object_type, object_id from wanted
          where (object_type, object_id) not in (select object_type, object_id from known)
         returning no, object_type, object_id)
select no, object_type, object_id from known
 union all
select no, object_type, object_id from entered
