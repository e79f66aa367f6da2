from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.cluster.constraints import Load, Offer, Requirement, Taint, Toleration, Want
from remediator.cluster.fit import fit
from remediator.gates import Unread, in_force
from remediator.gates.capacity import Settings
from remediator.model import Target, evolve
from remediator.reasons import Reason


def want(cpu=1.0, name="apps/a", **fields):
    return Want(name=name, requests={"cpu": cpu, "pods": 1}, **fields)


def offer(cpu=4.0, used=0.0, name="node-1", pods=10, **fields):
    return Offer(name=name, allocatable={"cpu": cpu, "pods": pods}, used={"cpu": used}, **fields)


@pytest.fixture
def says(judge, case, snapshot):
    def by(*wants, offers=None, **settings):
        asked = evolve(case, settings={"capacity": Settings.model_validate(settings)}) if settings else case
        return judge("capacity", asked, snapshot(load=Load(wants=tuple(wants), offers=(offer(),) if offers is None else tuple(offers))))

    return by


def test_it_applies_only_where_it_is_brought_or_set(case):
    assert "capacity" not in {gate.name for gate in in_force(case)}
    assert "capacity" in {gate.name for gate in in_force(case, ["capacity"])}
    assert "capacity" in {gate.name for gate in in_force(evolve(case, settings={"capacity": Settings()}))}


def test_pods_that_fit_and_one_that_does_not(says):
    assert says(want(2), want(2, "apps/b")).detail == "2 of 2 pods fit on 1 other nodes"
    verdict = says(want(2), want(2.5, "apps/b"))
    assert verdict.reason is Reason.CAPACITY
    assert verdict.detail == "1 of 2 pods fit on 1 other nodes; without a place: apps/a (no room on 1 nodes that it may run on)"


def test_what_runs_there_already_the_number_of_pods_and_headroom_count(says):
    assert not says(want(2), offers=[offer(used=2.5)]).allowed
    assert not says(want(0), offers=[offer(pods=0)]).allowed
    assert not says(want(4), headroom_percent=10).allowed
    assert says(want(3.6), headroom_percent=10).allowed


def test_a_resource_that_no_other_node_has(says):
    gpu = Want(name="apps/gpu", requests={"nvidia.com/gpu": 1})
    assert not says(gpu).allowed


def test_without_any_other_node(says):
    assert "no other node may run it" in says(want(), offers=[]).detail


@pytest.mark.parametrize(
    ("fields", "allowed"),
    [
        ({"selector": {"disk": "ssd"}}, True),
        ({"selector": {"disk": "hdd"}}, False),
        ({"terms": ((Requirement(key="disk", operator="In", values=("ssd", "nvme")),),)}, True),
        ({"terms": ((Requirement(key="disk", operator="NotIn", values=("ssd",)),),)}, False),
        ({"terms": ((Requirement(key="gone", operator="Exists"),), (Requirement(key="rack", operator="Gt", values=("3",)),))}, True),
        ({"terms": ((Requirement(key="disk", operator="Exists"), Requirement(key="rack", operator="Lt", values=("3",))),)}, False),
        ({"terms": ((Requirement(key="gone", operator="DoesNotExist"),),)}, True),
        ({"terms": ((Requirement(key="disk", operator="Gt", values=("1",)),),)}, False),
        ({"terms": ((Requirement(key="disk", operator="Near"),),)}, False),
    ],
)
def test_node_selectors_and_required_affinity(says, fields, allowed):
    assert says(want(**fields), offers=[offer(labels={"disk": "ssd", "rack": "7"})]).allowed is allowed


@pytest.mark.parametrize(
    ("taint", "tolerations", "allowed"),
    [
        (Taint(key="x", value="1", effect="NoSchedule"), (), False),
        (Taint(key="x", value="1", effect="NoExecute"), (), False),
        (Taint(key="x", value="1", effect="PreferNoSchedule"), (), True),
        (Taint(key="x", value="1", effect="NoSchedule"), (Toleration(key="x", value="1"),), True),
        (Taint(key="x", value="1", effect="NoSchedule"), (Toleration(key="x", value="2"),), False),
        (Taint(key="x", value="1", effect="NoSchedule"), (Toleration(key="x", operator="Exists", effect="NoExecute"),), False),
        (Taint(key="x", value="1", effect="NoSchedule"), (Toleration(operator="Exists"),), True),
    ],
)
def test_taints(says, taint, tolerations, allowed):
    assert says(want(tolerations=tolerations), offers=[offer(taints=(taint,))]).allowed is allowed


def test_what_cannot_be_judged_is_said_and_does_not_refuse(says):
    verdict = says(want(unjudged=("volumes",)), want(name="apps/b", unjudged=("topology spread", "volumes")))
    assert verdict.allowed
    assert verdict.detail.endswith("; not judged for 2 of them: topology spread, volumes")


def test_only_nodes_have_pods_to_move(judge, case, snapshot):
    pod = evolve(case, target=Target(kind="Pod", namespace="x", name="y"))
    assert judge("capacity", pod, snapshot(load=Unread(detail="no"))).allowed


def test_what_cannot_be_read_refuses(judge, case, snapshot):
    assert judge("capacity", case, snapshot(load=Unread(detail="no"))).reason is Reason.UNREADABLE


@given(st.lists(st.integers(1, 8), max_size=12), st.lists(st.integers(0, 10), max_size=5))
def test_what_it_places_never_takes_more_than_there_is(sizes, rooms):
    wants = tuple(want(size, f"p{n}") for n, size in enumerate(sizes))
    offers = tuple(offer(room, name=f"n{n}", pods=99) for n, room in enumerate(rooms))
    found = fit(Load(wants=wants, offers=offers), 0)
    placed = [size for n, size in enumerate(sizes) if f"p{n}" not in found.homeless]
    assert sum(placed) <= sum(rooms)
    assert max(placed, default=0) <= max(rooms, default=0)
    if len(rooms) == 1 and rooms[0] >= sum(sizes):
        assert found.homeless == {}
