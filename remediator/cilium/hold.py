"""Waiting for proof: something must be right, and stay right for a while without a break.

In: a look that says what is pending. Out: since when nothing was.
Raises StepFailed with the last thing that was pending when the step's time is up, and whatever the look itself raises.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Protocol, TypeVar

from remediator.errors import StepFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from remediator.clock import Clock

__all__ = ["Waiting", "hold"]

R = TypeVar("R")
_EVERY = timedelta(seconds=2)


class Waiting(Protocol):
    """The part of an action's Context that waiting needs."""

    clock: Clock

    async def wait_for(self, what: str, look: Callable[[], Awaitable[R | None]], *, every: timedelta | None = None) -> R:
        """See Context."""
        ...

    async def progress(self, words: str) -> None:
        """See Context."""
        ...


async def hold(
    ctx: Waiting, what: str, pending: Callable[[], Awaitable[str]], *, lasting: timedelta, every: timedelta = _EVERY
) -> datetime:
    """Wait until ``pending`` found nothing to say for ``lasting`` without a break; since when that is so. ``every``: between two looks."""
    since: datetime | None = None
    last = ""

    async def look() -> datetime | None:
        nonlocal since, last
        last = await pending()
        now = ctx.clock.now()
        since = min(since or now, now) if not last else None  # a clock that was set back does not lengthen the wait
        await ctx.progress(last or what)
        return since if since is not None and now - since >= lasting else None

    try:
        return await ctx.wait_for(what, look, every=every)
    except StepFailed as error:
        raise StepFailed(f"{error.detail}; {last}" if last else error.detail, reason=error.reason, unknown=error.unknown) from error
