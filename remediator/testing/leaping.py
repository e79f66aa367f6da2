"""Time that passes only while nobody works: a simulated hour takes as long as what is done in it.

In: an asyncio main function that is given the clock. Out: its result. The event loop's selector tells when nothing is ready and nothing
arrives, and the system whether a thread of this process still runs or waits for a disk; only then the clock leaps to the next deadline of
its sleepers. So a busy machine makes a rehearsal slower and not different. Deadlines of outside calls stay in real time.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import sys
import threading
import time
from typing import TYPE_CHECKING, TypeVar

from remediator.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from datetime import datetime
    from typing import Any

__all__ = ["LeapingClock", "rehearse"]

T = TypeVar("T")
_LOOK = 0.0005
"""Seconds without an event before anybody asks whether another thread is at work."""
_LOOKS = 2
"""Looks in a row that have to find all at rest: a thread may be about to hand over to another."""
_BLIND = 0.02
"""The same as ``_LOOK`` where the system does not tell what threads do."""
_STEADY = 5e-6
"""Seconds of other threads' CPU time between two looks that are only the time it takes to read both clocks."""
_PATIENCE = 30.0
"""Seconds after which a thread that never rests holds time up no longer."""
_TASKS = "/proc/self/task"
_LINE = 4096
"""Bytes, more than a line of stat has."""
_AT_WORK = (b"R", b"D")
"""States of a thread in proc(5): running or runnable, waiting for a disk."""


class LeapingClock(ManualClock):
    """Stands still until nobody works, then leaps to the next deadline."""

    def __init__(self, start: datetime) -> None:
        super().__init__(start)
        self.leaps = 0

    def leap(self) -> bool:
        """Go on to the next deadline; False if nobody waits for one."""
        due = self.next_deadline()
        if due is None:
            return False
        self.advance(due - self.now())
        self.leaps += 1
        return True


class _Selector(selectors.DefaultSelector):
    """Tells the clock when the loop has nothing to do."""

    def __init__(self, clock: LeapingClock) -> None:
        super().__init__()
        self._clock = clock
        self._others = _Others()
        self._idle_since: float | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for events at most a moment; whoever called is called again."""
        if timeout is not None and timeout <= 0:
            self._idle_since = None
            return super().select(timeout)
        look = _LOOK if sys.platform == "linux" else _BLIND
        events = super().select(look if timeout is None else min(look, timeout))
        if events:
            self._idle_since = None
            self._others.forget()
            return events
        began = self._idle_since = self._idle_since or time.monotonic()
        if (self._others.rest() or time.monotonic() - began > _PATIENCE) and self._clock.leap():
            self._idle_since = None
            self._others.forget()
        return []


class _Others:
    """The other threads of this process. One that waits for an answer of ours rests: the answer shows as an event.

    One that waits for the interpreter's lock looks as if it slept. While the selector waits it gets the lock, and then it uses CPU time.
    One that the system has not let run yet uses none, and is runnable.
    """

    def __init__(self) -> None:
        self._used = _used_by_others()
        self._quiet = 0

    def forget(self) -> None:
        """What was seen says nothing any more."""
        self._quiet = 0

    def rest(self) -> bool:
        """Whether this look and those just before it found nobody at work."""
        used, before = _used_by_others(), self._used
        self._used = used
        self._quiet = 0 if used - before > _STEADY or _at_work() else self._quiet + 1
        return self._quiet >= _LOOKS


def _used_by_others() -> float:
    return time.process_time() - time.thread_time()


def _at_work() -> bool:
    """Whether the system says that another thread has work to do."""
    own = str(threading.get_native_id())
    try:
        return any(_state(task) in _AT_WORK for task in os.listdir(_TASKS) if task != own)  # noqa: PTH208 - asked thousands of times
    except OSError:
        return False


def _state(task: str) -> bytes:
    """The field after the name, which stands in brackets and may hold anything."""
    try:
        file = os.open(f"{_TASKS}/{task}/stat", os.O_RDONLY)
    except OSError:
        return b""
    try:
        return os.read(file, _LINE).rpartition(b") ")[2][:1]
    except OSError:
        return b""
    finally:
        os.close(file)


def rehearse(main: Callable[[LeapingClock], Coroutine[Any, Any, T]], *, start: datetime) -> T:
    """Run ``main`` to its end on an event loop of its own. ``start``: the time at which its clock begins."""
    clock = LeapingClock(start)
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(_Selector(clock))) as runner:
        return runner.run(main(clock))
