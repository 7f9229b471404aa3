#!/usr/bin/env bash
# `./dev test [WHAT]`: what CI runs, each phase with its time; the first that fails ends it.

. "$(dirname "$0")/lib.sh"

timings=()

# phase NAME COMMAND...: quiet when it passes quickly, whole when it fails.
phase() {
  local begun=$EPOCHREALTIME name=$1
  shift
  "$@" || fail "$name failed: $*"
  timings+=("$name $(since "$begun")")
  say "$name" "${dim}${timings[-1]#* }${plain}"
}

lint() {
  phase format cargo fmt --all --check
  phase shell shellcheck dev .ci/run deploy/*/*.sh
  phase compose check_compose
  phase clippy cargo clippy --quiet --release --workspace --all-targets -- -D warnings
}

check_compose() {
  local compose=(docker-compose)
  if docker compose version >/dev/null 2>&1; then compose=(docker compose); fi
  "${compose[@]}" --env-file .env.example config --quiet && "${compose[@]}" --env-file .env.example --profile observability config --quiet
}

# The programs are built with the tests, in their profile: a test may start them.
build() { phase build cargo test --quiet --release --workspace --no-run; }

with_servers() {
  fetch_clients
  # Short: paths below hold sockets and many files of tests.
  private_servers .dev/test
  # Servers that a test starts itself lie where the end of this script finds them.
  TMPDIR=$PWD/.dev/test/tmp
  export TMPDIR
}

# More at a time than there are cores: they wait more than they compute.
cargo_test() { RUST_TEST_THREADS=${RUST_TEST_THREADS-4} phase "$1" cargo test --release --workspace "${@:2}"; }

# What is not built in by default: the sink of windows that needs a store speaking S3.
test_parquet() {
  local features=(--features 'alerter/parquet,tests/parquet') port
  fetch_s3
  read -r port < <(free_ports 1)
  deploy/native/s3.sh start "$private/s3" "$port"
  export AWS_ENDPOINT_URL=http://127.0.0.1:$port AWS_ALLOW_HTTP=true AWS_REGION=us-east-1
  export AWS_ACCESS_KEY_ID=tallyman AWS_SECRET_ACCESS_KEY=tallyman
  phase 'clippy parquet' cargo clippy --quiet --release --workspace --all-targets "${features[@]}" -- -D warnings
  cargo_test parquet "${features[@]}" parquet::
}

# None that was asked for is none that passed.
ensure_chosen() {
  cargo test --quiet --release --workspace "$@" --list 2>/dev/null | grep -q ': test$' || misuse "no test's name is like that"
}

for it; do
  case $it in soak) later "./dev test soak" ;; -*) misuse "./dev test does not know $it" ;; esac
done
case ${1-} in all | lint | unit | service | parquet) [ $# = 1 ] || misuse "./dev test $1 stands by itself" ;; esac
forget_env
install_missing run build test
case ${1-} in
  '' | all)
    if [ "${1-}" = all ]; then export TALLYMAN_FAULTS=long; fi
    lint
    build
    with_servers
    cargo_test tests
    if [ "${1-}" = all ]; then test_parquet; fi
    ;;
  lint) lint ;;
  unit) cargo_test unit --lib --bins ;;
  service)
    build
    with_servers
    cargo_test service --test '*'
    ;;
  parquet)
    with_servers
    test_parquet
    ;;
  *)
    with_servers
    # A program of tests, a file of one, else every test whose name contains it.
    if compgen -G "*/tests/$1.rs" >/dev/null || compgen -G "*/tests/$1/main.rs" >/dev/null; then
      chosen=(--test "$1" -- --nocapture "${@:2}")
    elif compgen -G "*/tests/*/$1.rs" >/dev/null; then
      chosen=(--test '*' -- --nocapture "$1::${2-}")
    else
      chosen=(-- "$@")
    fi
    cargo_test "$1" "${chosen[@]}"
    ensure_chosen "${chosen[@]}"
    ;;
esac
say passed "$(printf '%s, ' "${timings[@]}" | sed 's/, $//')"
