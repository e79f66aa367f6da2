"""Wiring: the service, the tokens and the limits in, one aiohttp application out. The table of routes is on this page."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from aiohttp import web

from remediator.model import encode
from remediator.server import breaker, catalogue, intake, manage, openapi, pages, records, steer, streams
from remediator.server.auth import Doorkeeper
from remediator.server.middleware import KNOWN, around, dress_stranger
from remediator.server.routing import Hall, mount

if TYPE_CHECKING:
    from collections.abc import Callable

    from remediator.clock import Clock
    from remediator.server.auth import Tokens
    from remediator.server.proxy import Proxy
    from remediator.server.service import Service

__all__ = ["HALL", "ROUTES", "build_app"]

ROUTES = (
    *intake.ROUTES,
    *records.ROUTES,
    *streams.ROUTES,
    *steer.ROUTES,
    *breaker.ROUTES,
    *catalogue.ROUTES,
    *manage.ROUTES,
    *pages.ROUTES,
)
HALL = web.AppKey("hall", Hall)


def build_app(
    service: Service,
    *,
    tokens: Tokens,
    proxy: Proxy | None = None,
    max_body: int = 4 * 1024 * 1024,
    clock: Clock,
    known: Callable[[str], str] = str,
    body_seconds: float = 30.0,
    write_seconds: float = 10.0,
    beat_seconds: float = 15.0,
    max_streams: int = 64,
) -> web.Application:
    """The application.

    ``max_body`` counts the bytes of a delivery; ``known`` takes known secrets out of a text. The seconds are real ones, as they are about
    connections: for a request's body to arrive, for a stream's client to take a piece, and between two signs of life on a quiet stream.
    """
    hall = Hall(
        service=service,
        doorkeeper=Doorkeeper(tokens, clock=clock, proxy=proxy),
        clock=clock,
        max_body=max_body,
        body_seconds=body_seconds,
        write_seconds=write_seconds,
        beat_seconds=beat_seconds,
        streams=max_streams,
    )
    app = web.Application()
    app[HALL] = hall
    app[KNOWN] = known
    app[streams.OPEN_STREAMS] = set()
    app[manage.DOCUMENT] = _DOCUMENT
    mount(app, hall, ROUTES, around)
    app.on_response_prepare.append(dress_stranger)
    app.on_shutdown.append(_end_streams)
    return app


def _document() -> bytes:
    return encode(openapi.describe(ROUTES))


_DOCUMENT: Callable[[], bytes] = cache(_document)


async def _end_streams(app: web.Application) -> None:
    app[HALL].service.feed.close()
