-- Numbers event types, sorted by the caller; one that somebody else numbers meanwhile is left out.
insert into event_types (event_type) select unnest($1::text[]) on conflict do nothing
returning no, event_type
