"""The pipeline in this process, with a death at any chosen point: before or after each write of the journal, each call that changes the
cluster, and each checkpoint of the engine. What is on disk, in the engine's store and in the cluster survives; everything in memory goes.

Real: pipeline, journal, Kubernetes door, simulated cluster. Stood in for: the engine's store, by a dict, so that its checkpoints are
points of death too, and a death costs milliseconds.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from remediator import pipeline as pipeline_module
from remediator.errors import JournalUnavailable
from remediator.feed import Feed
from remediator.payload import Limits
from remediator.pipeline import Pipeline
from remediator.signals import Signals

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from remediator.world import World

WRITES = ("add_delivery", "decide", "save_run", "save_step", "save_change", "keep_revision", "note")
CALLS = ("create", "patch", "delete", "evict")
_RUN: contextvars.ContextVar[str] = contextvars.ContextVar("run")


class Fate:
    """Counts the points that a life passes; at the one numbered ``at`` it ends: nothing has an effect from there on."""

    def __init__(self, at: int | str | None = None) -> None:
        self.at = at
        """The number of the point, or its name."""
        self.passed: list[str] = []
        self.dead = asyncio.Event()
        self._frozen: list[asyncio.Future[None]] = []
        self._buried = False

    @property
    def happened(self) -> bool:
        """Whether life came as far as ``at``."""
        return self.at in self.passed if isinstance(self.at, str) else self.at is not None and self.at < len(self.passed)

    async def point(self, name: str, failure: type[Exception] | None = None) -> None:
        """Pass on, or stand still for ever. ``failure`` is what the door raises when it cannot be reached."""
        if not self.dead.is_set():
            self.passed.append(name)
            if self.at in (len(self.passed) - 1, name):
                self.dead.set()
        if self.dead.is_set():
            await self._freeze()

    async def _freeze(self) -> None:
        if self._buried:
            raise asyncio.CancelledError
        future = asyncio.get_running_loop().create_future()
        self._frozen.append(future)
        await future

    def bury(self) -> None:
        """Let go of what stood still, without letting it do anything."""
        self.dead.set()
        self._buried = True
        for future in self._frozen:
            future.cancel()


class Outage(Fate):
    """Nobody dies, but the journal says ``length`` times from the point ``at`` on that it cannot: before a write (which is then not kept),
    or after it (which is kept, and nobody knows).
    """

    def __init__(self, at: int | None, length: int) -> None:
        super().__init__(at)
        self._length = length

    async def point(self, name: str, failure: type[Exception] | None = None) -> None:
        if failure is None:
            return
        self.passed.append(name)
        if self.at is not None and self.at <= len(self.passed) - 1 < self.at + self._length:
            raise failure("an outage of the test")


class Watched:
    """A door whose effects are points."""

    def __init__(self, door: Any, names: tuple[str, ...], fate: Fate, failure: type[Exception] | None = None) -> None:
        self._door = door
        self._names = names
        self._fate = fate
        self._failure = failure

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._door, name)
        if name not in self._names:
            return found

        async def effect(*args: Any, **kwargs: Any) -> Any:
            about = f"{name} {_about(args)}".strip()
            await self._fate.point(f"before {about}", self._failure)
            result = await found(*args, **kwargs)
            await self._fate.point(f"after {about}", self._failure)
            return result

        return effect


def _about(args: tuple[Any, ...]) -> str:
    """What tells this write from others of its kind."""
    found = [f"{type(thing).__name__} {thing.state}" for thing in args if hasattr(thing, "state")]
    return ", ".join(found)


@dataclass
class EngineStore:
    """What the engine keeps over a death."""

    begun: dict[str, bool] = field(default_factory=dict)
    """run -> whether it is over"""
    done: dict[tuple[str, str], str] = field(default_factory=dict)
    """(run, step) -> its result"""


class DictEngine:
    """remediator.engine.Engine on a dict."""

    def __init__(self, store: EngineStore, body: Callable[[str], Awaitable[str]], fate: Fate) -> None:
        self._store = store
        self._body = body
        self._fate = fate
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def launch(self) -> None:
        for run in [run for run, over in self._store.begun.items() if not over]:
            self._begin(run)

    async def start(self, run: str) -> None:
        await self._fate.point("before the engine starts it")
        if run not in self._store.begun:
            self._store.begun[run] = False
            self._begin(run)
        await self._fate.point("after the engine started it")

    async def ended(self, run: str) -> bool:
        return self._store.begun.get(run, False)

    async def step(self, name: str, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        key = _RUN.get(), name
        if key not in self._store.done:
            result = json.dumps(await work())
            await self._fate.point(f"before the checkpoint of {name}")
            self._store.done[key] = result
            await self._fate.point(f"after the checkpoint of {name}")
        return json.loads(self._store.done[key])

    @property
    def running(self) -> frozenset[str]:
        return frozenset(run for run, task in self._tasks.items() if not task.done())

    async def stop(self, within: timedelta) -> None:
        for task in self._tasks.values():
            task.cancel()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks.values(), timeout=within.total_seconds())
            assert not late, "a run did not stop"

    def _begin(self, run: str) -> None:
        self._tasks[run] = asyncio.create_task(self._carry(run), name=run)

    async def _carry(self, run: str) -> None:
        _RUN.set(run)
        await self._body(run)
        await self._fate.point("before the engine knows that it ended")
        self._store.begun[run] = True
        await self._fate.point("after the engine knows that it ended")


class Lives:
    """One life after the other on the same journal, engine's store and cluster."""

    def __init__(self, world: World, monkeypatch: Any) -> None:
        self.world = world
        self.store = EngineStore()
        self._monkeypatch = monkeypatch

    async def live(self, story: Callable[[Pipeline], Awaitable[None]], fate: Fate) -> bool:
        """Tell ``story`` to a new pipeline; whether it came to its end, or died as fate wanted."""
        self._monkeypatch.setattr(pipeline_module, "Engine", lambda _, body, **_more: DictEngine(self.store, body, fate))
        journal = Watched(self.world.journal, WRITES, fate, JournalUnavailable)
        kube = Watched(self.world.kube, CALLS, fate)
        world = replace(self.world, journal=journal, kube=kube, feed=Feed(), signals=Signals(), engine=None)
        pipeline = Pipeline(world, "")

        async def whole() -> None:
            await pipeline.start()
            await story(pipeline)

        living, dying = asyncio.create_task(whole()), asyncio.create_task(fate.dead.wait())
        try:
            await asyncio.wait((living, dying), return_when=asyncio.FIRST_COMPLETED)
            if not fate.dead.is_set():
                await living
            return not fate.dead.is_set()
        finally:
            fate.bury()
            living.cancel()
            dying.cancel()
            await asyncio.wait((living, dying))
            await pipeline.stop(timedelta(seconds=10))


async def receive(pipeline: Pipeline, body: dict[str, Any]) -> str:
    """Webhook calls, as Alertmanager makes them, until one would have been answered 200."""
    while True:
        try:
            delivery = await pipeline.receive(json.dumps(body).encode(), sender="127.0.0.1", limits=Limits())
        except JournalUnavailable:
            continue
        return delivery.id
