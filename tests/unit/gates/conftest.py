from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from remediator.attribution import Finding, Kind
from remediator.bgp.model import Routes
from remediator.breaker import Past
from remediator.cilium.picture import Fleet, Picture
from remediator.cluster.constraints import Load
from remediator.cluster.model import Cluster, Network, Node, Own, Symptom, View
from remediator.gates import Case, Fact, Snapshot, gates
from remediator.kube.records import Pod
from remediator.kube.workloads import DaemonSet, Deployment
from remediator.model import Alert, AlertStatus, Approval, Mode, Run, RunState, Target, Trigger, TriggerKind, evolve, new_id

NOW = datetime(2026, 1, 5, 10, tzinfo=UTC)
NODE = Target(kind="Node", name="node-3", uid="uid-3")


def a_pod(node="node-3", *, ready=True, revision="1", name="", **status):
    owner = {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "cilium", "uid": "ds", "controller": True}
    metadata = {"name": name or f"cilium-{node}", "namespace": "kube-system", "uid": f"uid-{node}", "ownerReferences": [owner]}
    metadata["labels"] = {"controller-revision-hash": revision}
    conditions = [{"type": "Ready", "status": str(ready)}]
    thing = {"metadata": metadata, "spec": {"nodeName": node}, "status": {"conditions": conditions, **status}}
    return msgspec.convert(thing, Pod)


def a_daemonset(*, strategy="RollingUpdate", generation=1, **status):
    counts = {"observedGeneration": 1, "desiredNumberScheduled": 3, "updatedNumberScheduled": 3, **status}
    thing = {"metadata": {"name": "cilium", "uid": "ds", "generation": generation}, "spec": {"updateStrategy": {"type": strategy}}}
    return msgspec.convert({**thing, "status": counts}, DaemonSet)


def an_operator(*, replicas=2, **status):
    counts = {"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2, **status}
    return msgspec.convert({"metadata": {"name": "cilium-operator"}, "spec": {"replicas": replicas}, "status": counts}, Deployment)


@pytest.fixture
def pod():
    return a_pod


@pytest.fixture
def daemonset():
    return a_daemonset


@pytest.fixture
def operator():
    return an_operator


@pytest.fixture
def cilium():
    """A picture in which nothing is wrong; parts by keyword: pods, daemonset, newest, operators, operator_pods."""

    def make(*, pods=None, daemonset=None, newest=None, operators=None, operator_pods=()):
        pods = pods if pods is not None else [a_pod(f"node-{n}") for n in (1, 2, 3)]
        fleet = Fleet(selector="k8s-app=cilium", pods=tuple(pods), daemonsets=(daemonset or a_daemonset(),), newest=newest or {})
        return Picture(
            agents=fleet, operators=tuple([an_operator()] if operators is None else operators), operator_pods=tuple(operator_pods)
        )

    return make


@pytest.fixture
def now():
    return NOW


@pytest.fixture
def alert():
    return Alert(
        name="CiliumAgentDown", fingerprint="f1", starts_at=NOW - timedelta(minutes=5), status=AlertStatus.FIRING, labels={"node": "node-3"}
    )


@pytest.fixture
def case(alert):
    return Case(playbook="agent", mode=Mode.AUTO, target=NODE, trigger=TriggerKind.ALERT, alert=alert)


@pytest.fixture
def a_question():
    """What people were asked; fields by keyword."""

    def make(**fields):
        return evolve(Approval(asked_at=NOW - timedelta(hours=1), expires_at=NOW + timedelta(hours=1)), **fields)

    return make


@pytest.fixture
def a_run():
    """A run on the target that ended healed an hour ago; fields by keyword."""

    def make(**fields):
        run = Run(
            id=new_id(NOW),
            playbook="agent",
            revision="r",
            trigger=Trigger(kind=TriggerKind.ALERT),
            target=NODE,
            state=RunState.HEALED,
            started_at=NOW - timedelta(minutes=70),
            ended_at=NOW - timedelta(minutes=60),
            deadline=NOW,
        )
        return evolve(run, **fields)

    return make


@pytest.fixture
def snapshot(alert, cilium):
    """Facts that refuse nothing; others by keyword (pauses=..., open_runs=..., ...)."""

    def make(**facts):
        node = {"metadata": {"name": "node-3", "uid": "uid-3"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}
        known = {
            "pauses": (),
            "open_runs": (),
            "undoing": (),
            "history": (),
            "restarts": (),
            "active_alerts": {alert.episode: ()},
            "target": node,
            "namespace": None,
            "routes": Routes(),
            "cilium": cilium(),
            "view": View(detail="outside"),
            "own": Own(node="node-1"),
            "recent_runs": (),
            "failures": Past(),
            "episodes": (),
            "cluster": Cluster(nodes=tuple(Node(name=f"node-{n}") for n in range(1, 6))),
            "lease": None,
            "load": Load(),
            "hindrances": (),
            "symptom": Symptom(query="x > 1", values=(2.0,)),
            "network": Network(unreachable=(0.0,) * 5, targets=12),
            "rights": "",
            "finding": Finding(kind=Kind.NODE, node="node-3", words="all the others say so"),
        }
        names = {
            "pauses": Fact.PAUSES,
            "open_runs": Fact.OPEN_RUNS,
            "undoing": Fact.UNDOING,
            "history": Fact.HISTORY,
            "restarts": Fact.RESTARTS,
            "active_alerts": Fact.ACTIVE_ALERTS,
            "target": Fact.TARGET,
            "namespace": Fact.NAMESPACE,
            "routes": Fact.ROUTES,
            "cilium": Fact.CILIUM,
            "view": Fact.VIEW,
            "own": Fact.OWN,
            "rights": Fact.RIGHTS,
            "recent_runs": Fact.RECENT_RUNS,
            "failures": Fact.FAILURES,
            "episodes": Fact.EPISODES,
            "cluster": Fact.CLUSTER,
            "network": Fact.NETWORK,
            "lease": Fact.LEASE,
            "load": Fact.LOAD,
            "hindrances": Fact.HINDRANCES,
            "symptom": Fact.STILL_TRUE,
            "finding": Fact.FINDING,
        }
        return Snapshot(at=facts.pop("at", NOW), facts={names[name]: value for name, value in {**known, **facts}.items()})

    return make


@pytest.fixture
def judge():
    """judge(gate, case, snapshot) -> verdict, through the frame, so that an unreadable fact refuses."""
    from remediator.gates import evaluate

    def by(name, case, snapshot):
        (verdict,) = evaluate(case, snapshot, [gates()[name]()])
        return verdict

    return by
