-- The days that have users: after a crash Redis may not show all of them yet.
select distinct day from users_of_days
