-- Removes the oldest windows that start before $1, at most $2 rows; none while another session does.
with turn as materialized (
    select pg_try_advisory_xact_lock(
               hashtextextended('tallyman/aggregates/' || current_schema(), 0)) as is_ours
)
delete from action_aggregates
 where ctid = any (array(
     select expired.ctid
       from action_aggregates as expired, turn
      where turn.is_ours and expired.window_start < $1
      order by expired.window_start
      limit $2
 ))
