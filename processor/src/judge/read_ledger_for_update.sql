-- Who owns a source and how far it is judged; waits for a commit that is still on its way.
select owner_epoch, next_offset from consumer_ledger where source = $1 for update
