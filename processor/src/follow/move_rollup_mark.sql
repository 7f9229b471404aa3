-- Moves the mark of a source ($1) from $2 to $3; no row when it is not at $2.
update rollup_marks set next_offset = $3 where source = $1 and next_offset = $2
