-- Writes the counts of objects ($1, in order), each a part ($2 to $3) of event types ($4) and counts ($5).
insert into object_counts_by_object (object, event_types, counts)
select object, ($4::int[])[first:last], ($5::bigint[])[first:last]
  from unnest($1::int[], $2::int[], $3::int[]) as it (object, first, last)
on conflict (object) do update set event_types = excluded.event_types, counts = excluded.counts
