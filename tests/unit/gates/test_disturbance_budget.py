from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.cluster.disturbed import disturbed
from remediator.cluster.model import AGENT_TAINT, LEAVING, Cluster, Node, Pod
from remediator.gates import Case, Limits, Snapshot, Unread
from remediator.gates.disturbance_budget import Settings
from remediator.model import RunState, Target, evolve
from remediator.reasons import Reason
from remediator.settings import Share

CORDONED = {"cordoned": True}


def cluster(count=5, *, zones=0, agents=False, **broken):
    """node_1={...} gives that node these fields."""
    nodes = [
        Node(
            name=f"node-{n}",
            labels={"topology.kubernetes.io/zone": f"zone-{n % zones}"} if zones else {},
            had_agent=agents,
            **broken.get(f"node_{n}", {}),
        )
        for n in range(1, count + 1)
    ]
    pods = tuple(Pod(name=f"cilium-{node.name}", namespace="kube-system", node=node.name) for node in nodes) if agents else ()
    return Cluster(nodes=tuple(nodes), agents=pods)


def limited(case, share):
    return evolve(case, limits=Limits(max_disturbed=share))


@pytest.mark.parametrize("count", [1, 3, 5])
def test_one_node_of_a_healthy_small_cluster_may_be_disturbed(judge, case, snapshot, count):
    one = evolve(case, target=Target(kind="Node", name="node-1"))
    assert judge("disturbance_budget", one, snapshot(cluster=cluster(count, zones=3))).allowed


@pytest.mark.parametrize(
    "trouble",
    [
        {"cordoned": True},
        {"ready": "False"},
        {"ready": "Unknown"},
        {"leaving": True},
        {"taints": (AGENT_TAINT,)},
        {"taints": (LEAVING[1],)},
        {"labels": {"remediator.dev/bgp-drain": "true"}},
        {"sessions_down": ("tor1 is idle",)},
    ],
)
def test_whoever_disturbed_another_node_and_however_it_counts(judge, case, snapshot, trouble):
    nodes = [evolve(node, **trouble) if node.name == "node-4" else node for node in cluster().nodes]
    verdict = judge("disturbance_budget", case, snapshot(cluster=Cluster(nodes=tuple(nodes))))
    assert verdict.reason is Reason.DISTURBANCE_BUDGET
    assert verdict.detail.startswith("2 of 5 nodes in all would be disturbed; at most 1 may be; besides the target: node-4 (")


def test_an_agent_that_is_not_ready_counts_and_so_does_one_that_is_gone(judge, case, snapshot):
    whole = cluster(agents=True)
    assert judge("disturbance_budget", case, snapshot(cluster=whole)).allowed
    sick = tuple(evolve(pod, ready=False) if pod.node == "node-4" else pod for pod in whole.agents)
    assert "node-4 (agent not ready)" in judge("disturbance_budget", case, snapshot(cluster=evolve(whole, agents=sick))).detail
    gone = tuple(pod for pod in whole.agents if pod.node != "node-4")
    assert "node-4 (no agent)" in judge("disturbance_budget", case, snapshot(cluster=evolve(whole, agents=gone))).detail


def test_a_node_that_never_had_an_agent_misses_none_nor_does_a_cluster_without_cilium(judge, case, snapshot):
    whole = cluster(agents=True)
    nodes = tuple(evolve(node, had_agent=False) if node.name == "node-4" else node for node in whole.nodes)
    agents = tuple(pod for pod in whole.agents if pod.node != "node-4")
    assert judge("disturbance_budget", case, snapshot(cluster=Cluster(nodes=nodes, agents=agents))).allowed
    assert judge("disturbance_budget", case, snapshot(cluster=evolve(whole, agents=()))).allowed


def test_the_target_counts_once_though_it_is_broken_already(judge, case, snapshot):
    assert judge("disturbance_budget", case, snapshot(cluster=cluster(node_3={"ready": "Unknown", "cordoned": True}))).allowed


