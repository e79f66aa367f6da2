"""A channel in Slack, by its Web API: one message a run, which is kept up to date.

What needs people again is said in its thread, and in the channel too, so that a phone rings.
In: Messages. Out: what Slack has; RefusedError, LaterError for what it does not take. Which message is a run's is kept by a Keeper, so that
a restart goes on with it. A person may have deleted it, or Slack may not let it be edited any more: then there is a new one.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from remediator.errors import RemediatorError
from remediator.model import Noun, RunState, encode, evolve
from remediator.neutral import safe
from remediator.settings import URGENT, Event
from remediator.telling.calling import LaterError, RefusedError, secret

if TYPE_CHECKING:
    from remediator.clock import Clock
    from remediator.settings import Notify
    from remediator.settings import Slack as Settings
    from remediator.telling.calling import Caller
    from remediator.telling.message import Message

__all__ = ["Forgetful", "Keeper", "Posted", "Slack"]

_PACE: Final = timedelta(milliseconds=1200)
"""Between two calls: Slack allows 50 updates a minute (tier 3), and one message a second in a channel."""
_LONGEST: Final = 3900
"""Characters of a text, escaped; Slack takes 4000."""
_LONGEST_TITLE: Final = 500
_LONGEST_LINE: Final = 300
_MOST_RUNS: Final = 1000
"""Whose messages are remembered here; the Keeper is asked for others."""
_LATER: Final = frozenset(
    {"ratelimited", "rate_limited", "service_unavailable", "internal_error", "fatal_error", "request_timeout", "team_added_to_org"}
)
_GONE: Final = frozenset(
    {
        "cannot_reply_to_message",
        "cant_update_message",
        "channel_not_found",
        "edit_window_closed",
        "is_archived",
        "message_not_found",
        "thread_not_found",
    }
)
"""Of a message that we have: it can be neither changed nor answered. Of a new one, some of them are the channel's."""
_ENTITIES: Final = {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;"}
_MARKS: Final = {Event.APPROVAL: "❓", Event.STEP: "💬", Event.BEGUN: "⏳", Event.HEALED: "✅", Event.DONE: "✅"} | dict.fromkeys(
    (Event.NOT_HEALED, Event.FAILED, Event.UNKNOWN, Event.EXPIRED, Event.BREAKER), "❌"
)


class Posted(Noun, frozen=True, kw_only=True):
    """A message that is there: the channel's id, as Slack answered it, and the message's own."""

    channel: str
    ts: str


class Keeper(Protocol):
    """Where it is written down which message is a run's."""

    async def find(self, route: str, run: str) -> Posted | None:
        """The last one that was kept. Raises RemediatorError if that cannot be read."""
        ...

    async def keep(self, route: str, run: str, posted: Posted) -> None:
        """From now on it is this one."""
        ...


class Forgetful:
    """Of a process that ends with its runs."""

    async def find(self, route: str, run: str) -> Posted | None:  # noqa: ARG002 - as the Protocol has it
        """Nothing."""
        return None

    async def keep(self, route: str, run: str, posted: Posted) -> None:
        """Nowhere."""


class _GoneError(RefusedError):
    """The message that was to be changed or answered."""


class _Answer(msgspec.Struct):
    """Of both methods."""

    ok: bool
    error: str = ""
    channel: str = ""
    ts: str = ""


class _Thread:
    """What is known of a run's message."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.looked = False
        """Whether the Keeper was asked."""
        self.posted: Posted | None = None
        self.shown = ""
        self.latest: Message | None = None


class Slack:
    """One route. The token is read for every call, so that it may rotate."""

    def __init__(self, route: Notify, settings: Settings, caller: Caller, clock: Clock, keeper: Keeper) -> None:
        self._route = route
        self._settings = settings
        self._caller = caller
        self._clock = clock
        self._keeper = keeper
        self._threads: OrderedDict[str, _Thread] = OrderedDict()
        self._turn = asyncio.Lock()
        self._free_at = clock.now()

    def heed(self, message: Message) -> None:
        """How the run stands now."""
        self._thread(message.run).latest = message

    def latest(self, run: str) -> Message | None:
        """What was heeded last."""
        return self._thread(run).latest

    async def tell(self, message: Message) -> None:
        """One try. Raises RefusedError, LaterError; the next try goes on where this one ended."""
        if not message.run:
            await self._post(self._text(message))
            return
        thread = self._thread(message.run)
        async with thread.lock:
            await self._look(thread, message.run)
            posted = thread.posted
            if posted is None:
                posted = await self._begin(thread, message.opening() if message.aside else message)
                if not message.aside:
                    return
            if message.aside or message.event in URGENT:
                await self._reply(thread, posted, message)
            else:
                await self._show(thread, posted, thread.latest or message, anew=True)

    async def show(self, message: Message) -> bool:
        """Bring the run's message up to this; whether there was anything to do: a run need not have one. Raises as ``tell``."""
        thread = self._thread(message.run)
        async with thread.lock:
            await self._look(thread, message.run)
            posted = thread.posted
            return posted is not None and await self._show(thread, posted, message, anew=RunState(message.state).open)

    def _thread(self, run: str) -> _Thread:
        thread = self._threads.setdefault(run, _Thread())
        self._threads.move_to_end(run)
        if len(self._threads) > _MOST_RUNS:
            idle = next((name for name, one in self._threads.items() if one is not thread and not one.lock.locked()), None)
            if idle is not None:
                del self._threads[idle]
        return thread

    async def _look(self, thread: _Thread, run: str) -> None:
        if thread.looked:
            return
        try:
            thread.posted = await self._keeper.find(self._route.name, run)
        except RemediatorError as error:
            raise LaterError(f"which message is the run's cannot be read: {error}") from error
        thread.looked = True

    async def _begin(self, thread: _Thread, message: Message) -> Posted:
        thread.shown = self._text(message, whole=True)
        thread.posted = posted = await self._post(thread.shown)
        await self._keeper.keep(self._route.name, message.run, posted)
        return posted

    async def _show(self, thread: _Thread, posted: Posted, message: Message, *, anew: bool) -> bool:
        text = self._text(message, whole=True)
        if text == thread.shown:
            return False
        try:
            await self._call("chat.update", {"channel": posted.channel, "ts": posted.ts, "text": text}, known=True)
        except _GoneError:
            thread.posted = None
            if not anew:
                raise
            await self._begin(thread, message)
        thread.shown = text
        return True

    async def _reply(self, thread: _Thread, posted: Posted, message: Message) -> None:
        try:
            await self._post(self._text(message), under=posted, aloud=message.event in URGENT)
        except _GoneError as error:
            thread.posted = None
            raise LaterError(str(error)) from error  # the next try begins anew

    async def _post(self, text: str, *, under: Posted | None = None, aloud: bool = False) -> Posted:
        body: dict[str, Any] = {"channel": self._settings.channel, "text": text, "unfurl_links": False, "unfurl_media": False}
        if under is not None:
            body |= {"channel": under.channel, "thread_ts": under.ts, "reply_broadcast": aloud}
        answer = await self._call("chat.postMessage", body, known=under is not None)
        if not answer.ts or not answer.channel:
            raise RefusedError("it answers as no Slack does")
        return Posted(channel=answer.channel, ts=answer.ts)

    async def _call(self, method: str, body: dict[str, Any], *, known: bool) -> _Answer:
        """One at a time, at Slack's pace. ``known``: it is about a message that we have."""
        async with self._turn:
            await self._clock.sleep(self._free_at - self._clock.now())
            pause = _PACE
            try:
                return await self._called(method, body, known=known)
            except LaterError as error:
                pause = max(pause, error.after)
                raise
            finally:
                self._free_at = self._clock.now() + pause

    async def _called(self, method: str, body: dict[str, Any], *, known: bool) -> _Answer:
        # Slack's default for updates would make links and mentions of plain text
        whole = encode({**body, "parse": "none", "link_names": False})
        headers = {"Authorization": f"Bearer {secret(self._settings.token_file)}", "Content-Type": "application/json; charset=utf-8"}
        told = await self._caller.call("POST", f"{self._settings.url.rstrip('/')}/{method}", whole, headers, self._route.timeout)
        try:
            answer = msgspec.json.decode(told, type=_Answer)
        except msgspec.MsgspecError as error:
            raise RefusedError("it answers as no Slack does") from error
        if answer.ok:
            return answer
        code = answer.error if re.fullmatch(r"[a-z0-9_]{1,60}", answer.error) else "an error without a code"
        if code in _LATER:
            raise LaterError(code)
        raise (_GoneError if known and code in _GONE else RefusedError)(code)

    def _text(self, message: Message, *, whole: bool = False) -> str:
        """``whole``: with the lines of what happened so far, of which the oldest go where they are too many."""
        worded = evolve(message, invitation="").worded(self._route)
        approve = message.worded(self._route)["approve"]  # a link of its own, which no text can cut off
        mark = _MARKS.get(message.event, "▪️")
        title = f"{mark} *{_escaped(worded['title'], _LONGEST_TITLE)}*"
        links = [f"<{_url(approve)}|Approve or reject>"] if approve else []
        if worded["link"]:
            links.append(f"<{_url(worded['link'])}|{_label(message)}>")
        room = _LONGEST - sum(len(line) + 1 for line in (title, *links))
        text = _escaped(worded["text"], room)
        room -= len(text)
        lines: list[str] = []
        for line in reversed(message.lines if whole else ()):
            shown = f"• {_escaped(safe(line), _LONGEST_LINE)}"
            room -= len(shown) + 1
            if room < 0:
                break
            lines.insert(0, shown)
        return "\n".join((title, text, *lines, *links))


def _escaped(text: str, limit: int) -> str:
    """As Slack wants it, so that nothing in it is a mention or a link; a long one ends in an ellipsis, and never amid an entity."""
    escaped = text.translate(_ENTITIES)
    return escaped if len(escaped) <= limit else re.sub(r"&[a-z]*$", "", escaped[: limit - 1]) + "…"


def _url(link: str) -> str:
    return link.translate({**_ENTITIES, ord("|"): "%7C"})


def _label(message: Message) -> str:
    if not message.run:
        return "remediator"
    return "Look at it, approve or reject" if message.event is Event.APPROVAL else "What was done, and why"
