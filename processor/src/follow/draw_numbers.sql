-- Draws so many numbers in a row ($2) for new names of a kind, whose table is $1; returns the last. Nobody else may
-- draw meanwhile.
with numbered as materialized (select pg_get_serial_sequence($1, 'no')::regclass as sequence)
select setval(sequence, nextval(sequence) + $2::int - 1)::int from numbered
