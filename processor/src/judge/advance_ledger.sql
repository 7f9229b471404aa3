-- Moves the ledger to $4 if this owner ($2) holds the source ($1) at $3; raises TM001 otherwise.
-- Returns the generation of Postgres this transaction lives in.
select advance_ledger($1, $2, $3, $4)
