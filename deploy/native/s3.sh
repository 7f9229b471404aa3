#!/usr/bin/env bash
# One server that speaks S3 on 127.0.0.1, with the bucket `tallyman`: start DIR PORT | stop | kill | status | url DIR.
. "$(dirname "$0")/lib.sh"

initialise() { mkdir "$1/tallyman"; }

configure() {
  # shellcheck disable=SC2034,SC2154 # lib.sh starts it, and knows where the working copy's things are
  command=("$dev_dir/s3/bin/s3s-fs" --host 127.0.0.1 --port "$port" --access-key tallyman --secret-key tallyman "$dir/data")
}

# That it asks for a signature is an answer.
answers() { curl -s -m 2 -o "$dir/answer" "http://127.0.0.1:$port/"; }

url() { echo "http://127.0.0.1:$port"; }

serve "$@"
