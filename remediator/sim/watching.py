"""Watches: the log replayed from a version on, then every change as it happens, as lines of JSON.

In come a resource, selectors and a version; out go ADDED, MODIFIED, DELETED, BOOKMARK and ERROR events until the time is up, the client
leaves, or somebody ends the watch. A version that the log no longer covers ends it with the ERROR event 410 Expired.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from remediator.sim.objects import encode
from remediator.sim.reading import parse_version
from remediator.sim.rendering import watch_object
from remediator.sim.selectors import selector_test
from remediator.sim.status import ApiError
from remediator.sim.store import Change, TooOldError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

    from remediator.clock import Clock
    from remediator.sim.kinds import Resource
    from remediator.sim.objects import Obj
    from remediator.sim.store import Store

__all__ = ["Watch", "Watches"]

_BOOKMARK_EVERY = timedelta(seconds=60)
_BEFORE_END = timedelta(seconds=2)
_LONGEST = timedelta(minutes=45)
Signal: TypeAlias = Literal["end", "drop"]
Item: TypeAlias = "Change | int | Signal | ApiError"
"""An int is a bookmark: every change up to that version was put before it."""


@dataclass(eq=False)
class Watch:
    """One open watch."""

    store: Store
    clock: Clock
    resource: Resource
    namespace: str
    query: Mapping[str, str]
    form: str = ""
    queue: asyncio.Queue[Item] = field(default_factory=asyncio.Queue)
    _described: bool = False

    def __post_init__(self) -> None:
        labels, fields = self.query.get("labelSelector", ""), self.query.get("fieldSelector", "")
        self._test = selector_test(labels, fields, self.resource, self.namespace)
        self._since = parse_version(self.query.get("resourceVersion", ""))
        self._bookmarks = self.query.get("allowWatchBookmarks", "").lower() in ("1", "t", "true")
        self._list_first = not self._since or self.query.get("sendInitialEvents", "").lower() in ("1", "t", "true")
        text = self.query.get("timeoutSeconds", "")
        self._timeout = timedelta(seconds=int(text)) if text.isdigit() and int(text) else _LONGEST

    async def lines(self) -> AsyncIterator[bytes]:
        """The lines to send, in as few pieces as possible. Ends when the watch does; a drop raises ConnectionResetError."""
        unsubscribe = self.store.subscribe(self.queue.put_nowait, self.resource.table)
        timer = asyncio.create_task(self._tick())
        try:
            yield b"".join(self._beginning())
            while True:
                items = [await self.queue.get()]
                while not self.queue.empty():
                    items.append(self.queue.get_nowait())
                yield b"".join(self._line(item) for item in items if not isinstance(item, str))
                if "drop" in items:
                    raise ConnectionResetError
                if "end" in items or any(isinstance(item, ApiError) for item in items):
                    return
        finally:
            timer.cancel()
            unsubscribe()

    def _beginning(self) -> Iterator[bytes]:
        if self._list_first:
            for obj in self.store.list(self.resource, self.namespace):
                if self._test is None or self._test(obj):
                    yield self._event("ADDED", obj)
            if "sendInitialEvents" in self.query and self._bookmarks:
                yield self._bookmark(self.store.version, {"k8s.io/initial-events-end": "true"})
            return
        try:
            missed = self.store.table(self.resource).since(self._since or 0)
        except TooOldError as error:
            self.queue.put_nowait(ApiError(410, "Expired", str(error)))
            return
        for change in missed:
            yield self._line(change)

    async def _tick(self) -> None:
        left = self._timeout
        while left > _BOOKMARK_EVERY + _BEFORE_END:
            await self.clock.sleep(_BOOKMARK_EVERY)
            left -= _BOOKMARK_EVERY
            self.queue.put_nowait(self.store.version)
        if left > _BEFORE_END:
            await self.clock.sleep(left - _BEFORE_END)
            self.queue.put_nowait(self.store.version)
        await self.clock.sleep(min(left, _BEFORE_END))
        self.queue.put_nowait("end")

    def _line(self, item: Change | int | ApiError) -> bytes:
        if isinstance(item, int):
            return self._bookmark(item) if self._bookmarks else b""
        if isinstance(item, ApiError):
            return encode({"type": "ERROR", "object": item.body()}) + b"\n"
        kind = self._kind(item)
        if kind == "DELETED" and item.before is not None:
            version = {"resourceVersion": item.obj["metadata"]["resourceVersion"]}
            return self._event(kind, {**item.before, "metadata": {**item.before["metadata"], **version}})
        return self._event(kind, item.obj) if kind else b""

    def _kind(self, change: Change) -> str | None:
        """The change as this watch's selectors see it: objects come and go when they begin or cease to fit."""
        if self._test is None:
            return change.kind
        fits = change.kind != "DELETED" and self._test(change.obj)
        fitted = change.before is not None and self._test(change.before)
        if fits:
            return "MODIFIED" if fitted else "ADDED"
        return "DELETED" if fitted else None

    def _event(self, kind: str, obj: Obj) -> bytes:
        shown = watch_object(self.resource, obj, self.form, self.clock.now(), first=not self._described)
        self._described = True
        return encode({"type": kind, "object": shown}) + b"\n"

    def _bookmark(self, version: int, annotations: dict[str, str] | None = None) -> bytes:
        meta: dict[str, Any] = {"resourceVersion": str(version)}
        if annotations:
            meta["annotations"] = annotations
        obj = {"kind": self.resource.kind, "apiVersion": self.resource.api_version(), "metadata": meta}
        return encode({"type": "BOOKMARK", "object": obj}) + b"\n"


class Watches:
    """All open watches, so that they can be ended from outside."""

    def __init__(self) -> None:
        self._open: set[Watch] = set()

    def __len__(self) -> int:
        return len(self._open)

    def opened(self, watch: Watch) -> Callable[[], None]:
        """Register one; returns how to strike it off."""
        self._open.add(watch)
        return lambda: self._open.discard(watch)

    def signal(self, item: Signal | ApiError, kind: str = "") -> int:
        """Send a signal to the watches of one kind, or to all. Returns to how many."""
        chosen = [watch for watch in self._open if not kind or watch.resource.kind == kind]
        for watch in chosen:
            watch.queue.put_nowait(item)
        return len(chosen)
