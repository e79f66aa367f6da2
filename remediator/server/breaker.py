"""The breaker over HTTP: how it stands, and closing it. 409 where it is closed already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remediator.breaker import Reset, Standing
from remediator.errors import UsageError
from remediator.model import evolve
from remediator.server.auth import Scope
from remediator.server.problems import HttpProblem
from remediator.server.routing import Route
from remediator.server.service import BreakerRequest

if TYPE_CHECKING:
    from remediator.server.routing import Call

__all__ = ["ROUTES"]


async def standing(call: Call) -> Standing:
    """``GET /api/v1/breaker``"""
    return await call.service.breaker()


async def reset(call: Call) -> Reset:
    """``POST /api/v1/breaker/reset``"""
    asked = await call.noun(BreakerRequest)
    try:
        return await call.service.reset_breaker(evolve(asked, by=call.by(asked.by)))
    except UsageError as error:
        raise HttpProblem(409, "Conflict", str(error)) from None


ROUTES = (
    Route(method="GET", path="/api/v1/breaker", scope=Scope.READ, handler=standing, summary="How the breaker stands", answer=Standing),
    Route(
        method="POST",
        path="/api/v1/breaker/reset",
        scope=Scope.WRITE,
        handler=reset,
        summary="Close the breaker",
        answer=Reset,
        body=BreakerRequest,
        fails=(409,),
    ),
)
