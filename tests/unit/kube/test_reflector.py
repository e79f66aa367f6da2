from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from remediator.clock import ManualClock
from remediator.kube import Handlers, Kube, Reflector, kinds
from remediator.kube.errors import Forbidden, Gone, Malformed, Timeout, Unavailable, Unreachable
from remediator.kube.records import Pod

SECOND = timedelta(seconds=1)
KEY = ("default", "a")


class Told:
    """What the handlers were called with."""

    def __init__(self) -> None:
        self.said: list[tuple[Any, ...]] = []
        self.more = asyncio.Event()
        self.handlers = Handlers(
            added=lambda pod: self._say("added", pod.name, pod.uid),
            updated=lambda old, new: self._say("updated", new.name, old.metadata.resource_version, new.metadata.resource_version),
            deleted=lambda pod: self._say("deleted", pod.name, pod.uid),
        )

    def _say(self, *what: Any) -> None:
        self.said.append(what)
        self.more.set()

    async def until(self, count: int) -> list[tuple[Any, ...]]:
        async with asyncio.timeout(20):
            while len(self.said) < count:
                self.more.clear()
                await self.more.wait()
        return self.said


@pytest.fixture
def time():
    return ManualClock()


@pytest.fixture
async def kube(api):
    async with await Kube.connect(server=api.url, timeout=timedelta(seconds=2)) as kube:
        yield kube


@pytest.fixture
async def make(kube, time):
    made = []

    async def make(**more):
        told = Told()
        reflector = Reflector(kube, kinds.POD, Pod, clock=time, **more)
        reflector.subscribe(told.handlers)
        made.append(reflector)
        await reflector.start()
        return reflector, told

    yield make
    for reflector in made:
        await reflector.stop()


def _list(api, version, *pods):
    api.json({"metadata": {"resourceVersion": str(version)}, "items": list(pods)})


async def _stream(api):
    async with asyncio.timeout(20):
        return await api.streams.get()


async def _until(check):
    """Turns of the loop until ``check`` holds; bounded by time, not by their number, since real sockets are involved."""
    async with asyncio.timeout(20):
        while not check():  # noqa: ASYNC110 - the cache tells of no such change, on purpose
            await asyncio.sleep(0.001)


async def _next_try(time, longest):
    """Lets the back-off pass and says how long it was."""
    await _until(lambda: time.next_deadline() is not None)
    pause = time.next_deadline() - time.now()
    assert timedelta(0) < pause <= longest
    time.advance(pause)
    return pause


async def test_it_lists_then_follows(api, make, pod):
    _list(api, 5, pod("a"), pod("b"))
    api.stream()
    reflector, told = await make(namespace="default", labels="k8s-app=cilium", fields="spec.nodeName=n")
    stream = await _stream(api)
    await _until(lambda: reflector.stale_since is None)
    assert reflector.synced.is_set()
    await stream.send("MODIFIED", pod("a", 6))
    await stream.send("ADDED", pod("c", 7))
    await stream.send("BOOKMARK", {"kind": "Pod", "metadata": {"resourceVersion": "70"}})
    await stream.send("DELETED", pod("b", 71))
    assert await told.until(5) == [
        ("added", "a", "uid-a"),
        ("added", "b", "uid-b"),
        ("updated", "a", "1", "6"),
        ("added", "c", "uid-c"),
        ("deleted", "b", "uid-b"),
    ]
    assert set(reflector.items) == {KEY, ("default", "c")}
    assert reflector.get("a", "default").metadata.resource_version == "6"
    assert reflector.get("b", "default") is None
    assert len(reflector) == 2
    selectors = {"labelSelector": "k8s-app=cilium", "fieldSelector": "spec.nodeName=n"}
    assert all(selectors.items() <= seen.query.items() for seen in api.seen)
    assert {seen.path for seen in api.seen} == {"/api/v1/namespaces/default/pods"}
    assert stream.query["resourceVersion"] == "5"
    assert stream.query["watch"] == "1"
    assert stream.query["allowWatchBookmarks"] == "true"
    assert 240 <= int(stream.query["timeoutSeconds"]) <= 300


async def test_a_watch_that_ends_goes_on_where_it_was(api, make, pod, time):
    _list(api, 5, pod("a"))
    api.stream()
    reflector, _ = await make()
    stream = await _stream(api)
    await stream.send("BOOKMARK", {"metadata": {"resourceVersion": "50"}})
    await _until(lambda: reflector._version == "50")
    time.advance(timedelta(seconds=250))
    api.stream()
    stream.end()
    again = await _stream(api)
    assert again.query["resourceVersion"] == "50"
    assert reflector.lists == 1
    await _until(lambda: reflector.stale_since is None)


