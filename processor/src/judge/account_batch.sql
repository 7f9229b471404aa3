-- Adds how the records of a batch ended; the row is locked by advance_ledger already.
update consumer_ledger
   set consumed = consumed + $2,
       stored = stored + $3,
       duplicate = duplicate + $4,
       dead_lettered = dead_lettered + $5,
       skipped = skipped + $6,
       witness_offset = coalesce($7, witness_offset),
       witness_timestamp_ms = coalesce($8, witness_timestamp_ms),
       witness_hash = coalesce($9, witness_hash)
 where source = $1
