-- Records this server; the generation rises unless another session has recorded it meanwhile.
with here as (
    select system_identifier, left(pg_walfile_name(pg_current_wal_lsn()), 8) as timeline
      from pg_control_system()
)
insert into generation as g (n, system_identifier, timeline)
select 1, system_identifier, timeline from here
on conflict (singleton) do update
   set n = g.n + (g.system_identifier <> excluded.system_identifier
                  or g.timeline <> excluded.timeline)::int,
       system_identifier = excluded.system_identifier,
       timeline = excluded.timeline
returning n
