-- Events number $1 to $2 of $3, evenly over thirty days: half a million users of whom a few do most, 50,000
-- objects, ten types, three sources.
insert into events (event_id, event_type, user_id, object_type, object_id, occurred_at, received_at, source,
                    session_id, properties, context, event_key, src, stored_on)
select 'e' || n,
       (array['view', 'view', 'view', 'view', 'play', 'pause', 'share', 'like', 'like', 'comment', 'search',
              'login', 'logout', 'purchase', 'refund'])[1 + (random() * 14.99)::int % 15],
       'u' || floor(random() * random() * 500000)::int, 'post', floor(random() * random() * 50000)::int::text,
       '2026-10-01T00:00:00Z'::timestamptz + n * (interval '30 days' / $3::bigint),
       now(), (array['web', 'ios', 'android'])[1 + floor(random() * 3)::int], null, '{}', '{}',
       gen_random_uuid(), (1::bigint << 44) + n, (now() at time zone 'utc')::date
  from generate_series($1::bigint, $2::bigint) as n
