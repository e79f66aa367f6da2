"""A person's wish to cancel, carried to a run wherever it waits in this process. The wish itself stands in the journal (``Run.cancel``)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import timedelta

    from remediator.clock import Clock

__all__ = ["Signals"]


class Signals:
    """One event per run that somebody works on."""

    def __init__(self) -> None:
        self._cancelled: dict[str, asyncio.Event] = {}

    def cancel(self, run: str) -> None:
        """Wake ``run`` where it waits."""
        self.cancelled(run).set()

    def cancelled(self, run: str) -> asyncio.Event:
        """Set once somebody asked to cancel ``run``."""
        return self._cancelled.setdefault(run, asyncio.Event())

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
