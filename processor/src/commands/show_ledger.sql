-- Every source with its position and how its records ended.
select topic || '/' || partition as name, owner_epoch, next_offset, consumed, stored, duplicate,
       dead_lettered, skipped
  from consumer_ledger
 order by topic, partition, incarnation
