"""The running daemon against its own OpenAPI document: schemathesis asks what the document allows, and much that it does not.

No 500, no status that the document does not name, answers of the shape it says. Whom a route opens to: tests/unit/server/test_auth.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.timeout(240), pytest.mark.long]

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,unsupported_method"
STREAMS = "/(events|api/v1/runs/[{]id[}]/watch|api/v1/journal/export)$"


@pytest.fixture
def keeper(simulation_process, daemon):
    return daemon(**simulation_process().settings)


def fuzz(keeper, token, *options, examples=6):
    argv = [
        sys.executable,
        "-m",
        "schemathesis.cli",
        "run",
        "openapi.json",
        "--url",
        keeper.url,
        "--header",
        f"Authorization: Bearer {token}",
    ]
    argv += ["--checks", CHECKS, "--max-examples", str(examples), "--seed", "1", "--no-color", "--phases", "examples,coverage,fuzzing"]
    argv += ["--exclude-path-regex", STREAMS, *options]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=200, cwd=keeper.folder, env={**os.environ, "CI": "1"})


def test_what_the_document_says_holds(keeper):
    keeper.call("PUT", "/api/v1/pause", {"reason": "whatever is asked, nothing is touched"})
    (keeper.folder / "openapi.json").write_text(json.dumps(keeper.get("/openapi.json")))
    told = fuzz(keeper, "write-token-of-the-test", "--exclude-path", "/api/v1/alerts")
    assert told.returncode == 0, told.stdout[-6000:] + told.stderr[-2000:]
    hook = fuzz(keeper, "webhook-token-of-the-test", "--include-path", "/api/v1/alerts", examples=30)
    assert hook.returncode == 0, hook.stdout[-6000:] + hook.stderr[-2000:]
    assert "request failed" not in keeper.program.output()  # the log line of a 500
    assert keeper.get("/api/v1/status")["ready"]
