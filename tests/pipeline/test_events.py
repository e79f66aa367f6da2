"""A whole daemon writes Events about what it does, and none of it depends on them."""

from __future__ import annotations

import json
import re

import pytest

from remediator.model import RunState
from remediator.server.service import PauseRequest
from remediator.sim.faults import Fault

RESTART = {"restart": {"action": "cilium.restart_agent", "ready_for": "2s", "metrics": False, "timeout": "20m"}}


def events(house):
    """(regarding, reason) of what remediator wrote, oldest first."""
    found = [e for e in house.stage.cluster.store.list(("", "events")) if e.get("reportingComponent") == "remediator.dev/remediator"]
    return [(e["involvedObject"]["kind"], e["involvedObject"]["name"], e["reason"]) for e in sorted(found, key=lambda e: e["eventTime"])]


async def a_restart(house, text, symptom, **settings):
    symptom.cured = lambda _: True
    house.put("remedy.yaml", text(steps=[RESTART], gates={"cooldown": "1s"}))
    await house.start(**settings)
    _, decision = await house.http("POST", "/api/v1/runs", {"playbook": "remedy", "target": "Node/node-3", "reason": "to see"})
    return await house.ended(decision["id"])


async def test_a_run_shows_on_the_node_and_on_the_pod(house, text, symptom):
    agent = house.stage.cluster.agent_pod("node-3")["metadata"]["name"]
    run = await a_restart(house, text, symptom)
    assert run.state is RunState.HEALED

    async def all_there():
        return {("Node", "node-3", "RunStarted"), ("Pod", agent, "Acted"), ("Node", "node-3", "Healed")} <= set(events(house))

    await house.until(all_there, "the Events")
    assert len(events(house)) == 3


async def test_a_refused_alert_shows_once(house, text, outside):
    house.put("remedy.yaml", text())
    await house.start()
    await house.operations.pause(PauseRequest(reason="exam", by="anna"))
    payload = {"version": "4", "receiver": "r", "status": "firing", "groupKey": "g", "alerts": [outside.fire()]}
    for _ in range(3):
        await house.operations.receive(json.dumps(payload).encode(), sender="10.0.0.7")

    async def decided():
        return len((await house.journal.decisions()).items) == 3

    await house.until(decided, "three refusals")

    async def there():
        return events(house)

    assert await house.until(there, "the Event") == [("Node", "node-3", "Paused")]
    assert not house.daemon.world.events._waiting


@pytest.mark.parametrize("settings", [{"dry_run": True}, {"kubernetes": {"events": False}}])
async def test_a_dry_run_and_a_daemon_that_is_told_so_write_none(house, text, symptom, settings):
    if "kubernetes" in settings:
        settings = {"kubernetes": {"events": False, "server": house.stage.simulation.url}}
    await a_restart(house, text, symptom, **settings)
    assert not house.daemon.world.events._waiting
    assert events(house) == []


async def test_a_cluster_that_takes_no_events_stops_no_run(house, text, symptom):
    fault = Fault(verb="create", path="events.k8s.io", status=403, count=None)
    house.stage.cluster.faults.add(fault)
    run = await a_restart(house, text, symptom)
    assert run.state is RunState.HEALED

    async def told():
        return len(re.findall("an Event could not be written", house.log.getvalue())) >= 3

    await house.until(told, "three tries")
    assert fault.hits >= 3
