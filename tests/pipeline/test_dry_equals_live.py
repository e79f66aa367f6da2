"""A dry run decides, asks and calls as a live run does from the same state, up to the first place where the world answers.

For each incident that a person can watch the playbook that should take it, by its alert or by a person; and each other shipped playbook.
The other incidents are compared up to the first change, on a clock that leaps: tests/acceptance/test_dry_scenarios.py.
A difference is a fault of the product.
"""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest
import yaml
from standins.calls import moves, shape

from remediator.approval import answer
from remediator.kube import kinds
from remediator.match import find
from remediator.model import PLAN, Answer, RunState, Trigger, TriggerKind, evolve
from remediator.sim import all_scenarios
from remediator.sim.prometheus.series import Sample

TARGETS = {
    "Node": ("Node", "", "node-3"),
    "Deployment": ("Deployment", "kube-system", "cilium-operator"),
    "Namespace": ("Namespace", "", "kube-system"),
}
"""By the kind that a playbook acts on; Node where only people trigger it."""
OF_PLAYBOOKS = {
    **dict.fromkeys(("dns", "hubble", "tunnel"), ("Deployment", "kube-system", "coredns")),
    "service-endpoint": ("Deployment", "apps", "whoami"),
}
"""There is neither a relay nor a tunnel in the simulated cluster; another Deployment stands in for it."""
_SLOW = dict.fromkeys(
    (
        "bgp-session",
        "cilium-endpoints",
        "cilium-endpoints-unreachable",
        "dns",
        "egress-gateway",
        "encryption",
        "gateway",
        "gateway-envoy",
        "gateway-errors",
        "gateway-probe",
        "node-latency",
        "node-packet-loss",
        "pressure",
        "restart-agent",
        "service-endpoint",
        "storage-path",
        "tunnel",
    ),
    pytest.mark.long,
)
"""The ladders of two rungs take their time; what the simulated Prometheus does not measure a live run waits for to the end. Of several that
restart the same thing one is enough between the long tests."""


def shipped(root):
    documents = [yaml.safe_load(path.read_text()) for path in sorted((root / "playbooks").glob("*.yaml"))]
    return [document["metadata"]["name"] for document in documents if document["kind"] == "Playbook"]


def pytest_generate_tests(metafunc):
    if "played" in metafunc.fixturenames:
        scenes = [(scene.truth.playbook, scene) for scene in all_scenarios() if scene.truth.playbook and scene.demo]
        taken = {playbook for playbook, _ in scenes}
        scenes += [(name, None) for name in shipped(metafunc.config.rootpath) if name not in taken]
        cases = [
            pytest.param((name, scene), id=f"{name}-{scene.name}" if scene else name, marks=_SLOW.get(name, ())) for name, scene in scenes
        ]
        metafunc.parametrize("played", cases)


@pytest.fixture
def rate():
    """Slow enough that a busy machine is in time with BGP sessions."""
    return 30


@pytest.fixture
async def ready(line, stage, root, played):
    """The pipeline with every shipped playbook, and the world as the case wants it."""
    name, scene = played
    line.load(*(path.read_text() for path in sorted((root / "playbooks").glob("*.yaml"))))
    await line.start()
    if name == "return-node":
        done = await stage.step("node.cordon")
        stored = await line.journal.run(done.run.id)
        await line.journal.save_run(evolve(stored, state=RunState.DONE, ended_at=line.world.clock.now()))
    if name == "storage-path":
        await plant_csi(stage)
    if name == "service-endpoint":
        await plant_silence(stage)
    if name == "egress-gateway":
        await plant_egress(stage, root)
    if name == "gateway-errors":
        requests = Sample("node:envoy_requests:rate5m", {"node": "node-3"}, 20)
        stage.simulation.prometheus.extra.append(lambda: iter([requests]))
    if scene is not None:
        await stage.simulation.play(scene)
    return line


