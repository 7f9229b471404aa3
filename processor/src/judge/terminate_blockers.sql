-- Ends the sessions at the root of what our sessions ($1 is their application name) have waited
-- for longer than five seconds: those that block and are not blocked themselves. Only sessions of
-- the same role and name are ended.
with recursive waiting as (
    select a.pid, unnest(pg_blocking_pids(a.pid)) as blocker
      from pg_stat_activity as a
     where a.application_name = $1
       and a.usename = current_user
       and a.datname = current_database()
       and a.wait_event_type = 'Lock'
       and a.query_start < clock_timestamp() - interval '5 seconds'
), chain as (
    select blocker from waiting
    union
    select unnest(pg_blocking_pids(chain.blocker)) from chain
)
select pg_terminate_backend(a.pid)
  from chain
  join pg_stat_activity as a on a.pid = chain.blocker
 where cardinality(pg_blocking_pids(a.pid)) = 0
   and a.application_name = $1
   and a.usename = current_user
