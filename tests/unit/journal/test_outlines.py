"""As much of runs as others are judged by: the same as by the whole runs, found by an index, a slice at a time."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine, event, insert

from remediator import breaker
from remediator.breaker import Backlog, Past, Reset, counted
from remediator.effect import effects
from remediator.journal import queries
from remediator.journal.rows import run_row
from remediator.journal.schema import METADATA, RUN
from remediator.model import Approval, ApprovalState, Outline, Run, RunState, Target, Trigger, TriggerKind, encode, evolve
from remediator.reasons import Reason
from remediator.settings import Breaker

NOW = datetime(2026, 1, 5, 10, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
FAILED = (Reason.STEP_FAILED, Reason.STILL_FIRING, Reason.RELAPSED, Reason.DEADLINE, Reason.CRASHED, Reason.NO_MORE_RUNGS)
minutes = st.integers(0, 300)


def run(number=0, **fields):
    usual = {
        "id": f"{number:026d}",
        "playbook": "p",
        "revision": "0",
        "trigger": Trigger(kind=TriggerKind.ALERT),
        "target": Target(kind="Node", name=f"node-{number % 7}"),
        "state": RunState.HEALED,
        "started_at": NOW,
        "deadline": NOW + 60 * MINUTE,
    }
    return Run(**usual | fields)


@st.composite
def questions(draw, began):
    state = draw(st.sampled_from(ApprovalState))
    ended = None if state is ApprovalState.WAITING else began + draw(minutes) * MINUTE
    step = draw(st.sampled_from((None, None, 1)))
    return Approval(step=step, asked_at=began, expires_at=began + 240 * MINUTE, state=state, ended_at=ended)


@st.composite
def histories(draw):
    made = []
    for number in range(draw(st.integers(0, 12))):
        began = NOW - draw(minutes) * MINUTE
        state = draw(st.sampled_from(RunState))
        made.append(
            run(
                number,
                state=state,
                reason=draw(st.sampled_from((None, Reason.PAUSED, Reason.RESOLVED_MEANWHILE, *FAILED))),
                started_at=began,
                ended_at=None if state.open else began + draw(minutes) * MINUTE,
                dry_run=draw(st.booleans()),
                disruptive=draw(st.booleans()),
                parameters=draw(st.sampled_from(({}, {"disruptive": True}, {"disruptive": False}, {"said": ' "disruptive":true,'}))),
                approvals=tuple(draw(st.lists(questions(began), max_size=2))),
            )
        )
    return made


def moments_of(runs, reset, but):
    """When those that count began and when they failed, by the whole runs and in plain words."""
    counting = [one for one in runs if one.disruptive and not one.dry_run and not one.unapproved and one.id != but]
    after = [one for one in counting if reset is None or one.begun_at > reset.at]
    bad = [one for one in counting if one.state is RunState.UNKNOWN or (one.state in ("failed", "not_healed") and one.reason in FAILED)]
    ends = [one.ended_at for one in bad if one.ended_at is not None and (reset is None or one.ended_at > reset.at)]
    return sorted(one.begun_at for one in after), sorted(ends)


def opened_at(moments, most, within):
    """The first of them that is the last of ``most`` within the time before it."""
    full = [at for at in moments if sum(at - within < other <= at for other in moments) >= most]
    return min(full, default=None)


@pytest.fixture(scope="module")
def empty():
    """The tables, in memory."""
    engine = create_engine("sqlite://")
    METADATA.create_all(engine)
    yield engine
    engine.dispose()


@settings(max_examples=60, deadline=None)
@given(histories(), st.none() | minutes, st.integers(1, 4), st.integers(1, 4), st.integers(0, 12))
def test_the_breaker_says_what_it_says_of_whole_runs(empty, runs, reset_before, most_failures, most_runs, own):
    limits = Breaker(failures=most_failures, runs=most_runs, within=90 * MINUTE)
    reset = None
    if reset_before is not None:
        at = NOW - reset_before * MINUTE
        reset = Reset(at=at, by="ada", reason="fixed", backlog=Backlog.SKIP, opened_at=at)
    since, but = NOW - 200 * MINUTE, f"{own:026d}"
    with empty.connect() as connection:  # nothing is committed
        for one in runs:
            connection.execute(insert(RUN).values(run_row(one, encode(one).decode())))
        whole = queries.recent_runs(connection, since, dry_run=False)
        past = Past(runs=counted(queries.outlines(connection, since, dry_run=False, disruptive=True)), reset=reset)
    assert {one.id for one in whole} == {one.id for one in runs if one.started_at >= since and not one.dry_run}
    starts, failures = moments_of(whole, reset, but)
    assert sorted(breaker.begun(past, but=but)) == starts
    assert sorted(breaker.failures_of(past, but=but)) == failures
    expected = {opened_at(starts, most_runs, limits.within), opened_at(failures, most_failures, limits.within)} - {None}
    found = breaker.opened(past, limits, but=but)
    assert (found.at if found else None) == min(expected, default=None)


async def test_an_outline_says_what_the_whole_run_says_and_costs_no_steps(journal, make, asked):
    waiting = Approval(asked_at=make.time(0), expires_at=make.time(60))
    first = make.run(at=1, state=RunState.AWAITING_APPROVAL, approvals=(waiting,), disruptive=False)
    second = make.run(at=2, reason=Reason.PAUSED, dry_run=True)
    for one in (second, first, make.run(state=RunState.HEALED)):
        await journal.save_run(one)
    await journal.save_change(make.change(first.id))
    asked.clear()
    found = await journal.open_outlines()
    assert [statement.count("FROM") for statement in asked] == [1]
    assert found == [Outline(**{name: getattr(one, name) for name in Outline.__struct_fields__}) for one in (first, second)]
    assert [one.unapproved for one in found] == [True, False]
    assert [one.id for one in await journal.open_runs()] == [one.id for one in found]


async def test_what_may_disturb_is_found_whatever_else_stands_in_its_record(journal, make):
    odd = make.alert(labels={"node": "a\0b", "disruptive": "true"})
    yes = make.run(at=1, alert=odd, parameters={"disruptive": False})
    no = make.run(at=2, disruptive=False, alert=odd, parameters={"disruptive": True, "said": '{"disruptive":true}'})
    dry = make.run(at=3, dry_run=True)
    for one in (yes, no, dry):
        await journal.save_run(one)

    async def ids(since=0, **filters):
        return await journal.over_runs(lambda runs: [one.id for one in runs], since=make.time(since), **filters)

    assert await ids() == [yes.id, no.id, dry.id]
    assert await ids(since=2) == [no.id, dry.id]
    assert await ids(dry_run=False) == [yes.id, no.id]
    assert await ids(disruptive=True) == [yes.id, dry.id]
    assert await ids(disruptive=True, dry_run=False) == [yes.id]
    await journal.save_run(evolve(no, disruptive=True))
    assert await ids(disruptive=True, dry_run=False) == [yes.id, no.id], "the index follows what is written"


async def test_runs_of_one_moment_are_read_once_each_over_all_slices(journal, make, monkeypatch):
    monkeypatch.setattr(queries, "_AT_ONCE", 2)
    runs = [make.run(at=number // 3) for number in range(7)]
    for one in reversed(runs):
        await journal.save_run(one)
    assert [one.id for one in await journal.over_runs(tuple, since=make.time(0))] == [one.id for one in runs]


async def test_what_may_disturb_among_what_does_not_is_found_by_index(plan_of):
    """By the database's own plan, without sorting."""
    found = await plan_of(lambda connection: list(queries.outlines(connection, NOW, dry_run=False, disruptive=True)))
    assert "run_disruptive" in found
    assert "sort" not in found
    assert "temp b-tree" not in found


