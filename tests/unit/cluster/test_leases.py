"""Our own lease on a node, on the simulated API server and a fast clock."""

from __future__ import annotations

from datetime import timedelta

import pytest

from remediator.cluster import leases
from remediator.cluster.leases import Leases
from remediator.kube import kinds, records
from remediator.model import StepState
from remediator.reasons import Reason
from remediator.run import StepEnd

NAMESPACE = "medik8s-leases"


class Board:
    """The lease of node-3, as everybody sees it."""

    def __init__(self, stage):
        self._stage = stage
        self.kube, self.clock = stage.world.kube, stage.world.clock

    async def spec(self):
        return (await self.kube.get(kinds.LEASE, "node-node-3", NAMESPACE, decode=records.Lease)).spec

    async def other(self, *, ago=timedelta(0), seconds=3600):
        """Another tool writes itself in, whoever was there."""
        renewed = (self.clock.now() - ago).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {"holderIdentity": "node-maintenance", "leaseDurationSeconds": seconds, "renewTime": renewed}
        if self._stage.cluster.objects("Lease", NAMESPACE):
            await self.kube.patch(kinds.LEASE, "node-node-3", {"spec": spec}, NAMESPACE, type="merge")
        else:
            await self.kube.create(kinds.LEASE, {"metadata": {"name": "node-node-3", "namespace": NAMESPACE}, "spec": spec}, NAMESPACE)


@pytest.fixture
async def board(stage):
    await stage.world.kube.create(kinds.NAMESPACE, {"metadata": {"name": NAMESPACE}})
    stage.cluster.request_log.entries.clear()
    yield Board(stage)
    await stage.world.leases.close()


@pytest.fixture
def take(stage):
    return lambda run="run-1", held=None: (held or stage.world.leases).take(stage.world.kube, stage.world.clock, "node-3", run)


async def test_where_nobody_keeps_such_leases_none_is_taken(stage, take):
    assert await take() == ""
    assert not stage.world.leases.holds("run-1")
    assert stage.writes() == []


async def test_it_is_taken_in_the_form_of_medik8s_and_given_back(stage, board, take):
    assert await take() == ""
    spec = await board.spec()
    assert (spec.holder_identity, spec.lease_duration_seconds, spec.lease_transitions) == ("remediator", 300, 0)
    assert spec.acquire_time == spec.renew_time
    await stage.world.leases.release("run-1")
    spec = await board.spec()
    assert spec.holder_identity is None
    assert spec.renew_time + timedelta(seconds=300) < board.clock.now(), "so that it is nobody's for tools that look at the time, too"
    assert not stage.world.leases.holds("run-1")


async def test_a_foreign_one_is_left_alone_until_it_ends(stage, board, take):
    await board.other()
    assert await take() == "node-maintenance holds the lease on the node"
    assert (await board.spec()).holder_identity == "node-maintenance"
    await board.other(ago=timedelta(hours=2))
    assert await take() == ""
    spec = await board.spec()
    assert (spec.holder_identity, spec.lease_transitions) == ("remediator", 1)


async def test_our_own_from_before_a_crash_is_taken_up(stage, board, take):
    earlier = Leases()
    await take(held=earlier)
    await earlier.close()
    began = await board.spec()
    await board.clock.sleep(timedelta(seconds=1))
    assert await take() == ""
    spec = await board.spec()
    assert (spec.acquire_time, spec.lease_transitions) == (began.acquire_time, 0)
    assert spec.renew_time > began.renew_time


async def test_it_is_renewed_as_long_as_it_is_held(stage, board, take, monkeypatch):
    monkeypatch.setattr(leases, "_EVERY", timedelta(seconds=5))
    await take()
    began = (await board.spec()).renew_time
    for _ in range(120):
        await board.clock.sleep(timedelta(seconds=1))
        if (await board.spec()).renew_time > began:
            break
    assert (await board.spec()).renew_time > began
    assert stage.world.leases.lost("run-1") == ""


async def test_one_that_another_tool_took_is_lost_and_not_given_back(stage, board, take, monkeypatch):
    monkeypatch.setattr(leases, "_EVERY", timedelta(seconds=5))
    await take()
    await board.other()
    await stage.until(lambda: stage.world.leases.lost("run-1"))
    assert stage.world.leases.lost("run-1") == "node-maintenance holds the lease on the node"
    assert await take() == "node-maintenance holds the lease on the node", "a later step of the same run"
    await stage.world.leases.release("run-1")
    assert (await board.spec()).holder_identity == "node-maintenance"


