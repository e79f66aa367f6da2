"""One replica of several, from standby to its end, with an elector and a pipeline that the test drives."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from remediator.candidate import Candidate
from remediator.journal import Journal


class Elector:
    """Leads once ``chosen`` is set, until ``lost`` has words."""

    identity = "me"
    holder = ""

    def __init__(self):
        self.chosen = asyncio.Event()
        self.lost = asyncio.get_running_loop().create_future()
        self.released = False

    @property
    def leads(self):
        return self.chosen.is_set() and not self.lost.done()

    async def campaign(self, fit):
        self.fit = fit
        await self.chosen.wait()

    async def keep(self):
        return await self.lost

    async def release(self):
        self.released = True


class Pipeline:
    """Starts at once; ``quiet``: whether every call had ended when it stopped."""

    def __init__(self, elector):
        self._elector = elector
        self.started = asyncio.Event()
        self.quiet = True
        self.fault = None
        self.held = None

    async def start(self):
        if self.fault is not None:
            raise self.fault
        self.started.set()

    async def stop(self, within):
        self.held = not self._elector.released
        return self.quiet


@pytest.fixture
async def candidate(stage):
    stage.world.elector = elector = Elector()
    pipeline = Pipeline(elector)
    ended = asyncio.get_running_loop().create_future()
    candidate = Candidate(stage.world, pipeline, elector, on_lead=lambda: None, on_end=ended.set_result)
    candidate.ended = ended
    candidate.elector, candidate.pipeline = elector, pipeline
    candidate.task = asyncio.create_task(candidate.stand())
    yield candidate
    candidate.task.cancel()
    await asyncio.wait([candidate.task])
    await candidate.resign(timedelta(seconds=1))


async def test_the_lease_is_given_back_once_nothing_is_under_way(candidate):
    candidate.elector.chosen.set()
    await candidate.pipeline.started.wait()
    await candidate.task
    await candidate.resign(timedelta(seconds=1))
    assert (candidate.pipeline.held, candidate.elector.released) == (True, True)
    assert not candidate.ended.done()


async def test_the_lease_is_kept_until_it_ends_by_itself_while_a_call_may_be_under_way(candidate):
    candidate.pipeline.quiet = False
    candidate.elector.chosen.set()
    await candidate.task
    await candidate.resign(timedelta(seconds=1))
    assert not candidate.elector.released


async def test_a_standby_that_stops_leaves_the_pipeline_alone(candidate):
    candidate.task.cancel()
    await asyncio.wait([candidate.task])
    await candidate.resign(timedelta(seconds=1))
    assert candidate.pipeline.held is None


async def test_a_lost_lease_ends_the_process(candidate):
    candidate.elector.chosen.set()
    await candidate.task
    candidate.elector.lost.set_result("somebody holds the lease")
    assert await candidate.ended == "the lease is lost: somebody holds the lease"


async def test_who_cannot_begin_to_lead_ends_and_lets_another_one(candidate):
    candidate.pipeline.fault = ValueError("a fault of ours")
    candidate.elector.chosen.set()
    assert "ValueError: a fault of ours" in await candidate.ended
    await candidate.resign(timedelta(seconds=1))
    assert candidate.elector.released


@pytest.fixture
def cut_off(monkeypatch):
    """cut_off(): from now on nothing can be written to the journal."""
    return lambda: monkeypatch.setattr(Journal, "healthy", False)


async def test_a_leader_that_is_cut_off_from_the_journal_lets_another_one_try(candidate, cut_off):
    candidate.elector.chosen.set()
    await candidate.task
    cut_off()
    assert "could write nothing to the journal for 60 s" in await candidate.ended
    await candidate.resign(timedelta(seconds=1))
    assert candidate.elector.released


async def test_a_standby_that_is_cut_off_from_the_journal_does_not_stand(candidate, cut_off):
    await asyncio.sleep(0)
    assert candidate.elector.fit()
    cut_off()
    assert not candidate.elector.fit()
