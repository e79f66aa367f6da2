"""With the real journal: 200 comes after the commit and not before, and a store that cannot keep a delivery means 503."""

from __future__ import annotations

import asyncio
import sqlite3
from datetime import timedelta

import pytest

from remediator.clock import ManualClock
from remediator.journal import Journal
from remediator.model import Decision, DecisionKind, from_json, new_id
from remediator.reasons import Reason
from remediator.receive import Kept, parse_delivery


class Keeper:
    """Only what the webhook needs of a daemon: parse, then keep."""

    def __init__(self, journal: Journal, clock: ManualClock, feed) -> None:
        self.journal = journal
        self.feed = feed
        self._clock = clock

    async def receive(self, body, *, sender):
        now = self._clock.now()
        delivery = parse_delivery(body, id=new_id(now), at=now, sender=sender)
        await self.journal.add_delivery(delivery)
        return Kept.of(delivery)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.db"


@pytest.fixture
async def journal(path):
    journal = await Journal.open(f"sqlite:///{path}", clock=ManualClock(), deadline=timedelta(seconds=0.5))
    yield journal
    await journal.close()


@pytest.fixture
async def api(serve, service, journal):
    return await serve(Keeper(journal, ManualClock(), service.feed))


@pytest.fixture
def store(path, journal):
    """A second connection to the same file, as any other process would have it."""
    connection = sqlite3.connect(path, isolation_level=None)
    yield connection
    connection.close()


def kept(store) -> int:
    return store.execute("SELECT count(*) FROM delivery").fetchone()[0]


async def test_the_answer_comes_after_the_commit(api, store, payload):
    store.execute("BEGIN IMMEDIATE")  # whoever wants to commit has to wait
    request = asyncio.create_task(api.post_alerts(payload))
    done, _ = await asyncio.wait([request], timeout=0.2)
    assert not done
    assert kept(store) == 0
    store.execute("ROLLBACK")
    response = await request
    assert response.status == 200
    assert kept(store) == 1
    assert (await (await api("GET", f"/api/v1/deliveries/{(await response.json())['delivery']}")).json())["decided_at"] is None


async def test_a_store_that_stays_locked_means_503_and_nothing_kept(api, store, payload):
    store.execute("BEGIN IMMEDIATE")
    response = await api.post_alerts(payload)
    await api.problem_in(response, 503)
    assert response.headers["Retry-After"]
    store.execute("ROLLBACK")
    assert kept(store) == 0
    assert (await api.post_alerts(payload)).status == 200
    assert kept(store) == 1


async def test_a_body_that_is_refused_leaves_no_trace(api, store, payload):
    payload["alerts"][1]["startsAt"] = "soon"
    await api.problem_in(await api.post_alerts(payload), 400)
    assert kept(store) == 0


async def test_a_decision_is_found_by_its_id(api, journal):
    now = ManualClock().now()
    decision = Decision(id=new_id(now), at=now, decision=DecisionKind.REFUSED, reason=Reason.PAUSED, detail="by ada")
    await journal.decide(None, [decision])
    assert from_json(await api.get(f"/api/v1/decisions/{decision.id}"), Decision) == decision
    await api.problem("GET", "/api/v1/decisions/nope", 404)


async def test_what_is_kept_can_be_listed_page_by_page(api, payload):
    for _ in range(3):
        assert (await api.post_alerts(payload)).status == 200
    first = await api.get("/api/v1/deliveries?limit=2")
    rest = await api.get(f"/api/v1/deliveries?limit=2&cursor={first['next']}")
    assert len({item["id"] for item in first["items"] + rest["items"]}) == 3
    assert rest["next"] is None
    await api.problem("GET", "/api/v1/deliveries?cursor=nonsense", 400)
