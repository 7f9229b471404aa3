-- The rows before the statistics' marks by UTC day (since 1970) and kind of action, and all kinds together
-- as 0: how many, of how many users, and how many with an object.
select floor(extract(epoch from e.occurred_at) / 86400)::int, coalesce(k.no, 0),
       count(*), count(distinct e.user_id), count(e.object_type)
  from events as e
  join statistics_marks as m
    on m.source = (e.src >> 44)::int and (e.src & ((1::bigint << 44) - 1)) < m.next_offset
  left join action_kinds as k
    on k.event_type = e.event_type and k.source = e.source
   and k.object_type = coalesce(e.object_type, '') and k.has_object = (e.object_type is not null)
 group by grouping sets ((floor(extract(epoch from e.occurred_at) / 86400)::int, k.no),
                         (floor(extract(epoch from e.occurred_at) / 86400)::int))
