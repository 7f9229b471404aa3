-- Everything that is folded.
select facet, at, kind, body from statistics_cells
