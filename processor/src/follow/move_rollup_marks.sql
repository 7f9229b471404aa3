-- Moves the marks of a source ($1), its rollups' from $2 and its statistics' from $3, to $4 unless they are
-- farther; no row when one is not where it was thought to be.
with rolled_up as (
    update rollup_marks set next_offset = greatest(next_offset, $4)
     where source = $1 and next_offset = $2
    returning source
)
update statistics_marks as m set next_offset = greatest(m.next_offset, $4), moved_at = now()
  from rolled_up
 where m.source = rolled_up.source and m.next_offset = $3