async def test_one_that_cannot_be_renewed_is_lost_when_its_time_is_over(stage, board, take, monkeypatch):
    monkeypatch.setattr(leases, "_EVERY", timedelta(seconds=5))
    monkeypatch.setattr(leases, "_LASTS", timedelta(seconds=60))
    await take()
    stage.cluster.fail(path="/leases", status=503, count=None)
    assert stage.world.leases.lost("run-1") == ""
    await stage.until(lambda: stage.world.leases.lost("run-1"))
    assert stage.world.leases.lost("run-1") == "it could not be renewed in time"


async def test_one_that_somebody_only_wrote_a_note_on_stays_ours(stage, board, take, monkeypatch):
    monkeypatch.setattr(leases, "_EVERY", timedelta(seconds=5))
    await take()
    began = (await board.spec()).renew_time
    await board.kube.patch(kinds.LEASE, "node-node-3", {"metadata": {"labels": {"seen": "yes"}}}, NAMESPACE, type="merge")
    for _ in range(120):
        await board.clock.sleep(timedelta(seconds=1))
        if (await board.spec()).renew_time > began:
            break
    assert (await board.spec()).renew_time > began
    assert stage.world.leases.lost("run-1") == ""


async def test_one_that_was_deleted_is_lost(stage, board, take, monkeypatch):
    monkeypatch.setattr(leases, "_EVERY", timedelta(seconds=5))
    await take()
    await board.kube.delete(kinds.LEASE, "node-node-3", NAMESPACE)
    await stage.until(lambda: stage.world.leases.lost("run-1"))
    assert "deleted" in stage.world.leases.lost("run-1")


class TestSteps:
    async def test_a_disruptive_step_holds_the_node(self, stage, board):
        done = await stage.step("cilium.restart_agent", ready_for="2s", metrics=False)
        assert done.end is StepEnd.SUCCEEDED, done.detail
        assert (await board.spec()).holder_identity == "remediator"
        order = [verb for verb, path in stage.writes() if "/leases" in path or "/pods" in path]
        assert order[:2] == ["create", "delete"], "first the lease, then the pod"

    async def test_a_dry_run_takes_none(self, stage, board):
        await stage.step("cilium.restart_agent", dry_run=True)
        assert stage.cluster.objects("Lease", NAMESPACE) == []

    async def test_a_step_after_it_was_lost_sends_nothing(self, stage, board, monkeypatch):
        monkeypatch.setattr(leases, "_EVERY", timedelta(seconds=5))
        playbook = stage.playbook("cilium.restart_agent")
        run = await stage.begin(playbook, node="node-3")
        await stage.world.leases.take(stage.world.kube, board.clock, "node-3", run.id)
        await board.other(seconds=1)  # it is over again soon, so that no gate refuses, and yet ours is lost
        await stage.until(lambda: stage.world.leases.lost(run.id))
        done = await stage.carry(playbook, run)
        assert (done.end, done.reason) == (StepEnd.REFUSED, Reason.LOST_LEASE)
        assert done.run.steps[0].state is StepState.SKIPPED
        assert [path for _, path in stage.writes() if "/pods" in path] == []

    async def test_lost_in_the_middle_of_a_step_nothing_further_is_sent(self, stage, board, monkeypatch):
        real = stage.world.leases.take

        async def and_lose(*about):
            words = await real(*about)
            stage.world.leases._held[about[-1]].lost = "node-maintenance holds the lease on the node"
            return words

        monkeypatch.setattr(stage.world.leases, "take", and_lose)
        done = await stage.step("cilium.restart_agent")
        assert (done.end, done.reason) == (StepEnd.FAILED, Reason.LOST_LEASE)
        assert "was not sent: the lease on the target is lost" in done.detail
        assert [path for _, path in stage.writes() if "/pods" in path] == []

    async def test_one_that_somebody_took_since_the_gates_looked_refuses(self, stage, board, monkeypatch):
        async def taken(*_):
            return "node-maintenance holds the lease on the node"

        monkeypatch.setattr(stage.world.leases, "take", taken)
        done = await stage.step("cilium.restart_agent")
        assert (done.end, done.reason) == (StepEnd.REFUSED, Reason.TARGET_LEASED)
