#!/usr/bin/env bash
# `./dev down [--wipe]`: ends what `up` started, programs first, so that they can finish what they took.

. "$(dirname "$0")/lib.sh"

case "$*" in '' | --wipe) ;; *) misuse "./dev down knows only --wipe" ;; esac

for name in "${programs[@]}"; do
  if runs "$name"; then kill -TERM "$(cat ".dev/$name.pid")"; fi
done
deadline=$((SECONDS + 40))
for name in "${programs[@]}"; do
  while runs "$name"; do
    if [ $SECONDS -ge $deadline ]; then
      say "$name" "did not stop in 40 s and was killed; see .dev/log/$name.log"
      kill -KILL "$(cat ".dev/$name.pid")"
    fi
    sleep 0.1
  done
  rm -f ".dev/$name.pid"
done
if [ "${1-}" = --wipe ]; then
  # Nobody needs what a server that does not stop has not written yet.
  stop_servers || for name in "${servers[@]}"; do "deploy/native/$name.sh" kill ".dev/data/$name"; done
  rm -rf .dev/data .dev/imports .dev/ports .dev/env .dev/log
else
  stop_servers
fi
