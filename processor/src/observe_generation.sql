-- The recorded generation, and whether this server is the one it was recorded on.
-- The timeline comes from the current write position: pg_control_checkpoint() is stale for minutes
-- after a promotion. On a standby there is no write position, and nothing may be judged.
select g.n,
       coalesce(g.system_identifier = s.system_identifier
                and g.timeline = left(pg_walfile_name(pg_current_wal_lsn()), 8), false) as same_server
  from pg_control_system() as s
  left join generation as g on true
