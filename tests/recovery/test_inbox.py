"""A delivery whose decisions the store refuses for good must not be handed out for ever, nor keep the others waiting."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from remediator.inbox import Inbox
from remediator.model import Delivery


class Disk:
    """What the journal says is undecided."""

    def __init__(self, *ids):
        self.left = list(ids)

    async def undecided(self, limit=100, after=""):
        return [delivery(id_) for id_ in sorted(self.left) if id_ > after][:limit]


def delivery(id_):
    at = datetime(2026, 1, 5, 10, tzinfo=UTC)
    return Delivery(id=id_, received_at=at, receiver="r", group_key="g", status="firing", truncated=0, alerts=())


async def handled(inbox, disk, *, refused=()):
    """Whatever the inbox hands out until it waits; what is not refused is decided."""
    seen = []
    while True:
        try:
            async with asyncio.timeout(0.2):
                waiting = await inbox.next(1)
        except TimeoutError:
            return seen
        seen.append(waiting[0][0].id)
        assert len(seen) < 50, f"it goes round: {seen}"
        if seen[-1] not in refused:
            disk.left.remove(seen[-1])
        inbox.done(1)


@pytest.mark.parametrize("refused", ["a", "b", "c"])
async def test_one_that_cannot_be_kept_is_left_for_the_next_start(refused):
    disk = Disk("a", "b", "c")
    inbox = Inbox(disk)
    await inbox.load()
    assert await handled(inbox, disk, refused={refused}) == ["a", "b", "c"]
    assert len(inbox) == 0
    disk.left.append("d")
    inbox.put(delivery("d"))
    assert await handled(inbox, disk, refused={refused}) == ["d"]
    again = Inbox(disk)
    await again.load()
    assert await handled(again, disk) == [refused]


async def test_a_commit_in_doubt_is_looked_for_on_the_disk():
    disk = Disk()
    inbox = Inbox(disk)
    await inbox.load()
    assert await handled(inbox, disk) == []
    disk.left.append("a")  # kept, though the writer was told that it was not
    inbox.doubt()
    assert len(inbox) == 1
    assert await handled(inbox, disk) == ["a"]
    assert len(inbox) == 0


async def test_more_than_a_page_from_an_earlier_life_is_never_shown_as_nothing():
    disk = Disk(*(f"{number:04d}" for number in range(450)))
    inbox = Inbox(disk)
    await inbox.load()
    while disk.left:
        assert len(inbox) > 0
        waiting = await inbox.next(32)
        for one, _ in waiting:
            disk.left.remove(one.id)
        inbox.done(len(waiting))
    assert await handled(inbox, disk) == []
    assert len(inbox) == 0
