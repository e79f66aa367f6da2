"""Who leads: never two, one again soon, and nobody who cannot prove it. The API server here keeps one lease and fails as it is told."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remediator.clock import ManualClock
from remediator.kube import records
from remediator.kube.elector import EVERY, LASTS, STOPS, Elector
from remediator.kube.errors import AlreadyExists, Conflict, NotFound, Unavailable

_E = EVERY.total_seconds()


class Server:
    """The one lease, with versions; ``fails`` says what becomes of the next calls of each client: "before" or "after" they take effect."""

    def __init__(self):
        self.lease = None
        self.version = 0
        self.calls = 0

    def client(self):
        return Client(self)

    def write(self, spec):
        self.version += 1
        known = self.lease["spec"] if self.lease else {}
        metadata = {"name": "remediator", "namespace": "ns", "resourceVersion": str(self.version)}
        self.lease = {"metadata": metadata, "spec": {**known, **spec}}
        return self.lease


class Client:
    def __init__(self, server):
        self.server = server
        self.fails = []

    async def _call(self, work):
        await asyncio.sleep(0)
        self.server.calls += 1
        how = self.fails.pop(0) if self.fails else ""
        if how == "before":
            raise Unavailable("no answer", status=503)
        done = work()
        await asyncio.sleep(0)
        if how == "after":
            raise Unavailable("no answer", status=503)
        return done

    async def get(self, kind, name, namespace, *, decode):
        def work():
            if self.server.lease is None:
                raise NotFound("gone", status=404)
            return msgspec.convert(self.server.lease, decode, strict=False)

        assert decode is records.Lease
        return await self._call(work)

    async def create(self, kind, body, namespace):
        def work():
            if self.server.lease is not None:
                raise AlreadyExists("there", status=409)
            return self.server.write(body["spec"])

        return await self._call(work)

    async def patch(self, kind, name, body, namespace, *, type):  # noqa: A002 - as the door has it
        def work():
            if self.server.lease is None:
                raise NotFound("gone", status=404)
            if body["metadata"]["resourceVersion"] != self.server.lease["metadata"]["resourceVersion"]:
                raise Conflict("changed", status=409)
            return self.server.write(body["spec"])

        return await self._call(work)


class Replica:
    """One candidate with a clock of its own, which stands still while its process does; ``lives`` counts its elections."""

    def __init__(self, world, name):
        self.world, self.name = world, name
        self.client = world.server.client()
        self.clock = ManualClock()
        self.behind = 0.0
        self.lives = 0
        self.lost = []
        self._begin()

    def _begin(self):
        self.lives += 1
        identity = f"{self.name}-{self.lives}"
        self.elector = Elector(
            self.client, self.clock, name="remediator", namespace="ns", identity=identity, ticks=lambda: self.world.ticks
        )
        self.task = asyncio.create_task(self._live())

    async def _live(self):
        await self.elector.campaign()
        self.lost.append(await self.elector.keep())

    async def wake(self):
        """Its timers go off, as they do after a process was stopped and goes on."""
        late, self.behind = self.behind, 0.0
        self.clock.advance(timedelta(seconds=late))
        await settle()
        if self.task.done():
            self._begin()

    def end(self):
        self.task.cancel()


class Together:
    def __init__(self):
        self.ticks = 1000.0
        self.server = Server()
        self.replicas = [Replica(self, name) for name in "ab"]

    def passes(self, seconds):
        self.ticks += seconds
        for replica in self.replicas:
            replica.behind += seconds

    async def go(self, seconds, *, awake=(0, 1)):
        """So much time in small steps, in which only those are awake."""
        for _ in range(int(seconds / _E)):
            self.passes(_E)
            for number in awake:
                await self.replicas[number].wake()
            self.check()

    def check(self):
        assert len(self.leaders) <= 1, "two lead"

    @property
    def leaders(self):
        return [replica.name for replica in self.replicas if replica.elector.leads]

    async def end(self):
        for replica in self.replicas:
            replica.end()
        await asyncio.gather(*(replica.task for replica in self.replicas), return_exceptions=True)


async def settle():
    for _ in range(12):
        await asyncio.sleep(0)


@pytest.fixture
async def together():
    world = Together()
    await world.go(LASTS.total_seconds() + _E)
    yield world
    await world.end()


async def test_one_leads_and_goes_on(together):
    assert together.leaders == ["a"]
    await together.go(60)
    assert together.leaders == ["a"]
    spec = together.server.lease["spec"]
    assert (spec["holderIdentity"], spec["leaseTransitions"], spec["leaseDurationSeconds"]) == ("a-1", 0, 12)
    assert together.replicas[1].elector.holder == "a-1"


async def test_a_killed_leader_is_followed_within_15_seconds(together):
    await together.go(6)
    together.replicas[0].end()
    await together.go(LASTS.total_seconds() - 2 * _E, awake=(1,))
    assert together.leaders == []
    await together.go(3 * _E, awake=(1,))
    assert together.leaders == ["b"]
    assert together.server.lease["spec"]["leaseTransitions"] == 1


async def test_a_stopped_process_does_not_lead_when_it_wakes(together):
    await together.go(20, awake=(1,))
    assert together.leaders == ["b"]
    assert not together.replicas[0].elector.leads, "asked before any of its timers went off"
    await together.replicas[0].wake()
    assert "could not be renewed in time" in together.replicas[0].lost[0]
    assert together.leaders == ["b"]


async def test_a_released_lease_is_taken_at_once(together):
    await together.replicas[0].elector.release()
    assert together.leaders == []
    together.passes(_E)
    await together.replicas[1].wake()
    assert together.leaders == ["b"]
    await together.replicas[0].elector.release()
    assert together.leaders == ["b"], "whoever does not lead releases nothing"


async def test_nobody_leads_while_the_server_does_not_answer_and_one_does_soon_after(together):
    for replica in together.replicas:
        replica.client.fails = ["before"] * 1000
    await together.go(STOPS.total_seconds())
    assert together.leaders == []
    assert "no answer" in together.replicas[0].lost[0]
    await together.go(60)
    assert together.leaders == []
    for replica in together.replicas:
        replica.client.fails = []
    await together.go(LASTS.total_seconds() + 2 * _E)
    assert len(together.leaders) == 1


async def test_short_trouble_changes_nothing(together):
    together.replicas[0].client.fails = ["before", "after"]
    await together.go(30)
    assert together.leaders == ["a"]
    assert together.replicas[0].lives == 1


async def test_a_foreign_holder_is_respected_for_as_long_as_it_says(together):
    together.server.write({"holderIdentity": "somebody", "leaseDurationSeconds": 60})
    await together.go(60)
    assert together.leaders == []
    assert together.replicas[0].lost == ["somebody holds the lease"]
    await together.go(2 * _E)
    assert len(together.leaders) == 1


async def test_a_duration_that_somebody_made_shorter_brings_no_second_leader(together):
    """The leader hears of it when it renews; until then it leads for as long as it thought."""
    together.server.write({"leaseDurationSeconds": 1})
    await together.replicas[1].wake()
    await together.go(LASTS.total_seconds() - 2 * _E, awake=(1,))
    assert "b" not in together.leaders
    await together.go(3 * _E, awake=(1,))
    assert together.leaders == ["b"]


async def test_a_renewal_that_comes_too_late_does_not_bring_leadership_back(together):
    """Whoever asked in between was told no, and let a step go on that account."""
    a = together.replicas[0]
    asked = asyncio.Event()
    patch = a.client.patch

    async def slow(*args, **kwargs):
        done = await patch(*args, **kwargs)
        asked.set()
        together.ticks += STOPS.total_seconds()
        assert not a.elector.leads
        return done

    a.client.patch = slow
    together.passes(_E)
    await a.wake()
    assert asked.is_set()
    assert not a.elector.leads
    together.passes(_E)
    await a.wake()
    assert "could not be renewed in time" in a.lost[0]


async def test_whoever_is_not_fit_leaves_it_to_others(together):
    """A standby that cannot write to the journal could lead nothing."""
    a, b = together.replicas
    fit = [False]
    b.task.cancel()
    b.task = asyncio.create_task(b.elector.campaign(lambda: fit[0]))
    a.end()
    await together.go(2 * LASTS.total_seconds(), awake=(1,))
    assert together.leaders == []
    fit[0] = True
    await together.go(LASTS.total_seconds() + 2 * _E, awake=(1,))
    assert together.leaders == ["b"]


async def test_a_deleted_lease_is_lost(together):
    together.server.lease = None
    await together.go(_E)
    assert together.replicas[0].lost == ["somebody deleted the lease"]
    await together.go(LASTS.total_seconds() + 2 * _E)
    assert len(together.leaders) == 1


async def test_a_wall_clock_that_jumps_changes_nothing(together, monkeypatch):
    """What is written as renewTime is for people; nobody judges by it."""
    for jump in (timedelta(days=365), timedelta(days=-365)):
        monkeypatch.setattr(ManualClock, "now", lambda _, jump=jump: datetime(2026, 1, 5, tzinfo=UTC) + jump)
        await together.go(30)
        assert together.leaders == ["a"]


_OPS = st.one_of(
    st.tuples(st.just("passes"), st.sampled_from([0.5, 1, 2, 4, 7.9, 8, 12, 30])),
    st.tuples(st.just("wake"), st.sampled_from([0, 1])),
    st.tuples(st.just("fault"), st.tuples(st.sampled_from([0, 1]), st.sampled_from(["before", "after"]))),
    st.tuples(st.just("release"), st.sampled_from([0, 1])),
    st.tuples(st.just("delete"), st.just(0)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(_OPS, min_size=5, max_size=60))
def test_never_two_whatever_stops_fails_and_wakes(ops):
    async def go():
        world = Together()
        await world.go(LASTS.total_seconds() + _E)
        for what, of in ops:
            if what == "passes":
                world.passes(of)
            elif what == "wake":
                await world.replicas[of].wake()
            elif what == "fault":
                world.replicas[of[0]].client.fails.append(of[1])
            elif what == "delete":
                world.server.lease = None
            else:
                await world.replicas[of].elector.release()
            world.check()
        for replica in world.replicas:
            replica.client.fails = []
        await world.go(2 * LASTS.total_seconds() + 4 * _E)
        assert len(world.leaders) == 1, "and one leads again soon"
        await world.end()

    asyncio.run(go())
