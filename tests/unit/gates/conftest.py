from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from remediator.breaker import Past
from remediator.cluster.fit import Load
from remediator.cluster.model import Cluster, Network, Node, Symptom
from remediator.gates import Case, Fact, Snapshot, gates
from remediator.model import Alert, AlertStatus, Mode, Run, RunState, Target, Trigger, TriggerKind, evolve, new_id

NOW = datetime(2026, 1, 5, 10, tzinfo=UTC)
NODE = Target(kind="Node", name="node-3", uid="uid-3")


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
def snapshot(alert):
    """Facts that refuse nothing; others by keyword (pauses=..., open_runs=..., ...)."""

    def make(**facts):
        node = {"metadata": {"name": "node-3", "uid": "uid-3"}}
        known = {
            "pauses": (),
            "open_runs": (),
            "history": (),
            "active_alerts": {alert.episode: ()},
            "target": node,
            "namespace": None,
            "recent_runs": (),
            "failures": Past(),
            "episodes": (),
            "cluster": Cluster(nodes=tuple(Node(name=f"node-{n}") for n in range(1, 6))),
            "lease": None,
            "load": Load(),
            "symptom": Symptom(query="x > 1", values=(2.0,)),
            "network": Network(unreachable=(0.0,) * 5, targets=12),
        }
        names = {
            "pauses": Fact.PAUSES,
            "open_runs": Fact.OPEN_RUNS,
            "history": Fact.HISTORY,
            "active_alerts": Fact.ACTIVE_ALERTS,
            "target": Fact.TARGET,
            "namespace": Fact.NAMESPACE,
            "recent_runs": Fact.RECENT_RUNS,
            "failures": Fact.FAILURES,
            "episodes": Fact.EPISODES,
            "cluster": Fact.CLUSTER,
            "network": Fact.NETWORK,
            "lease": Fact.LEASE,
            "load": Fact.LOAD,
            "symptom": Fact.STILL_TRUE,
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
