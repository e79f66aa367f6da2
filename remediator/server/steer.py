"""What people do to the daemon: manual runs, answers, cancel, undo, pause, match, reload. In: requests' nouns; out: what became of them.

409 where a gate or the state of things says no; 400 where the request makes no sense. ``by`` is what the request claims, unless a token of
their own or a proxy tells who it is.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from remediator.demotion import Demotion
from remediator.errors import JournalError, JournalUnavailable, UsageError
from remediator.journal import Pruned
from remediator.model import DecisionKind, Noun, Page, Pause, Run, evolve
from remediator.reasons import sentence
from remediator.server import query
from remediator.server.auth import Scope
from remediator.server.problems import HttpProblem, no_such
from remediator.server.records import the_run
from remediator.server.routing import Answer, Route
from remediator.server.service import Intervention, ManualRequest, MatchReport, MatchRequest, PauseRequest, PruneRequest, ReloadReport

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from remediator.model import Decision
    from remediator.server.routing import Call

__all__ = ["ROUTES", "Ended"]


class Ended(Noun, frozen=True, kw_only=True):
    """How many pauses were ended."""

    ended: int


async def trigger(call: Call) -> Answer:
    """``POST /api/v1/runs``: 201 with the run, or 409 with the gates' verdicts."""
    asked = await call.noun(ManualRequest)
    decision = await call.service.trigger(evolve(asked, by=call.by(asked.by)))
    if decision.decision is not DecisionKind.RUN or decision.run is None:
        raise _refused(decision)
    run = await call.service.journal.run(decision.run)
    if run is None:
        raise JournalUnavailable(f"run {decision.run} was started and cannot be read back")
    return Answer(data=run, status=201, headers={"Location": f"/api/v1/runs/{run.id}"})


def _refused(decision: Decision) -> HttpProblem:
    said = decision.detail or (sentence(decision.reason) if decision.reason else f"The decision is {decision.decision}.")
    kind, id_ = decision.decision, decision.id
    return HttpProblem(409, "Refused", said, reason=decision.reason, decision=kind, id=id_, gates=decision.gates)


async def cancel(call: Call) -> Run:
    """``POST /api/v1/runs/{id}/cancel``"""
    return await _intervene(call, call.service.cancel)


async def undo(call: Call) -> Run:
    """``POST /api/v1/runs/{id}/undo``"""
    return await _intervene(call, call.service.undo)


async def _intervene(call: Call, act: Callable[..., Awaitable[Run]], asked: Intervention | None = None) -> Run:
    run = await the_run(call)
    said: Intervention = asked if asked is not None else await call.noun(Intervention)
    try:
        return await act(run.id, by=call.by(said.by), reason=said.reason)
    except UsageError as error:
        state = (await the_run(call)).state  # it may have moved on meanwhile, and that may be why
        raise HttpProblem(409, "Conflict", str(error), state=state) from None


async def approve(call: Call) -> Run:
    """``POST /api/v1/runs/{id}/approve``: one person's yes."""
    asked = await call.noun(Intervention)
    return await _intervene(call, partial(call.service.approve, named=call.told_who(asked.by)), asked)


async def reject(call: Call) -> Run:
    """``POST /api/v1/runs/{id}/reject``: one person's no, which is enough."""
    return await _intervene(call, call.service.reject)


async def reinstate(call: Call) -> Demotion:
    """``POST /api/v1/playbooks/{name}/reinstate``: the demotion that was lifted."""
    name = call.named("name")
    if all(playbook.name != name for playbook in call.service.library.playbooks):
        raise no_such("playbook", name)
    asked = await call.noun(Intervention)
    try:
        return await call.service.reinstate(name, by=call.by(asked.by), reason=asked.reason)
    except UsageError as error:
        raise HttpProblem(409, "Conflict", str(error)) from None


async def match(call: Call) -> MatchReport:
    """``POST /api/v1/match``"""
    return await call.service.match(await call.noun(MatchRequest))


