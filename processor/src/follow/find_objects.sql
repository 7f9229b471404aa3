-- The numbers of objects (types, ids), of those that have one.
select no, object_type, object_id
  from unnest($1::text[], $2::text[]) as wanted (object_type, object_id)
  join objects using (object_type, object_id)
