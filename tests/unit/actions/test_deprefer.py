"""``bgp.deprefer`` on the simulated cluster: nothing is withdrawn, and something must be left to prefer."""

from __future__ import annotations

import pytest

from remediator.bgp.objects import MARK
from remediator.kube import kinds
from remediator.reasons import Reason
from remediator.run import StepEnd
from remediator.undo import undo

ACTION = "bgp.deprefer"
RACK = {"advertisement": "rack-a"}


@pytest.fixture
def rate():
    """Slow enough that a busy machine is still in time."""
    return 30


def step(stage, **more):
    return stage.step(ACTION, **{"lasting": "15m", **more})


async def by_hand(stage, kind, name, body):
    await stage.world.kube.patch(kind, name, body, type="merge")


@pytest.fixture
async def two_racks(stage):
    """The router tor1 hears the services by an advertisement of its own."""
    found = stage.cluster.get("CiliumBGPAdvertisement", "services")
    spec = {"advertisements": found["spec"]["advertisements"]}
    meta = {"name": "rack-a", "labels": {"advertise": "rack-a"}}
    stage.cluster.create({"apiVersion": "cilium.io/v2", "kind": "CiliumBGPAdvertisement", "metadata": meta, "spec": spec})
    family = {"afi": "ipv4", "safi": "unicast", "advertisements": {"matchLabels": {"advertise": "rack-a"}}}
    await by_hand(stage, kinds.BGP_PEER_CONFIG, "peer-tor1", {"spec": {"families": [family]}})
    return len(stage.writes())


def advertisement(stage, name="rack-a"):
    found = stage.cluster.get("CiliumBGPAdvertisement", name)
    return found["spec"]["advertisements"], found["metadata"].get("annotations", {})


async def test_marks_the_routes_and_withdraws_nothing(stage, two_racks):
    before = stage.cluster.bgp.routers()
    done = await step(stage, **RACK, local_preference=10, settle="5s")
    assert done.end is StepEnd.SUCCEEDED, done.detail
    (entry,), annotations = advertisement(stage)
    assert entry["attributes"] == {"communities": {"wellKnown": ["planned-shut"]}, "localPreference": 10}
    assert MARK in annotations
    assert stage.cluster.bgp.routers() == before
    assert len(stage.writes()) == two_racks + 1


async def test_undo_restores_the_attributes_or_their_absence(stage, two_racks):
    before = advertisement(stage)
    done = await step(stage, **RACK, settle="5s")
    assert (await undo(stage.world, done.run)).undone
    assert advertisement(stage) == before


async def test_communities_that_were_there_stay(stage, two_racks):
    entries, _ = advertisement(stage)
    mine = [{**entries[0], "attributes": {"communities": {"standard": ["65000:99"]}, "localPreference": 200}}]
    await by_hand(stage, kinds.BGP_ADVERTISEMENT, "rack-a", {"spec": {"advertisements": mine}})
    done = await step(stage, **RACK, settle="5s")
    assert done.end is StepEnd.SUCCEEDED, done.detail
    attributes = advertisement(stage)[0][0]["attributes"]
    assert attributes == {"communities": {"standard": ["65000:99"], "wellKnown": ["planned-shut"]}, "localPreference": 200}
    assert (await undo(stage.world, done.run)).undone
    assert advertisement(stage)[0] == mine


async def test_make_before_break_refuses_to_mark_every_path(stage):
    done = await step(stage, advertisement="services")
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.ROUTE_COVERAGE)
    assert "routers have nothing to prefer" in done.detail
    assert stage.writes() == []


async def test_every_path_may_be_marked_where_another_site_announces_the_addresses(stage):
    done = await step(stage, advertisement="services", elsewhere=True, settle="5s")
    assert done.end is StepEnd.SUCCEEDED, done.detail


async def test_trap_11_refuses_what_argo_cd_would_revert(stage, two_racks):
    await by_hand(stage, kinds.BGP_ADVERTISEMENT, "rack-a", {"metadata": {"labels": {"app.kubernetes.io/instance": "net"}}})
    done = await step(stage, **RACK)
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.GITOPS_MANAGED)


async def test_undo_leaves_what_somebody_changed_since(stage, two_racks):
    done = await step(stage, **RACK, settle="5s")
    entries, _ = advertisement(stage)
    theirs = [{**entries[0], "attributes": {"localPreference": 7}}]
    await by_hand(stage, kinds.BGP_ADVERTISEMENT, "rack-a", {"spec": {"advertisements": theirs}})
    assert (await undo(stage.world, done.run)).foreign
    assert advertisement(stage)[0] == theirs


async def test_routes_that_are_marked_already_are_left_as_they_are(stage, two_racks):
    entries, _ = advertisement(stage)
    marked = [{**entries[0], "attributes": {"communities": {"wellKnown": ["planned-shut"]}}}]
    await by_hand(stage, kinds.BGP_ADVERTISEMENT, "rack-a", {"spec": {"advertisements": marked}})
    done = await step(stage, **RACK)
    assert (done.end, done.detail) == (StepEnd.SUCCEEDED, "its routes carry these marks already; left as it is")
    assert len(stage.writes()) == two_racks + 1
