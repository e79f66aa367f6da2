"""Any sequence of looks against an oracle: the whole stage with a real journal, a scripted Prometheus and a clock that leaps."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remediator.actions import Cilium, actions
from remediator.errors import MonitoringError
from remediator.feed import Feed
from remediator.gates import gates
from remediator.journal import Journal
from remediator.model import Run, RunState, Target, Trigger, TriggerKind, evolve, new_id
from remediator.playbook import load_playbook
from remediator.signals import Signals
from remediator.tracing import Tracing
from remediator.verify import verify

START = datetime(2026, 1, 5, 10, tzinfo=UTC)
LOOK = {True: "holds", False: "fires", None: "cannot be read"}


class LeapingClock:
    """Whoever sleeps is there at once."""

    def __init__(self):
        self.time = START

    def now(self):
        return self.time

    async def sleep(self, duration):
        self.time += max(duration, timedelta(0))
        await asyncio.sleep(0)


class Script:
    """Answers as written, each look after so many seconds; the last answer for ever. ``seen`` is what it told and when."""

    def __init__(self, clock, looks):
        self.clock, self.looks, self.seen = clock, looks, []

    async def require_fresh(self):
        pass

    async def query(self, promql):
        holds, seconds = self.looks[min(len(self.seen), len(self.looks) - 1)]
        self.clock.time += timedelta(seconds=seconds)
        self.seen.append((self.clock.time, holds))
        if holds is None:
            raise MonitoringError("no answer")
        return [SimpleNamespace(value=0.0)] if holds else []


def oracle(seen, deadline, hold):
    """What the first of ``seen`` that decides makes of it: its number, and the reason."""
    for number, (at, holds) in enumerate(seen):
        if holds:
            first = number
            while first and seen[first - 1][1]:
                first -= 1
            if at - seen[first][0] >= hold:
                return number, "healed"
        elif at >= deadline:
            held_before = any(earlier for _, earlier in seen[:number])
            return number, "deadline" if holds is None else "relapsed" if held_before else "still_firing"
    return None, "open"


@pytest.fixture
async def journal(tmp_path):
    journal = await Journal.open(f"sqlite:///{tmp_path}/verify.db", clock=LeapingClock())
    yield journal
    await journal.close()


@given(
    looks=st.lists(st.tuples(st.sampled_from([True, True, False, None]), st.sampled_from([0, 0, 0.5, 3, 40])), min_size=1, max_size=14),
    within=st.integers(10, 60),
    hold=st.integers(0, 10),
    every=st.integers(1, 10),
)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_every_sequence_of_looks_ends_as_the_oracle_says(journal, text, looks, within, hold, every):
    clock = LeapingClock()
    script = Script(clock, looks)
    times = {"within": f"{within}s", "hold": f"{hold}s", "every": f"{every}s"}
    playbook = load_playbook(text(verify={"query": "symptom == 0", **times}), actions=actions(), gates=gates())
    world = a_world(clock, journal, script)
    run = a_run(playbook, clock.now())
    await journal.decide(None, [], runs=[run])

    done = await verify(world, playbook, run, playbook.verify)

    deadline = START + timedelta(seconds=within)
    number, reason = oracle(script.seen, deadline, timedelta(seconds=hold))
    told = [LOOK[holds] for _, holds in script.seen]
    assert (len(script.seen) - 1, done.reason, done.healed) == (number, reason, reason == "healed"), told
    state = (await journal.run(run.id)).verification
    assert (state.checks, state.healed, state.deadline) == (number + 1, done.healed, deadline)
    assert state.ended_at == script.seen[-1][0]
    gaps = [later[0] - earlier[0] for earlier, later in zip(script.seen, script.seen[1:], strict=False)]
    assert all(gap <= timedelta(seconds=every + 40) for gap in gaps), "it looked too seldom"


def a_world(clock, journal, script):
    return SimpleNamespace(
        clock=clock, journal=journal, prometheus=script, kube=None, cilium=Cilium(), signals=Signals(), feed=Feed(), tracing=Tracing()
    )


def a_run(playbook, now):
    return Run(
        id=new_id(now),
        playbook=playbook.name,
        revision=playbook.revision,
        trigger=Trigger(kind=TriggerKind.TEST),
        target=Target(kind="Node", name="node-3"),
        state=RunState.RUNNING,
        started_at=now,
        deadline=now + timedelta(hours=1),
    )


async def test_the_runs_own_deadline_bounds_the_verification(journal, text):
    """A run must not live on because its verification may take longer; but one look is always taken."""
    clock = LeapingClock()
    playbook = load_playbook(
        text(verify={"query": "symptom == 0", "within": "5m", "hold": "1s"}, deadline="10m"), actions=actions(), gates=gates()
    )
    for left, looks in ((timedelta(seconds=12), 4), (timedelta(0), 1)):
        script = Script(clock, [(False, 0)])
        world = a_world(clock, journal, script)
        run = evolve(a_run(playbook, clock.now()), deadline=clock.now() + left)
        await journal.decide(None, [], runs=[run])
        assert (await verify(world, playbook, run, playbook.verify)).reason == "still_firing"
        assert len(script.seen) == looks
        assert (await journal.run(run.id)).verification.ended_at == run.deadline
