-- Mirrors the relay's mark of a source ($1); never backwards.
update consumer_ledger set relayed_to = $2 where source = $1 and relayed_to is distinct from greatest(relayed_to, $2)
