#!/usr/bin/env bash
# The proof at the end of `./dev up`: 1,000 distinct actions on a fresh post, sent 1,200 times by three kinds of
# producers, must be 1,000 everywhere.

. "$(dirname "$0")/lib.sh"
load_ports
load_env

# actions KIND FROM TO: one JSON line each. Likes bring an id, views are known by their telling members.
actions() {
  awk -v kind="$1" -v from="$2" -v to="$3" -v post="$post" -v at="$sent_at" 'BEGIN {
    for (n = from; n <= to; n++)
      if (kind == "like")
        printf "{\"eventId\":\"%s-like-%d\",\"type\":\"like\",\"userId\":\"user-%d\",\"postId\":\"%s\"}\n", post, n, n, post
      else
        printf "{\"type\":\"view\",\"userId\":\"user-%d\",\"postId\":\"%s\",\"occurredAt\":\"%s\"}\n", n, post, at
  }'
}

over_http() {
  local answer
  answer=$(curl -sS -m 30 -w '\n%{http_code}' -H "X-API-Key: $WRITE_KEY" -H 'Content-Type: application/x-ndjson' \
    --data-binary @- "$GATEWAY_URL/api/events?results=errors") || fail "the gateway did not take the sample"
  [ "${answer##*$'\n'}" = 202 ] || fail "the gateway answered the sample with ${answer##*$'\n'}" "${answer:0:500}"
}

# to_kafka [ARGUMENT...]: straight into the topic, as a producer of its own does.
to_kafka() { kcat -P -q -b "$KAFKA_BROKERS" -t user-actions -X acks=all "$@" || fail "kcat could not send the sample"; }

# Each keyed by something that is not its user, so that copies meet in different partitions.
wrongly_keyed() { awk '{ print "key-" NR % 7 "\t" $0 }'; }

in_postgres() { psql "$DATABASE_URL" -AXtqc "select count(*) from events where object_type = 'post' and object_id = '$post'"; }

in_redis() {
  redis-cli -u "$REDIS_URL" mget "post:$post:likes" "post:$post:views" | awk '{ sum += $1 } END { print sum + 0 }'
}

# told TOPIC: what it holds about the post since the sample began, as a careful consumer sees it.
told() {
  kcat -C -q -e -b "$KAFKA_BROKERS" -t "$1" -o "s@$began_ms" -X isolation.level=read_committed 2>/dev/null | grep -F "$post"
}

post=sample-$(date -u +%Y%m%d-%H%M%S)-$RANDOM
sent_at=$(date -u +%Y-%m-%dT%H:%M:%SZ)
began_ms=$(($(date +%s) * 1000 - 1000))
begun=$EPOCHREALTIME

for first in 1 101 201 301 401; do actions like $first $((first + 99)) | over_http; done
actions like 501 800 | to_kafka
actions view 1 200 | wrongly_keyed | to_kafka -K '\t'
# The copies, each on another way than its original.
actions like 1 100 | wrongly_keyed | to_kafka -K '\t'
actions like 501 560 | over_http
actions view 1 40 | to_kafka

# 10 and 100, of likes and of views.
milestones=4
deadline=$((SECONDS + 60))
until [ "${rows-} ${counted-} ${unique-} ${alerts-}" = "1000 1000 1000 $milestones" ]; do
  rows=$(in_postgres) counted=$(in_redis)
  if [ "$rows" -ge 1000 ]; then
    # Nothing yet is an answer, too.
    unique=$(told unique-actions | wc -l) || true
    alerts=$(told notifications | grep -c '"tallyman.alert.milestone"') || true
  fi
  [ $SECONDS -lt $deadline ] || break
  sleep 0.2
done

audit=agrees
"$release/processor" audit >.dev/log/audit.log 2>&1 || audit='drift, see .dev/log/audit.log'

line() { printf '  %-18s %6s   %s%s%s\n' "$1" "$2" "$dim" "$3" "$plain"; }
say sample "post $post ${dim}$(since "$begun")${plain}"
line sent 1200 '560 over HTTP, 340 by kcat without a key, 300 by kcat with a wrong one'
line distinct 1000 '800 likes, 200 views'
line Postgres "${rows:-?}" 'rows in events'
line Redis "${counted:-?}" "post:$post:likes + :views"
line 'unique stream' "${unique:-0}" 'records in unique-actions'
line notifications "${alerts:-0}" "of $milestones: 10 and 100 likes, 10 and 100 views"
line audit '' "$audit"
[ "${rows-} ${counted-} ${unique-} ${alerts-} $audit" = "1000 1000 1000 $milestones agrees" ] ||
  fail "the tally does not agree; ./dev logs processor and ./dev logs alerter may say why"
