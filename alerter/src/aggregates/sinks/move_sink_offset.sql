-- Moves a partition on from $4 to $5; no row where somebody else has moved it further already.
-- $1: the topic's id, $2: the partition, $3: the topic's name, for people.
insert into sink_offsets as known (topic_id, partition, topic, next_offset)
values ($1, $2, $3, $5)
on conflict (topic_id, partition) do update
   set next_offset = excluded.next_offset, topic = excluded.topic, updated_at = now()
 where known.next_offset <= $4