def test_runs_of_ours_on_other_nodes_count_and_the_own_one_does_not(judge, case, snapshot, a_run):
    other = a_run(id="r", target=Target(kind="Node", name="node-4"), state=RunState.RUNNING, ended_at=None)
    verdict = judge("disturbance_budget", case, snapshot(open_runs=(other,)))
    assert "node-4 (a run of ours is open)" in verdict.detail
    assert not verdict.allowed
    assert judge("disturbance_budget", evolve(case, run="r"), snapshot(open_runs=(other,))).allowed
    assert judge("disturbance_budget", case, snapshot(open_runs=(evolve(other, disruptive=False),))).allowed
    assert judge("disturbance_budget", case, snapshot(open_runs=(evolve(other, dry_run=True),))).allowed


def test_something_that_is_no_node_adds_none_but_waits_for_a_quiet_cluster(judge, case, snapshot):
    workload = evolve(case, target=Target(kind="Deployment", namespace="kube-system", name="coredns"))
    assert judge("disturbance_budget", workload, snapshot(cluster=cluster(node_4=CORDONED))).allowed
    assert not judge("disturbance_budget", workload, snapshot(cluster=cluster(node_4=CORDONED, node_5=CORDONED))).allowed


@pytest.mark.parametrize(("share", "allowed"), [("20%", True), ("10%", True), ("9%", False), (2, True), (1, False), (0, False)])
def test_a_share_of_all_nodes_rounded_up_or_a_count(judge, case, snapshot, share, allowed):
    limit = Share(count=share) if isinstance(share, int) else Share(percent=float(share[:-1]))
    assert judge("disturbance_budget", limited(case, limit), snapshot(cluster=cluster(11, node_4=CORDONED))).allowed is allowed


def test_a_playbook_may_be_narrower_and_never_wider(judge, case, snapshot):
    busy = snapshot(cluster=cluster(20, node_4=CORDONED))
    assert judge("disturbance_budget", case, busy).allowed
    for settings in ({"max_nodes": 1}, {"max_percent": 5}, {"max_nodes": 9, "max_percent": 5}):
        narrow = evolve(case, settings={"disturbance": Settings.model_validate(settings)})
        assert not judge("disturbance_budget", narrow, busy).allowed, settings
    wide = evolve(case, limits=Limits(max_disturbed=Share(count=1)), settings={"disturbance": Settings(max_nodes=9)})
    assert not judge("disturbance_budget", wide, busy).allowed


def test_each_zone_has_the_same_share_of_its_own(judge, case, snapshot):
    same, other = {"node_6": CORDONED}, {"node_7": CORDONED}  # node-3 and node-6 are in zone-0
    verdict = judge("disturbance_budget", case, snapshot(cluster=cluster(12, zones=3, **same)))
    assert verdict.reason is Reason.DISTURBANCE_BUDGET
    assert verdict.detail == (
        "2 of 12 nodes in all would be disturbed; at most 3 may be; 2 of 4 nodes in zone-0 would be disturbed; at most 1 may be; "
        "besides the target: node-6 (cordoned)"
    )
    assert judge("disturbance_budget", case, snapshot(cluster=cluster(12, zones=3, **other))).allowed


@pytest.mark.parametrize("fact", ["cluster", "open_runs"])
def test_what_cannot_be_read_refuses(judge, case, snapshot, fact):
    assert judge("disturbance_budget", case, snapshot(**{fact: Unread(detail="no")})).reason is Reason.UNREADABLE


@given(st.integers(1, 40), st.sets(st.integers(1, 40)), st.integers(1, 40), st.floats(1, 100))
def test_whatever_is_allowed_leaves_no_more_than_the_share_disturbed(count, broken, target, percent):
    from datetime import UTC, datetime

    from remediator.gates import Fact, evaluate, gates
    from remediator.model import Mode, TriggerKind

    shape = cluster(count, **{f"node_{n}": CORDONED for n in broken})
    case = Case(
        playbook="p",
        mode=Mode.AUTO,
        target=Target(kind="Node", name=f"node-{min(target, count)}"),
        trigger=TriggerKind.ALERT,
        limits=Limits(max_disturbed=Share(percent=percent)),
    )
    facts = Snapshot(at=datetime(2026, 1, 5, tzinfo=UTC), facts={Fact.CLUSTER: shape, Fact.OPEN_RUNS: ()})
    (verdict,) = evaluate(case, facts, [gates()["disturbance_budget"]()])
    after = len(disturbed(shape, {case.target.name}))
    assert verdict.allowed is (after <= Share(percent=percent).of(count))
