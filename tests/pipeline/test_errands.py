"""What people ask of a standby is done by the leader, and answered as if it had been asked itself."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest

from remediator import errands
from remediator.errors import NotLeading, Refused, Unreadable, UsageError
from remediator.journal import Journal
from remediator.operations import Operations
from remediator.payload import Limits
from remediator.pipeline import Pipeline
from remediator.reasons import Reason
from remediator.server.service import ManualRequest, MatchRequest

ASK = {"ask": {"action": "approve", "message": "May it?", "timeout": "1h"}}
REQUEST = ManualRequest(playbook="remedy", target="Node/node-3", by="ann", reason="to see")


def role(*, leads):
    return SimpleNamespace(leads=leads, holder="pod-a", identity="pod-a" if leads else "pod-b")


@pytest.fixture
async def leader(house, text, monkeypatch):
    """The real daemon, which leads and looks for errands."""
    monkeypatch.setattr(errands, "_PATIENCE", timedelta(days=1))
    house.put("remedy.yaml", text(steps=[ASK]))
    daemon = await house.start()
    daemon.world.elector = role(leads=True)
    task = asyncio.create_task(daemon.operations.errands.serve())
    yield daemon
    task.cancel()
    await asyncio.wait([task])


@pytest.fixture
async def standby(leader, house):
    """Another replica on the same journal."""
    journal = await Journal.open(f"sqlite:///{house.folder}/remediator.db", clock=leader.world.clock)
    world = replace(leader.world, journal=journal, elector=role(leads=False))
    yield Operations(world, Pipeline(replace(world), ""), limits=Limits(), ceiling=None, first_load=None)
    await journal.close()


async def begun(standby, house):
    """A run that waits for people."""
    decision = await standby.trigger(REQUEST)
    assert decision.decision == "run"

    async def waits():
        stored = await house.journal.run(decision.run)
        return stored if stored.state == "awaiting_approval" else None

    return await house.until(waits, "the run waits")


async def test_a_run_is_begun_and_approved_in_the_name_of_who_asked(standby, house):
    run = await begun(standby, house)
    assert (run.trigger.by, run.trigger.reason) == ("ann", "to see")
    told = await standby.approve(run.id, by="ben", reason="fine", named=True)
    assert [(said.by, said.approved) for asked in told.approvals for said in asked.answers] == [("ben", True)]
    assert (await house.ended(run.id)).approvals[0].state == "approved"


async def test_a_run_is_cancelled_and_the_answer_says_so(standby, house):
    run = await begun(standby, house)
    assert (await standby.cancel(run.id, by="ben", reason="enough")).cancel == "ben: enough"
    assert (await house.ended(run.id)).state == "cancelled"
    with pytest.raises(UsageError, match=f"run {run.id} has ended: cancelled"):
        await standby.cancel(run.id, by="ben", reason="again")


class TestLinks:
    """Whoever holds one reaches any replica; only the leader writes what they say."""

    async def link(self, standby, house):
        run = await begun(standby, house)
        return run, standby._world.invitations.text(run.id, run.approvals[-1].asked_at)

    async def test_an_answer_is_given_by_the_leader_and_the_link_stays_here(self, standby, house):
        run, link = await self.link(standby, house)
        told = await standby.answer_invited(link, by="ada, by a link", reason="fine", yes=True)
        assert [(said.by, said.approved) for asked in told.approvals for said in asked.answers] == [("ada, by a link", True)]
        errands = [entry.data for entry in await house.journal.entries(kind="errand")]
        assert [errand["name"] for errand in errands] == ["trigger", "answer_question"]
        assert errands[1]["named"]["by"] == "ada, by a link"
        assert link.rpartition(".")[2] not in str(errands)
        assert (await house.ended(run.id)).approvals[0].state == "approved"

    async def test_the_leader_looks_once_more_whether_it_is_asked_yet(self, standby, leader, house):
        """Both answers were on their way when the question still waited."""
        run, link = await self.link(standby, house)
        standby._still_asks = lambda run, _: run
        await leader.operations.reject(run.id, by="ben", reason="no")
        with pytest.raises(UsageError, match="was answered"):
            await standby.answer_invited(link, by="ada, by a link", reason="", yes=True)
        assert [said.by for asked in (await house.ended(run.id)).approvals for said in asked.answers] == ["ben"]

    async def test_without_a_leader_nothing_is_written(self, standby, house):
        run, link = await self.link(standby, house)
        standby._world.elector.holder = ""
        with pytest.raises(NotLeading, match="nobody leads"):
            await standby.answer_invited(link, by="ada, by a link", reason="", yes=True)
        assert (await house.journal.run(run.id)).state == "awaiting_approval"

    async def test_what_a_link_does_not_fit_is_said_here(self, standby, house):
        run, link = await self.link(standby, house)
        before = await house.journal.last()
        for wrong in (link[:-1], standby._world.invitations.text(run.id, run.started_at - timedelta(days=1))):
            with pytest.raises(UsageError):
                await standby.answer_invited(wrong, by="eve", reason="", yes=True)
        assert await house.journal.entries(kind="errand", after=before) == []


async def test_what_the_leader_says_no_to_is_a_no_here_too(standby):
    assert (await standby.match(MatchRequest(labels={"alertname": "Nobody"}))).decision == "unmatched"
    with pytest.raises(UsageError, match="playbook remedy is not demoted"):
        await standby.reinstate("remedy", by="ben", reason="")
    refused = await standby.trigger(ManualRequest(playbook="remedy", target="Node/nowhere", by="ann", reason="to see"))
    assert (refused.decision, refused.reason) == ("refused", "target_missing")


@pytest.mark.parametrize(
    ("raised", "seen", "words"),
    [
        (Refused(Reason.COOLDOWN, "too soon"), Refused, "too soon"),
        (Unreadable("prometheus", "no answer"), Unreadable, "no answer"),
        (ZeroDivisionError("oops"), Exception, "internal error, please report it: ZeroDivisionError"),
        (NotLeading("this one is none any more"), NotLeading, "none any more"),
    ],
)
async def test_an_error_of_the_leader_keeps_its_meaning(standby, leader, raised, seen, words):
    async def fails(*_, **__):
        raise raised

    leader.operations.errands._known["undo"] = fails, str
    with pytest.raises(seen, match=words):
        await standby.undo("run-1", by="ben", reason="")


async def test_without_a_leader_nothing_is_asked_of_anybody(standby, house):
    standby._world.elector.holder = ""
    with pytest.raises(NotLeading, match=r"nobody leads at the moment\. Nothing was done"):
        await standby.trigger(REQUEST)
    assert await house.journal.entries(kind="errand") == []


async def test_a_leader_that_does_not_answer_may_have_done_it(standby, leader, monkeypatch):
    monkeypatch.setattr(errands, "_PATIENCE", timedelta(seconds=1))
    leader.operations.errands._known["undo"] = (lambda *_, **__: asyncio.Event().wait()), str
    with pytest.raises(NotLeading, match=r"pod-a, did not answer in time\. It may have done it all the same"):
        await standby.undo("run-1", by="ben", reason="")
