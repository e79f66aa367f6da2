"""A pause, at whatever level, stops a running run before its next call that would change something, also where no gate is asked again."""

from __future__ import annotations

from datetime import timedelta

import pytest

from remediator.clock import iso
from remediator.kube import kinds
from remediator.model import Pause

CORDON = {"cordon": {"action": "node.cordon"}}
LIFT = {"lift": {"action": "node.uncordon"}}
RESTART = {"restart": {"action": "cilium.restart_agent", "ready_for": "2s", "metrics": False, "timeout": "20m"}}


@pytest.fixture
def begun(line, stage, symptom, text, gate):
    """A run that cordoned node-3 and is about to lift that again, which no gate forbids; ``line.gate.set()`` lets it go on."""

    async def begin(last=LIFT, **more):
        symptom.cured = lambda node: True
        stage.cluster.kill_agent("node-3")
        line.load(text(steps=[CORDON, gate, last], **{"gates": {"cooldown": "1s"}, **more}))
        await line.start()
        run = await line.run_of(line.outside.fire())
        await line.step_begins(run, "gate")
        assert cordoned(stage)
        return run

    return begin


def cordoned(stage):
    return bool(stage.cluster.get("Node", "node-3")["spec"].get("unschedulable"))


async def mark(line, kind, name, **annotations):
    marks = {f"remediator.dev/{key.replace('_', '-')}": text for key, text in annotations.items()}
    await line.world.kube.patch(kind, name, {"metadata": {"annotations": marks}}, type="merge")


async def pause(line, **what):
    await line.journal.add_pause(Pause(id="p", reason="stop it", by="anna", at=line.world.clock.now(), **what))


async def goes_on(line, run):
    line.gate.set()
    return await line.ended(run)


async def test_nobody_paused(line, stage, begun):
    done = await goes_on(line, await begun())
    assert done.state == "healed", done.detail
    assert not cordoned(stage)


@pytest.mark.long
@pytest.mark.parametrize("what", [{}, {"playbook": "remedy"}, {"target": "Node/node-3"}], ids=["all", "playbook", "target"])
async def test_by_a_person(line, stage, begun, what):
    run = await begun()
    await pause(line, **what)
    done = await goes_on(line, run)
    assert (done.state, done.reason) == ("failed", "paused")
    assert "paused by anna: stop it" in done.detail
    assert cordoned(stage)


async def test_by_a_mark_on_the_node(line, stage, begun):
    run = await begun()
    await mark(line, kinds.NODE, "node-3", pause="disk swap")
    done = await goes_on(line, run)
    assert (done.state, done.reason, done.steps[2].state) == ("failed", "paused", "failed")
    assert "Node/node-3 carries remediator.dev/pause: disk swap" in done.detail
    assert cordoned(stage)


async def test_a_mark_that_ended_by_its_own_time_stops_nothing(line, stage, begun):
    run = await begun()
    past = iso(line.world.clock.now() - timedelta(seconds=1))
    await mark(line, kinds.NODE, "node-3", pause="disk swap", pause_until=past)
    assert (await goes_on(line, run)).state == "healed"


@pytest.mark.parametrize("how", ["mark", "pause"])
async def test_of_the_namespace_in_which_something_would_be_changed(line, stage, begun, how):
    """The run's target is the node; what it would delete is a pod in kube-system."""
    run = await begun(RESTART)
    if how == "mark":
        await mark(line, kinds.by_name("Namespace"), "kube-system", pause="upgrade of Cilium")
    else:
        await pause(line, target="Namespace/kube-system")
    done = await goes_on(line, run)
    assert (done.state, done.reason) == ("failed", "paused"), done.detail
    assert [write for write in stage.cluster.writes() if write.verb == "delete"] == []


async def test_of_the_object_that_would_be_changed(line, stage, begun):
    run = await begun(RESTART)
    pod = stage.cluster.agent_pod("node-3")["metadata"]["name"]
    await pause(line, target=f"Pod/kube-system/{pod}")
    done = await goes_on(line, run)
    assert (done.state, done.reason) == ("failed", "paused"), done.detail
    assert [write for write in stage.cluster.writes() if write.verb == "delete"] == []


async def test_marks_that_cannot_be_read_stop_it(line, stage, begun):
    run = await begun(RESTART)
    stage.cluster.fail(path="/namespaces/kube-system$", status=403, count=None)
    done = await goes_on(line, run)
    assert (done.state, done.reason) == ("failed", "unreadable"), done.detail
    assert "whether Namespace/kube-system is paused cannot be read" in done.detail
    assert [write for write in stage.cluster.writes() if write.verb == "delete"] == []


async def test_putting_things_back_goes_on(line, stage, begun):
    run = await begun(RESTART, on_failure="undo")
    await mark(line, kinds.NODE, "node-3", pause="disk swap")
    done = await goes_on(line, run)
    assert done.reason == "paused"
    assert not cordoned(stage)