async def test_twice_as_many_runs_hardly_take_more_memory(open_journal, tmp_path):
    journal = await open_journal(f"sqlite:///{tmp_path}/journal.db")
    path = tmp_path / "journal.db"
    peaks = []
    for known, count in ((0, 1_000), (1_000, 2_000)):
        engine = create_engine(f"sqlite:///{path}")
        with engine.begin() as connection:
            made = (run(number, started_at=NOW + number * MINUTE, ended_at=NOW + (number + 5) * MINUTE) for number in range(known, count))
            connection.execute(insert(RUN), [dict(zip(RUN.c.keys(), run_row(one, encode(one).decode()), strict=True)) for one in made])
        engine.dispose()
        await journal.over_runs(effects, since=NOW, dry_run=False)  # what is made once is not counted
        tracemalloc.start()
        whole, *_ = await journal.over_runs(effects, since=NOW, dry_run=False)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert whole.runs == count
    assert peaks[1] < 1.2 * peaks[0], "held whole, 1,000 runs more are 0.8 MB more"


@pytest.fixture
def asked():
    """The statements that read records meanwhile."""
    seen = []

    def remember(_connection, _cursor, statement, _parameters, _context, _many):
        if statement.startswith("SELECT"):
            seen.append(statement)

    event.listen(Engine, "before_cursor_execute", remember)
    yield seen
    event.remove(Engine, "before_cursor_execute", remember)
