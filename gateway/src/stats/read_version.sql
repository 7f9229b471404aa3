-- What an answer about UTC days ($1 inclusive, $2 exclusive) rests on: it changes whenever an event of
-- theirs is added, and when Postgres may have forgotten some.
select coalesce((select n from generation), 0),
       coalesce((select sum(mark) from statistics_days where day >= $1 and day < $2), 0)::bigint
