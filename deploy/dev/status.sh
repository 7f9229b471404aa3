#!/usr/bin/env bash
# `./dev status`: what runs, how far each step is behind, how every record ended, what happened today. Exits 1 when
# something that was started does not run or is not ready, and when nothing runs.

. "$(dirname "$0")/lib.sh"

# Numbers with a point, and bars whose cells are characters.
export LC_ALL=C.UTF-8 PGCONNECT_TIMEOUT=2 PGOPTIONS='-c statement_timeout=5s'
load_ports
load_env

# grouped NUMBER: with commas between thousands.
grouped() {
  local n=${1:-unknown}
  while [[ $n =~ ^([0-9]+)([0-9]{3}(,.*)?)$ ]]; do n=${BASH_REMATCH[1]},${BASH_REMATCH[2]}; done
  echo "$n"
}

# bar PART WHOLE: 24 cells at most, in eighths, as `gateway stats` has them.
bar() {
  local parts=('' ▏ ▎ ▍ ▌ ▋ ▊ ▉) eighths=$(($2 > 0 ? (192 * $1 + $2 / 2) / $2 : 0)) cells
  printf -v cells '%*s' $((eighths / 8)) ''
  echo "${cells// /█}${parts[eighths % 8]}"
}

# span SECONDS: in its two largest units.
span() {
  if [ "$1" -ge 86400 ]; then
    echo "$(($1 / 86400))d $(($1 % 86400 / 3600))h"
  elif [ "$1" -ge 3600 ]; then
    echo "$(($1 / 3600))h $(($1 % 3600 / 60))m"
  else
    echo "$(($1 / 60))m $(($1 % 60))s"
  fi
}

# ratio PART WHOLE FORMAT
ratio() { awk -v part="$1" -v whole="$2" -v format="$3" 'BEGIN { printf format, (whole > 0 ? part / whole : 0) }'; }

# state_of NAME: into `state`, and into `remedy` what to do when it is not as it should be.
state_of() {
  local url=${1^^}_URL probes
  remedy=
  if ! runs "$1"; then
    state=stopped
    # An orderly end takes the file away; and no program is without the others, or without the servers.
    if [ -f "$pid_file" ] || compgen -G '.dev/*.pid' >/dev/null; then
      state=ended remedy="has ended; ./dev logs $1 says why, ./dev up starts it again"
    fi
    return
  fi
  state='no answer' remedy="does not answer; ./dev logs $1 may say why"
  if [[ " ${servers[*]} " == *" $1 "* ]]; then
    if "deploy/native/$1.sh" status ".dev/data/$1" >/dev/null 2>&1; then state=running remedy=; fi
  elif curl -fsS -m 2 "${!url}/readyz" >/dev/null 2>&1; then
    state=ready remedy=
  elif probes=$(curl -sS -m 2 "${!url}/readyz?verbose" 2>/dev/null); then
    state='not ready' remedy="is not ready; $(tr -d '{}"\n' <<<"$probes" | sed 's/: */: /g; s/, */, /g')"
  fi
}

# memory_of PID: in MiB, with its children, of which Postgres has many; what they share counts once.
memory_of() {
  local family it
  mapfile -t family < <(grep -lsE "^PPid:[[:space:]]+$1$" /proc/[0-9]*/status | cut -d/ -f3)
  # One that ends meanwhile is left out.
  for it in "$1" "${family[@]}"; do cat "/proc/$it/smaps_rollup" 2>/dev/null || true; done |
    awk '/^Pss:/ { kib += $2 } END { printf "%.0f MiB", kib / 1024 }'
}

