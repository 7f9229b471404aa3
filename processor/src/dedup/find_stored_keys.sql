-- Which of these keys are stored.
select event_key from event_keys where event_key = any($1)
