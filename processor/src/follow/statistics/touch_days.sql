-- Notes that a source ($1), now at $3, has added to these UTC days.
insert into statistics_days (day, source, mark)
select day, $1, $3 from unnest($2::date[]) as day
on conflict (day, source) do update set mark = excluded.mark
