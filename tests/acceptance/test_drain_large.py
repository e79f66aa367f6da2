"""Drains that are large, many, or cut in the middle: the whole daemon on the simulated cluster, on a clock that leaps.

So an outage of five minutes takes as long as what is done in it, and a busy machine changes nothing.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from dataclasses import replace
from datetime import timedelta

import pytest

from remediator.model import RunState
from remediator.reasons import Reason
from remediator.sim import Simulation
from remediator.sim.alerting import Receiver
from remediator.sim.alerting.alert import Alert
from remediator.testing import START, rehearse
from remediator.testing.house import House

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

NODE = "node-3"
API = "^/(api|apis|readyz|version)"
OUTAGE = timedelta(minutes=5)
A_SECOND = timedelta(seconds=1)


class Estate:
    """A simulated cluster, the daemon with the shipped playbooks on it, and what happens to its nodes."""

    def __init__(self, simulation, house):
        self.simulation, self.cluster, self.clock = simulation, simulation.cluster, simulation.clock
        self.client = house.client
        self.journal = house.daemon.world.journal

    async def plant(self, workloads, *, each, node=NODE, stop="2s", **budget):
        """So many Deployments of ``each`` pods behind a budget of its own, all of them running on ``node``."""
        others = [name for name in self.cluster.node_names() if name != node]
        for name in others:
            self._edit("Node", name, lambda one: one["spec"].update(unschedulable=True))
        room = {"cpu": "64", "memory": "256Gi", "pods": "600"}
        self._edit("Node", node, lambda one: one["status"].update(allocatable=room, capacity=room))
        self.cluster.booting = True  # they have been there for long
        for number in range(workloads):
            self._workload(f"{node}-{number}", f"web-{number % 10}", each, stop, budget or {"maxUnavailable": 1})
        for _ in range(200):
            await asyncio.sleep(0)
            self.cluster.loop.drain()
        self.cluster.booting = False
        for name in others:
            self._edit("Node", name, lambda one: one["spec"].pop("unschedulable"))
        assert len(self.pods(node)) == workloads * each

    def _workload(self, name, namespace, replicas, stop, budget):
        labels = {"app": name}
        if self.cluster.get("Namespace", namespace) is None:
            self.cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        container = {"name": "c", "image": "example.test/c:1", "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}}}
        template = {
            "metadata": {"labels": labels, "annotations": {"controlplane/stop-after": stop}},
            "spec": {"containers": [container], "terminationGracePeriodSeconds": 10},
        }
        meta, selector = {"name": name, "namespace": namespace}, {"matchLabels": labels}
        spec = {"replicas": replicas, "selector": selector, "template": template}
        self.cluster.create({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec})
        spec = {"selector": selector, **budget}
        self.cluster.create({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": dict(meta), "spec": spec})

    def _edit(self, kind, name, change):
        resource = self.cluster.kind(kind)
        copy = self.cluster.store.edit(resource, self.cluster.store.get(resource, name))
        change(copy)
        self.cluster.store.replace(resource, copy)

    def pods(self, node=NODE):
        """As they are stored: only to be looked at."""
        here = self.cluster.store.list(self.cluster.kind("Pod"))
        return [pod for pod in here if pod["spec"].get("nodeName") == node and pod["metadata"]["namespace"].startswith("web-")]

    def cordoned(self, node=NODE):
        return bool(self.cluster.store.get(self.cluster.kind("Node"), node)["spec"].get("unschedulable"))

    def evictions(self):
        return [call for call in self.cluster.request_log.entries if call.subresource == "eviction" and not call.dry_run]

    async def drain(self, node=NODE, **parameters):
        request = {"playbook": "drain-node", "target": f"Node/{node}", "reason": "a new kernel", "by": "person", "parameters": parameters}
        return await self.client.trigger(request)

    async def until(self, look, *, minutes=60.0):
        deadline = self.clock.now() + timedelta(minutes=minutes)
        while not (found := look()):
            assert self.clock.now() < deadline, "it never came about"
            await self.clock.sleep(A_SECOND)
        return found

    async def ended(self, run, *, minutes=120.0):
        deadline = self.clock.now() + timedelta(minutes=minutes)
        while (stored := await self.journal.run(run.id)).state.open:
            assert self.clock.now() < deadline, f"it never ended: {stored}"
            await self.clock.sleep(A_SECOND)
        return stored

    def away(self, how):
        """The API server is gone for everybody, watches that stand included."""
        if how == "cut":
            self.cluster.drop(path=API, count=None)
        else:
            self.cluster.fail(path=API, status=503, count=None)
        self.cluster.drop_watches()

    def back(self):
        self.cluster.faults.clear()


def played(tmp_path, story, *, nodes=6, **settings):
    """What ``story`` returns, given an Estate."""

    async def main(clock):
        async with Simulation(nodes=nodes, clock=clock, seed=1) as simulation, House(simulation, clock, tmp_path, settings) as house:
            receiver = Receiver(url=house.webhook, token=house.tokens["webhook"], repeat_interval=timedelta(minutes=1))
            simulation.add_receiver(receiver)
            return await story(Estate(simulation, house))

    return rehearse(main, start=START)


def left_behind(run):
    return [change for step in run.steps for change in step.changes if change.left_behind]


def test_five_hundred_pods_behind_fifty_budgets(tmp_path):
    """Never more of one workload at once than its budget allows, and hardly an eviction in vain."""

    async def story(estate):
        await estate.plant(50, each=10)
        leaving, worst = defaultdict(set), Counter()

        def watch(change):
            meta = change.obj["metadata"]
            if change.obj["spec"].get("nodeName") == NODE and "deletionTimestamp" in meta and meta["namespace"].startswith("web-"):
                app, going = meta["labels"]["app"], leaving[meta["labels"]["app"]]
                going.discard(meta["uid"]) if change.kind == "DELETED" else going.add(meta["uid"])
                worst[app] = max(worst[app], len(going))

        estate.cluster.store.subscribe(watch, ("", "pods"))
        done = await estate.ended(await estate.drain())
        assert (done.state, done.reason) == (RunState.HEALED, Reason.HEALED), done.detail
        assert estate.pods() == []
        assert len(worst) == 50
        assert set(worst.values()) == {1}
        statuses = [call.status for call in estate.evictions()]
        assert statuses.count(201) >= 500
        assert len(statuses) - statuses.count(201) <= 50
        assert [change.resource.kind for change in left_behind(done)] == ["Node"]

    played(tmp_path, story, nodes=11)


@pytest.mark.parametrize("how", ["cut", "503"])
def test_an_api_server_that_is_away_for_five_minutes_in_the_middle(how, tmp_path):
    """The drain stands still and goes on by itself; nothing is sent meanwhile but looks, and nothing twice."""

    async def story(estate):
        await estate.plant(5, each=4, stop="4s")
        run = await estate.drain()
        await estate.until(lambda: len(estate.pods()) <= 12)
        estate.away(how)
        began = estate.clock.now()
        await estate.clock.sleep(OUTAGE)
        estate.back()
        during = [call for call in estate.evictions() if began + A_SECOND < call.at]
        assert during == [], "nothing is evicted while nobody can say whether it may be"
        done = await estate.ended(run)
        assert (done.state, done.reason) == (RunState.HEALED, Reason.HEALED), done.detail
        assert estate.pods() == []
        assert estate.cordoned()

    played(tmp_path, story)


def test_an_outage_that_outlasts_the_step_leaves_no_cordon(tmp_path):
    """The time is up in the midst of it: the run says so, and the cordon goes back once the API server answers."""

    async def story(estate):
        await estate.plant(5, each=4, stop="4s")
        run = await estate.drain(timeout="2m")
        await estate.until(lambda: len(estate.pods()) <= 12)
        estate.away("cut")
        await estate.clock.sleep(OUTAGE)
        estate.back()
        done = await estate.ended(run)
        assert done.state is RunState.FAILED, done.detail
        assert done.reason in (Reason.DEADLINE, Reason.UNREADABLE), done.detail
        assert f"uncordoned Node/{NODE}" in done.detail
        assert not estate.cordoned()
        assert estate.pods(), "what had not gone stays"
        assert left_behind(done) == []

    played(tmp_path, story)


SLOW = """\
apiVersion: remediator.dev/v1
kind: Playbook
metadata: {name: drain-slow}
when:
  alerts: ['alertname="NodeSlow"']
  target: {kind: Node}
