# shellcheck shell=bash disable=SC2034
# What the commands of ./dev share: how they speak, the ports, the three servers, the file .dev/env.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
mkdir -p .dev/log
# shellcheck source=../native/install.sh
. deploy/native/install.sh

if [ -t 1 ] && [ -z "${NO_COLOR-}" ] && [ "${TERM-dumb}" != dumb ]; then
  bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' blue=$'\e[34m' plain=$'\e[0m'
else
  bold='' dim='' red='' blue='' plain=''
fi

# say WHAT TEXT: one aligned line.
say() { printf '%s%-10s%s %s\n' "$bold" "$1" "$plain" "$2"; }

fail() {
  printf '%s%s%s\n' "$red" "$1" "$plain" >&2
  shift
  [ $# = 0 ] || printf '%s\n' "$@" >&2
  exit 1
}

misuse() {
  printf '%s%s%s; ./dev lists what there is\n' "$red" "$1" "$plain" >&2
  exit 2
}

later() { misuse "$1 is not built yet"; }

# Seconds with one digit since the moment $1 (a value of EPOCHREALTIME).
since() { awk -v a="${1/,/.}" -v b="${EPOCHREALTIME/,/.}" 'BEGIN { printf "%.1f s", b - a }'; }

servers=(kafka postgres redis)
programs=(gateway processor alerter)
release=${CARGO_TARGET_DIR:-target}/release

gateway_port='' processor_port='' alerter_port='' kafka_port='' postgres_port='' redis_port=''

# What runs keeps its port, so that a second `up` needs no variables.
load_ports() {
  local name default variable chosen
  for name in gateway:8080 processor:9101 alerter:9102 kafka:9092 postgres:5432 redis:6379; do
    default=${name#*:} name=${name%:*} variable=DEV_${name^^}_PORT
    if runs "$name"; then default=$(cat ".dev/ports/$name"); fi
    chosen=${!variable:-$default}
    [[ $chosen =~ ^[1-9][0-9]{0,4}$ && $chosen -le 65535 ]] || misuse "$variable=$chosen is not a port"
    declare -g "${name}_port=$chosen"
  done
}

port_of() { local variable=$1_port && echo "${!variable}"; }

# claim_port NAME: it is free or what listens there is ours.
claim_port() {
  local port
  port=$(port_of "$1")
  if runs "$1"; then
    [ "$port" = "$(cat ".dev/ports/$1")" ] || fail "$1 runs on port $(cat ".dev/ports/$1"), not $port; ./dev down stops it"
  elif listening "$port"; then
    fail "port $port for $1 is in use by another program; choose one: DEV_${1^^}_PORT=$(((port + 10000) % 50000 + 1)) ./dev up"
  fi
  mkdir -p .dev/ports
  echo "$port" >".dev/ports/$1"
}

listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# By the process id and the command line: an id may long be another's.
runs() {
  local file=.dev/$1.pid mark=/$1
  if [ -d ".dev/data/$1" ]; then file=.dev/data/$1/pid mark=.dev/data/$1; fi
  grep -qsaF "$mark" "/proc/$(cat "$file" 2>/dev/null)/cmdline"
}

# start_servers DIR: on the ports $kafka_port, $postgres_port, $redis_port; their addresses into the environment.
start_servers() {
  local name begun=$EPOCHREALTIME pids=()
  for name in "${servers[@]}"; do
    "deploy/native/$name.sh" start "$1/$name" "$(port_of "$name")" &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || fail "the servers did not start"; done
  KAFKA_BROKERS=$(deploy/native/kafka.sh url "$1/kafka")
  DATABASE_URL=$(deploy/native/postgres.sh url "$1/postgres")
  REDIS_URL=$(deploy/native/redis.sh url "$1/redis")
  export KAFKA_BROKERS DATABASE_URL REDIS_URL
  say servers "kafka :$kafka_port, postgres :$postgres_port, redis :$redis_port ${dim}$(since "$begun")${plain}"
}

# Fails when one did not stop in time; it has said so then.
stop_servers() {
  local name pids=() all=0
  for name in "${servers[@]}"; do
    [ ! -d ".dev/data/$name" ] || "deploy/native/$name.sh" stop ".dev/data/$name" &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || all=1; done
  return $all
}

# private_servers DIR: fresh ones on free ports, gone with their data when this script ends, however it ends.
private_servers() {
  private=$1
  local owner
  owner=$(cat "$private/owner" 2>/dev/null) || owner=none
  ! grep -qsF deploy/dev/ "/proc/$owner/cmdline" || fail "another run of this working copy uses $private (process $owner)"
  remove_private
  trap remove_private EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  mkdir -p "$private/tmp"
  echo $$ >"$private/owner"
  read -r kafka_port postgres_port redis_port < <(free_ports 3)
  start_servers "$private"
}

# Also what tests started themselves in a directory below.
remove_private() {
  local file
  for file in "$private"/*/pid "$private"/tmp/*/pid "$private"/tmp/*/*/pid; do
    [ -f "$file" ] && end_stray "$(dirname "$file")"
  done
  rm -rf "$private"
}

end_stray() {
  local name=redis
  [ -f "$1/server.properties" ] && name=kafka
  [ -f "$1/superuser-password" ] && name=postgres
  "deploy/native/$name.sh" kill "$1"
}

# Below the range from which the kernel takes the ports of outgoing connections.
free_ports() {
  local port
  for port in $(shuf -i 26000-31999 -n $(($1 * 10))); do
    listening "$port" || echo "$port"
  done | head -n "$1" | paste -s -d ' '
}

# write_env: addresses and keys for people, tests and the next `up`.
write_env() {
  local it
  (
    umask 077
    for it in GATEWAY_URL PROCESSOR_URL ALERTER_URL KAFKA_BROKERS DATABASE_URL REDIS_URL ADMIN_KEY WRITE_KEY READ_KEY JWT_SECRET; do
      [ -z "${!it-}" ] || printf 'export %s=%q\n' "$it" "${!it}"
    done >.dev/env.new
    # The programs are then found by their names.
    # shellcheck disable=SC2016 # the reader's PATH
    printf 'export PATH=%q:"$PATH"\n' "$(realpath -m "$release")" >>.dev/env.new
  )
  mv .dev/env.new .dev/env
}

# What the caller's shell may have from `. .dev/env`.
forget_env() { unset GATEWAY_URL PROCESSOR_URL ALERTER_URL ADMIN_KEY WRITE_KEY READ_KEY JWT_SECRET; }

# The keys and secrets of an earlier `up`; addresses are always told anew.
load_env() {
  forget_env
  # shellcheck disable=SC1091 # written by write_env
  [ ! -f .dev/env ] || . .dev/env
  # No program needs a client's keys.
  export -n ADMIN_KEY WRITE_KEY READ_KEY
  GATEWAY_URL=http://127.0.0.1:$gateway_port
  PROCESSOR_URL=http://127.0.0.1:$processor_port
  ALERTER_URL=http://127.0.0.1:$alerter_port
}
