-- How far the statistics of a source ($1) reach; the mark is made where judging began.
with made as (
    insert into statistics_marks (source, next_offset)
    select source, start_offset from consumer_ledger where source = $1
    on conflict do nothing
    returning next_offset
)
select next_offset from made
union all
select next_offset from statistics_marks where source = $1
limit 1
