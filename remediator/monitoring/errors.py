"""What Prometheus and Alertmanager can say other than an answer. ``result`` labels the metrics; no message holds a token."""

# ruff: noqa: N818 - each is named after who did what (PrometheusRefused), which reads better than an Error suffix
from __future__ import annotations

from typing import ClassVar

from remediator.errors import MonitoringError

__all__ = [
    "AlertmanagerRefused",
    "AlertmanagerUnreachable",
    "AlertmanagerUnusable",
    "PrometheusRefused",
    "PrometheusStale",
    "PrometheusUnreachable",
    "PrometheusUnusable",
    "Refusal",
    "Unreached",
    "Unusable",
    "cut",
]

LONGEST = 256
"""Characters of a foreign message that are kept."""


class Refusal(MonitoringError):
    """4xx: the question itself is wrong, or we may not ask it. Asking again does not help."""

    result: ClassVar[str] = "refused"


class Unreached(MonitoringError):
    """No answer in time, no connection, 5xx. Asking again may help."""

    result: ClassVar[str] = "unreachable"
    retryable = True
    maybe_applied = True


class Unusable(MonitoringError):
    """An answer that no decision may rest on: not its API, partial, a NaN."""

    result: ClassVar[str] = "unusable"
    maybe_applied = True


class PrometheusRefused(Refusal):
    """A bad query, or no right to ask."""


class PrometheusUnreachable(Unreached):
    """Prometheus did not answer."""


class PrometheusUnusable(Unusable):
    """Prometheus answered something that no decision may rest on."""


class PrometheusStale(Unusable):
    """The newest sample is missing or too old, or Prometheus lives at another time than we do."""

    result: ClassVar[str] = "stale"


class AlertmanagerRefused(Refusal):
    """We may not ask Alertmanager, or it does not know the question."""


class AlertmanagerUnreachable(Unreached):
    """Alertmanager did not answer."""


class AlertmanagerUnusable(Unusable):
    """What answered is not Alertmanager's API v2."""


def cut(text: str) -> str:
    """``text`` on one line, at most 256 characters."""
    flat = " ".join(text.split())
    return flat if len(flat) <= LONGEST else flat[: LONGEST - 3] + "..."