running=0 advice=()
show() {
  local pid_file=.dev/$1.pid state remedy pid color=
  if [ -d ".dev/data/$1" ]; then pid_file=.dev/data/$1/pid; fi
  state_of "$1"
  if [ -n "$remedy" ]; then color=$red advice+=("$1 $remedy"); fi
  printf '%-12s%s%s%s' "$1" "$color" "$state" "$plain"
  if runs "$1"; then
    running=$((running + 1)) pid=$(cat "$pid_file")
    printf '%*s %7s %9s %11s' $((18 - ${#state})) "$pid" "$(port_of "$1")" \
      "$(span $(($(date +%s) - $(stat -c %Y "$pid_file"))))" "$(memory_of "$pid")"
  fi
  echo
}

# asked SQL: its one row, the values apart by |; nothing when Postgres has no answer.
asked() { psql "${DATABASE_URL-}" -AXtqc "$1" 2>/dev/null || true; }

tally() {
  asked 'select coalesce(sum(consumed), 0), coalesce(sum(stored), 0), coalesce(sum(duplicate), 0),
                coalesce(sum(dead_lettered), 0), coalesce(sum(erased), 0) from accounting'
}

# metric NAME SERIES: the sum of a program's series whose names begin so; nothing when there are none.
metric() {
  local url=${1^^}_URL
  curl -fsS -m 2 "${!url}/metrics" 2>/dev/null |
    awk -v series="$2" 'index($0, series) == 1 { sum += $NF; n++ } END { if (n) printf "%.0f", sum }' || true
}

# The same as the live page shows.
pipeline() { curl -fsS -m 5 -H "X-API-Key: ${READ_KEY-}" "$GATEWAY_URL/api/pipeline" 2>/dev/null || true; }

# What the broker knows of a group whose program does not run.
lag_of_group() {
  local jars
  printf -v jars '%s:' .dev/jars/*.jar
  timeout 10 java -XX:TieredStopAtLevel=1 -cp "$jars" org.apache.kafka.tools.consumer.group.ConsumerGroupCommand \
    --bootstrap-server "$KAFKA_BROKERS" --describe --group "$1" 2>/dev/null |
    awk '$6 ~ /^[0-9]+$/ { sum += $6; n++ } END { if (n) printf "%.0f", sum }' || true
}

# lag NAME RECORDS SECONDS
lag() {
  local color=
  [ "${2:-0}" = 0 ] || color=$bold
  printf '%-12s%s%16s%12s%s\n' "$1" "$color" "$(grouped "$2")" "${3:--}" "$plain"
}

show_lag() {
  local report=$1 rate=$2 name series records seconds
  printf '\n%s%-12s%16s%12s%s\n' "$dim" lag records seconds "$plain"
  for name in ledger counters rollups statistics relay; do
    records='' seconds=''
    if [[ $report =~ \"name\":\"$name\",\"records\":([0-9]+)(,\"seconds\":([0-9.]+))? ]]; then
      records=${BASH_REMATCH[1]} seconds=${BASH_REMATCH[3]}
    elif [ -z "$report" ] && runs kafka; then
      case $name in
        ledger) series=processor_ledger_lag_offsets ;;
        # One follower brings both up.
        statistics) series='processor_follower_lag_offsets{follower="rollups"' ;;
        *) series="processor_follower_lag_offsets{follower=\"$name\"" ;;
      esac
      records=$(metric processor "$series")
    fi
    lag $name "$records" "${seconds:+$(ratio "$seconds" 1 %.1f)}"
  done
  records='' seconds=''
  if runs kafka; then
    records=$(metric alerter alerter_lag_records)
    records=${records:-$(lag_of_group tallyman-alerter)}
  fi
  if [ "$records" = 0 ]; then
    seconds=0.0
  elif [ -n "$records" ] && [ "${rate%.*}" -gt 0 ]; then
    seconds=$(ratio "$records" "$rate" %.1f)
  fi
  lag alerter "$records" "$seconds"
}

# verdict NAME COUNT BEFORE: how many, how many a second lately, and their share of what was consumed.
verdict() {
  local rate bar
  rate=$(ratio $(($2 - $3)) "$elapsed" %.1f)
  if [ "${rate%.*}" -ge 100 ]; then rate=$(grouped "${rate%.*}"); fi
  printf '%-14s%14s%12s' "$1" "$(grouped "$2")" "$rate"
  if [ "$1" != consumed ]; then
    printf '%9s' "$(ratio $((100 * $2)) "$consumed" %.1f%%)"
    bar=$(bar "$2" "$consumed")
    printf '%s' "${bar:+  $blue$bar$plain}"
  fi
  echo
}

printf '%s%-12s%-10s%8s %7s %9s %11s%s\n' "$dim" '' state pid port up memory "$plain"
for name in "${servers[@]}" "${programs[@]}"; do show "$name"; done

if [ $running != 0 ]; then
  # Rates are those of a second, which is not longer than people wait.
  begun=${EPOCHREALTIME//[^0-9]/} before=$(tally) alerted=$(metric alerter alerter_records_consumed_total)
  sleep 1
  elapsed=$(ratio $((${EPOCHREALTIME//[^0-9]/} - begun)) 1000000 %.3f)
  now=$(tally) alerting=$(metric alerter alerter_records_consumed_total)
  show_lag "$(pipeline)" "$(ratio $((${alerting:-0} - ${alerted:-0})) "$elapsed" %.1f)"

  IFS='|' read -r consumed stored duplicate dead_lettered erased <<<"$now"
  IFS='|' read -r consumed_before stored_before duplicate_before dead_before erased_before <<<"$before"
  if [ -n "$consumed" ] && [ -n "$consumed_before" ]; then
    printf '\n%s%-14s%14s%12s%9s%s\n' "$dim" verdicts records 'a second' share "$plain"
    verdict consumed "$consumed" "$consumed_before"
    verdict stored "$stored" "$stored_before"
    verdict duplicate "$duplicate" "$duplicate_before"
    verdict dead-lettered "$dead_lettered" "$dead_before"
    verdict erased "$erased" "$erased_before"
    [ "$consumed" = $((stored + duplicate + dead_lettered + erased)) ] ||
      advice+=("the verdicts do not add up; processor audit tells more")
  fi

  day=$(date -u +%F)
  active=$(timeout 2 redis-cli -u "${REDIS_URL-}" --raw get "dau:$day" 2>/dev/null) && active=${active:-0}
  IFS='|' read -r notified last <<<"$(asked "
    select (select count(*) from notifications where occurred_at >= date_trunc('day', now(), 'UTC')),
           (select to_char(occurred_at, 'YYYY-MM-DD HH24:MI ') || regexp_replace(text, '[[:cntrl:]]', ' ', 'g')
              from notifications order by occurred_at desc, id limit 1)")"
  printf '\n%stoday%s\n' "$dim" "$plain"
  printf '%-14s%14s\n' 'active users' "$(grouped "$active")"
  printf '%-14s%14s%s\n' notifications "$(grouped "$notified")" "${last:+  $dim${last:0:50}$plain}"
else
  advice=("nothing runs; ./dev up starts everything")
fi

[ ${#advice[@]} = 0 ] && exit
printf '\n'
printf "$red%s$plain\n" "${advice[@]}"
exit 1
