"""The dashboard during a demo, as a newcomer would see it: a real Prometheus scrapes the demo's daemon, and no query comes back empty."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import time

import pytest

pytestmark = [pytest.mark.prometheus, pytest.mark.long]


@pytest.fixture
def demo(tmp_path):
    """``demo(line)``: the output up to a line that matches; the demo runs until the test ends."""
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("REMEDIATOR_")},
        "TMPDIR": str(tmp_path),
        "PYTHONUNBUFFERED": "1",
    }
    command = [sys.executable, "-m", "remediator", "demo"]
    program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    seen = []

    def until(pattern):
        for line in program.stdout:
            seen.append(line)
            if found := re.search(pattern, line):
                return found[1]
        raise AssertionError("the demo ended:\n" + "".join(seen))

    yield until
    program.terminate()
    program.communicate(timeout=30)


def test_no_query_is_empty_during_a_demo(root, demo, prometheus_server):
    address = demo(r"The daemon is up at http://(\S+?)\.\s*$")
    prometheus = prometheus_server(address, job="remediator", bearer=demo(r"sign in with (\S+)"))
    prometheus.wait_for("remediator_runs_in_flight")  # before the first count, so that it is an increase
    demo(r"The cluster itself says: (whole again)")
    prometheus.wait_for("sum(increase(remediator_runs_total{outcome='healed'}[1m])) > 0")
    board = json.loads((root / "deploy" / "grafana" / "remediator.json").read_text())
    queries = [(panel["title"], target["expr"]) for panel in board["panels"] for target in panel.get("targets", ())]
    deadline = time.monotonic() + 30
    while empty := [pair for pair in queries if not told(prometheus, pair[1])]:
        assert time.monotonic() < deadline, empty
        time.sleep(0.5)


def told(prometheus, query):
    """Whether it comes back with numbers, as Grafana fills its variables in."""
    found = prometheus.query(query.replace("$__rate_interval", "1m").replace("$__range", "1h").replace("$playbook", ".*"))
    return any(math.isfinite(float(sample["value"][1])) for sample in found)
