"""What the journal holds, read only: runs, episodes, deliveries, decisions, changes, the story of anything, the journal itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remediator.effect import Effect
from remediator.journal import MOST_JOBS, ChainReport
from remediator.model import Change, Decision, Delivery, Episode, Page, Run, from_json
from remediator.recurrence import Recurrence
from remediator.server import query
from remediator.server.auth import Scope
from remediator.server.problems import no_such
from remediator.server.routing import Route
from remediator.server.service import Series
from remediator.story import Story

if TYPE_CHECKING:
    from remediator.model import Noun
    from remediator.server.routing import Call

__all__ = ["ROUTES", "the_run"]


async def runs(call: Call) -> Page[Run]:
    """``GET /api/v1/runs``"""
    return await call.service.journal.runs(**call.query)


async def the_run(call: Call) -> Run:
    """The run that the path names; 404 if there is none."""
    name = call.named("id")
    run = await call.service.journal.run(name)
    if run is None:
        raise no_such("run", name)
    return run


async def series(call: Call) -> Series:
    """``GET /api/v1/runs/{id}/series``"""
    return await call.service.series(await the_run(call))


async def alerts(call: Call) -> Page[Episode]:
    """``GET /api/v1/alerts``: open episodes, all with ``all=true``."""
    every = call.query.pop("all", False)
    return await call.service.journal.episodes(open_only=not every, **call.query)


async def deliveries(call: Call) -> Page[Delivery]:
    """``GET /api/v1/deliveries``"""
    return await call.service.journal.deliveries(**call.query)


async def delivery(call: Call) -> Delivery:
    """``GET /api/v1/deliveries/{id}``"""
    name = call.named("id")
    found = await call.service.journal.delivery(name)
    if found is None:
        raise no_such("delivery", name)
    return found


async def decisions(call: Call) -> Page[Decision]:
    """``GET /api/v1/decisions``"""
    return await call.service.journal.decisions(**call.query)


async def decision(call: Call) -> Decision:
    """``GET /api/v1/decisions/{id}``"""
    name = call.named("id")
    entries = await call.service.journal.entries(ref=name, kind="decision", limit=1)
    if not entries:
        raise no_such("decision", name)
    return from_json(entries[0].data, Decision)


async def changes(call: Call) -> Page[Change]:
    """``GET /api/v1/changes``"""
    return await call.service.journal.changes(**call.query)


async def why(call: Call) -> Noun:
    """``GET /api/v1/why?ref=``"""
    return await call.service.why(call.query["ref"])


async def recurrence(call: Call) -> Page[Recurrence]:
    """``GET /api/v1/report/recurrence``"""
    return await call.service.recurrence(**call.query)


async def effect(call: Call) -> Page[Effect]:
    """``GET /api/v1/report/effect``"""
    return await call.service.effect(**call.query)


async def verify(call: Call) -> ChainReport:
    """``GET /api/v1/journal/verify``: all of it, or what came since the last one that found nothing wrong."""
    return await call.service.journal.verify(full=not call.query.get("resume", False), jobs=call.query.get("jobs"))


def _read(path: str, handler: Any, summary: str, answer: Any, *filters: query.Filter) -> Route:
    return Route(method="GET", path=f"/api/v1/{path}", scope=Scope.READ, handler=handler, summary=summary, answer=answer, query=filters)


_PLAYBOOK = query.text("playbook", "Of this playbook.")
_TARGET = query.text("target", "On this target: Kind/[namespace/]name.")
_RUN = query.text("run", "Of this run.")
_FINGERPRINT = query.text("fingerprint", "Of alerts with this fingerprint.")
_NAME = query.text("name", "Of alerts with this name.")
_SINCE = query.duration_or_time()
_DRY = query.boolean("dry_run", "Only dry runs, or only others.")
_ALL = query.boolean("all", "Ended episodes too.")
_RESUME = query.boolean("resume", "Only from where the last one ended that found nothing wrong, or was stopped.")
_LEFT = query.boolean("left_behind", "Only what nobody has put back, or only others.")
_OF_DECISIONS = (
    query.text("delivery", "Of this delivery."),
    _FINGERPRINT,
    _PLAYBOOK,
    _TARGET,
    _RUN,
    query.decision(),
    _NAME,
    _SINCE,
)

ROUTES = (
    _read("runs", runs, "Runs, newest first", Page[Run], query.states(), _PLAYBOOK, _TARGET, _SINCE, _DRY, *query.paging()),
    _read("runs/{id}", the_run, "One run with its steps and changes", Run),
    _read("runs/{id}/series", series, "The metric that its verification compares", Series),
    _read("alerts", alerts, "Open episodes and what was decided on them", Page[Episode], _ALL, _FINGERPRINT, _NAME, *query.paging()),
    _read("deliveries", deliveries, "Webhook calls, newest first", Page[Delivery], _SINCE, *query.paging()),
    _read("deliveries/{id}", delivery, "One webhook call", Delivery),
    _read("decisions", decisions, "Decisions, newest first", Page[Decision], *_OF_DECISIONS, *query.paging()),
    _read("decisions/{id}", decision, "One decision", Decision),
    _read("changes", changes, "What runs altered in the cluster", Page[Change], _RUN, _LEFT, *query.paging()),
    _read("why", why, "The story of anything, in words", Story, query.text("ref", "Alert, fingerprint, id or target.", needed=True)),
    _read("report/recurrence", recurrence, "What was restarted again and again", Page[Recurrence], _SINCE, query.at_least()),
    _read("report/effect", effect, "What came of acting, by playbook and target", Page[Effect], _PLAYBOOK, _SINCE),
    _read("journal/verify", verify, "Check the journal's hash chain", ChainReport, _RESUME, query.jobs(MOST_JOBS)),
)
