"""What waits: each alert is handed out once, by turns, with bounded memory; what the store refuses for good goes not round for ever."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime

import pytest

from remediator import inbox as module
from remediator.errors import JournalUnavailable
from remediator.inbox import Inbox
from remediator.model import Alert, AlertStatus, Delivery
from remediator.turns import QUANTUM

AT = datetime(2026, 1, 5, 10, tzinfo=UTC)


class Disk:
    """What the journal says is undecided."""

    def __init__(self, *deliveries):
        self.left = {delivery.id: delivery for delivery in deliveries}
        self.fails = False
        self.read = Counter()
        self.looks = 0
        self.landing = []
        """Whose commits hang: they can be seen once those have landed."""

    async def settled(self):
        if self.fails:
            raise JournalUnavailable("as the test wants it")
        self.left |= {one.id: one for one in self.landing}

    async def undecided_names(self, limit, after=""):
        self.looks += after == ""
        return [id_ for id_ in sorted(self.left) if id_ > after][:limit]

    async def undecided_of(self, ids):
        if self.fails:
            raise JournalUnavailable("as the test wants it")
        self.read.update(ids)
        return [self.left[id_] for id_ in sorted(ids) if id_ in self.left]


def delivery(id_, *names):
    alerts = tuple(
        Alert(name=name, fingerprint=f"{id_}-{place}", starts_at=AT, status=AlertStatus.FIRING, labels={"alertname": name})
        for place, name in enumerate(names)
    )
    return Delivery(id=id_, received_at=AT, receiver="r", group_key="g", status="firing", truncated=0, alerts=alerts)


def opened(disk):
    return Inbox(disk, lambda alert: alert.name)


async def handled(inbox, disk, *, refused=(), most=1):
    """The portions that the inbox hands out until it waits; what is not refused is decided."""
    seen = []
    while True:
        try:
            async with asyncio.timeout(0.2):
                portions = await inbox.next(most)
        except TimeoutError:
            return seen
        for portion in portions:
            seen.append(portion)
            assert len(seen) < 5_000, "it goes round"
            if portion.delivery.id in refused:
                inbox.leave([portion.delivery.id])
            elif portion.last:
                del disk.left[portion.delivery.id]
        inbox.done(portions)


def names(portions):
    return [portion.delivery.id for portion in portions]


@pytest.mark.parametrize("refused", ["a", "b", "c"])
async def test_one_that_cannot_be_kept_is_left_for_the_next_start(refused):
    disk = Disk(delivery("a"), delivery("b"), delivery("c"))
    inbox = opened(disk)
    await inbox.load()
    assert names(await handled(inbox, disk, refused={refused})) == ["a", "b", "c"]
    assert len(inbox) == 0
    disk.left["d"] = delivery("d")
    inbox.put(disk.left["d"])
    inbox.doubt()
    assert names(await handled(inbox, disk, refused={refused})) == ["d"]
    again = opened(disk)
    await again.load()
    assert names(await handled(again, disk)) == [refused]


async def test_no_portion_of_one_that_cannot_be_kept_closes_it():
    disk = Disk()
    inbox = opened(disk)
    disk.left["a"] = delivery("a", "One", "Two")
    inbox.put(disk.left["a"])
    assert [(p.places, p.last) for p in await handled(inbox, disk, refused={"a"})] == [((0,), False)]
    assert len(inbox) == 0


async def test_a_commit_in_doubt_is_looked_for_on_the_disk():
    disk = Disk()
    inbox = opened(disk)
    await inbox.load()
    assert await handled(inbox, disk) == []
    disk.left["a"] = delivery("a")  # kept, though the writer was told that it was not
    inbox.doubt()
    assert len(inbox) == 1
    assert names(await handled(inbox, disk)) == ["a"]
    assert len(inbox) == 0


async def test_one_that_lands_yet_is_waited_for():
    disk = Disk()
    inbox = opened(disk)
    await inbox.load()
    disk.landing, disk.fails = [delivery("a")], True
    inbox.doubt()
    for _ in range(2):
        with pytest.raises(JournalUnavailable):
            await inbox.next(1)
    disk.fails = False
    assert names(await handled(inbox, disk)) == ["a"]
    assert disk.looks == 2, "at the start, and when it was settled"


async def test_a_doubt_while_it_looks_is_looked_into_too():
    disk = Disk(delivery("a"))
    inbox = opened(disk)
    await inbox.load()
    undecided, late = disk.undecided_names, delivery("b")

    async def names_of(limit, after=""):
        found = await undecided(limit, after)
        if not after and late.id not in disk.left and not disk.landing:
            disk.landing = [late]
            inbox.doubt()
        return found

    disk.undecided_names = names_of
    inbox.look()
    assert names(await handled(inbox, disk)) == ["a", "b"]


async def test_more_than_a_page_from_an_earlier_life_is_never_shown_as_nothing():
    disk = Disk(*(delivery(f"{number:04d}", "Some") for number in range(450)))
    inbox = opened(disk)
    await inbox.load()
    while disk.left:
        assert len(inbox) > 0
        portions = await inbox.next(32)
        assert all(portion.again for portion in portions)
        for portion in portions:
            del disk.left[portion.delivery.id]
        inbox.done(portions)
    assert await handled(inbox, disk) == []
    assert len(inbox) == 0


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("restart", [False, True])
async def test_a_storm_beyond_memory_leaves_the_quiet_one_its_turn(monkeypatch, restart, held):
    monkeypatch.setattr(module, "_IN_MEMORY", 20)
    monkeypatch.setattr(module, "_PAGE", 15)
    monkeypatch.setattr(module, "_NAMES", 40)
    disk = Disk()
    inbox = opened(disk)
    for number in range(300):
        came = delivery(f"{number:04d}", "Quiet" if number == 250 else "Loud")
        disk.left[came.id] = came
        inbox.put(came) if held or inbox.has_room else inbox.put_aside(came.id)
        assert len(inbox._arrived) <= 20
    assert not inbox.has_room
    assert len(inbox) == 300
    if restart:
        inbox = opened(disk)
        await inbox.load()
    found = names(await handled(inbox, disk, most=10))
    assert sorted(found) == [f"{number:04d}" for number in range(300)]
    assert found.index("0250") <= QUANTUM
    loud = [id_ for id_ in found if id_ != "0250"]
    assert loud == sorted(loud)
    assert len(inbox._bodies) == len(inbox._came) == len(inbox) == 0


async def test_beyond_what_is_queued_the_rest_comes_in_its_order(monkeypatch):
    monkeypatch.setattr(module, "_IN_MEMORY", 5)
    monkeypatch.setattr(module, "_PAGE", 10)
    monkeypatch.setattr(module, "_QUEUED", 50)
    disk = Disk(*(delivery(f"{number:04d}", "Some", "Some") for number in range(200)))
    inbox = opened(disk)
    await inbox.load()
    assert len(inbox) == 200
    assert inbox._turns.alerts < 50 + 2 * 10 + 1
    assert len(inbox._bodies) == 3, "so many have five alerts; the others are read when their turn comes"
    assert names(await handled(inbox, disk, most=4)) == sorted(f"{number:04d}" for number in range(200))
    assert len(inbox) == 0
    assert disk.looks <= 1 + 400 // 25 + 1, "as often as half of what is queued is decided"


async def test_what_failed_is_looked_at_carefully_and_in_the_same_order():
    disk = Disk()
    inbox = opened(disk)
    for id_ in "abc":
        disk.left[id_] = delivery(id_, "Some", "Other")
        inbox.put(disk.left[id_])
    portions = await inbox.next(3)
    inbox.retry(portions)
    assert len(inbox) == 3
    again = await inbox.next(3)
    assert [p._replace(again=False) for p in again] == portions
    assert all(p.again for p in again)


async def test_a_disk_that_cannot_be_read_loses_nothing(monkeypatch):
    monkeypatch.setattr(module, "_IN_MEMORY", 1)
    disk = Disk(*(delivery(f"{number:02d}", "Some") for number in range(10)))
    inbox = opened(disk)
    await inbox.load()
    disk.fails = True
    with pytest.raises(JournalUnavailable):
        await inbox.next(10)
    disk.fails = False
    assert names(await handled(inbox, disk)) == [f"{number:02d}" for number in range(10)]


async def test_the_oldest_is_told_also_while_it_is_decided_on():
    disk = Disk()
    inbox = opened(disk)
    assert inbox.oldest is None
    disk.left["a"] = delivery("a", "Some")
    inbox.put(disk.left["a"])
    assert inbox.oldest == AT
    portions = await inbox.next(1)
    assert inbox.oldest == AT
    inbox.done(portions)
    assert inbox.oldest is None
