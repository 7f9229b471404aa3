-- Rows of given counters before given marks: sources, their marks; object types, ids, event types.
select e.object_type, e.object_id, e.event_type, count(*)
  from unnest($3::text[], $4::text[], $5::text[]) as c (object_type, object_id, event_type)
  join events as e using (object_type, object_id, event_type)
  join unnest($1::int[], $2::bigint[]) as m (source, next_offset)
    on m.source = (e.src >> 44)::int and (e.src & ((1::bigint << 44) - 1)) < m.next_offset
 group by 1, 2, 3