mode: auto
gates: {cooldown: 1s}
ladder:
- name: drain
  steps:
  - drain: {action: node.drain, timeout: 15m}
verify:
  kube: {kind: Node, fields: "metadata.name=${target.name}"}
  holds: size(objects) == 1
  within: 2m
  hold: 20s
on_resolved: undo
"""
WAITS = {Reason.CONCURRENCY, Reason.DISTURBANCE_BUDGET, Reason.RATE_LIMITED}


def test_ten_drains_that_wait_for_one_another(tmp_path):
    """With the limits as they are, one at a time and six an hour, each of the ten gets its turn, and none is passed over for long."""
    (tmp_path / "playbooks").mkdir()
    (tmp_path / "playbooks" / "slow.yaml").write_text(SLOW)
    nodes = [f"node-{number}" for number in range(2, 12)]

    async def story(estate):
        for node in nodes:
            await estate.plant(1, each=2, node=node, stop="4s")
        began = estate.clock.now()
        alerts = {node: Alert({"alertname": "NodeSlow", "node": node}, {}, began, began + timedelta(days=1), began) for node in nodes}
        alertmanager = estate.simulation.alertmanager
        alertmanager.receive(alerts.values())
        at_once, turns = 0, []
        while alerts or any(map(estate.cordoned, nodes)):
            assert estate.clock.now() - began < timedelta(hours=6), f"these never had their turn: {sorted(alerts)}"
            await estate.clock.sleep(A_SECOND)
            working = [run for run in await estate.journal.open_runs() if run.disruptive]
            at_once = max(at_once, len(working))
            turns += [run.target.name for run in working if run.target.name not in turns]
            for node in [node for node in alerts if estate.cordoned(node) and not estate.pods(node)]:
                now = estate.clock.now()
                alertmanager.receive([replace(alerts.pop(node), ends_at=now, updated_at=now)])
        decisions = (await estate.journal.decisions(limit=5000)).items
        assert at_once == 1
        refused = [one for one in decisions if one.decision == "refused"]
        assert {one.reason for one in refused} <= WAITS, {(one.reason, one.detail) for one in refused if one.reason not in WAITS}
        assert {one.target.name for one in decisions if one.decision == "run"} == set(nodes)
        ended = [await estate.journal.run(one.run) for one in decisions if one.decision == "run"]
        assert len(ended) == len(nodes), "each once"
        assert {(run.state, run.reason) for run in ended} == {(RunState.HEALED, Reason.HEALED)}
        told = [alert["labels"]["node"] for alert in alertmanager.sent[0].payload["alerts"]]
        ahead = {node: [other for other in turns[: turns.index(node)] if told.index(other) > told.index(node)] for node in nodes}
        assert max(map(len, ahead.values())) <= 3, "in the order of the notification, but for turns that came up while one was decided"

    played(tmp_path, story, nodes=12, playbooks=["playbooks"])
