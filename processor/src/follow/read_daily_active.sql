-- The users of these days, or of all.
select day, users from daily_active where $1::date[] is null or day = any($1)
