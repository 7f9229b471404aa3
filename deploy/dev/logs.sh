#!/usr/bin/env bash
# `./dev logs NAME`: the log of one program or server; follows it on a terminal.

. "$(dirname "$0")/lib.sh"

case ${1-} in
  gateway | processor | alerter) file=.dev/log/$1.log ;;
  kafka | postgres | redis) file=.dev/data/$1/log ;;
  *) misuse "./dev logs wants one of ${programs[*]} ${servers[*]}" ;;
esac
[ -f "$file" ] || fail "there is no $file yet; ./dev up starts everything"
if [ -t 1 ]; then tail -n 100 -F "$file"; else cat "$file"; fi
