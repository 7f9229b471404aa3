#!/usr/bin/env bash
# Installs Debian packages as root, without the servers that they would start: apt.sh PACKAGE...
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive

# Asked by every package before it starts a service; 101 means no.
policy=/usr/sbin/policy-rc.d
# Postgres' package otherwise makes a cluster of its own on 5432.
cluster=/etc/postgresql-common/createcluster.d/tallyman.conf
undo=("$cluster")
if [ ! -e $policy ]; then
  undo+=("$policy")
  printf '#!/bin/sh\nexit 101\n' >$policy
  chmod +x $policy
fi
trap 'rm -f "${undo[@]}"' EXIT
mkdir -p "$(dirname $cluster)"
echo 'create_main_cluster = false' >$cluster

apt-get update
apt-get install -y --no-install-recommends "$@"

# Enabled, these would take our ports after the next boot. What was there before is not among "$@".
for package in "$@"; do
  case $package in
    redis-server | prometheus) [ ! -d /etc/systemd ] || systemctl disable --quiet "$package" || true ;;
  esac
done
