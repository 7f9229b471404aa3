#!/usr/bin/env bash
# `./dev bench [WHAT]`: benchmarks against fresh servers of their own; what runs beside them falsifies the numbers.

. "$(dirname "$0")/lib.sh"

forget_env
install_missing run build
for name in "${programs[@]}" "${servers[@]}"; do
  if runs "$name"; then say note "$name of ./dev up runs beside the benchmark; ./dev down first gives truer numbers"; fi
done
cargo build --release -p gateway -p processor -p alerter -p benches || fail "the build failed"
private_servers .dev/bench
cargo run --release --quiet -p benches -- "$@"
