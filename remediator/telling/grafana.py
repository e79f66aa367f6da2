"""Annotations in Grafana: a region on every dashboard that shows the tag, from a run's beginning to its end.

In: moments, words and tags. Out: the annotation's id, or None if Grafana did not take it; nothing is raised.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog

from remediator.clock import SystemClock
from remediator.model import encode
from remediator.telemetry import METRICS
from remediator.telling.calling import Caller, LaterError, RefusedError, secret

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from remediator.clock import Clock
    from remediator.settings import Grafana as Settings

__all__ = ["Grafana"]

log = structlog.get_logger(__name__)
_CHANNEL: Final = "grafana"
"""In ``remediator_notifications_total``, beside the routes of the settings."""


class _Answer(msgspec.Struct):
    """Of a POST."""

    id: int


class Grafana:
    """One Grafana, as the settings name it. The token is read for every call, so that it may rotate."""

    def __init__(self, settings: Settings, *, clock: Clock | None = None) -> None:
        self._settings = settings
        self._caller = Caller(clock or SystemClock())
        for result in ("sent", "refused", "failed"):
            METRICS.notifications.labels(_CHANNEL, result)

    async def close(self) -> None:
        """Nothing is under way but what a caller waits for."""
        await self._caller.close()

    async def create(self, text: str, tags: Sequence[str], began: datetime, ended: datetime | None = None) -> int | None:
        """A new annotation; its id, or None."""
        body = {"time": _milliseconds(began), "text": text, "tags": [*self._settings.tags, *tags]}
        if ended is not None:
            body["timeEnd"] = _milliseconds(ended)
        answer = await self._told("POST", "/api/annotations", body)
        try:
            return msgspec.json.decode(answer, type=_Answer).id if answer is not None else None
        except msgspec.MsgspecError:
            log.warning("what annotations are sent to answers as no Grafana does")
            return None

    async def end(self, id: int, text: str, tags: Sequence[str], ended: datetime) -> bool:  # noqa: A002 - Grafana's own word
        """Make the annotation a region that ends; whether Grafana took it."""
        body = {"timeEnd": _milliseconds(ended), "text": text, "tags": [*self._settings.tags, *tags]}
        return await self._told("PATCH", f"/api/annotations/{id}", body) is not None

    def link(self, run: str) -> str:
        """Where people see the run; empty if the settings do not say."""
        return f"{self._settings.link.rstrip('/')}/runs/{run}" if self._settings.link else ""

    async def _told(self, method: str, path: str, body: dict[str, Any]) -> bytes | None:
        try:
            answer: bytes = await self._caller.patiently(self._call, method, path, encode(body))
        except (RefusedError, LaterError) as error:
            result = "refused" if isinstance(error, RefusedError) else "failed"
            METRICS.notifications.labels(_CHANNEL, result).inc()
            log.error("Grafana did not take an annotation", error=str(error))  # noqa: TRY400 - no fault of ours
            return None
        METRICS.notifications.labels(_CHANNEL, "sent").inc()
        return answer

    async def _call(self, method: str, path: str, body: bytes) -> bytes:
        url = f"{str(self._settings.url).rstrip('/')}{path}"
        headers = {"Authorization": f"Bearer {secret(self._settings.token_file)}"}
        return await self._caller.call(method, url, body, headers, self._settings.timeout)


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
