"""``GET /report``: what came of acting, by playbook and target, and what was restarted again and again.

In: how far to look back, and of which playbook. Out: the same numbers as ``remediator report``; the worst targets of each playbook, all of
them where one playbook is asked for.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from remediator import words
from remediator.clock import iso
from remediator.server import query
from remediator.server.pages.frame import render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

    from remediator.effect import Effect
    from remediator.recurrence import Recurrence
    from remediator.server.routing import Call

__all__ = ["FILTERS", "page"]

_SPANS = {"7d": timedelta(days=7), "30d": timedelta(days=30), "90d": timedelta(days=90)}
_SPAN = "30d"
_WORST = 8
_TARGETS = 200
_RECUR = 50
FILTERS = (query.or_empty(query.duration_or_time()), query.or_empty(query.text("playbook", "Of this playbook.")))


async def page(call: Call) -> web.Response:
    """The page."""
    since, chosen = call.query.get("since"), call.query.get("playbook")
    span = (call.request.query.get("since") if since else None) or _SPAN
    since = since or call.hall.clock.now() - _SPANS[_SPAN]
    effects = (await call.service.effect(since=since, playbook=chosen)).items
    again = [one for one in (await call.service.recurrence(since=since)).items if not chosen or _of(one, chosen)]
    return await render(
        call,
        "report.html",
        since=since,
        span=span,
        spans=list(dict.fromkeys([*_SPANS, span])),
        chosen=chosen or "",
        playbooks=sorted({one.name for one in call.service.library.playbooks} | ({chosen} if chosen else set())),
        wholes=[one for one in effects if one.target is None],
        targets=_targets(effects, _TARGETS if chosen else _WORST),
        only=lambda playbook: urlencode({"since": span, "playbook": playbook}),
        again=again[:_RECUR],
        again_more=max(0, len(again) - _RECUR),
        took=_took,
        line=f"--since {span if span in _SPANS else iso(since)}",
    )


def _of(one: Recurrence, playbook: str) -> bool:
    return any(each.playbook == playbook for each in one.each)


def _targets(effects: Sequence[Effect], most: int) -> dict[str, tuple[list[Effect], int]]:
    """By playbook: the first targets, which are the worst, and how many more there are."""
    found: dict[str, list[Effect]] = {}
    for one in effects:
        if one.target is not None:
            found.setdefault(one.playbook, []).append(one)
    return {playbook: (every[:most], max(0, len(every) - most)) for playbook, every in found.items()}


def _took(seconds: float | None) -> str:
    return "-" if seconds is None else words.took(timedelta(seconds=seconds))