async def pauses(call: Call) -> Page[Pause]:
    """``GET /api/v1/pause``"""
    return Page(items=tuple(await call.service.journal.pauses(call.hall.clock.now())))


async def pause(call: Call) -> Pause:
    """``PUT /api/v1/pause``"""
    asked = await call.noun(PauseRequest)
    return await call.service.pause(evolve(asked, by=call.by(asked.by)))


async def resume(call: Call) -> Ended:
    """``DELETE /api/v1/pause?playbook=&target=``: pauses of exactly this scope; without either, those of everything."""
    asked = call.query
    ended = await call.service.resume(playbook=asked.get("playbook"), target=asked.get("target"), by=call.by(asked.get("by")))
    return Ended(ended=ended)


async def prune(call: Call) -> Pruned:
    """``POST /api/v1/journal/prune``: 409 where the chain is broken, for pruning would hide it."""
    asked = await call.noun(PruneRequest)
    try:
        return await call.service.prune(evolve(asked, by=call.by(asked.by)))
    except JournalUnavailable:
        raise
    except JournalError as error:
        raise HttpProblem(409, "Not pruned", str(error)) from None


async def reload(call: Call) -> ReloadReport:
    """``POST /-/reload``: 422 with every problem if the files were not accepted."""
    report = await call.service.reload()
    if not report.ok:
        detail = "The playbooks were not accepted; those from before stay in force.\n" + "\n".join(report.problems)
        raise HttpProblem(422, "Not loaded", detail, problems=report.problems, playbooks=report.playbooks)
    return report


def _steer(method: str, path: str, handler: Any, summary: str, answer: Any, body: Any = None, **more: Any) -> Route:
    return Route(method=method, path=path, scope=Scope.WRITE, handler=handler, summary=summary, answer=answer, body=body, **more)


_WHAT = (
    query.text("playbook", "Pauses of this playbook."),
    query.text("target", "Pauses of this target."),
    query.text("by", "Who resumes."),
)
_STATE: dict[str, Any] = {"fails": (409,)}
_RUN = "/api/v1/runs/{id}"
_PAUSE = "/api/v1/pause"

ROUTES = (
    _steer("POST", "/api/v1/runs", trigger, "Start a run by hand, through all gates", Run, ManualRequest, status=201, fails=(409, 502)),
    _steer("POST", f"{_RUN}/cancel", cancel, "Stop a run after its current call", Run, Intervention, **_STATE),
    _steer("POST", f"{_RUN}/undo", undo, "Put back what a run changed", Run, Intervention, **_STATE),
    _steer("POST", f"{_RUN}/approve", approve, "Approve a run that waits for it", Run, Intervention, **_STATE),
    _steer("POST", f"{_RUN}/reject", reject, "Reject a run that waits for approval", Run, Intervention, **_STATE),
    _steer(
        "POST", "/api/v1/playbooks/{name}/reinstate", reinstate, "Let a demoted playbook act again", Demotion, Intervention, fails=(409,)
    ),
    _steer("PUT", _PAUSE, pause, "Stop starting anything", Pause, PauseRequest),
    _steer("POST", "/api/v1/journal/prune", prune, "Take old records away", Pruned, PruneRequest, fails=(409,)),
    _steer("POST", "/-/reload", reload, "Load the playbooks anew", ReloadReport, fails=(422,)),
    Route(method="DELETE", path=_PAUSE, scope=Scope.WRITE, handler=resume, summary="End pauses", answer=Ended, query=_WHAT),
    Route(method="GET", path=_PAUSE, scope=Scope.READ, handler=pauses, summary="Pauses in force", answer=Page[Pause]),
    Route(
        method="POST",
        path="/api/v1/match",
        scope=Scope.READ,
        handler=match,
        summary="What would be decided on an alert",
        answer=MatchReport,
        body=MatchRequest,
        fails=(502,),
    ),
)
