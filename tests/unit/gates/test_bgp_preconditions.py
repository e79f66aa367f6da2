"""``bgp_agent``, ``bgp_conflict``, ``bgp_shift``: what has to be so before a BGP shift, judged from one look at everything."""

from __future__ import annotations

import pytest

from remediator.bgp.model import Node, Routes, Session
from remediator.gates import Unread
from remediator.model import Target, evolve
from remediator.reasons import Reason

CONFIG = "CiliumBGPClusterConfig/main"
PEER = Target(kind="CiliumBGPPeerConfig", name="peer-tor1", uid="uid-p")


def speaker(name, *, config="peer-tor1", **more):
    session = Session(instance="i", peer="tor1", address="r1", state="established", config=config)
    return Node(name=name, **{"agent_ready": True, "configs": (CONFIG,), "configured": True, "sessions": (session,), **more})


def routes(**changed):
    """Three speakers; by keyword (node_3={...}) what is different."""
    return Routes(nodes=tuple(speaker(name, **changed.get(name.replace("-", "_"), {})) for name in ("node-1", "node-2", "node-3")))


@pytest.mark.parametrize("gate", ["bgp_agent", "bgp_conflict", "bgp_shift"])
def test_allows_where_everything_is_as_it_should_be_and_refuses_what_cannot_be_read(case, snapshot, judge, gate):
    assert judge(gate, case, snapshot(routes=routes())).allowed
    verdict = judge(gate, case, snapshot(routes=Unread(detail="no answer")))
    assert (verdict.allowed, verdict.reason) == (False, Reason.UNREADABLE)


def test_the_targets_own_agent_has_to_be_ready_and_no_other(case, snapshot, judge):
    down = {"agent_ready": False, "agent": "its agent is not Ready"}
    verdict = judge("bgp_agent", case, snapshot(routes=routes(node_3=down)))
    assert (verdict.allowed, verdict.reason) == (False, Reason.AGENT_NOT_READY)
    assert verdict.detail == "nobody would carry the change out: node-3: its agent is not Ready"
    assert judge("bgp_agent", case, snapshot(routes=routes(node_1=down))).allowed


def test_of_a_peer_configuration_every_agent_with_a_session_by_it(case, snapshot, judge):
    down = {"agent_ready": False, "agent": "gone"}
    of_peer = evolve(case, target=PEER)
    assert not judge("bgp_agent", of_peer, snapshot(routes=routes(node_1=down))).allowed
    assert judge("bgp_agent", of_peer, snapshot(routes=routes(node_1={**down, "config": "peer-tor2"}))).allowed


def test_a_node_that_nothing_selects_needs_no_agent(case, snapshot, judge):
    idle = {"agent_ready": False, "agent": "gone", "configs": (), "configured": False, "sessions": ()}
    assert judge("bgp_agent", case, snapshot(routes=routes(node_3=idle))).allowed


def test_two_configurations_of_one_node_are_ambiguous(case, snapshot, judge):
    conflict = {"CiliumBGPClusterConfig/second": "it selects node-3 too"}
    both = {"configs": (CONFIG, "CiliumBGPClusterConfig/second")}
    verdict = judge("bgp_conflict", case, snapshot(routes=evolve(routes(node_3=both), conflicts=conflict)))
    assert (verdict.allowed, verdict.reason) == (False, Reason.TARGET_AMBIGUOUS)
    assert verdict.detail.endswith("CiliumBGPClusterConfig/second: it selects node-3 too")
    assert judge("bgp_conflict", case, snapshot(routes=evolve(routes(node_1=both), conflicts=conflict))).allowed


def test_a_shift_of_any_node_that_has_not_arrived_stands_in_the_way(case, snapshot, judge):
    verdict = judge("bgp_shift", case, snapshot(routes=routes(node_1={"lag": "the operator has still to delete its CiliumBGPNodeConfig"})))
    assert (verdict.allowed, verdict.reason) == (False, Reason.CONCURRENCY)
    assert verdict.detail.endswith("node-1: the operator has still to delete its CiliumBGPNodeConfig")
