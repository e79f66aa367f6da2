"""What a route is: a row of a table that says method, path, scope, handler, and the types of its request and answer.

The table is the only place where routes are declared. From it come the aiohttp routes, the checks of token and query, and the OpenAPI
document. A handler gets a Call and gives data (a noun, a list, a dict), an Answer, or a response of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from aiohttp import HttpVersion11, web
from aiohttp.hdrs import CONTENT_TYPE, EXPECT

from remediator.model import Noun, encode
from remediator.server.auth import Scope
from remediator.server.body import read_body, read_form, read_noun
from remediator.server.query import Filter, read_query
from remediator.server.whole import Whole

if TYPE_CHECKING:
    from remediator.clock import Clock
    from remediator.server.auth import Doorkeeper, Person
    from remediator.server.service import Service

__all__ = ["Answer", "Call", "Hall", "Handler", "Route", "mount"]

T = TypeVar("T")
_JSON: dict[str, str] = {CONTENT_TYPE: "application/json"}


@dataclass(frozen=True, kw_only=True)
class Hall:
    """What all handlers share: one application's parts and limits."""

    service: Service
    doorkeeper: Doorkeeper
    clock: Clock
    max_body: int
    body_seconds: float
    write_seconds: float
    beat_seconds: float
    streams: int


class Call:
    """One request on its way to a handler, admitted and with its query parsed."""

    __slots__ = ("hall", "person", "query", "request")

    def __init__(self, hall: Hall, request: web.Request, query: dict[str, Any], person: Person) -> None:
        self.hall = hall
        self.person = person
        self.request = request
        self.query = query

    @property
    def service(self) -> Service:
        """The daemon."""
        return self.hall.service

    @property
    def peer(self) -> str:
        """The other side's address; it says which Alertmanager it was, and proves nothing."""
        return self.request.remote or ""

    def named(self, name: str) -> str:
        """A variable part of the path."""
        return self.request.match_info[name]

    def body(self) -> Coroutine[Any, Any, bytes]:
        """The body of a delivery."""
        return read_body(self.request, limit=self.hall.max_body, seconds=self.hall.body_seconds)

    async def form(self, names: tuple[str, ...]) -> dict[str, str]:
        """The fields of a form, ``""`` for what was not sent; others are left alone."""
        return await read_form(self.request, names, seconds=self.hall.body_seconds)

    async def noun(self, kind: type[T]) -> T:
        """The body as ``kind``."""
        return await read_noun(self.request, kind, seconds=self.hall.body_seconds)

    def by(self, claimed: str | None) -> str:
        """Who asks: whose token it is or whom the proxy names; else what the request claims, or else where it comes from."""
        return self.person.name or claimed or self.person.claim or f"api, {self.peer}"

    def told_who(self, claimed: str) -> bool:
        """Whether a person gave a name, or is known by one."""
        return bool(self.person.name or claimed.strip() or self.person.claim)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Data with a status other than 200, or with headers."""

    data: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


Handler = Callable[[Call], Awaitable[Any]]
Around = Callable[..., Awaitable[web.StreamResponse]]


@dataclass(frozen=True, kw_only=True)
class Route:
    """One row of the table."""

    method: str
    path: str
    scope: Scope
    handler: Handler
    summary: str
    answer: Any = None
    """The type of the answer's data; None for what is no JSON, which ``media`` names."""
    media: str = "application/json"
    status: int = 200
    body: Any = None
    query: tuple[Filter, ...] = ()
    lenient: bool = False
    """Whether unknown query parameters are let pass: a wrong 4xx to Alertmanager loses an alert."""
    fields: tuple[str, ...] | None = None
    """What a form sends; None for a route that takes no form."""
    streams: bool = False
    fails: tuple[int, ...] = ()
    """Statuses of its own, beside those that follow from the rest."""
    browser: bool = False
    """Whether the cookie of a sign-in counts here: for pages, and what they read."""

    @property
    def refusals(self) -> tuple[int, ...]:
        """Every status but its own that it may answer with."""
        guarded = self.scope is not Scope.NONE
        found = {*self.fails, *((401, 403, 429, 503) if guarded else ()), *(() if self.lenient and self.body is None else (400,))}
        found |= {404} if "{" in self.path else set()
        found |= {413} if self.body is not None or self.fields is not None else set()
        return tuple(sorted(found))


def mount(app: web.Application, hall: Hall, routes: tuple[Route, ...], around: Around) -> None:
    """Add ``routes`` to ``app``; whoever may GET may HEAD, but for streams. ``around`` is called with each request and its handler.

    It is bound to each route, since a middleware of aiohttp's costs each webhook two calls more. Hence the last route: what no other takes.
    """
    for route in routes:
        handler = partial(around, handler=_bound(hall, route), webhook=route.scope is Scope.WEBHOOK)
        app.router.add_route(route.method, route.path, handler, expect_handler=_expected)
        if route.method == "GET" and not route.streams:
            app.router.add_route("HEAD", route.path, handler, expect_handler=_expected)
    app.router.add_route("*", "/{anything:.*}", partial(around, handler=_no_route), expect_handler=_expected)


async def _expected(request: web.Request) -> None:
    """Says go on to who waits for it. aiohttp's own repeats an expectation that it does not know, which fails where that is no text."""
    if request.version != HttpVersion11:
        return
    if request.headers[EXPECT].lower() != "100-continue":
        raise web.HTTPExpectationFailed
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # this was no part of the answer


async def _no_route(request: web.Request) -> web.StreamResponse:
    """Raises what aiohttp does where no route fits: 405 if the path is known by another method, else 404."""
    found = [await resource.resolve(request) for resource in request.app.router.resources()]
    allowed = set().union(*(methods for match, methods in found if match is None))
    raise web.HTTPMethodNotAllowed(request.method, allowed) if allowed else web.HTTPNotFound


def _bound(hall: Hall, route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        person = hall.doorkeeper.admit(request, route.scope, browser=route.browser)
        query = {} if route.lenient else read_query(request.query, route.query, hall.clock.now())
        result = await route.handler(Call(hall, request, query, person))
        if isinstance(result, Noun):  # first, since it is the most frequent, and the next question is a slow one
            return Whole(body=encode(result), headers=_JSON)
        if isinstance(result, web.StreamResponse):
            return result
        if isinstance(result, Answer):
            return web.Response(status=result.status, body=encode(result.data), headers={**_JSON, **result.headers})
        return web.Response(body=encode(result), headers=_JSON)

    return handle
