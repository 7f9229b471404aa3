#!/usr/bin/env bash
# One Redis server on 127.0.0.1 that keeps what it is told: start DIR PORT | stop | kill | status | url DIR.
. "$(dirname "$0")/lib.sh"

initialise() { :; }

configure() {
  cat >"$dir/redis.conf" <<END
bind 127.0.0.1
port $port
dir "$dir/data"
# The command line stays as it is: by it the scripts know their server.
set-proc-title no
# Every test takes one of its own.
databases 256

# Counters live here: never evicted, kept across restarts; snapshots would only repeat the log.
maxmemory-policy noeviction
appendonly yes
appendfsync everysec
save ""
# Rewriting is for a log that has grown large, not for every doubling of a small one.
auto-aof-rewrite-min-size 512mb
# Deduplication keeps its ids in hashes small enough for the compact encoding.
hash-max-listpack-entries 256
END
  # shellcheck disable=SC2034 # lib.sh starts it
  command=(redis-server "$dir/redis.conf")
}

answers() { [ "$(timeout 2 redis-cli -h 127.0.0.1 -p "$port" ping 2>/dev/null)" = PONG ]; }

url() { echo "redis://127.0.0.1:$port"; }

serve "$@"
