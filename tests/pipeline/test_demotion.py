"""A playbook that fails several times in a row acts no longer by itself; a person lifts it. And the record by which people decide."""

from __future__ import annotations

import json

import pytest

FAILS = {"look": {"action": "prometheus.query", "query": "symptom == 7", "expect": "some"}}
CORDON = {"cordon": {"action": "node.cordon"}}


@pytest.fixture
async def failing(house, symptom, text):
    """A house whose playbook ``remedy`` fails, by itself, for any node."""
    house.put("remedy.yaml", text(steps=[FAILS], verify=None))
    house.put("worker.yaml", text("worker", alert="Other", steps=[CORDON], verify=None))
    await house.start(mode="auto", demotion={"failures": 2})
    return house


async def decided(house, *alerts):
    body = json.dumps({"version": "4", "status": "firing", "receiver": "r", "groupKey": "g", "alerts": list(alerts)}).encode()
    delivery = await house.operations.receive(body, sender="10.0.0.7")

    async def look():
        stored = await house.journal.delivery(delivery.id)
        return stored is not None and stored.decided_at is not None

    await house.until(look, "the decision")
    (decision,) = (await house.journal.decisions(delivery=delivery.id)).items
    return decision


async def ran(house, name="Symptom", **labels):
    decision = await decided(house, house.outside.fire(name, **labels))
    return await house.ended(decision.run)


async def status(house):
    _, found = await house.http("GET", "/api/v1/status", token="read")
    return found


async def demoted(house):
    async def there():
        return (await status(house))["demoted"]

    return await house.until(there, "the demotion")


async def test_after_so_many_failures_in_a_row_people_are_asked(failing):
    first = await ran(failing, pod="1")
    assert (first.state, (await status(failing))["demoted"]) == ("failed", [])
    second = await ran(failing, pod="2")
    (demotion,) = await demoted(failing)
    assert (demotion["playbook"], demotion["mode"], demotion["runs"]) == ("remedy", "suggest", [second.id, first.id])
    third = await decided(failing, failing.outside.fire(pod="3"))
    assert (await failing.journal.run(third.run)).state == "awaiting_approval"
    _, shown = await failing.http("GET", "/api/v1/playbooks/remedy", token="read")
    assert (shown["mode"], shown["mode_in_force"], shown["demoted"]["runs"]) == ("auto", "suggest", [second.id, first.id])
    assert shown["record"]["by_itself"] == {"runs": 2, "healed": 0, "failed": 2, "stopped": 0, "open": 0}
    _, metrics = await failing.http("GET", "/metrics", token="read")
    assert 'remediator_playbook_demoted{playbook="remedy"} 1.0' in metrics
    assert 'remediator_playbook_demoted{playbook="worker"} 0.0' in metrics
    entries = await failing.journal.entries(kind="demoted")
    assert [entry.ref for entry in entries] == ["remedy"]


async def test_it_survives_a_restart_and_a_person_lifts_it(failing):
    for pod in "12":
        await ran(failing, pod=pod)
    await demoted(failing)
    await failing.stop()
    await failing.start(mode="auto", demotion={"failures": 2})
    assert [one["playbook"] for one in (await status(failing))["demoted"]] == ["remedy"]
    path = "/api/v1/playbooks/remedy/reinstate"
    assert (await failing.http("POST", path, {"by": "anna"}, token="read"))[0] == 403
    code, lifted = await failing.http("POST", path, {"by": "anna", "reason": "the query is right now"})
    assert (code, lifted["playbook"]) == (200, "remedy")
    assert (await status(failing))["demoted"] == []
    assert (await failing.http("POST", path, {"by": "anna"}))[0] == 409
    assert (await failing.http("POST", "/api/v1/playbooks/remedi/reinstate", {"by": "anna"}))[0] == 404
    assert (await ran(failing, pod="3")).state == "failed", "it acts by itself again"
    assert (await status(failing))["demoted"] == [], "what was before does not count any more"
    await failing.stop()
    await failing.start(mode="auto", demotion={"failures": 2})
    assert (await status(failing))["demoted"] == []
    entries = await failing.journal.entries(kind="reinstated")
    assert [(entry.ref, entry.data["by"], entry.data["reason"]) for entry in entries] == [("remedy", "anna", "the query is right now")]


