-- Every source and how far it is judged.
select source, incarnation, topic, partition, next_offset from consumer_ledger order by source
