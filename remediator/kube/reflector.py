"""A cache of one kind of object that follows the API server: list once, then watch.

In: a Kube, a kind, selectors, a record type. Out: the objects by (namespace, name), callbacks, and how fresh they are.

It never gives up: after an error it waits (1 s doubling to 30 s, jittered, on the injected clock) and goes on where it was, or lists again
when the server no longer knows that place (410) or the watch keeps failing. A watch ends by itself after 240-300 s; 90 s without a byte,
bookmarks included, count as a dead connection. While the watch does not stand, ``stale_since`` says since when what is here may be old:
whoever decides on it must refuse then. Callbacks run on the event loop and must not block.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import msgspec
import structlog

from remediator.errors import KubeError
from remediator.kube.errors import Gone, Malformed, from_answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from types import TracebackType

    from remediator.clock import Clock
    from remediator.kube.client import Kube
    from remediator.kube.kinds import Kind

__all__ = ["Handlers", "Key", "Reflector"]

T = TypeVar("T")
R = TypeVar("R")
Key = tuple[str, str]
"""(namespace, name); the namespace is empty for objects outside of namespaces."""

_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 30.0
_SOUND: Final = timedelta(seconds=10)
"""A watch that stood this long was no failure, so the next pause is short again."""
_FAILURES_TO_RELIST: Final = 3
_LASTING: Final = (240, 300)
_SILENCE: Final = timedelta(seconds=90)
"""An API server sends a bookmark about once a minute."""
_AT_ONCE: Final = 100
"""Events taken before the event loop gets its turn."""
_log = structlog.get_logger()


class _Head(msgspec.Struct):
    """Only who the object is, to keep the books whatever record the caller wants."""

    metadata: _HeadMeta


class _HeadMeta(msgspec.Struct, rename="camel"):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


_HEADS: Final = msgspec.json.Decoder(_Head)
_EVENTS: Final = msgspec.json.Decoder(_Event)


class Handlers(msgspec.Struct, Generic[T], frozen=True):
    """What to call when an object comes, changes (old, new) or goes. An object replaced by another of its name goes and comes."""

    added: Callable[[T], None] | None = None
    updated: Callable[[T, T], None] | None = None
    deleted: Callable[[T], None] | None = None


class Reflector(Generic[T]):
    """See the module. Started with ``start`` or as ``async with``; one task, ended by ``stop``."""

    def __init__(
        self,
        kube: Kube,
        kind: Kind,
        decode: type[T],
        *,
        clock: Clock,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        silence: timedelta = _SILENCE,
    ) -> None:
        self.kind = kind
        self.synced = asyncio.Event()
        """Set once the first list is here."""
        self.stale_since: datetime | None = clock.now()
        """None while list and watch stand; else since when they do not."""
        self.error: KubeError | None = None
        """Why it is stale."""
        self.seen_at: datetime | None = None
        """When the server last said anything; a dead connection goes unnoticed for at most ``silence`` after it."""
        self.lists = 0
        """How often everything was listed."""
        self._kube = kube
        self._clock = clock
        self._namespace, self._labels, self._fields = namespace, labels, fields
        self._silence = silence
        self._decoder = msgspec.json.Decoder(decode)
        self._objects: dict[Key, tuple[_HeadMeta, T]] = {}
        self._version = ""
        self._handlers: list[Handlers[T]] = []
        self._changed = asyncio.Event()
        self._failures = 0
        self._task: asyncio.Task[None] | None = None

    # what is known

    @property
    def items(self) -> Mapping[Key, T]:
        """All objects as of now; a copy."""
        return {key: thing for key, (_, thing) in self._objects.items()}

    def get(self, name: str, namespace: str = "") -> T | None:
        """One object, or None if there is none."""
        found = self._objects.get((namespace, name))
        return found[1] if found else None

    def __len__(self) -> int:
        return len(self._objects)

    def subscribe(self, handlers: Handlers[T]) -> Callable[[], None]:
        """Call ``handlers`` from now on; what is here already is not told. Returns the way to end it."""
        self._handlers.append(handlers)
        return lambda: self._handlers.remove(handlers) if handlers in self._handlers else None

    async def wait_for(self, predicate: Callable[[Reflector[T]], R | None], timeout: timedelta) -> R | None:  # noqa: ASYNC109 - on the injected clock
        """The first truthy value of ``predicate(self)``, asked after every change; None if ``timeout`` passes on the clock first."""
        waiting = asyncio.ensure_future(self._clock.sleep(timeout))
        try:
            while not (value := predicate(self)):
                event = self._changed
                change = asyncio.ensure_future(event.wait())
                await asyncio.wait((change, waiting), return_when=asyncio.FIRST_COMPLETED)
                change.cancel()
                if waiting.done() and not event.is_set():
                    return None
            return value
        finally:
            waiting.cancel()

    # life

    async def start(self) -> None:
        """Begin; ``synced`` tells when the first list is here."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"reflector of {self.kind.plural}")

    async def stop(self) -> None:
        """End the task; what is known stays and is stale from now on."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None
            self._stale(None)

    async def __aenter__(self) -> Reflector[T]:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()

    async def _run(self) -> None:
        while True:
            try:
                if not self._version:
                    await self._list()
                await self._watch()
            except Gone as error:
                self._version = ""
                self._stale(error)
            except KubeError as error:
                self._stale(error)
            except Exception as error:  # noqa: BLE001 - boundary: one object that we cannot cope with must not blind us for good
                _log.exception("reflector failed; listing again", kind=self.kind.kind)
                self._version = ""
                self._stale(Malformed(f"{type(error).__name__} in the reflector"))
            await self._clock.sleep(self._pause())

    def _pause(self) -> timedelta:
        self._failures += 1
        if self._failures % _FAILURES_TO_RELIST == 0:
            self._version = ""
        longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(self._failures - 1, 10))
        return timedelta(seconds=random.uniform(longest / 2, longest))  # noqa: S311 - spreads load, guards nothing

    def _stale(self, error: KubeError | None) -> None:
        if self.stale_since is None:
            self.stale_since = self._clock.now()
        if error is not None:
            self.error = error
            _log.info("reflector is stale", kind=self.kind.kind, error=str(error), failures=self._failures)

    # list and watch

    async def _list(self) -> None:
        listing = await self._kube.collect(
            self.kind,
            lambda raw: (_HEADS.decode(raw).metadata, self._decoder.decode(raw)),
            self._namespace,
            labels=self._labels,
            fields=self._fields,
        )
        self.lists += 1
        now = {(head.namespace, head.name): (head, thing) for head, thing in listing.items}
        for key in self._objects.keys() - now.keys():
            self._remove(key)
        for key, (head, thing) in now.items():
            self._put(key, head, thing)
        self._version = listing.resource_version
        self.synced.set()
        self._wake()

    async def _watch(self) -> None:
        """Follow until the server ends the watch; a watch that ended soon counts as a failure, so that it is not asked in a tight loop."""
        while self._version:
            lasting = timedelta(seconds=random.randint(*_LASTING))  # noqa: S311 - spreads load, guards nothing
            async with self._kube.watch(
                self.kind,
                self._namespace,
                labels=self._labels,
                fields=self._fields,
                resource_version=self._version,
                lasting=lasting,
                silence=self._silence,
            ) as lines:
                sound = await self._stand(lines)
            if not sound:
                self._stale(None)
                return

    async def _stand(self, lines: AsyncIterator[bytes]) -> bool:
        """Follow one watch to its end; whether it stood long enough to be sound."""
        began = self._clock.now()
        self.stale_since = self.error = None
        self._wake()
        try:
            await self._follow(lines)
        finally:
            sound = self._clock.now() - began >= _SOUND
            if sound:
                self._failures = 0
        return sound

    async def _follow(self, lines: AsyncIterator[bytes]) -> None:
        count = 0
        async for line in lines:
            self._take(line)
            count += 1
            if count % _AT_ONCE == 0:
                await asyncio.sleep(0)

    def _take(self, line: bytes) -> None:
        try:
            event = _EVENTS.decode(line)
            if event.type == "ERROR":
                raise _stream_error(event.object)
            head = _HEADS.decode(event.object).metadata
            thing = self._decoder.decode(event.object) if event.type != "BOOKMARK" else None
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Malformed(f"an event that does not fit: {error}", call=f"watch {self.kind.plural}") from error
        key = (head.namespace, head.name)
        if event.type == "DELETED":
            self._remove(key)
        elif thing is not None:
            self._put(key, head, thing)
        self._version = head.resource_version or self._version
        self._wake()

    # the books

    def _put(self, key: Key, head: _HeadMeta, thing: T) -> None:
        known = self._objects.get(key)
        if known is not None and known[0].uid != head.uid:
            self._remove(key)
            known = None
        self._objects[key] = (head, thing)
        if known is None:
            self._tell(lambda h: h.added and h.added(thing))
        elif known[0].resource_version != head.resource_version or not head.resource_version:
            old = known[1]
            self._tell(lambda h: h.updated and h.updated(old, thing))

    def _remove(self, key: Key) -> None:
        known = self._objects.pop(key, None)
        if known is not None:
            thing = known[1]
            self._tell(lambda h: h.deleted and h.deleted(thing))

    def _tell(self, call: Callable[[Handlers[T]], Any]) -> None:
        for handlers in tuple(self._handlers):
            try:
                call(handlers)
            except Exception:  # noqa: BLE001 - boundary: a subscriber's fault must not keep others, or the cache, from what happened
                _log.exception("a subscriber of a reflector failed", kind=self.kind.kind)

    def _wake(self) -> None:
        """The server spoke: everybody in ``wait_for`` looks again."""
        self.seen_at = self._clock.now()
        self._changed.set()
        self._changed = asyncio.Event()


def _stream_error(status: msgspec.Raw) -> KubeError:
    """The Status inside an ERROR event: the watch went wrong after it began, mostly because its place expired."""
    body = bytes(status)
    code = msgspec.json.decode(body, type=dict[str, Any]).get("code", 0)
    return from_answer(body, status=code if isinstance(code, int) else 0, call="watch")
