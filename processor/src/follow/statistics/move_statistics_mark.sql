-- Moves the mark of a source ($1) from $2 to $3; no row when it is not at $2.
update statistics_marks set next_offset = $3, moved_at = now() where source = $1 and next_offset = $2
