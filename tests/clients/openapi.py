"""Holds a gateway against its own description: the description is valid, its examples are taken, and
whatever else is sent, no answer is a 5xx, undocumented, or of another shape than described."""

import json
import os
import pathlib
import subprocess
import sys
import urllib.request

from openapi_spec_validator import validate

HERE = pathlib.Path(__file__).parent
DESCRIPTION = os.environ["GATEWAY_URL"] + "/openapi.json"
CONFORMANCE = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
]


def run(phases, checks, examples_max):
    command = [
        pathlib.Path(sys.executable).with_name("schemathesis"), "run", DESCRIPTION,
        "--header", "X-API-Key: " + os.environ["ADMIN_KEY"],
        # Streams never end.
        "--exclude-path-regex", "(stream|live|ws)$",
        "--phases", phases, "--checks", ",".join(checks),
        "--max-examples", str(examples_max), "--seed", "1", "--request-timeout", "10",
    ]  # fmt: skip
    settings = {"SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(HERE)}
    ran = subprocess.run(command, env=os.environ | settings, cwd=os.environ["TMPDIR"],
                         stdout=subprocess.PIPE, text=True)
    if ran.returncode != 0:
        sys.exit(ran.stdout[-8000:])


with urllib.request.urlopen(DESCRIPTION) as answer:
    validate(json.load(answer))
run("examples", ["not_a_server_error", "positive_data_acceptance"], 1)
run("examples,coverage,fuzzing", CONFORMANCE, 20)