async def test_a_watch_that_ends_at_once_is_not_asked_in_a_tight_loop(api, make, pod, time):
    _list(api, 5, pod("a"))
    pauses = []
    reflector, _ = await make()
    for _ in range(8):
        api.stream()
        if pauses and len(pauses) % 3 == 0:
            _list(api, 5, pod("a"))
            api.queue.rotate(1)
        (await _stream(api)).end()
        await _until(lambda: reflector.stale_since is not None)
        pauses.append(await _next_try(time, timedelta(seconds=30)))
    for pause, longest in zip(pauses, (1, 2, 4, 8, 16, 30, 30, 30), strict=True):
        assert timedelta(seconds=longest / 2) <= pause <= timedelta(seconds=longest)
    assert reflector.lists == 3


async def test_a_watch_that_stood_long_makes_the_next_pause_short_again(api, make, pod, time):
    reflector, _ = await make()
    for _ in range(2):
        api.status(403, "Forbidden")
        await _until(lambda: reflector.error is not None)
        await _next_try(time, timedelta(seconds=2))
        reflector.error = None
    _list(api, 5, pod("a"))
    api.stream()
    stream = await _stream(api)
    await _until(lambda: reflector.stale_since is None)
    time.advance(timedelta(seconds=100))
    stream.cut()
    await _until(lambda: reflector.stale_since is not None)
    assert await _next_try(time, SECOND) <= SECOND


@pytest.mark.parametrize("how", ["event", "status"])
async def test_an_expired_place_means_a_new_list(api, make, pod, time, how):
    _list(api, 5, pod("a"), pod("b"))
    if how == "event":
        api.stream()
    else:
        api.status(410, "Expired", "too old resource version")
    reflector, told = await make()
    if how == "event":
        stream = await _stream(api)
        await stream.send("ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"})
    await _until(lambda: isinstance(reflector.error, Gone))
    assert reflector.stale_since is not None
    assert set(reflector.items) == {KEY, ("default", "b")}
    _list(api, 90, pod("a", 80), pod("c", 81))
    api.stream()
    await _next_try(time, SECOND)
    assert (await _stream(api)).query["resourceVersion"] == "90"
    await _until(lambda: reflector.stale_since is None)
    assert told.said[2:] == [("deleted", "b", "uid-b"), ("updated", "a", "1", "80"), ("added", "c", "uid-c")]
    assert reflector.error is None


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("cut", Unreachable),
        ("nonsense", Malformed),
        ("html", Malformed),
        ("misfit", Malformed),
        ("error event", Unavailable),
        ("silence", Timeout),
    ],
)
async def test_a_watch_that_goes_wrong_is_taken_up_again(api, make, pod, time, fault, error):
    _list(api, 5, pod("a"))
    api.stream()
    reflector, told = await make(silence=timedelta(milliseconds=300))
    stream = await _stream(api)
    match fault:
        case "cut":
            await stream.send("MODIFIED", pod("a", 6))
            await told.until(2)
            stream.cut()
        case "nonsense":
            await stream.raw(b'{"type": "ADDED"\n')
        case "html":
            await stream.raw(b"<html>503</html>\n")
        case "misfit":
            await stream.send("ADDED", pod("b", 7, nodeName=7))
        case "error event":
            await stream.send("ERROR", {"kind": "Status", "code": 500, "reason": "InternalError"})
        case _:
            pass
    await _until(lambda: reflector.error is not None)
    assert isinstance(reflector.error, error)
    assert reflector.stale_since == time.now()
    api.stream()
    await _next_try(time, SECOND)
    again = await _stream(api)
    await _until(lambda: reflector.stale_since is None)
    assert again.query["resourceVersion"] == ("6" if fault == "cut" else "5")
    assert reflector.lists == 1


async def test_what_keeps_failing_is_listed_anew(api, make, pod, time):
    _list(api, 5, pod("a"))
    for _ in range(3):
        api.status(400, "BadRequest", "no such resourceVersion")
    reflector, _ = await make()
    for count in range(3):
        await _until(lambda count=count: reflector._failures == count + 1)
        if count == 2:
            _list(api, 9, pod("a"))
            api.stream()
        await _next_try(time, timedelta(seconds=4))
    assert (await _stream(api)).query["resourceVersion"] == "9"
    assert reflector.lists == 2


