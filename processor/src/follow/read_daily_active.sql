-- The users of these days.
select day, users from daily_active where day = any($1)
