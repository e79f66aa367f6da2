"""``GET /``: what is being done, why, and how to stop it; then what waits, what was not acted on, and the last runs."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from remediator.errors import UsageError
from remediator.model import DecisionKind, RunState
from remediator.server import query
from remediator.server.pages.frame import render

if TYPE_CHECKING:
    from aiohttp import web

    from remediator.server.routing import Call

__all__ = ["FILTERS", "home"]

_RUNS = 20
_EPISODES = 200
_SHOWN_EPISODES = 25
FILTERS = (
    query.or_empty(query.states()),
    query.or_empty(query.text("playbook", "Of this playbook.")),
    query.or_empty(query.text("target", "On this target: Kind/[namespace/]name.")),
    query.text("cursor", "What the page before gave as next."),
)
_IDLE = (DecisionKind.REFUSED, DecisionKind.UNMATCHED, DecisionKind.HELD)


async def home(call: Call) -> web.Response:
    """The page. Open runs are shown whatever the filters are."""
    journal, asked = call.service.journal, {name: value for name, value in call.query.items() if value}
    status = await call.service.full_status(with_records=False)
    try:
        runs = await journal.runs(limit=_RUNS, **asked)
    except UsageError:
        runs = await journal.runs(limit=_RUNS)
    open_runs = await journal.runs(state=[state for state in RunState if state.open], limit=100)
    idle = [one for one in (await journal.episodes(limit=_EPISODES)).items if one.decision in _IDLE]
    given = {name: value for name, value in asked.items() if name in ("playbook", "target")}
    states = ",".join(asked.get("state", ()))
    waiting = {one.run: one for one in status.waiting}
    older = urlencode({**given, **({"state": states} if states else {}), "cursor": runs.next}) if runs.next else ""
    return await render(
        call,
        "home.html",
        undecided=status.undecided,
        undecided_since=status.undecided_since,
        waiting=[(run, waiting[run.id]) for run in open_runs.items if run.id in waiting],
        working=[run for run in open_runs.items if run.id not in waiting],
        idle=idle[:_SHOWN_EPISODES],
        idle_more=max(0, len(idle) - _SHOWN_EPISODES),
        runs=runs.items,
        older=older,
        given=given,
        chosen=states,
        choices=["", "open", "ended", *RunState],
        playbooks=[one.name for one in call.service.library.playbooks],
    )
