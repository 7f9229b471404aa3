-- The numbers of event types that have one.
select no, event_type from event_types where event_type = any($1)
