"""This release and the one before it, side by side on one PostgreSQL database and one cluster: an upgrade, and the way back.

Each of the two begins a run that the other one ends; deliveries go to both; what the journal says is the same, whoever reads it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from acceptance.pairs import RESTART, begin, leads, reckon

pytestmark = [pytest.mark.postgres, pytest.mark.previous, pytest.mark.long, pytest.mark.timeout(400)]


@pytest.fixture
def cluster(simulation_process):
    return simulation_process()


@pytest.fixture
def replica(cluster, daemon, postgres_database, previous_release, monkeypatch):
    """replica("previous") or replica("this"): one more of that release."""
    settings = {name: value for name, value in cluster.settings.items() if name != "prometheus"}
    election = {"enabled": True, "namespace": "kube-system"}

    def start(release):
        with monkeypatch.context() as environment:
            environment.setenv("NODE_NAME", "")
            if release == "previous":
                environment.setenv("PYTHONPATH", str(previous_release))
            one = daemon(playbooks=[RESTART], store={"url": postgres_database}, election=election, **settings)
        of_the_other = str(previous_release) in Path(f"/proc/{one.program.pid}/environ").read_text()
        assert of_the_other == (release == "previous"), "else both were this release, and nothing was shown"
        return one

    return start


def told_by(one):
    """What it tells of everything that is over, by its API and by its export."""
    runs = {run["id"]: one.get(f"/api/v1/runs/{run['id']}") for run in one.get("/api/v1/runs")["items"]}
    for run in runs.values():
        run.pop("order", None)  # the release before does not know it (docs/adr/0026)
    entries = [json.loads(line) for line in one.cli("journal", "export").stdout.splitlines()]
    kept = [(entry["seq"], entry["hash"]) for entry in entries if entry["kind"] in ("delivery", "decision", "run", "step", "change")]
    return runs, kept, one.get("/api/v1/journal/verify")["problems"]


@pytest.mark.parametrize(("first", "second"), [("previous", "this"), ("this", "previous")], ids=["upgrade", "downgrade"])
def test_one_release_takes_the_place_of_the_other(replica, cluster, payload, one_alert, first, second):
    goes = replica(first)
    leads(goes)
    comes = replica(second)
    comes.wait_for("it knows who leads", lambda: comes.get("/api/v1/status")["ready_detail"].startswith("standby; "))
    taken = [one.send(payload(one_alert(node="node-5", number=str(number))))["delivery"] for number, one in enumerate((goes, comes))]
    assert {decision["delivery"] for decision in comes.decisions(2)} == set(taken), "taken by both, decided by one, told by the other"

    run = begin(goes, cluster)
    goes.stop()
    leads(comes)
    reckon(comes, cluster, run)

    back = replica(first)
    back.wait_for("it knows who leads", lambda: back.get("/api/v1/status")["ready_detail"].startswith("standby; "))
    runs, kept, problems = told_by(comes)
    assert (runs.keys(), problems) == ({run}, [])
    assert (runs, kept, problems) == told_by(back), "both read what both have written"
    assert comes.send(payload(one_alert(node="node-5", number="2")))["delivery"]
    assert len(back.decisions(4)) == 4
