"""What the buttons do: forms of pages that steer. In: a form with the page's token; out: the way back to the page, or what is wrong.

The same service, rules and record as the API's; only the way in differs.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from aiohttp import web

from remediator.errors import UsageError
from remediator.server.auth import CSRF_FIELD
from remediator.server.pages.frame import HEADERS
from remediator.server.problems import HttpProblem
from remediator.server.records import the_run
from remediator.server.service import PauseRequest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from remediator.server.routing import Call

__all__ = ["FIELDS", "intervene", "pause", "resume"]

FIELDS = (CSRF_FIELD, "reason")
_LONGEST = 1000
_BY = "page"


async def _given(call: Call) -> dict[str, str]:
    given = await call.form(FIELDS)
    if call.person.ambient or call.person.seal:
        call.hall.doorkeeper.check_form(call.person, given[CSRF_FIELD])
    return {**given, "reason": given["reason"].strip()[:_LONGEST]}


async def intervene(call: Call) -> web.Response:
    """``POST /runs/{id}/cancel`` and the like."""
    given, run, verb = await _given(call), await the_run(call), call.request.path.rpartition("/")[2]
    act: Callable[..., Awaitable[Any]] = getattr(call.service, verb)
    if verb == "approve":
        act = partial(act, named=call.told_who(""))
    try:
        await act(run.id, by=_who(call), reason=given["reason"])
    except UsageError as error:
        raise HttpProblem(409, "Not possible any more", str(error)) from None
    return _back(f"/runs/{run.id}")


async def pause(call: Call) -> web.Response:
    """``POST /pause``: stop starting anything, until somebody resumes."""
    given = await _given(call)
    if not given["reason"]:
        raise HttpProblem(400, "Bad request", "Say why, so that others know when it may go on.", path="reason")
    await call.service.pause(PauseRequest(reason=given["reason"], by=_who(call)))
    return _back("/")


async def resume(call: Call) -> web.Response:
    """``POST /resume``: end the pauses of everything."""
    await _given(call)
    await call.service.resume(playbook=None, target=None, by=_who(call))
    return _back("/")


def _who(call: Call) -> str:
    return call.by(None if call.person.name or call.person.claim else f"{_BY}, {call.peer}")


def _back(path: str) -> web.Response:
    return web.Response(status=303, headers={**HEADERS, "Location": path})
