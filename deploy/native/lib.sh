# shellcheck shell=bash
# What the server scripts have in common: the verbs, the pid file, waiting, and running without root's rights.
#
# A server script defines `initialise` (an empty DIR becomes a server's), `configure` (writes the settings for
# $port and fills the array `command`), `answers` and `url`, and then calls `serve "$@"`. The command line must
# name DIR: that is how a live server is told from a stranger that got its old process id.

set -euo pipefail
umask 077

server=$(basename "$0" .sh)
native=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck disable=SC2034 # the Kafka script finds its jars below it
dev_dir=$(cd "$native/../.." && pwd)/.dev
stop_signal=TERM command=()

serve() {
  local verb=${1-}
  case $verb:$# in
    start:3) ;;
    stop:2 | kill:2 | status:2 | url:2) ;;
    *) die "usage: $0 start DIR PORT | stop DIR | kill DIR | status DIR | url DIR" ;;
  esac
  # `realpath -m`: DIR need not exist, and every invocation must spell it the same way.
  dir=$(realpath -m "$2") port=${3-}
  [ "$verb" = start ] || port=$(cat "$dir/port" 2>/dev/null) || port=
  "verb_$verb"
}

verb_start() {
  if running; then
    [ "$(cat "$dir/port")" = "$port" ] || die "already runs on port $(cat "$dir/port"), not $port"
    await_answer
    return
  fi
  if listening "$port"; then die "port $port is in use by another program"; fi
  mkdir -p "$dir"
  if [ ! -d "$dir/data" ]; then
    rm -rf "$dir/data.new"
    mkdir "$dir/data.new"
    give_away
    # Renamed only when it is whole: an interrupted start begins anew.
    initialise "$dir/data.new" >"$dir/log" 2>&1 || die "cannot initialise $dir: $(tail -n 5 "$dir/log")"
    mv "$dir/data.new" "$dir/data"
  fi
  configure
  echo "$port" >"$dir/port"
  give_away
  # Its own session, no descriptor of ours: neither Ctrl-C nor a waiting pipe of the caller reaches it.
  setsid "${unprivileged[@]}" "${command[@]}" >>"$dir/log" 2>&1 </dev/null &
  pid=$!
  echo "$pid" >"$dir/pid"
  await_answer
}

verb_stop() {
  # One that ended by itself is stopped from now on.
  running || { rm -f "$dir/pid" && return; }
  kill "-$stop_signal" "$pid"
  gone 60 "$pid" || die "did not stop within 60 s: $0 kill $dir"
  rm -f "$dir/pid"
}

verb_kill() {
  running || return 0
  # Stopped first, so that it cannot fork between the listing and the end.
  kill -STOP "$pid"
  local family
  mapfile -t family < <(grep -lsE "^PPid:[[:space:]]+$pid$" /proc/[0-9]*/status | cut -d/ -f3)
  kill -KILL "$pid" "${family[@]}" 2>/dev/null || true
  gone 20 "$pid" "${family[@]}" || die "process $pid outlives SIGKILL"
  rm -f "$dir/pid"
}

verb_status() {
  running || { echo stopped && exit 3; }
  if answers; then echo "running, pid $pid, port $port"; else echo "not answering, pid $pid, port $port" && exit 1; fi
}

verb_url() { url; }

running() {
  pid=$(cat "$dir/pid" 2>/dev/null) && [ -n "$pid" ] && grep -qsF "$dir" "/proc/$pid/cmdline"
}

await_answer() {
  local deadline=$((SECONDS + 120))
  until answers; do
    # The launcher needs a moment until its command line is the server's.
    alive "$pid" || die "ended at once; $dir/log says: $(tail -n 8 "$dir/log")"
    [ $SECONDS -lt $deadline ] || die "does not answer on port $port after 120 s; see $dir/log"
    sleep 0.05
  done
}

# gone SECONDS PID...: waits for their end.
gone() {
  local deadline=$((SECONDS + $1)) it
  shift
  for it; do
    while alive "$it"; do
      [ $SECONDS -lt $deadline ] || return 1
      sleep 0.02
    done
  done
}

# A zombie has ended, though some first processes of containers never collect it; while threads remain, sockets may too.
alive() {
  local state
  state=$(cat "/proc/$1/status" 2>/dev/null) && ! [[ $state == *State:?Z* && $state == *Threads:?1$'\n'* ]]
}

listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Below the range from which the kernel takes ports of outgoing connections, and above that from which tests take
# those of programs: a server needs seconds until it listens, and others find its port free meanwhile.
free_port() {
  local it
  while it=$((26000 + RANDOM % 6000)); do
    if ! listening "$it"; then echo "$it" && return; fi
  done
}

secret() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

# Root gives its rights up, as Postgres insists. A user namespace keeps the files readable wherever they lie; where
# the kernel forbids one (a container, a chroot), the server becomes `nobody` and DIR its property.
unprivileged=() owner=
if [ "$(id -u)" = 0 ]; then
  nobody=$(id -u nobody) nogroup=$(id -g nobody)
  unprivileged=(unshare --user --map-user="$nobody" --map-group="$nogroup")
  if ! "${unprivileged[@]}" true 2>/dev/null; then
    owner=$nobody:$nogroup
    unprivileged=(setpriv --reuid="$nobody" --regid="$nogroup" --clear-groups)
    # Below a private folder such as /root it may pass by the permissions of files, also in access(2), which
    # otherwise disregards this (securebits); it still is not root.
    "${unprivileged[@]}" test -r "$native/lib.sh" ||
      unprivileged+=(--inh-caps=+dac_override --ambient-caps=+dac_override --securebits=+no_setuid_fixup)
  fi
fi
give_away() { [ -z "$owner" ] || chown -R "$owner" "$dir"; }

die() {
  echo "$server: $*" >&2
  exit 1
}
