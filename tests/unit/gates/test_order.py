"""Two runs that exclude each other, both asked once more: exactly one goes on, the one that began first."""

from __future__ import annotations

from datetime import timedelta

import pytest

from remediator.cluster.model import Cluster, Node
from remediator.gates import Limits
from remediator.gates.attempts_exhausted import Settings as Attempts
from remediator.model import ApprovalState, RunState, Target, evolve
from remediator.settings import Share

LABELS = {"topology.kubernetes.io/zone": "a", "node-role.kubernetes.io/control-plane": ""}
CLUSTER = Cluster(nodes=tuple(Node(name=f"node-{n}", labels=LABELS) for n in range(1, 8)))
ONE = Limits(max_disturbed=Share(count=1))
ZONES = Limits(concurrent_disruptive=3, concurrent_per_zone=1)
OTHER = "node-4"


@pytest.fixture(params=["neither clock was set back", "the clock was set back"])
def pair(request, a_run, a_question, now):
    """``pair(target of the second)``: two runs at work, the second one's yes after the first one's."""

    def make(second=OTHER):
        at = (0, 1) if request.param.startswith("neither") else (1, 0)
        yes = [(a_question(state=ApprovalState.APPROVED, ended_at=now - timedelta(minutes=2 - n)),) for n in at]
        work = {"state": RunState.RUNNING, "ended_at": None}
        targets = Target(kind="Node", name="node-3"), Target(kind="Node", name=second)
        return tuple(a_run(id=f"run-{2 - n}", order=40 + n, target=target, approvals=yes[n], **work) for n, target in enumerate(targets))

    return make


@pytest.mark.parametrize(
    ("gate", "limits", "where", "settings"),
    [
        ("concurrency", Limits(), OTHER, {}),
        ("concurrency", Limits(concurrent_runs=1, concurrent_disruptive=9, concurrent_per_zone=9), OTHER, {}),
        ("concurrency", ZONES, OTHER, {}),
        ("target_busy", Limits(), "node-3", {}),
        ("disturbance_budget", ONE, OTHER, {}),
        ("quorum", Limits(), OTHER, {}),
        ("rate_limited", Limits(disruptive_per_hour=1), OTHER, {}),
        ("attempts_exhausted", Limits(), "node-3", {"attempts": Attempts(max=1, within="6h")}),
    ],
)
def test_exactly_one_goes_on(judge, case, snapshot, pair, gate, limits, where, settings):
    runs = pair(where)
    facts = snapshot(open_runs=runs, recent_runs=runs, history=runs, cluster=CLUSTER)
    case = evolve(case, limits=limits, settings=settings)

    def goes_on(run, **more):
        return judge(gate, evolve(case, run=run.id, order=run.order, target=run.target, **more), facts).allowed

    assert [goes_on(run) for run in runs] == [True, False]
    assert not judge(gate, evolve(case, target=runs[1].target), facts).allowed, "one that is to begin now comes after both"
    if gate in ("concurrency", "target_busy", "disturbance_budget", "quorum"):
        ended = evolve(case, run="ended", undoing=True, target=runs[0].target)
        assert not judge(gate, ended, facts).allowed, "an undo after the end has no place among open runs: it minds all"


def test_those_of_an_earlier_release_went_before_and_have_an_order_too(judge, case, snapshot, pair):
    old, new = (evolve(run, order=order) for run, order in zip(pair(), (0, 41), strict=True))
    facts = snapshot(open_runs=(old, new, evolve(old, id="run-0")))
    asking = [evolve(case, run=run, order=order) for run, order in (("run-0", 0), (old.id, 0), (new.id, 41))]
    verdicts = [judge("concurrency", one, facts).allowed for one in asking]
    assert verdicts == [True, False, False]
