-- The numbers of users that have one.
select no, id from users where id = any($1)
