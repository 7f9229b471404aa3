#!/usr/bin/env bash
# `./dev services up|down`: Kafka, Postgres and Redis without the programs.

. "$(dirname "$0")/lib.sh"

case "$*" in
  up)
    load_ports
    install_missing run
    for name in "${servers[@]}"; do claim_port "$name"; done
    load_env
    start_servers .dev/data
    write_env
    say shell ". .dev/env"
    ;;
  down) stop_servers ;;
  *--cluster*) later "./dev services up --cluster" ;;
  *) misuse "./dev services wants up or down" ;;
esac
