#!/usr/bin/env bash
# `./dev up [--no-sample]`: from whatever state the working copy is in to a running, proven product.

. "$(dirname "$0")/lib.sh"

sample=yes
for it; do
  case $it in
    --no-sample) sample=no ;;
    --secure) later "./dev up --secure" ;;
    *) misuse "./dev up does not know $it" ;;
  esac
done

# Keys are made once; the secret is shown once, so .dev/env is where it stays.
make_keys() {
  local rights variable
  for rights in admin write read; do
    variable=${rights^^}_KEY
    [ -z "${!variable-}" ] || continue
    declare -g "$variable=$("$release/gateway" keys create --name "dev-$rights" --rights "$rights" 2>>.dev/log/gateway.log)" ||
      fail "the $rights key could not be made" "$(tail -n 3 .dev/log/gateway.log)"
    write_env
  done
}

start_program() {
  if runs "$1"; then
    [[ $(readlink "/proc/$(cat ".dev/$1.pid")/exe") != *'(deleted)' ]] ||
      say "$1" "runs an older build; ./dev down && ./dev up replaces it"
    return
  fi
  setsid "$release/$1" run >>".dev/log/$1.log" 2>&1 </dev/null &
  echo $! >".dev/$1.pid"
}

await_ready() {
  local url=$2/readyz deadline=$((SECONDS + 60))
  until curl -fsS -m 2 "$url" >/dev/null 2>&1; do
    runs "$1" || fail "$1 ended at once; ./dev logs $1 says:" "$(tail -n 8 ".dev/log/$1.log")"
    [ $SECONDS -lt $deadline ] || fail "$1 is not ready after 60 s: $(curl -sS -m 2 "$url?verbose" 2>&1)" "see ./dev logs $1"
    sleep 0.1
  done
}

load_ports
install_missing run build
for name in "${servers[@]}" "${programs[@]}"; do claim_port "$name"; done
load_env
start_servers .dev/data
write_env

begun=$EPOCHREALTIME
[ -x "$release/alerter" ] || say build "in release mode; the first time takes some minutes"
quiet=()
[ -t 2 ] || quiet=(--quiet)
cargo build --release "${quiet[@]}" || fail "the build failed"
say build "${dim}$(since "$begun")${plain}"

"$release/processor" migrate 2>>.dev/log/processor.log >>.dev/log/processor.log ||
  fail "the migration failed; .dev/log/processor.log says:" "$(tail -n 5 .dev/log/processor.log)"
[ -n "${JWT_SECRET-}" ] || JWT_SECRET=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
export JWT_SECRET
write_env
make_keys

begun=$EPOCHREALTIME
GATEWAY_LISTEN=127.0.0.1:$gateway_port IMPORT_DIR=$PWD/.dev/imports start_program gateway
ADMIN_LISTEN=127.0.0.1:$processor_port start_program processor
ADMIN_LISTEN=127.0.0.1:$alerter_port start_program alerter
await_ready gateway "$GATEWAY_URL"
await_ready processor "$PROCESSOR_URL"
await_ready alerter "$ALERTER_URL"
say programs "ready ${dim}$(since "$begun")${plain}"

[ $sample = no ] || deploy/dev/sample.sh

cat <<END

Gateway    $GATEWAY_URL            events in: POST $GATEWAY_URL/api/events with WRITE_KEY
Metrics    $GATEWAY_URL/metrics, $PROCESSOR_URL/metrics, $ALERTER_URL/metrics
Servers    Kafka $KAFKA_BROKERS, Postgres 127.0.0.1:$postgres_port, Redis 127.0.0.1:$redis_port
Your shell . .dev/env              then ./dev status, ./dev logs NAME, ./dev down
END
