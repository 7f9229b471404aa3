-- Numbers users, sorted by the caller; one that somebody else numbers meanwhile is left out.
insert into users (id) select unnest($1::text[]) on conflict do nothing returning no, id
