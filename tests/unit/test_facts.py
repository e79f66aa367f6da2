"""How long the API server is waited for: each fact a while, one that every pod is read for longer, as long as others get answers."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from types import SimpleNamespace

import pytest

from remediator.errors import Unreadable
from remediator.facts import Facts

LONG = timedelta(hours=1)


@pytest.fixture
def facts():
    return Facts(SimpleNamespace(kube=None), deadline=timedelta(milliseconds=10))


async def unanswered(facts):
    with pytest.raises(Unreadable, match="no answer within"):
        await facts.of_kubernetes(asyncio.Event().wait())


async def test_a_patient_question_outlives_the_time_of_the_others(facts):
    answered = asyncio.Event()
    patient = asyncio.create_task(facts.of_kubernetes(answered.wait(), patience=LONG))
    await unanswered(Facts(SimpleNamespace(kube=None), deadline=timedelta(milliseconds=50)))
    answered.set()
    assert await patient


async def test_it_ends_as_soon_as_another_got_no_answer(facts):
    patient = asyncio.create_task(facts.of_kubernetes(asyncio.Event().wait(), patience=LONG))
    await unanswered(facts)
    with pytest.raises(Unreadable, match=r"no answer within 0\.01 s"):
        await patient


async def test_after_that_nobody_waits(facts):
    await unanswered(facts)
    with pytest.raises(Unreadable):
        await facts.of_kubernetes(asyncio.Event().wait(), patience=LONG)
