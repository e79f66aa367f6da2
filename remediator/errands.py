"""What people ask of a standby, done by the leader: the request goes through the journal, which both read, and so does its answer.

In: the name of what is asked, and what the HTTP side made of the request, with who asks. Out: what it returned, or raised, where it was
done. Refused with NotLeading: nobody leads, or nobody answered in time; then nobody can say whether it was done.

The entries are ``errand`` and ``errand_done``, both with the errand's id. A leader does what was asked since it began to lead; what was
asked before has been given up by whoever asked.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from remediator.errors import (
    InputError,
    JournalUnavailable,
    KubeError,
    MonitoringError,
    NotLeading,
    Refused,
    RemediatorError,
    Unreadable,
    UsageError,
)
from remediator.model import from_json, new_id, to_json
from remediator.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from remediator.model import Entry
    from remediator.world import World

__all__ = ["Errands"]

log = structlog.get_logger(__name__)
R = TypeVar("R")

_ASKED, _DONE = "errand", "errand_done"
_LOOK = timedelta(milliseconds=500)
_PATIENCE = timedelta(seconds=12)
"""So long is waited for the answer; a leader that is gone is followed by then, but does not know of it."""
_PAGE = 100


class Errands:
    """``send`` on a standby, ``serve`` on the leader. ``known``: name -> who does it, and the type of its first argument."""

    def __init__(self, world: World, known: Mapping[str, tuple[Callable[..., Awaitable[Any]], type]]) -> None:
        self._world = world
        self._known = known
        self._doing: set[asyncio.Task[None]] = set()

    async def send(self, name: str, about: Any, named: Mapping[str, Any], gives: type[R]) -> R:
        """What ``name`` returns where it is done. Raises what it raises there, NotLeading, JournalUnavailable."""
        journal, clock, elector = self._world.journal, self._world.clock, self._world.elector
        if elector is None or not elector.holder:
            raise NotLeading("Only the leader does this, and nobody leads at the moment. Nothing was done; ask again.")
        now = clock.now()
        errand = new_id(now)
        await journal.note(_ASKED, errand, {"name": name, "about": to_json(about), "named": dict(named), "via": elector.identity})
        while True:
            if found := await journal.entries(ref=errand, kind=_DONE, limit=1):
                return _answer(found[0].data, gives)
            if clock.now() - now > _PATIENCE:
                raise NotLeading(f"The leader, {elector.holder}, did not answer in time. It may have done it all the same; look first.")
            await clock.sleep(_LOOK)

    async def serve(self) -> None:
        """Do what standbys were asked, until it is cancelled."""
        seen: int | None = None
        try:
            while True:
                try:
                    if seen is None:
                        seen = await self._world.journal.last()
                    for entry in await self._world.journal.entries(kind=_ASKED, after=seen, limit=_PAGE):
                        seen = entry.seq
                        task = asyncio.create_task(self._do(entry), name=f"errand {entry.ref}")
                        self._doing.add(task)
                        task.add_done_callback(self._doing.discard)
                except JournalUnavailable as error:
                    log.debug("errands cannot be looked for", error=str(error))  # whoever writes says so
                await self._world.clock.sleep(_LOOK)
        finally:
            for task in self._doing:
                task.cancel()

    async def _do(self, entry: Entry) -> None:
        name, named = entry.data["name"], entry.data["named"]
        log.info("a standby was asked", errand=entry.ref, what=name, via=entry.data["via"], by=named.get("by", ""))
        try:
            method, takes = self._known[name]
            about = entry.data["about"]
            told = {"gave": to_json(await method(about if takes is str else from_json(about, takes), **named))}
        except RemediatorError as error:
            told = _raised(error)
        except Exception as error:  # the last boundary: whoever asked must hear of it
            log.exception("an errand ended by a fault of this program", errand=entry.ref, what=name)
            told = {"failed": f"internal error, please report it: {type(error).__name__}"}
        try:
            await self._world.journal.note(_DONE, entry.ref, told)
        except JournalUnavailable as error:
            log.warning("the answer to an errand could not be kept", errand=entry.ref, error=str(error))


def _raised(error: RemediatorError) -> dict[str, Any]:
    match error:
        case Refused():
            return {"refused": [error.reason.value, error.detail]}
        case Unreadable():
            return {"unreadable": [error.signal, error.detail]}
        case InputError():
            return {"input": str(error)}
        case KubeError() | MonitoringError():
            return {"failed": str(error)}
        case _:
            return {"undone": str(error)}


def _answer(told: Mapping[str, Any], gives: type[R]) -> R:
    match told:
        case {"gave": gave}:
            return from_json(gave, gives)
        case {"refused": [reason, detail]}:
            raise Refused(Reason(reason), detail)
        case {"unreadable": [signal, detail]}:
            raise Unreadable(signal, detail)
        case {"input": words}:
            raise UsageError(words)
        case {"failed": words}:
            raise MonitoringError(words)
        case _:
            raise NotLeading(f"The leader could not do it: {told.get('undone', 'it said nothing')}")
