#!/usr/bin/env bash
# One PostgreSQL server on 127.0.0.1 with the database `tallyman`: start DIR PORT | stop | kill | status | url DIR.
# DIR/password belongs to the daemons' role `tallyman`, DIR/reader-password to the dashboards' `tallyman_reader`,
# DIR/superuser-password to `postgres`.
. "$(dirname "$0")/lib.sh"

# shellcheck disable=SC2034 # lib.sh uses it: the fast shutdown, which does not wait for clients
stop_signal=INT
# The newest server: a newer directory may hold clients alone.
bin=$(compgen -G '/usr/lib/postgresql/*/bin/postgres' | sort -V | tail -n 1) || bin=$(command -v postgres || echo /none/postgres)
bin=$(dirname "$bin")

initialise() {
  secret >"$dir/password"
  secret >"$dir/reader-password"
  secret >"$dir/superuser-password"
  give_away
  # No socket, hence no peer authentication: everybody comes over the loopback with a password.
  "${unprivileged[@]}" "$bin/initdb" --pgdata="$1" --username=postgres --pwfile="$dir/superuser-password" \
    --auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 --no-sync
  echo "include 'tallyman.conf'" >>"$1/postgresql.conf"
  settings >"$1/tallyman.conf"
  give_away
  # The role owns its database, may make others (each test has its own) and ask for a checkpoint (a
  # benchmark begins with one), nothing more. The reader's rights are those
  # of deploy/postgres/reader-role.sh; told in the template, they hold in every database that comes.
  "${unprivileged[@]}" "$bin/postgres" --single -D "$1" template1 <<END
create role tallyman login createdb password '$(cat "$dir/password")'
grant pg_checkpoint to tallyman
create role tallyman_reader login password '$(cat "$dir/reader-password")'
alter role tallyman_reader set default_transaction_read_only = on
alter role tallyman_reader set statement_timeout = '15s'
alter role tallyman_reader set jit = off
alter default privileges for role tallyman grant select on tables to tallyman_reader
create database tallyman owner tallyman
END
}

configure() {
  settings >"$dir/data/tallyman.conf"
  # No server of ours runs (start has looked); a stranger with the old process id must not forbid the start.
  rm -f "$dir/data/postmaster.pid"
  command=("$bin/postgres" -D "$dir/data")
}

settings() {
  cat <<END
listen_addresses = '127.0.0.1'
port = $port
unix_socket_directories = ''
max_connections = 200
shared_buffers = 256MB
max_wal_size = 4GB
# The daemons refuse a server that acknowledges before it has stored.
fsync = on
synchronous_commit = on
END
}

answers() { [ "$(PGCONNECT_TIMEOUT=2 psql "$(url)" -AXtqc 'select 1' 2>/dev/null)" = 1 ]; }

url() { echo "postgres://tallyman:$(cat "$dir/password")@127.0.0.1:$port/tallyman"; }

serve "$@"
