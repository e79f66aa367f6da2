"""The webhook. In: what Alertmanager posts; out: 200 once the delivery is on disk, and not before.

Alertmanager sends again after a 5xx and drops the alert after any 4xx, 429 too. So whatever may pass by itself is a 503 with Retry-After,
and 4xx is only for what can never be taken: a wrong token, a body that is no payload, one that is too large.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remediator.model import AlertStatus, Noun
from remediator.server.auth import Scope
from remediator.server.routing import Route
from remediator.telemetry import METRICS

if TYPE_CHECKING:
    from remediator.server.routing import Call

__all__ = ["ROUTES", "Receipt"]


_FIRING, _RESOLVED = (METRICS.tally(METRICS.alerts_received.labels(status.value)) for status in AlertStatus)


class Receipt(Noun, frozen=True, kw_only=True):
    """The webhook's answer: the delivery is on disk."""

    delivery: str
    alerts: int


async def receive(call: Call) -> Receipt:
    """``POST /api/v1/alerts``"""
    kept = await call.service.receive(await call.body(), sender=call.peer)
    _FIRING.add(kept.firing)
    _RESOLVED.add(kept.resolved)
    if kept.truncated:
        METRICS.alerts_truncated.inc(kept.truncated)
    METRICS.delivered_at = kept.received_at
    return Receipt(delivery=kept.id, alerts=kept.alerts)


ROUTES = (
    Route(
        method="POST",
        path="/api/v1/alerts",
        scope=Scope.WEBHOOK,
        handler=receive,
        summary="Take a delivery of Alertmanager, payload version 4",
        answer=Receipt,
        body=dict[str, Any],
        lenient=True,
    ),
)
