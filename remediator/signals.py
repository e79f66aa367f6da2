"""What people say, carried to a run wherever it waits in this process. Their words stand in the journal (``Run.cancel``, ``.approvals``).

In: ids of runs. Out: events to wait for (a wish to cancel, news about the run's alert), and a lock for whoever alters the run's record.
Nothing is refused.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from datetime import timedelta

    from remediator.clock import Clock

__all__ = ["Signals"]


class Signals:
    """One event per run that somebody works on."""

    def __init__(self) -> None:
        self._cancelled: dict[str, asyncio.Event] = {}
        self._news: dict[str, asyncio.Event] = {}
        self._resolved: dict[str, asyncio.Event] = {}
        self._writing: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def cancel(self, run: str) -> None:
        """Wake ``run`` where it waits."""
        self.cancelled(run).set()

    def cancelled(self, run: str) -> asyncio.Event:
        """Set once somebody asked to cancel ``run``."""
        return self._cancelled.setdefault(run, asyncio.Event())

    def tell(self, run: str) -> None:
        """Something is on disk that ``run`` may be waiting for: an answer of a person, the end of its alert."""
        if run in self._news:
            self._news[run].set()

    def news(self, run: str) -> asyncio.Event:
        """Set once there is news for ``run``; whoever waits clears it before looking."""
        return self._news.setdefault(run, asyncio.Event())

    def resolved(self, run: str) -> asyncio.Event:
        """Set when the alert of ``run`` was reported as resolved; whoever asks the gates because of it clears it."""
        return self._resolved.setdefault(run, asyncio.Event())

    def writing(self, run: str) -> asyncio.Lock:
        """Held while ``run`` is read, changed and kept: a person's wish and the run's own progress must not overwrite one another."""
        lock = self._writing.get(run)
        if lock is None:
            lock = self._writing[run] = asyncio.Lock()
        return lock

    async def sleep(self, clock: Clock, run: str, duration: timedelta) -> None:
        """Sleep on ``clock``, but wake at once when somebody cancels ``run``."""
        sleeping = asyncio.ensure_future(clock.sleep(duration))
        waking = asyncio.ensure_future(self.cancelled(run).wait())
        try:
            await asyncio.wait((sleeping, waking), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            waking.cancel()

    def forget(self, run: str) -> None:
        """``run`` ended; nobody will cancel it any more."""
        self._cancelled.pop(run, None)
        self._news.pop(run, None)
        self._resolved.pop(run, None)
