"""The feed of changes: watchers miss nothing, listeners are bounded, nobody makes the publisher wait."""

from __future__ import annotations

import asyncio

from remediator.feed import Feed


async def test_a_watcher_wakes_on_its_own_changes_only():
    feed = Feed()
    waiting = asyncio.create_task(feed.next_change("a", feed.version("a")))
    feed.publish("run", "b")
    await asyncio.sleep(0)
    assert not waiting.done()
    feed.publish("run", "a")
    assert await waiting == feed.version("a") > 0


async def test_a_change_between_looking_and_waiting_is_not_missed():
    feed = Feed()
    seen = feed.version("a")
    feed.publish("run", "a")
    assert await feed.next_change("a", seen) == feed.version("a")


async def test_every_watcher_of_one_thing_wakes():
    feed = Feed()
    waiting = [asyncio.create_task(feed.next_change("a", 0)) for _ in range(3)]
    await asyncio.sleep(0)
    feed.publish("run", "a")
    assert await asyncio.gather(*waiting) == [1, 1, 1]


async def test_a_watcher_that_gives_up_leaves_nothing_behind():
    feed = Feed()
    waiting = asyncio.create_task(feed.next_change("a", 0))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert not feed._watchers


async def test_only_so_many_versions_are_remembered():
    feed = Feed(remembered=2)
    for ref in "abca":
        feed.publish("run", ref)
    assert [feed.version(ref) for ref in "abc"] == [4, 0, 3]


async def test_a_listener_gets_what_comes_after_it_came():
    feed = Feed()
    feed.publish("run", "a")
    listener = feed.listen()
    feed.publish("run", "b")
    feed.close()
    assert [notice.ref async for notice in listener] == ["b"]
    assert not listener.dropped


async def test_a_listener_that_does_not_take_is_dropped_and_others_are_not():
    feed = Feed(queue=2)
    slow, quick = feed.listen(), feed.listen()
    taken = []
    for ref in "abc":
        feed.publish("run", ref)
        taken.append((await quick.get()).ref)
    assert taken == ["a", "b", "c"]
    assert slow.dropped
    assert await slow.get() is None
    feed.leave(slow)
    assert feed.listeners == 1


async def test_closing_ends_every_wait_and_later_ones_do_not_begin():
    feed = Feed()
    watcher = asyncio.create_task(feed.next_change("a", 5))
    listener = asyncio.create_task(feed.listen().get())
    await asyncio.sleep(0)
    feed.close()
    assert await watcher == 5
    assert await listener is None
    assert await feed.next_change("a", 0) == 0
    assert await feed.listen().get() is None
