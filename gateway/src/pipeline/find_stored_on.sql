-- The day on which the event of a key was stored.
select stored_on from event_keys where event_key = $1
