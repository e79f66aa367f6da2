"""What the daemon tells at start, and again when it changes: the version of Cilium, and playbooks that could prove nothing here."""

from __future__ import annotations

import asyncio
import json

import pytest

from remediator import surroundings

PROOF = {"query": 'nobody_has_this{node="${target.name}"} == 0 or nor_this == 0', "within": "40s", "hold": "10s"}
MEASURED = {"query": 'up{node="${target.name}"} == 1', "within": "40s", "hold": "10s"}
TOLD = "a playbook could prove nothing here: Prometheus has none of its metrics"


@pytest.fixture
async def open_house(house, text):
    house.put("blind.yaml", text("blind", verify=PROOF))
    house.put("seeing.yaml", text("seeing", alert="Other", verify=MEASURED))
    house.put("blank.yaml", text("blank", alert="Third", verify=None))
    await house.start()
    return house


def entries(house, event):
    return [entry for entry in map(json.loads, house.log.getvalue().splitlines()) if entry["event"] == event]


async def seen(house, event, count=1):
    async def look():
        found = entries(house, event)
        return found if len(found) >= count else None

    return await house.until(look, event)


def run_another(stage, tag):
    """Every agent is of another version from now on."""
    kind = stage.cluster.kind("Pod")
    for pod in stage.cluster.store.list(("", "pods"), "kube-system"):
        if stage.cluster.is_agent(pod):
            copy = stage.cluster.store.edit(kind, pod)
            copy["spec"]["containers"][0]["image"] = f"quay.io/cilium/cilium:{tag}"
            stage.cluster.store.replace(kind, copy)


class TestCilium:
    async def test_its_version_is_told_at_start_and_in_the_status(self, open_house):
        (told,) = await seen(open_house, "version of Cilium")
        assert (told["level"], told["cilium"]) == ("info", "1.18.4")
        _, status = await open_house.http("GET", "/api/v1/status", token="read")
        assert status["cilium"] == "1.18.4"
        assert open_house.operations._world.agents == 5, "how large the cluster is, by its agents"

    async def test_one_that_nobody_knows_warns_once_and_the_daemon_serves(self, open_house, stage):
        await seen(open_house, "version of Cilium")
        run_another(stage, "v1.21.0")
        await open_house.operations.surroundings.look()
        await open_house.operations.surroundings.look()
        told = entries(open_house, "version of Cilium")
        assert [entry["level"] for entry in told] == ["info", "warning"]
        assert told[-1]["cilium"].startswith("1.21.0; Cilium 1.21.0 is outside of 1.16 to 1.20")
        _, status = await open_house.http("GET", "/api/v1/status", token="read")
        assert (status["cilium"], status["ready"]) == (told[-1]["cilium"], True)

    async def test_what_the_api_server_does_not_tell_is_said_so(self, open_house, stage):
        await seen(open_house, "version of Cilium")
        stage.cluster.fail(verb="get", path="/namespaces/kube-system/pods", status=403, count=None)
        await open_house.operations.surroundings.look()
        assert open_house.operations.status().cilium.startswith("its version cannot be read: ")
        assert entries(open_house, "version of Cilium")[-1]["level"] == "warning"


class TestMetrics:
    async def test_playbooks_that_could_prove_nothing_are_named_once(self, open_house):
        (told,) = await seen(open_house, TOLD)
        assert (told["level"], told["playbook"], told["metrics"]) == ("warning", "blind", ["nobody_has_this", "nor_this"])
        await open_house.operations.surroundings.look()
        assert len(entries(open_house, TOLD)) == 1
        assert open_house.operations.ready()[0]

    async def test_other_playbooks_are_asked_about_anew(self, open_house, text):
        await seen(open_house, TOLD)
        open_house.put("second.yaml", text("second", alert="Fourth", verify=PROOF))
        assert (await open_house.operations.reload()).ok
        await open_house.operations.surroundings.look()
        assert [entry["playbook"] for entry in entries(open_house, TOLD)] == ["blind", "blind", "second"]

    async def test_a_prometheus_that_is_away_stops_no_start_and_is_asked_again(self, house, stage, text):
        stage.cluster.fail(path="^/prometheus", status=503, count=None)
        house.put("blind.yaml", text("blind", verify=PROOF))
        await house.start()
        (away,) = await seen(house, "Prometheus could not be asked for the metrics that playbooks need")
        assert "503" in away["error"]
        assert house.operations.ready()[0]
        stage.cluster.faults.clear()
        await house.operations.surroundings.look()
        assert [entry["playbook"] for entry in entries(house, TOLD)] == ["blind"]

    async def test_one_that_does_not_answer_is_given_up_by_the_deadline(self, open_house, monkeypatch):
        async def never(_prometheus, _playbooks):
            await asyncio.Event().wait()

        await seen(open_house, TOLD)
        monkeypatch.setattr(surroundings, "unmeasured", never)
        monkeypatch.setattr(surroundings, "_FOR_METRICS", 0.01)
        open_house.operations.surroundings._measured = ""
        await open_house.operations.surroundings.look()
        (late,) = entries(open_house, "Prometheus could not be asked for the metrics that playbooks need")
        assert late["error"] == "no answer to all questions within 0.01 s"
