-- What was mirrored of the relay's mark of a source, and whether anything was judged at all.
select relayed_to, next_offset > start_offset from consumer_ledger where source = $1
