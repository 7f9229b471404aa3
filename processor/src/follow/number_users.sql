-- The numbers of users; those that have none get one. Nobody else may number users meanwhile.
with known as materialized (select no, id from users where id = any($1)),
     entered as (
         insert into users (id)
         select id from unnest($1::text[]) as wanted (id) where id not in (select id from known)
         returning no, id)
select no, id from known union all select no, id from entered
