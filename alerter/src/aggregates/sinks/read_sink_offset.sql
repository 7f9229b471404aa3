-- The first offset of a partition whose windows are not in the table.
-- $1: the topic's id, $2: the partition.
select next_offset from sink_offsets where topic_id = $1 and partition = $2
