-- A source of so many records ($1), all judged.
insert into consumer_ledger (topic, partition, topic_id, start_offset, next_offset, consumed, stored)
values ('bench', 0, gen_random_uuid(), 0, $1, $1, $1)
