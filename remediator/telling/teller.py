"""Tells each route that takes a message, in tasks of its own: a receiver that is slow or gone keeps nobody waiting.

A message that may get through later is tried again, with growing pauses; then it is given up, which the log and the metric
``remediator_notifications_total{channel,result}`` say (``sent``, ``refused``, ``failed``, ``dropped``). No secret stands in either.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from typing import TYPE_CHECKING, Any, Final

import structlog

from remediator.clock import SystemClock
from remediator.errors import UsageError
from remediator.model import encode
from remediator.telemetry import METRICS
from remediator.telling.calling import TRIES, Caller, LaterError, RefusedError, secret
from remediator.telling.slack import Forgetful, Slack

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping

    from remediator.clock import Clock
    from remediator.settings import Notify
    from remediator.telling.message import Message
    from remediator.telling.slack import Keeper

__all__ = ["SIGNATURE", "Teller"]

log = structlog.get_logger(__name__)
SIGNATURE: Final = "X-Remediator-Signature"
"""Header of a webhook: ``sha256=`` and the HMAC-SHA256 of the body in hexadecimal."""
_WAITING: Final = 200
"""Messages under way at once; further ones are dropped, since whoever is told of two hundred things reads none."""
_RESULTS: Final = ("sent", "refused", "failed", "dropped")


class Teller:
    """All routes of the settings."""

    def __init__(self, routes: Iterable[Notify] = (), *, clock: Clock | None = None, keeper: Keeper | None = None) -> None:
        """Raises UsageError if a route needs apprise and it is not installed. Files are read for every message, so that they may rotate.

        ``keeper``: where it is written down which message of Slack is a run's.
        """
        self.routes = tuple(routes)
        clock, keeper = clock or SystemClock(), keeper or Forgetful()
        self._caller = Caller(clock)
        self._slack = {one.name: Slack(one, one.slack, self._caller, clock, keeper) for one in self.routes if one.slack is not None}
        self._following: set[tuple[str, str]] = set()
        """Routes and runs whose message is being brought up to date."""
        self._open = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        for route in self.routes:
            if route.apprise_file is not None and not _installed("apprise"):
                raise UsageError(f"notify {route.name}: apprise is not installed; install remediator's extra apprise, or use a webhook")
            for result in _RESULTS:
                METRICS.notifications.labels(route.name, result)

    def taking(self, message: Message, names: Iterable[str] = ()) -> tuple[str, ...]:
        """The names of the routes that take ``message``; of ``names`` only, if there are any."""
        only = set(names)
        fitting = (route for route in self.routes if route.takes(message.event, message.playbook))
        return tuple(route.name for route in fitting if not only or route.name in only)

    async def tell(self, message: Message, names: Iterable[str] = ()) -> Mapping[str, str]:
        """Tell every route that takes it (of ``names``, if there are any) and wait until each is through: its name -> how that ended."""
        taking = self.taking(message, names)
        routes = [route for route in self.routes if route.name in taking]
        ends = await asyncio.gather(*(self._one(route, message) for route in routes))
        return dict(zip((route.name for route in routes), ends, strict=True))

    def tell_later(self, message: Message, names: Iterable[str] = ()) -> None:
        """As ``tell``, without waiting."""
        self._start(self._quietly(message, tuple(names)))

    @property
    def follows(self) -> bool:
        """Whether any route keeps messages up to date."""
        return bool(self._slack)

    def follow(self, message: Message) -> None:
        """How a run stands: where it has a message that is kept up to date, that says so from now on. Returns at once."""
        for route in self.routes:
            if slack := self._slack.get(route.name):
                slack.heed(message)
                self._catch_up(route, slack, message.run)

    async def close(self) -> None:
        """What is under way ends where it stands."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._caller.close()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name="tell people")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _catch_up(self, route: Notify, slack: Slack, run: str) -> None:
        if (route.name, run) not in self._following:
            self._following.add((route.name, run))
            self._start(self._keep_up(route, slack, run))

    async def _keep_up(self, route: Notify, slack: Slack, run: str) -> None:
        """Only the latest is shown: what came and went meanwhile is in it, or is past."""
        seen = None
        try:
            while (message := slack.latest(run)) is not None and message is not seen:
                seen = message
                await self._through(route, message, slack.show, message)
        finally:
            self._following.discard((route.name, run))

    async def _quietly(self, message: Message, names: tuple[str, ...]) -> None:
        await self.tell(message, names)

    async def _one(self, route: Notify, message: Message) -> str:
        if self._open >= _WAITING:
            log.error("a message to people is dropped, too many are under way", channel=route.name, message=message.id)
            METRICS.notifications.labels(route.name, "dropped").inc()
            return "dropped"
        self._open += 1
        try:
            result = await self._through(route, message, self._send, route, message)
        finally:
            self._open -= 1
        if message.run and (slack := self._slack.get(route.name)):
            self._catch_up(route, slack, message.run)  # it may have gone on while this was under way
        return result

    async def _through(self, route: Notify, message: Message, work: Callable[..., Awaitable[Any]], *arguments: Any) -> str:
        """How ``work`` ended, counted and logged; what says False had nothing to do."""
        result, trouble = await self._patiently(work, *arguments)
        if result:
            METRICS.notifications.labels(route.name, result).inc()
        if trouble:
            log.error("people could not be told", channel=route.name, message=message.id, what=message.event.value, error=trouble)
        return result

    async def _patiently(self, work: Callable[..., Awaitable[Any]], *arguments: Any) -> tuple[str, str]:
        try:
            done = await self._caller.patiently(work, *arguments)
        except RefusedError as error:
            return "refused", str(error)
        except LaterError as error:
            return "failed", f"{error}, {TRIES} times"
        except Exception as error:  # noqa: BLE001 - a fault here must not reach the run that is told of; its words may hold a URL
            return "failed", f"internal error: {type(error).__name__}"
        return ("" if done is False else "sent"), ""

    async def _send(self, route: Notify, message: Message) -> None:
        if slack := self._slack.get(route.name):
            await slack.tell(message)
            return
        worded = message.worded(route)
        if route.apprise_file is not None:
            await _by_apprise(route, worded)
        else:
            await self._post(route, encode(worded))

    async def _post(self, route: Notify, body: bytes) -> None:
        url = route.url or secret(route.url_file)
        headers = {}
        if route.secret_file is not None:
            headers[SIGNATURE] = f"sha256={hmac.new(secret(route.secret_file).encode(), body, hashlib.sha256).hexdigest()}"
        await self._caller.call("POST", url, body, headers, route.timeout)


async def _by_apprise(route: Notify, worded: Mapping[str, Any]) -> None:
    import apprise  # noqa: PLC0415 - an extra

    urls = [line.strip() for line in secret(route.apprise_file).splitlines()]
    people = apprise.Apprise()
    if not all(people.add(url) for url in urls if url and not url.startswith("#")):
        raise RefusedError("apprise knows no service for one of its URLs")
    try:
        async with asyncio.timeout(route.timeout.total_seconds()):
            told = await people.async_notify(title=worded["title"], body=worded["text"], body_format="text")
    except TimeoutError as error:
        raise LaterError("no answer in time") from error
    if not told:
        raise LaterError("apprise could not deliver it")


def _installed(module: str) -> bool:
    import importlib.util  # noqa: PLC0415 - only where a route needs it

    return importlib.util.find_spec(module) is not None
