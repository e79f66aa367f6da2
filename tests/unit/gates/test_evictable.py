from __future__ import annotations

import pytest

from remediator.drain.plan import Refusal
from remediator.gates import Fact, Unread, in_force
from remediator.gates.evictable import Evictable
from remediator.model import Target, evolve
from remediator.reasons import Reason

EMPTYDIR = Refusal(reason=Reason.LOCAL_STORAGE, detail="has an emptyDir: apps/cache")
BUDGET = Refusal(reason=Reason.PDB, detail="PodDisruptionBudget apps/one can never yield")


def test_it_applies_only_where_it_is_brought(case):
    assert "evictable" not in {gate.name for gate in in_force(case)}
    assert "evictable" in {gate.name for gate in in_force(case, ["evictable"])}


def test_a_node_whose_pods_may_go(judge, case, snapshot):
    assert judge("evictable", case, snapshot()).allowed


def test_everything_that_stands_against_it_is_said_and_the_first_is_the_reason(judge, case, snapshot):
    verdict = judge("evictable", case, snapshot(hindrances=(EMPTYDIR, BUDGET)))
    assert verdict.reason is Reason.LOCAL_STORAGE
    assert verdict.detail == f"local_storage: {EMPTYDIR.detail}; pdb: {BUDGET.detail}"


def test_what_cannot_be_read_refuses(judge, case, snapshot):
    assert judge("evictable", case, snapshot(hindrances=Unread(detail="no"))).reason is Reason.UNREADABLE


@pytest.mark.parametrize(("kind", "needs"), [("Node", {Fact.HINDRANCES}), ("Pod", set())])
def test_only_nodes_are_emptied(judge, case, snapshot, kind, needs):
    about = evolve(case, target=Target(kind=kind, namespace="", name="x"))
    assert Evictable().needs(about) == needs
    if not needs:
        assert judge("evictable", about, snapshot(hindrances=Unread(detail="no"))).allowed
