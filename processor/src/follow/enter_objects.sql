-- Numbers objects (types, ids), sorted by the caller; one that somebody else numbers meanwhile is
-- left out.
insert into objects (object_type, object_id)
select * from unnest($1::text[], $2::text[])
on conflict do nothing
returning no, object_type, object_id
