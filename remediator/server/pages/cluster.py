"""``GET /cluster``: nodes, the disturbance budget, BGP, and the pairs of nodes as a heat map."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remediator.errors import RemediatorError
from remediator.server.pages.frame import render

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from typing import TypeVar

    from aiohttp import web

    from remediator.server.routing import Call

    T = TypeVar("T")

__all__ = ["heat", "page"]

_STEPS = (0.25, 0.5, 1.0, 2.0)
"""Shares of the limit at which a cell becomes warmer."""


async def page(call: Call) -> web.Response:
    """The page. A part that cannot be read says so, and the others are shown."""
    view, trouble = await _tried(call.service.cluster())
    bgp, bgp_trouble = await _tried(call.service.bgp())
    return await render(call, "cluster.html", view=view, trouble=trouble, bgp=bgp, bgp_trouble=bgp_trouble, heat=heat, shown=_shown)


async def _tried(asked: Awaitable[T]) -> tuple[T | None, str]:
    try:
        return await asked, ""
    except RemediatorError as error:
        return None, str(error)


def heat(value: float | None, limit: float) -> str:
    """The class of a cell: ``heat-0`` is far below the limit, ``heat-3`` and ``heat-4`` are above it."""
    return "heat-none" if value is None else f"heat-{sum(value > share * limit for share in _STEPS)}"


def _shown(symptom: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value * 1000:.3g} ms" if symptom == "latency" else f"{value * 100:.2g}%"
