-- Brings windows to the table; of several records of one window the last counts. A count only
-- grows, so a record that says less is an old one, from the topic of before a change of sinks.
-- Returns how many were left out because retention has removed their window, or will.
-- $1: an array of values of `action-aggregates`, in their order; $2: the earliest start that is
-- kept, or null.
with told as (
    select member.*, place
      from unnest($1::jsonb[]) with ordinality as record(value, place),
           lateral (
               select (value ->> 'windowStart')::timestamptz as window_start,
                      (value ->> 'windowEnd')::timestamptz as window_end,
                      value ->> 'source' as source, value ->> 'type' as event_type,
                      value ->> 'objectType' as object_type, value ->> 'objectId' as object_id,
                      (value ->> 'count')::bigint as count, (value ->> 'users')::bigint as users,
                      (value ->> 'usersError')::double precision as users_error
           ) as member
), stored as (
    insert into action_aggregates as known (
        window_start, window_end, source, event_type, object_type, object_id, count, users, users_error
    )
    select distinct on (window_start, window_end, source, event_type, object_type, object_id)
           window_start, window_end, source, event_type, object_type, object_id, count, users, users_error
      from told
     where $2::timestamptz is null or window_start >= $2
     order by window_start, window_end, source, event_type, object_type, object_id, place desc
    on conflict (window_start, window_end, source, event_type, object_type, object_id) do update
       set count = excluded.count, users = excluded.users, users_error = excluded.users_error,
           updated_at = now()
     where excluded.count >= known.count
)
select count(*) from told where window_start < $2
