"""``GET /playbooks`` and ``/playbooks/{name}``: what may run by itself, and of one its source, ladder, gates and how it did."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from remediator.model import RunState
from remediator.server import catalogue
from remediator.server.pages.drawing import bars
from remediator.server.pages.frame import render

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from aiohttp import web

    from remediator.model import Run
    from remediator.server.routing import Call

__all__ = ["listed", "page", "weeks"]

_WEEKS = 8
_MOST = 500
_GOOD = (RunState.HEALED, RunState.DONE)
_BAD = (RunState.FAILED, RunState.NOT_HEALED, RunState.UNKNOWN)


async def listed(call: Call) -> web.Response:
    """All that are loaded."""
    return await render(call, "playbooks.html", playbooks=(await catalogue.playbooks(call)).items)


async def page(call: Call) -> web.Response:
    """One."""
    found = await catalogue.playbook(call)
    now = call.hall.clock.now()
    runs = await call.service.journal.runs(playbook=found["name"], since=now - timedelta(weeks=_WEEKS), limit=_MOST)
    columns = weeks(runs.items, now)
    return await render(
        call, "playbook.html", one=found, runs=runs.items[:10], drawing=bars(columns), weeks=_WEEKS, cut=runs.next is not None
    )


def weeks(runs: Iterable[Run], now: datetime) -> list[tuple[str, int, int]]:
    """A column a week, the oldest first: how many live runs worked and how many did not."""
    columns = []
    live = [run for run in runs if not run.dry_run]
    for back in range(_WEEKS, 0, -1):
        begin = now - timedelta(weeks=back)
        states = [run.state for run in live if begin < run.started_at <= begin + timedelta(weeks=1)]
        columns.append((begin.strftime("%d.%m."), sum(state in _GOOD for state in states), sum(state in _BAD for state in states)))
    return columns
