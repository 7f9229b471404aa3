-- How far a source ($1) is rolled up; its mark is made where judging began.
with made as (
    insert into rollup_marks (source, next_offset)
    select source, start_offset from consumer_ledger where source = $1
    on conflict do nothing
    returning next_offset
)
select next_offset from made
union all
select next_offset from rollup_marks where source = $1
limit 1
