-- Each user's number, and the quarter of an hour (since 1970) of the first of their rows before the
-- statistics' marks.
select u.no, floor(extract(epoch from min(e.occurred_at)) / 900)::int
  from events as e
  join statistics_marks as m
    on m.source = (e.src >> 44)::int and (e.src & ((1::bigint << 44) - 1)) < m.next_offset
  join users as u on u.id = e.user_id
 group by u.no
