#!/usr/bin/env bash
# `./dev status`: what runs and where, how far each partition is behind, how every record ended.

. "$(dirname "$0")/lib.sh"

load_ports
load_env
for name in "${servers[@]}"; do
  say "$name" "$("deploy/native/$name.sh" status ".dev/data/$name" || true)"
done
for name in "${programs[@]}"; do
  url=${name^^}_URL
  if ! runs "$name"; then
    say "$name" stopped
  elif curl -fsS -m 2 "${!url}/readyz" >/dev/null 2>&1; then
    say "$name" "ready, pid $(cat ".dev/$name.pid"), ${!url}"
  else
    say "$name" "not ready, pid $(cat ".dev/$name.pid"), ${!url}/readyz?verbose"
  fi
done

# The group's offset is the relay's mark, so its lag is that of the whole pipeline.
if [ -n "${KAFKA_BROKERS-}" ] && runs kafka; then
  printf '\n%slag%s\n' "$bold" "$plain"
  printf -v jars '%s:' .dev/jars/*.jar
  java -XX:TieredStopAtLevel=1 -cp "$jars" org.apache.kafka.tools.consumer.group.ConsumerGroupCommand \
    --bootstrap-server "$KAFKA_BROKERS" --describe --all-groups 2>/dev/null |
    awk 'NF >= 6 && ($6 ~ /^[0-9]+$/ || $1 == "GROUP") { printf "  %-22s %-18s %9s %12s %12s %8s\n", $1, $2, $3, $4, $5, $6 }'
fi
if [ -n "${DATABASE_URL-}" ] && runs postgres; then
  printf '\n%stally%s\n' "$bold" "$plain"
  psql "$DATABASE_URL" -Xq -P border=0 -P footer=off -c "
    select topic, partition, consumed, stored, duplicate, dead_lettered, erased from accounting
     union all
    select 'total', null, sum(consumed), sum(stored), sum(duplicate), sum(dead_lettered), sum(erased) from accounting
     order by partition nulls last, topic" 2>/dev/null || echo '  nothing yet: ./dev up'
fi
