"""Pruning: what goes, what must stay, and that the chain still tells afterwards, whatever was pruned and whatever is altered."""

from __future__ import annotations

import asyncio
import tempfile
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine

from remediator.clock import ManualClock
from remediator.errors import JournalError
from remediator.journal import Journal, audit
from remediator.journal import journal as module
from remediator.journal.prune import FIRST_SLICE, GIVE_UP, Pace, prune
from remediator.model import DecisionKind, RunState

START = datetime(2026, 1, 5, 10, tzinfo=UTC)
LATER = START + timedelta(days=1)


@pytest.fixture
async def journal(store_url, open_journal):
    """Its slices take the whole of a small log."""
    journal = await open_journal(store_url)
    journal._pace.size = 1000
    return journal


@pytest.fixture
def outsider(store_url):
    """A connection that somebody opens past the journal."""
    engine = create_engine(store_url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        yield connection
    engine.dispose()


async def ids(journal):
    """Everything that is there, by what it is called."""
    runs = {run.id: run for run in (await journal.runs(limit=1000)).items}
    return {
        "runs": set(runs),
        "steps": {run.id for run in runs.values() if run.steps},
        "changes": {one.id for one in (await journal.changes(limit=1000)).items},
        "episodes": {bytes.fromhex(one.fingerprint).decode() for one in (await journal.episodes(open_only=False)).items},
        "decisions": {one.id for one in (await journal.decisions(limit=1000)).items},
        "deliveries": {one.id for one in (await journal.deliveries(limit=1000)).items},
    }


async def test_what_is_over_goes_and_what_is_open_stays_as_it_was(journal, make):
    await make.story(journal, "over")
    await make.story(journal, "running", state=RunState.RUNNING)
    await make.story(journal, "left", left=True)
    await make.story(journal, "fires", resolved=False)
    await make.story(journal, "undone", undo=True)
    await journal.keep_revision("v1", "p", "text")
    await journal.add_delivery(make.delivery(id="d-waits"))
    await journal.add_pause(make.pause(id="p-holds"))
    stay = ("r-running", "r-left", "r-fires")
    before = {run: await journal.run(run) for run in stay}
    done = await journal.prune(before=LATER)
    assert (await journal.verify()).problems == []
    assert await ids(journal) == {
        "runs": set(stay),
        "steps": set(stay),
        "changes": {"c-running", "c-left", "c-fires"},
        "episodes": {"running", "left", "fires"},
        "decisions": {"x-running", "x-left", "x-fires"},
        "deliveries": {"d-waits"},
    }
    assert {run: await journal.run(run) for run in stay} == before
    assert await journal.revision("v1") == "text"
    assert [pause.id for pause in await journal.pauses(LATER)] == ["p-holds"]
    assert [entry.data["id"] for entry in await journal.entries(kind="told")] == ["running", "left", "fires"]
    assert {name: done.removed[name] for name in ("run", "step", "change", "episode", "decision", "delivery")} == {
        "run": 2, "step": 4, "change": 2, "episode": 2, "decision": 2, "delivery": 5
    }  # fmt: skip


async def test_only_what_is_older_goes_and_the_last_entries_stay_if_so_many_are_asked_for(journal, make, clock):
    await make.story(journal, "old")
    between = len(await journal.entries())
    clock.advance(timedelta(hours=1))
    await make.story(journal, "new")
    all_of_it = await ids(journal)
    assert (await journal.prune(before=START)).removed == {}
    assert (await journal.prune(before=LATER, keep=2 * between)).removed == {}
    assert await ids(journal) == all_of_it
    assert (await journal.prune(before=START + timedelta(minutes=30))).through == between
    assert (await ids(journal))["runs"] == {"r-new"}
    report = await journal.verify()
    assert (report.problems, report.pruned.through, report.pruned.removed["run"]) == ([], between, 1)


async def test_what_was_noted_last_stays_in_its_order_and_with_its_time(journal, make, clock):
    for kind in ("demoted", "start", "reinstated", "start", "demoted"):
        await journal.note(kind, "p" if kind != "start" else "", {"kind": kind})
    clock.advance(timedelta(hours=1))
    await journal.note("reinstated", "p", {"kind": "later"})
    await journal.prune(before=START + timedelta(minutes=30), most=2)
    told = await journal.entries(ref="p")
    assert [(entry.kind, entry.at) for entry in told[-2:]] == [("demoted", START), ("reinstated", START + timedelta(hours=1))]
    assert (await journal.last_note("start")).at == START


async def test_an_alert_that_is_held_can_still_be_decided(journal, make):
    alert = make.alert()
    await journal.add_delivery(make.delivery(id="d1", alerts=(alert,)))
    held = make.decision(id="x1", delivery="d1", alert=alert, decision=DecisionKind.HELD)
    await journal.decide("d1", [held], episodes=[make.episode(decision=DecisionKind.HELD)], decided_at=make.time(1))
    await journal.prune(before=LATER, most=1)
    assert (await journal.delivery("d1")).decided_at == make.time(1)
    assert (await journal.decisions(delivery="d1")).items == (held,)
    await journal.save_episode(make.episode(decision=DecisionKind.HELD, resolved_at=make.time(2)))
    await journal.prune(before=LATER)
    await journal.prune(before=LATER)
    assert await journal.delivery("d1") is None


async def test_a_crash_between_slices_is_harmless(journal, make):
    for name in "abc":
        await make.story(journal, name, left=name == "b")
    upto = len(await journal.entries())
    done = await journal._writer.write(lambda tx: prune(tx, before="2027", upto=upto, most=7))
    assert done.more
    assert (await journal.verify()).problems == []  # as a daemon would find it that died here
    await journal.prune(before=LATER)
    assert (await ids(journal))["runs"] == {"r-b"}
    assert (await journal.verify()).problems == []


async def test_a_slice_that_fails_leaves_nothing(journal, make):
    await make.story(journal, "a")
    before, entries = await ids(journal), await journal.entries()

    def fail(transaction):
        prune(transaction, before="2027", upto=5, most=5)
        raise JournalError("the disk is gone")

    with pytest.raises(JournalError):
        await journal._writer.write(fail)
    assert (await ids(journal), await journal.entries()) == (before, entries)


async def test_others_write_between_slices(journal, make):
    for name in "abcdef":
        await make.story(journal, name)
    order = []

    async def pruned():
        await journal.prune(before=LATER, most=2)
        order.append("pruned")

    async def noted():
        await journal.note("start", "", {})
        order.append("noted")

    await asyncio.gather(pruned(), noted())
    assert order == ["noted", "pruned"]


class Ticks:
    """Real seconds, as the test says."""

    now = 0.0

    def __call__(self):
        return self.now


async def test_slices_grow_carefully_and_shrink_where_the_store_is_slow(store_url, open_journal, make, monkeypatch):
    ticks, slices = Ticks(), []
    journal = await open_journal(store_url, ticks=ticks)
    for number in range(60):
        await make.story(journal, str(number))
    entries = len(await journal.entries())

    def timed(tx, *, most, **more):
        """A tenth of a millisecond an entry; in the middle half a millisecond."""
        done = sum(size for size, _, kept in slices if kept)
        taken = most * (0.0005 if entries / 3 < done < entries * 2 / 3 else 0.0001)
        ticks.now += taken
        slices.append((most, taken, taken <= GIVE_UP))
        return prune(tx, most=most, **more)

    monkeypatch.setattr(module, "prune", timed)
    done = await journal.prune(before=LATER)
    assert slices[0][0] == FIRST_SLICE
    assert all(after <= before * 1.25 + 0.5 for (before, _, _), (after, _, _) in pairwise(slices)), slices
    undone = [number for number, (_, _, kept) in enumerate(slices) if not kept]
    assert len(undone) == 1, "the first slice that met the slow store was undone and taken again"
    [at] = undone
    assert slices[at + 1][0] == slices[at][0] // 2
    slow = [taken for size, taken, _ in slices[at + 1 :] if taken == size * 0.0005]
    assert slow
    assert max(slow[1:], default=0) <= 0.0155
    assert max(size for size, _, _ in slices[at + 1 + len(slow) :]) > slices[at + len(slow)][0], "and they grow again"
    assert (done.slices, done.longest) == (len(slices) - 1, pytest.approx(slices[at][1]))
    assert done.removed["entry"] == entries
    assert (await journal.verify()).problems == []

    await make.story(journal, "later")
    await journal.prune(before=LATER, most=5)
    assert slices[-1][0] == 5, "never more than is asked for"


async def test_the_smallest_slice_is_never_undone(store_url, open_journal, make, monkeypatch):
    ticks = Ticks()
    journal = await open_journal(store_url, ticks=ticks)
    for number in range(10):
        await make.story(journal, str(number))
    entries = len(await journal.entries())
    sizes = []

    def timed(tx, *, most, **more):
        ticks.now += 9
        sizes.append(most)
        return prune(tx, most=most, **more)

    monkeypatch.setattr(module, "prune", timed)
    done = await journal.prune(before=LATER)
    assert sizes[:3] == [30, 15, 10]
    assert set(sizes[3:]) == {10}
    assert (done.removed["entry"], done.longest) == (entries, 9)


@pytest.mark.parametrize(
    ("size", "took", "next_"),
    [
        (100, [(0.015, 0)], 100),
        (100, [(0.03, 0)], 50),
        (100, [(0.001, 0)], 125),
        (100, [(9, 0)], 10),
        (1900, [(0, 0)], 2000),
        (100, [(0.015, 0.025)], 67),  # 10 ms remain beside such a commit
        (100, [(0.015, 9)], 33),
        (100, [(0.015, 0.025), (0.0125, 0.001)], 100),  # the slow one is still expected
        (100, [(0.015, 0.025)] + 40 * [(0.015, 0)], 100),  # and then forgotten
    ],
)
def test_the_next_slice_follows_from_how_long_those_before_held_the_writer(size, took, next_):
    pace = Pace()
    for statements, commit in took:
        pace.took(size, statements, commit)
    assert pace.size == next_


@pytest.mark.parametrize(
    ("tampering", "problem"),
    [
        ("UPDATE entry SET data = '{}' WHERE seq = 3", "entry 3"),
        ("DELETE FROM entry WHERE seq = 2", "entries 2 to 2 are missing"),
        ("DELETE FROM delivery", "delivery d-a is gone"),
        ("DELETE FROM run", "run r-a is gone"),
    ],
)
async def test_what_was_tampered_with_is_not_hidden_by_pruning(journal, make, outsider, tampering, problem):
    await make.story(journal, "a")
    outsider.exec_driver_sql(tampering)
    outsider.commit()
    with pytest.raises(JournalError, match=problem):
        await journal.prune(before=LATER)
    report = await journal.verify()
    assert any(problem in found for found in report.problems)


TAMPERINGS = [
    ("DELETE FROM checkpoint", "the checkpoint is gone"),
    ("UPDATE checkpoint SET seq = seq + 1", "the checkpoint at entry"),
    ("UPDATE checkpoint SET hash = 'x'", "the checkpoint at entry"),
    ("UPDATE checkpoint SET data = '{}'", "the checkpoint at entry"),
    ("UPDATE checkpoint SET data = 'no json'", "the checkpoint at entry"),
    ("DELETE FROM entry WHERE kind = 'pruned'", "the checkpoint at entry"),
    ("DELETE FROM entry WHERE seq = (SELECT min(seq) FROM entry)", "missing"),
    ("DELETE FROM run", "run r-left is gone"),
    ("UPDATE run SET data = replace(data, 'cilium-agent-down', 'other')", "run r-left is not what"),
    ("UPDATE step SET data = replace(data, 'succeeded', 'failed')", "step r-left/0 is not what"),
    ("DELETE FROM change", "change c-left is gone"),
    ("DELETE FROM episode", "is gone"),
    ("UPDATE head SET seq = seq + 1", "its head says"),
]


async def test_tampering_after_pruning_shows(journal, make, outsider):
    await make.story(journal, "over")
    await make.story(journal, "left", left=True)
    await journal.prune(before=LATER, most=4)
    for tampering, problem in TAMPERINGS:
        outsider.exec_driver_sql(tampering)
        report = audit.verify(outsider)
        assert any(problem in found for found in report.problems), (tampering, report.problems)
        outsider.rollback()
    assert audit.verify(outsider).ok


whole = st.fixed_dictionaries(
    {
        "state": st.sampled_from([RunState.HEALED, RunState.FAILED, RunState.RUNNING]),
        "left": st.booleans(),
        "resolved": st.booleans(),
        "undo": st.booleans(),
    }
)
prunings = st.lists(st.tuples(st.integers(0, 6), st.integers(1, 9)), min_size=1, max_size=3)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(stories=st.lists(whole, min_size=1, max_size=5), prunings=prunings, victim=st.integers(0), column=st.sampled_from(["data", "hash"]))
def test_wherever_it_is_pruned_it_is_whole_and_whatever_is_altered_then_shows(make, stories, prunings, victim, column):
    async def play(url):
        clock = ManualClock(START)
        journal = await Journal.open(url, clock=clock)
        try:
            for number, how in enumerate(stories):
                await make.story(journal, str(number), **how)
                clock.advance(timedelta(hours=1))
            must = {f"r-{n}" for n, how in enumerate(stories) if how["state"].open or how["left"] or not how["resolved"]}
            for hours, most in prunings:
                await journal.prune(before=START + timedelta(hours=hours, minutes=-30), most=most)
                assert (await journal.verify()).problems == []
                assert (await ids(journal))["runs"] >= must
            return [entry.seq for entry in await journal.entries()]
        finally:
            await journal.close()

    with tempfile.TemporaryDirectory() as folder:
        seqs = asyncio.run(play(f"sqlite:///{folder}/journal.db"))
        engine = create_engine(f"sqlite:///{folder}/journal.db")
        with engine.connect() as connection:
            connection.exec_driver_sql(f"UPDATE entry SET {column} = '7' WHERE seq = {seqs[victim % len(seqs)]}")
            assert not audit.verify(connection).ok
        engine.dispose()