async def test_a_list_that_fails_is_tried_again(api, make, pod, time):
    api.status(403, "Forbidden", "no rights yet")
    reflector, _ = await make()
    await _until(lambda: isinstance(reflector.error, Forbidden))
    assert not reflector.synced.is_set()
    assert reflector.stale_since is not None
    _list(api, 5, pod("a"))
    api.stream()
    await _next_try(time, SECOND)
    await _stream(api)
    await _until(lambda: reflector.stale_since is None)
    assert reflector.synced.is_set()


async def test_an_object_replaced_by_one_of_its_name_goes_and_comes(api, make, pod):
    _list(api, 5, pod("a", uid="u1"))
    api.stream()
    _, told = await make()
    stream = await _stream(api)
    await stream.send("MODIFIED", pod("a", 9, uid="u2"))
    assert await told.until(3) == [("added", "a", "u1"), ("deleted", "a", "u1"), ("added", "a", "u2")]


async def test_what_did_not_change_is_not_told(api, make, pod, time):
    _list(api, 5, pod("a"))
    api.status(410, "Expired")
    reflector, told = await make()
    await _until(lambda: reflector.error is not None)
    _list(api, 9, pod("a"))
    api.stream()
    await _next_try(time, SECOND)
    await _stream(api)
    assert told.said == [("added", "a", "uid-a")]


async def test_long_lines_and_lines_in_pieces_arrive_whole(api, make, pod):
    _list(api, 5)
    api.stream()
    _, told = await make()
    stream = await _stream(api)
    big = pod("big", 6)
    big["metadata"]["annotations"] = {"x": "y" * 5_000_000}
    await stream.send("ADDED", big)
    line = b'{"type":"ADDED","object":{"metadata":{"name":"s","uid":"us"}}}\n'
    for index in range(len(line)):
        await stream.raw(line[index : index + 1])
    assert [said[1] for said in await told.until(2)] == ["big", "s"]


async def test_wait_for_sees_what_holds_already_and_what_comes(api, make, pod):
    _list(api, 5, pod("a"))
    api.stream()
    reflector, _ = await make()
    await reflector.synced.wait()
    assert (await reflector.wait_for(lambda r: r.get("a", "default"), SECOND)).name == "a"
    waiting = asyncio.create_task(reflector.wait_for(lambda r: r.get("b", "default"), SECOND))
    stream = await _stream(api)
    await stream.send("ADDED", pod("c", 6))
    await stream.send("ADDED", pod("b", 7))
    async with asyncio.timeout(20):
        assert (await waiting).name == "b"


async def test_wait_for_ends_on_the_clock(api, make, time):
    _list(api, 5)
    api.stream()
    reflector, _ = await make()
    await _stream(api)
    waiting = asyncio.create_task(reflector.wait_for(lambda r: r.get("b", "default"), SECOND))
    await _until(lambda: time.next_deadline() is not None)
    time.advance(SECOND)
    async with asyncio.timeout(20):
        assert await waiting is None
    assert time.next_deadline() is None


async def test_a_subscriber_that_fails_harms_nobody_else(api, make, pod):
    _list(api, 5)
    api.stream()
    reflector, _ = await make()
    stream = await _stream(api)

    def fail(pod):
        raise ValueError(pod.name)

    reflector.subscribe(Handlers(added=fail))
    second = Told()
    end = reflector.subscribe(second.handlers)
    with capture_logs() as logs:
        await stream.send("ADDED", pod("a", 6))
        assert await second.until(1) == [("added", "a", "uid-a")]
    assert [entry["log_level"] for entry in logs] == ["error"]
    end()
    end()
    await stream.send("DELETED", pod("a", 7))
    await _until(lambda: len(reflector) == 0)
    assert len(second.said) == 1


async def test_stop_ends_the_watch_and_what_is_known_is_stale(api, kube, pod, time):
    _list(api, 5, pod("a"))
    api.stream()
    async with Reflector(kube, kinds.POD, Pod, clock=time) as reflector:
        await reflector.start()
        await _stream(api)
        await _until(lambda: reflector.stale_since is None)
        assert reflector.seen_at == time.now()
    assert reflector.stale_since == time.now()
    assert reflector.get("a", "default") is not None
    assert len(api.seen) == 2


async def test_dicts_can_be_cached_too(api, kube, pod, time):
    _list(api, 5, pod("a"))
    api.stream()
    async with Reflector(kube, kinds.POD, dict, clock=time) as reflector:
        await reflector.synced.wait()
        assert reflector.items[KEY]["metadata"]["uid"] == "uid-a"
