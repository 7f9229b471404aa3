-- The numbers of event types, of those that have one.
select no, event_type from event_types where event_type = any($1)