async def test_killed_before_it_was_written_down_it_is_found_at_the_next_start(failing, monkeypatch):
    async def killed(*_args, **_more):
        return None

    monkeypatch.setattr(failing.daemon.world.demotions, "look", killed)
    for pod in "12":
        await ran(failing, pod=pod)
    assert (await status(failing))["demoted"] == []
    await failing.stop()
    await failing.start(mode="auto", demotion={"failures": 2})
    assert [one["playbook"] for one in (await status(failing))["demoted"]] == ["remedy"]


async def test_what_people_stopped_and_what_worked_between_does_not_demote(failing):
    await ran(failing, pod="1")
    failing.put("remedy.yaml", json.dumps({**json.loads((failing.folder / "playbooks" / "remedy.yaml").read_text()), "ladder": [
        {"name": "only", "steps": [{"settle": {"action": "wait", "for": "50m", "timeout": "55m"}}]}
    ]}))  # fmt: skip
    await failing.http("POST", "/-/reload")
    stopped = (await decided(failing, failing.outside.fire(pod="2"))).run
    await failing.http("PUT", "/api/v1/pause", {"reason": "exam", "by": "berta"})
    done = await failing.ended(stopped)
    assert (done.state, done.reason) == ("failed", "paused")
    _, shown = await failing.http("GET", "/api/v1/playbooks/remedy", token="read")
    assert (shown["demoted"], shown["record"]["failures_in_a_row"]) == (None, 1)


@pytest.mark.long
async def test_nothing_is_demoted_where_the_settings_say_never(house, symptom, text):
    house.put("remedy.yaml", text(steps=[FAILS], verify=None))
    await house.start(mode="auto", demotion={"failures": 0})
    for pod in "1234":
        await ran(house, pod=pod)
    assert (await status(house))["demoted"] == []


class TestRecord:
    async def test_suggested_against_what_people_did(self, house, symptom, text, later):
        symptom.cured = lambda node: bool(house.stage.cluster.get("Node", node)["spec"].get("unschedulable"))
        house.put("remedy.yaml", text(steps=[CORDON], mode="suggest"))
        await house.start(mode="auto")

        async def asked(node):
            alert = house.outside.fire(node=node)
            return alert, (await decided(house, alert)).run

        _, yes = await asked("node-1")
        await house.http("POST", f"/api/v1/runs/{yes}/approve", {"by": "anna"})
        await house.ended(yes)
        alert, no = await asked("node-2")
        await house.http("POST", f"/api/v1/runs/{no}/reject", {"by": "anna"})
        await house.ended(no)
        await decided(house, house.outside.resolve(alert))
        _, waiting = await asked("node-3")
        _, shown = await house.http("GET", "/api/v1/playbooks/remedy", token="read")
        (record,) = (await status(house))["records"]
        assert record == shown["record"]
        suggested = shown["record"]["suggested"]
        healed = suggested.pop("after_yes")["healed"]
        assert (healed, suggested) == (1, {
            "runs": 3, "approved": 1, "rejected": 1, "expired": 0, "withdrawn": 0, "waiting": 1, "ended_after_no": 1,
        })  # fmt: skip
        assert (await house.journal.run(waiting)).state == "awaiting_approval"
        later(days=31)
        assert (await status(house))["records"] == []

    async def test_predicted_against_what_people_did(self, house, symptom, text):
        house.put("remedy.yaml", text(steps=[CORDON], mode="observe"))
        house.put("by-hand.yaml", text("by-hand", alert=None, steps=[CORDON], verify=None))
        await house.start(mode="auto")
        alerts = [house.outside.fire(node=f"node-{n}") for n in (1, 2, 3)]
        runs = [(await decided(house, alert)).run for alert in alerts]
        for run in runs:
            await house.ended(run)
        _, by_hand = await house.http("POST", "/api/v1/runs", {"playbook": "by-hand", "target": "Node/node-1", "by": "anna"})
        await house.ended(by_hand["id"])
        for alert in alerts[:2]:
            await decided(house, house.outside.resolve(alert))
        _, shown = await house.http("GET", "/api/v1/playbooks/remedy", token="read")
        assert shown["record"]["predicted"] == {"runs": 3, "people_acted": 1, "ended_alone": 1, "still_firing": 1}
        assert shown["mode_in_force"] == "observe", "nothing is promoted by itself"
