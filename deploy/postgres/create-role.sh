#!/bin/sh
# Run once by the Postgres image on an empty volume: the daemons' role owns its database and is no superuser.
set -eu
psql -v ON_ERROR_STOP=1 -v password="$TALLYMAN_DB_PASSWORD" --username postgres <<'END'
create role tallyman login password :'password';
create database tallyman owner tallyman;
END
