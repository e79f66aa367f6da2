"""The management routes that the Prometheus family has taught everybody and the OpenAPI document."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from remediator.server import openapi
from remediator.server.auth import Scope
from remediator.server.problems import RETRY_AFTER, HttpProblem
from remediator.server.routing import Route
from remediator.telemetry import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable

    from remediator.server.routing import Call

__all__ = ["DOCUMENT", "ROUTES"]

DOCUMENT: web.AppKey[Callable[[], bytes]] = web.AppKey("openapi_document")
"""Writes it, once."""


async def healthy(call: Call) -> web.Response:
    """``GET /-/healthy``: 200 while the daemon can answer at all."""
    del call
    return web.Response(text="healthy\n")


async def ready(call: Call) -> web.Response:
    """``GET /-/ready``: 200 with the role (leader, standby), or 503 with what is missing."""
    yes, detail = call.service.ready()
    if not yes:
        raise HttpProblem(503, "Not ready", detail, headers=RETRY_AFTER)
    return web.Response(text=f"ready: {detail}\n")


async def metrics(call: Call) -> web.Response:
    """``GET /metrics``, without a token, as in the Prometheus family: none of its labels names an object or a person.

    Written in a thread since it may take milliseconds.
    """
    body, media = await asyncio.to_thread(METRICS.written, call.request.headers.get("Accept", ""))
    return web.Response(body=body, headers={"Content-Type": media, "Vary": "Accept"})


async def document(call: Call) -> web.Response:
    """``GET /openapi.json``, written in a thread the first time that somebody asks."""
    return web.Response(body=await asyncio.to_thread(call.request.app[DOCUMENT]), content_type="application/json")


ROUTES = (
    Route(method="GET", path="/-/healthy", scope=Scope.NONE, handler=healthy, summary="Alive", media="text/plain", lenient=True),
    Route(method="GET", path="/-/ready", scope=Scope.NONE, handler=ready, summary="Takes work", media="text/plain", lenient=True),
    Route(method="GET", path="/metrics", scope=Scope.NONE, handler=metrics, summary="Prometheus metrics", media="text/plain", lenient=True),
    Route(
        method="GET",
        path="/openapi.json",
        scope=Scope.READ,
        handler=document,
        summary="This document",
        media=openapi.MEDIA_TYPE,
    ),
)
