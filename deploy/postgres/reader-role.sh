#!/bin/sh
# Run once by the Postgres image after create-role.sh, or by hand on a server from before: dashboards read, and nothing
# they ask may write or take the programs' server for long.
set -eu
psql -v ON_ERROR_STOP=1 -v password="$TALLYMAN_READER_PASSWORD" --username postgres --dbname tallyman <<'END'
create role tallyman_reader login password :'password';
alter role tallyman_reader set default_transaction_read_only = on;
alter role tallyman_reader set statement_timeout = '15s';
-- Compiling a query over the leaves of many days takes longer than it saves.
alter role tallyman_reader set jit = off;
grant select on all tables in schema public to tallyman_reader;
alter default privileges for role tallyman grant select on tables to tallyman_reader;
END
