from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from remediator.cilium.hold import hold
from remediator.errors import StepFailed
from remediator.reasons import Reason

NOW = datetime(2026, 1, 5, 10, tzinfo=UTC)


class Clocked:
    """A context on whose clock ten seconds pass between two looks, for as many looks as it has patience."""

    def __init__(self, *said, patience=20):
        self.said, self.patience = list(said), patience
        self.at, self.clock, self.told = NOW, self, []

    def now(self):
        return self.at

    async def wait_for(self, what, look, *, every=None):
        for _ in range(self.patience):
            if (found := await look()) is not None:
                return found
            self.at += timedelta(seconds=10)
            await asyncio.sleep(0)
        raise StepFailed(f"waited for {what}", reason=Reason.DEADLINE)

    async def progress(self, words):
        self.told.append(words)

    async def pending(self):
        return self.said.pop(0) if self.said else ""


async def test_it_must_hold_without_a_break():
    ctx = Clocked("no pod", "", "", "not ready", "")
    since = await hold(ctx, "it", ctx.pending, lasting=timedelta(seconds=30))
    assert since == NOW + timedelta(seconds=40), "counted from the last time that something was wrong"
    assert ctx.now() == since + timedelta(seconds=30)
    assert ctx.told[:4] == ["no pod", "it", "it", "not ready"]


async def test_a_clock_that_is_set_back_begins_it_anew_and_does_not_lengthen_it():
    ctx = Clocked()

    async def pending():
        if ctx.at == NOW + timedelta(seconds=20):
            ctx.at -= timedelta(hours=1)
        return ""

    since = await hold(ctx, "it", pending, lasting=timedelta(seconds=30))
    assert since == NOW + timedelta(seconds=20) - timedelta(hours=1)
    assert ctx.now() == since + timedelta(seconds=30)


async def test_nothing_to_hold_is_proved_at_once():
    ctx = Clocked()
    assert await hold(ctx, "it", ctx.pending, lasting=timedelta(0)) == NOW


async def test_time_that_runs_out_says_what_was_pending():
    ctx = Clocked(*["the taint is there"] * 30)
    with pytest.raises(StepFailed, match="waited for it; the taint is there") as failed:
        await hold(ctx, "it", ctx.pending, lasting=timedelta(seconds=1))
    assert failed.value.reason is Reason.DEADLINE
