-- The numbers of event types; those that have none get one. Nobody else may number event types meanwhile.
with known as materialized (select no, event_type from event_types where event_type = any($1)),
     entered as (
         insert into event_types (event_type)
         select event_type from unnest($1::text[]) as wanted (event_type)
          where event_type not in (select event_type from known)
         returning no, event_type)
select no, event_type from known union all select no, event_type from entered
