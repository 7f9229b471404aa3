-- How far a source ($1) is judged, and in which generation.
select l.next_offset, g.n from consumer_ledger as l, generation as g where l.source = $1
