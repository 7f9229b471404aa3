-- Makes the caller the owner of a source; its row is made at the low watermark ($4) when there is
-- none. Waits for a transaction of the former owner to end; after this its next one fails.
-- Updated first: an upsert would burn a source number at every take.
with taken as (
    update consumer_ledger set owner_epoch = owner_epoch + 1
     where topic = $1 and partition = $2
    returning *
), made as (
    insert into consumer_ledger (topic, partition, topic_id, owner_epoch, start_offset, next_offset)
    select $1, $2, $3, 1, $4, $4 where not exists (select from taken)
    returning *
)
select source, incarnation, topic_id, owner_epoch, start_offset, next_offset,
       witness_offset, witness_timestamp_ms, witness_hash
  from (select * from taken union all select * from made) as ledger
