#!/usr/bin/env bash
# One Apache Kafka broker in KRaft mode, alone in its cluster, on 127.0.0.1: start DIR PORT | stop | kill | status | url DIR.
# KAFKA_JMX_EXPORTER_PORT: where it tells Prometheus how it is; without it, it does not.
# KAFKA_KEEPS_LEADERSHIP: it starts again as a broker does by itself, for tests of what that does.
. "$(dirname "$0")/lib.sh"

jars=$dev_dir/jars

java_with() {
  # Sorted, so that every start has the same class path.
  printf -v classpath '%s:' "$jars"/*.jar
  java=(java -cp "$classpath" "-Dlog4j2.configurationFile=file:$native/log4j2.properties" -XX:+UseSerialGC -XX:-UsePerfData
    -XX:+ExitOnOutOfMemoryError -Djava.awt.headless=true "$@")
}

initialise() {
  local id
  id=$(head -c 16 /dev/urandom | base64 | tr '+/' 'ab' | tr -d =)
  settings "$1" "$(free_port)" >"$dir/format.properties"
  java_with -XX:TieredStopAtLevel=1 kafka.tools.StorageTool format --cluster-id "$id" --config "$dir/format.properties"
  "${unprivileged[@]}" "${java[@]}"
}

configure() {
  [ -d "$jars" ] || die "its jars are missing: ./dev services up fetches them"
  if [ -d "$dir/data/__cluster_metadata-0" ] && [ -z "${KAFKA_KEEPS_LEADERSHIP-}" ]; then depose; fi
  settings "$dir/data" "$(free_port)" >"$dir/server.properties"
  local agent=() agents=("$jars"/jmx_prometheus_javaagent-*.jar)
  if [ -n "${KAFKA_JMX_EXPORTER_PORT-}" ]; then
    if listening "$KAFKA_JMX_EXPORTER_PORT"; then die "port $KAFKA_JMX_EXPORTER_PORT (KAFKA_JMX_EXPORTER_PORT) is in use"; fi
    # A copy beside the server's files: the server may not be let into this folder.
    cp "$native/../grafana/kafka-jmx.yml" "$dir/kafka-jmx.yml"
    agent=("-javaagent:${agents[0]}=127.0.0.1:$KAFKA_JMX_EXPORTER_PORT:$dir/kafka-jmx.yml")
  fi
  # The first compiler alone: a broker of minutes never earns back what the second one costs
  # (a drain's 500,000 events: 2.4 -> 1.6 CPU s, 407 -> 367 MiB).
  java_with -XX:TieredStopAtLevel=1 -Xms256m -Xmx512m "${agent[@]}" kafka.Kafka "$dir/server.properties"
  command=("${java[@]}")
}

# Started again, a lone broker first takes itself for the leader it was and loads what was being committed; then
# its registration takes the partitions their leader, and it takes them for deleted, leaves their markers out and
# calls the transactions complete (4.3.1: so it goes for whatever was being committed when it ended). A controller
# of its own, in which sessions end at once, takes the leadership away before.
depose() {
  local controller_port deposer deadline=$((SECONDS + 60)) size
  controller_port=$(free_port)
  {
    settings "$dir/data" "$controller_port" | grep -vE '^(advertised|inter\.broker)\.listener'
    # Of two values the later one holds.
    printf '%s\n' process.roles=controller "listeners=CONTROLLER://127.0.0.1:$controller_port" \
      broker.session.timeout.ms=100 broker.heartbeat.interval.ms=50 metadata.max.idle.interval.ms=50
  } >"$dir/depose.properties"
  give_away
  java_with -Dcontroller.log.level=info -XX:TieredStopAtLevel=1 -Xmx256m kafka.Kafka "$dir/depose.properties"
  "${unprivileged[@]}" "${java[@]}" >"$dir/depose.log" 2>&1 </dev/null &
  deposer=$!
  # However this ends: the next start could not have its files otherwise.
  trap 'kill "$deposer" 2>/dev/null' EXIT
  until deposed; do still_deposing; done
  # That is decided, but not written yet: after this the file grows by what was before it at most, by it, and by
  # the empty record that an idle controller writes now and then.
  for _ in 1 2 3; do
    size=$(metadata_size)
    while [ "$(metadata_size)" = "$size" ]; do still_deposing; done
  done
  kill "$deposer"
  gone 20 "$deposer" || die "the controller does not end: see $dir/depose.log"
  trap - EXIT
}

# The last word of what was replayed, or decided since; none about a broker that ended before it ever registered.
deposed() {
  local last
  grep -q 'Becoming the active controller' "$dir/depose.log" || return 1
  last=$(grep -aoE 'fenced=(true|false|1|-1)' "$dir/depose.log" | tail -n 1)
  [ -z "$last" ] || [ "$last" = fenced=true ] || [ "$last" = fenced=1 ]
}

metadata_size() { stat -c %s "$dir"/data/__cluster_metadata-0/*.log; }

still_deposing() {
  alive "$deposer" || die "the controller ended at once; $dir/depose.log says: $(tail -n 8 "$dir/depose.log")"
  [ $SECONDS -lt "$deadline" ] || die "the controller does not take the leadership away: see $dir/depose.log"
  sleep 0.05
}

settings() {
  cat <<END
process.roles=broker,controller
node.id=1
log.dirs=$1
listeners=CLIENT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$2
advertised.listeners=CLIENT://127.0.0.1:$port
inter.broker.listener.name=CLIENT
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:$2
listener.security.protocol.map=CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT

# Every topic is created on purpose.
auto.create.topics.enable=false
message.max.bytes=8388608
replica.fetch.max.bytes=8388608

# One broker holds the only copy; few partitions of the internal topics make the first start quick.
default.replication.factor=1
# The cleaner takes this from the heap at the start, 128 MiB by default: a quarter of what there is.
log.cleaner.dedupe.buffer.size=16777216
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=8
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
# Alone, it has nobody to hand its partitions to: a controlled shutdown only takes them their leader, and
# the transaction coordinator then takes them for deleted and leaves out their markers. A transaction that was
# answered as committed hangs for ever (4.3.1, seen in the logs of 1 of 10 restarts under load).
controlled.shutdown.enable=false
END
}

answers() { kcat -b "127.0.0.1:$port" -L -m 2 2>/dev/null | grep -q '^ 1 brokers'; }

url() { echo "127.0.0.1:$port"; }

serve "$@"
