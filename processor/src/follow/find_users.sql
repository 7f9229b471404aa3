-- The numbers of users, of those that have one.
select no, id from users where id = any($1)
