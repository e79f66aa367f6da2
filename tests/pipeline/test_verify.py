"""The verify stage against the simulated cluster: both parts must hold, for the whole hold time, on fresh data."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from remediator.context import CancelledByPersonError
from remediator.model import RunState
from remediator.verify import look, verify

QUERY = 'symptom{node="${target.name}"} == 0'
TIMES = {"within": "60s", "hold": "12s", "every": "2s"}
LONG = {"within": "5m", "hold": "5m"}
"""Long enough for a test to do something in between, however busy the machine is."""


@pytest.fixture
async def proof(stage, symptom, text):
    """``await proof.begin()`` makes a run that is through its steps; ``await proof()`` verifies it."""
    return Proof(stage, symptom, text)


class Proof:
    def __init__(self, stage, symptom, text):
        self.stage, self.world, self.symptom, self.text = stage, stage.world, symptom, text
        self.run = None

    async def begin(self, **parts):
        spec = {"query": QUERY, **TIMES, **parts}
        self.playbook = self.world.load_revision(self.text(verify={k: v for k, v in spec.items() if v is not None}))
        self.run = await self.stage.begin(self.playbook, node="node-3")
        return self

    async def __call__(self):
        return await verify(self.world, self.playbook, await self.stored(), self.playbook.verify)

    async def look(self):
        return await look(self.world, await self.stored(), self.playbook.verify)

    async def stored(self):
        return await self.world.journal.run(self.run.id)

    async def until(self, look):
        """Wait for a state of the verification on disk, while it goes on."""
        seen = 0
        async with asyncio.timeout(90):
            while True:
                state = (await self.stored()).verification
                if state is not None and look(state):
                    return state
                seen = await self.world.feed.next_change(self.run.id, seen)


async def test_healed_only_after_the_hold(proof):
    await proof.begin()
    proof.symptom.set("node-3", False)
    done = await proof()
    assert (done.healed, done.reason) == (True, "healed")
    state = (await proof.stored()).verification
    assert state.healed is True
    assert (state.ended_at - state.held_since).total_seconds() >= 12
    assert state.relapses == 0
    assert "held for 12s" in done.detail


async def test_a_hold_of_nothing_is_one_good_look(proof):
    await proof.begin(hold="0s")
    proof.symptom.set("node-3", False)
    assert (await proof()).healed
    assert (await proof.stored()).verification.checks == 1


async def test_a_symptom_that_stays_is_still_firing_at_the_deadline(proof):
    await proof.begin(within="15s", hold="5s")
    done = await proof()
    assert (done.healed, done.reason) == (False, "still_firing")
    state = (await proof.stored()).verification
    assert state.healed is False
    assert state.ended_at >= state.deadline
    assert state.held_since is None
    assert "gives nothing" in state.last


async def test_a_relapse_within_the_hold_starts_it_anew(proof, later):
    await proof.begin(**LONG)
    proof.symptom.set("node-3", False)
    going = asyncio.create_task(proof())
    first = await proof.until(lambda state: state.held_since is not None)
    proof.symptom.set("node-3", True)
    relapsed = await proof.until(lambda state: state.relapses == 1)
    assert (relapsed.held_since, relapsed.healed) == (None, None)
    proof.symptom.set("node-3", False)
    await proof.until(lambda state: state.held_since is not None)
    later(minutes=5)
    assert (await going).healed
    state = (await proof.stored()).verification
    assert state.held_since > first.held_since
    assert state.relapses == 1


async def test_a_relapse_that_lasts_ends_as_relapsed(proof, later):
    await proof.begin(**LONG)
    proof.symptom.set("node-3", False)
    going = asyncio.create_task(proof())
    await proof.until(lambda state: state.held_since is not None)
    proof.symptom.set("node-3", True)
    await proof.until(lambda state: state.relapses == 1)
    later(minutes=5)
    done = await going
    assert (done.healed, done.reason) == (False, "relapsed")


async def test_what_began_to_hold_in_time_may_hold_on_beyond_the_deadline(proof, later):
    await proof.begin(**LONG)
    going = asyncio.create_task(proof())
    await proof.until(lambda state: state.checks >= 1)
    later(minutes=2)
    proof.symptom.set("node-3", False)
    held = await proof.until(lambda state: state.held_since is not None)
    later(seconds=(held.deadline - proof.world.clock.now()).total_seconds() + 1)
    beyond = await proof.until(lambda state: state.checks > held.checks + 1)
    assert beyond.healed is None
    later(minutes=5)
    assert (await going).healed
    state = (await proof.stored()).verification
    assert state.ended_at > state.deadline > state.held_since


@pytest.mark.parametrize("fault", ["unreachable", "refused", "not set"])
async def test_what_cannot_be_read_never_holds_and_ends_at_the_deadline(proof, fault):
    await proof.begin(within="10s", hold="4s")
    proof.symptom.set("node-3", False)
    match fault:
        case "unreachable":
            proof.stage.cluster.fail(path="/prometheus/", status=503, count=None)
        case "refused":
            proof.stage.cluster.fail(path="/prometheus/", status=400, count=None)
        case "not set":
            proof.world.prometheus = None
    done = await proof()
    assert (done.healed, done.reason) == (False, "deadline")
    assert done.detail.startswith("could not be verified: ")
    state = (await proof.stored()).verification
    assert state.held_since is None
    assert state.checks >= 2


async def test_a_look_that_fails_in_between_breaks_the_hold(proof, later):
    await proof.begin(**LONG)
    proof.symptom.set("node-3", False)
    going = asyncio.create_task(proof())
    first = await proof.until(lambda state: state.held_since is not None)
    fault = proof.stage.cluster.fail(path="/prometheus/", status=503, count=None)
    await proof.until(lambda state: state.held_since is None)
    proof.stage.cluster.faults.remove(fault)
    await proof.until(lambda state: state.held_since is not None)
    later(minutes=5)
    assert (await going).healed
    assert (await proof.stored()).verification.held_since > first.held_since


async def test_stale_data_do_not_hold(proof):
    """Prometheus still answers from its lookback, and its last words were good ones."""
    await proof.begin(within="10s", hold="4s")
    proof.symptom.set("node-3", False)
    proof.stage.simulation.prometheus.scraping = False
    fresh = proof.world.prometheus
    fresh._max_age = timedelta(seconds=20)
    await proof.world.clock.sleep(timedelta(seconds=30))
    seen = await proof.look()
    assert seen.holds is None
    assert "newest sample" in seen.words
    assert (await proof()).reason == "deadline"


@pytest.mark.parametrize(("query_holds", "kube_holds"), [(True, True), (True, False), (False, True), (False, False)])
async def test_both_parts_must_hold(proof, query_holds, kube_holds):
    kube = {"kind": "Node", "fields": "metadata.name=${target.name}"}
    await proof.begin(kube=kube, holds="size(objects) == 1" if kube_holds else "size(objects) == 2")
    proof.symptom.set("node-3", not query_holds)
    seen = await proof.look()
    assert seen.holds is (query_holds and kube_holds)
    assert "symptom" in seen.words
    assert "the condition on 1 nodes" in seen.words


@pytest.mark.parametrize("broken", ["prometheus", "nodes"])
async def test_one_part_that_cannot_be_read_spoils_the_other(proof, broken):
    await proof.begin(kube={"kind": "Node"}, holds="size(objects) == 5")
    proof.symptom.set("node-3", False)
    assert (await proof.look()).holds is True
    proof.stage.cluster.fail(path=f"/{broken}", status=403, count=None)
    assert (await proof.look()).holds is None


async def test_a_condition_that_misses_a_key_cannot_be_read(proof):
    await proof.begin(query=None, kube={"kind": "Node"}, holds='objects.exists(o, o.spec.nothingOfTheKind == "x")')
    seen = await proof.look()
    assert seen.holds is None


async def test_a_query_that_gives_no_number_cannot_be_read(proof):
    await proof.begin(query="0/0 * symptom")
    assert (await proof.look()).holds is None


async def stopped(proof, going):
    """The daemon goes down."""
    going.cancel()
    await asyncio.wait([going])
    return (await proof.stored()).verification


async def test_goes_on_after_a_restart_with_the_same_deadline(proof, later):
    await proof.begin(**LONG)
    going = asyncio.create_task(proof())
    await proof.until(lambda state: state.checks >= 3)
    before = await stopped(proof, going)
    later(minutes=1)
    going = asyncio.create_task(proof())
    after = await proof.until(lambda state: state.checks > before.checks + 1)
    assert (after.started_at, after.deadline) == (before.started_at, before.deadline)
    await stopped(proof, going)


async def test_after_a_restart_beyond_the_deadline_one_look_decides(proof, later):
    await proof.begin(**LONG)
    going = asyncio.create_task(proof())
    await proof.until(lambda state: state.checks >= 2)
    before = await stopped(proof, going)
    later(minutes=6)
    done = await proof()
    assert (done.healed, done.reason) == (False, "still_firing")
    state = (await proof.stored()).verification
    assert state.deadline == before.deadline
    assert state.checks == before.checks + 1


async def test_a_hold_that_nobody_watched_while_the_daemon_was_down_begins_anew(proof, later):
    await proof.begin(**LONG)
    proof.symptom.set("node-3", False)
    going = asyncio.create_task(proof())
    await proof.until(lambda state: state.held_since is not None)
    before = await stopped(proof, going)
    later(minutes=6)
    going = asyncio.create_task(proof())
    after = await proof.until(lambda state: state.checks > before.checks + 1)
    assert after.healed is None
    assert after.held_since - before.held_since >= timedelta(minutes=6)
    assert after.relapses == 0
    later(minutes=6)
    assert (await going).healed


async def test_an_ended_verification_does_not_serve_the_next_rung(proof):
    await proof.begin(within="10s", hold="2s")
    assert not (await proof()).healed
    before = (await proof.stored()).verification
    proof.symptom.set("node-3", False)
    assert (await proof()).healed
    after = (await proof.stored()).verification
    assert after.started_at >= before.ended_at
    assert after.deadline > before.deadline


async def test_a_cancel_ends_it_where_it_waits(proof):
    await proof.begin(within="40m", hold="30m", every="30m")
    going = asyncio.create_task(proof())
    await proof.until(lambda state: state.checks == 1)
    before = proof.world.clock.now()
    proof.world.signals.cancel(proof.run.id)
    with pytest.raises(CancelledByPersonError):
        await going
    assert proof.world.clock.now() - before < timedelta(minutes=10)
    assert (await proof.stored()).verification.healed is None


async def test_where_it_stands_is_on_disk(proof):
    await proof.begin()
    proof.symptom.set("node-3", False)
    going = asyncio.create_task(proof())
    await proof.until(lambda state: state.held_since is not None)
    stored = await proof.stored()
    assert stored.state is RunState.VERIFYING
    assert stored.verification.hold_seconds == 12
    await going
