"""HTTP to whoever is told: one try with a deadline, what may work later again, and the words for what did not work.

In: a call. Out: the answer's body, or an error without a secret in it: a receiver's URL may be one.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

import tenacity

from remediator import __version__
from remediator.errors import RemediatorError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    import aiohttp

    from remediator.clock import Clock

__all__ = ["TRIES", "Caller", "LaterError", "RefusedError", "secret"]

T = TypeVar("T")
TRIES: Final = 5
_LATER: Final = frozenset({408, 425, 429})
_LONGEST_PAUSE: Final = timedelta(minutes=5)
"""Whoever asks for a longer one is asked again all the same."""
_LONGEST: Final = 64 * 1024
"""Bytes of an answer that are read."""


class RefusedError(RemediatorError):
    """The receiver will never take it."""


class LaterError(RemediatorError):
    """It did not get through this time. ``after``: how long the receiver wants to be left alone (``Retry-After``)."""

    def __init__(self, message: str, *, after: timedelta = timedelta(0)) -> None:
        super().__init__(message)
        self.after = after


class Caller:
    """One session, made with the first call: aiohttp costs a quarter of a second that --help must not pay."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """A later call would open a new one."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def patiently(self, work: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        """What ``work`` gives, tried again with growing pauses while it raises LaterError. Raises that after ``TRIES``."""
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(LaterError),
            wait=_pause,
            stop=tenacity.stop_after_attempt(TRIES),
            sleep=self._sleep,
            reraise=True,
        )
        return await retrying(work, *arguments)

    async def _sleep(self, seconds: float) -> None:
        await self._clock.sleep(timedelta(seconds=seconds))

    async def call(self, method: str, url: str, body: bytes, headers: Mapping[str, str], within: timedelta) -> bytes:
        """One try with JSON. Raises RefusedError, LaterError."""
        import aiohttp  # noqa: PLC0415 - see the class

        whole = {"Content-Type": "application/json", "User-Agent": f"remediator/{__version__}", **headers}
        if self._session is None:
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)
        limits = aiohttp.ClientTimeout(total=within.total_seconds())
        try:
            async with self._session.request(method, url, data=body, headers=whole, timeout=limits, allow_redirects=False) as answer:
                status, asked, told = answer.status, _asked(answer.headers.get("Retry-After", "")), await answer.content.read(_LONGEST)
        except (aiohttp.InvalidURL, ValueError) as error:
            raise RefusedError("its URL is none") from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise LaterError(f"no answer: {type(error).__name__}") from error  # the error's own words hold the URL
        if status >= 500 or status in _LATER:
            raise LaterError(f"status {status}", after=asked)
        if status >= 300:
            raise RefusedError(f"status {status}")
        return told


_growing = tenacity.wait_random_exponential(multiplier=1, max=60)


def _pause(state: tenacity.RetryCallState) -> float:
    """Seconds until the next try: growing, and no less than the receiver asks for."""
    error = state.outcome.exception() if state.outcome is not None else None
    return max(_growing(state), error.after.total_seconds() if isinstance(error, LaterError) else 0)


def _asked(value: str) -> timedelta:
    """Of a ``Retry-After`` in seconds; a date there asks for nothing."""
    return min(timedelta(seconds=int(value)), _LONGEST_PAUSE) if value.isascii() and value.isdecimal() and len(value) < 9 else timedelta(0)


def secret(file: Path | None) -> str:
    """Raises LaterError without the content: a file that is missing now may be mounted by the next try."""
    try:
        text = file.read_text(encoding="utf-8").strip() if file is not None else ""
    except (OSError, UnicodeDecodeError) as error:
        raise LaterError(f"{file} cannot be read: {type(error).__name__}") from error
    if not text:
        raise LaterError(f"{file} is empty")
    return text
