-- The oldest deltas, with so many events ($1) and those of one more.
select id, facts
  from (select id, facts, sum(events) over (order by id) - events as before
          from statistics_deltas) as d
 where before < $1