async def plant_csi(stage):
    """The driver that the playbook names, on every node."""
    labels = {"app.kubernetes.io/name": "proxmox-csi-plugin", "app.kubernetes.io/component": "node"}
    spec = {"containers": [{"name": "csi", "image": "example.test/csi:1"}]}
    body = {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}}
    stage.cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "csi-proxmox"}})
    meta = {"name": "csi-node", "namespace": "csi-proxmox"}
    stage.cluster.create({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": meta, "spec": body})
    await stage.until(lambda: stage.cluster.get("DaemonSet", *meta.values()).get("status", {}).get("numberReady"))


async def plant_silence(stage):
    """The target does not answer until it is restarted."""
    labels = {"probe": "service", "instance": "https://whoami.test", "namespace": "apps", "deployment": "whoami"}

    def probes():
        template = stage.cluster.get("Deployment", "whoami", "apps")["spec"]["template"]
        yield Sample("probe_success", labels, float("annotations" in template["metadata"]))

    stage.simulation.prometheus.extra.append(probes)
    await stage.until(lambda: stage.simulation.prometheus.query("probe_success == 0"))


async def plant_egress(stage, root):
    """A policy that selects the target, and a standby, as the agents see them."""
    stage.cluster.create(yaml.safe_load((root / "playbooks/tests/fixtures/egress.yaml").read_text()))
    for node, label in (("node-3", "egress-node"), ("node-4", "remediator.dev/egress-standby")):
        await stage.world.kube.patch(kinds.NODE, node, {"metadata": {"labels": {label: "true"}}}, type="merge")
        await stage.until(lambda node=node, label=label: label in stage.cluster.get("CiliumNode", node)["metadata"]["labels"])


async def the_alert(line, stage, scene):
    """As Alertmanager would post it now, once it fires."""

    async def fires():
        now = line.world.clock.now()
        found = [a for a in stage.simulation.alertmanager.alerts.values() if a.labels["alertname"] in scene.truth.alerts]
        return found[0].webhook(now) if found else None

    return await line.until(fires, "the alert")


async def one(line, stage, played, *, dry):
    """Decide and carry it to its end; the decision, the run, and every request since, in order."""
    name, scene = played
    playbook = line.world.library.by_name(name)
    line.world.dry_run = dry
    alert = await the_alert(line, stage, scene) if scene is not None and scene.truth.alerts and not scene.asks else None
    after = stage.cluster.request_log.count
    if alert is not None:
        (decision,) = await line.decided(await line.deliver(alert))
    else:
        kind, namespace, target = OF_PLAYBOOKS.get(name) or TARGETS[playbook.when.target.kind if playbook.when else "Node"]
        trigger = Trigger(kind=TriggerKind.MANUAL, by="anna", reason="to see")
        found = await find(kind, target, namespace, line.world.kube)
        judged = await line.pipeline.decider.person(playbook, found, trigger, parameters=playbook.fill({}), dry_run=dry)
        decision = judged.decision
        await line.pipeline.begin([judged.run] if judged.run else [])
    run = await ended(line, decision.run) if decision.run else None
    # The lease on a node is a lock: a live run takes it, a dry one only its shadow.
    calls = [entry for entry in stage.cluster.request_log if entry.seq > after and "medik8s-leases" not in entry.path]
    return SimpleNamespace(decision=decision, run=run, calls=calls)


async def ended(line, run):
    """At its end; a person says yes where it asks in between."""
    found = await line.when(run, lambda stored: not stored.state.open or stored.state is RunState.AWAITING_APPROVAL)
    if found.state.open:
        said = Answer(by="berta", at=line.world.clock.now(), approved=True, reason="looked at it")
        async with line.world.signals.writing(run):
            await line.journal.save_run(answer(await line.journal.run(run), said))
    return await line.ended(run)


def until_the_world_answers(calls):
    """Up to the first call that changes something, itself included; in a dry run the same call with dryRun."""
    real = next((n for n, call in enumerate(calls) if call.writes), len(calls) - 1)
    return calls[: real + 1]


def verdicts(gates):
    return [(verdict.gate, verdict.allowed, verdict.reason) for verdict in gates]


def plans(run):
    """What each step said that it would do."""
    return [(step.name, [seen.data for seen in step.evidence if seen.name == PLAN]) for step in run.steps]


async def test_the_same_decision_gates_and_calls(ready, stage, played):
    before = len(stage.cluster.writes())
    dry = await one(ready, stage, played, dry=True)
    assert stage.cluster.writes()[before:] == [], "a dry run changed something"
    live = await one(ready, stage, played, dry=False)
    assert (dry.decision.decision, dry.decision.reason) == (live.decision.decision, live.decision.reason), live.decision.detail
    assert verdicts(dry.decision.gates) == verdicts(live.decision.gates)
    if live.run is None:
        assert dry.run is None
        return
    assert (dry.run.dry_run, live.run.dry_run) == (True, False)
    assert dry.run.state == "predicted", dry.run.detail
    assert played[1] is None or not played[1].truth.healable or live.run.state == "healed", live.run.detail
    assert verdicts(dry.run.gates) == verdicts(live.run.gates), "asked again in mid-run"
    assert plans(dry.run) == plans(live.run)
    if live.run.approvals:
        return  # after a yes every gate is asked once more, and in a dry run nobody says yes

    first = until_the_world_answers(live.calls)
    asked, told = list(map(shape, moves(first))), list(map(shape, moves(dry.calls)))
    assert told[: len(asked)] == asked, "the same calls in the same order"
    if not asked:
        return  # it only looks
    same = [call for call in dry.calls if call.seq <= moves(dry.calls)[len(asked) - 1].seq]
    reads = Counter(shape(call) for call in first if call not in moves(first))
    assert Counter(shape(call) for call in same if call not in moves(same)) == reads, "and the same questions before them"
    if played[1] is not None:
        assert {(verb, path) for _, verb, path, *_ in told} == {(verb, path) for _, verb, path, *_ in map(shape, moves(live.calls))}
