"""Around every request: an id for the logs, every error as problem+json, headers that no answer goes without, the webhook's counter.

Whatever a handler raises ends here. An error that nobody foresaw becomes a 500 that says no more than the request's id; the log has it all.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import structlog
from aiohttp import web
from aiohttp.hdrs import CACHE_CONTROL, SERVER

from remediator.errors import JournalUnavailable
from remediator.ids import short_id
from remediator.server.pages.frame import error_page, wants_page
from remediator.server.problems import HttpProblem, problem_of, respond
from remediator.server.whole import Whole
from remediator.telemetry import METRICS, REQUEST, Tally
from remediator.tracing import PARENT, traceparent

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

__all__ = ["KNOWN", "REQUEST_ID", "around", "dress", "dress_stranger"]

REQUEST_ID = web.RequestKey("request_id", str)
KNOWN = web.AppKey[Callable[[str], str]]("known")
"""Takes known secrets out of a text: what a request says comes back in its error."""
_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)
_ID = "X-Request-ID"
_ALWAYS = {
    SERVER: "remediator",  # not the versions of what it is made of
    "X-Content-Type-Options": "nosniff",
    CACHE_CONTROL: "no-store",
}
_log = structlog.get_logger()


async def around(request: web.Request, *, handler: Handler, webhook: bool = False) -> web.StreamResponse:
    """See the module's first words; ``webhook``: it is counted as one."""
    request_id = request.headers.get(_ID)
    if request_id is None or not _SANE_ID.fullmatch(request_id):
        request_id = short_id()
    request[REQUEST_ID] = request_id
    if parent := request.headers.get("traceparent"):  # each request has a context of its own, in which there is none yet
        PARENT.set(traceparent(parent))
    REQUEST.set(request_id)
    try:
        response = await handler(request)
    except Exception as error:
        if isinstance(error, ConnectionError) and _gone(request):
            raise
        response = await _answer(error, request, request_id)  # the boundary to the client: nothing may leave as a traceback
    if not response.prepared:
        dress(response, request_id)
    if webhook:
        _counter(response.status).add()
    return response


def _gone(request: web.Request) -> bool:
    """Whether there is nobody left to answer."""
    return request.transport is None or request.transport.is_closing()


@cache
def _counter(status: int) -> Tally:
    return METRICS.tally(METRICS.webhook_requests.labels(str(status)))


def dress(response: web.StreamResponse, request_id: str) -> None:
    """Headers that every answer has."""
    (response.own if isinstance(response, Whole) else response.headers).update({**_ALWAYS, _ID: request_id})


async def dress_stranger(_: web.Request, response: web.StreamResponse) -> None:
    """The same for what aiohttp answers before any route: a path that is none (``OPTIONS *``), an expectation that nobody meets."""
    if _ID not in response.headers:
        dress(response, short_id())


async def _answer(error: Exception, request: web.Request, request_id: str) -> web.StreamResponse:
    if isinstance(error, web.HTTPException) and error.status < 400:
        return error
    problem = problem_of(error)
    where = {"method": request.method, "path": request.path[:200]}
    if problem is None:
        _log.exception("request failed", **where, exc_info=error)
        problem = HttpProblem(500, "Internal error", f"The log has it under request {request_id}.")
    elif isinstance(error, JournalUnavailable):
        _log.error("request not kept", **where, error=str(error))
    problem = problem.without(request.app[KNOWN])
    response = await error_page(problem, request, request_id) if wants_page(request) else respond(problem, request_id)
    if not request.content.is_eof():
        response.force_close()  # the rest of the body is not worth waiting for
    return response
