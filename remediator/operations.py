"""What people and programs may ask of the running daemon, one method each: the Service that the HTTP side knows.

In: requests, validated in their types. Out: nouns. Whether a request makes sense is said here, by UsageError, in words for a person.
"""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import msgspec
import structlog

from remediator import __version__
from remediator.actions import actions, recurring
from remediator.approval import answer
from remediator.bgp.coverage import Report, Rules, report
from remediator.bgp.read import read_routes
from remediator.breaker import NOTE, Reset, Standing, standing
from remediator.clock import iso
from remediator.demotion import Demotion
from remediator.effect import effects
from remediator.engine import EngineError
from remediator.errands import Errands
from remediator.errors import (
    HandsOver,
    JournalUnavailable,
    KubeError,
    MonitoringError,
    NotLeading,
    Refused,
    RemediatorError,
    Unreadable,
    UsageError,
)
from remediator.facts import Facts
from remediator.gates import gates
from remediator.kube import kinds
from remediator.lookout import course, overlook
from remediator.match import choose, find, nearest
from remediator.model import (
    Alert,
    AlertStatus,
    Answer,
    Decision,
    DecisionKind,
    Page,
    Pause,
    Run,
    RunState,
    Target,
    Trigger,
    TriggerKind,
    evolve,
    new_id,
    to_json,
)
from remediator.promotion import LOOK_BACK, records
from remediator.readings import breaker_past
from remediator.reasons import Reason
from remediator.receive import fingerprint, parse_delivery
from remediator.recurrence import recurrences
from remediator.run import sought_by
from remediator.server.service import ManualRequest, MatchReport, MatchRequest, NearMiss, Status, waiting_of
from remediator.settings import LEAST_RETENTION
from remediator.story import tell
from remediator.surroundings import Surroundings
from remediator.telemetry import METRICS
from remediator.telling import milliseconds

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from remediator.actions import Action
    from remediator.effect import Effect
    from remediator.feed import Feed
    from remediator.gates import Gate
    from remediator.journal import Journal, Pruned
    from remediator.model import Episode, Mode, Noun
    from remediator.payload import Limits
    from remediator.pipeline import Pipeline
    from remediator.playbook import Library, Playbook
    from remediator.promotion import Record
    from remediator.receive import Kept
    from remediator.recurrence import Recurrence
    from remediator.server.service import (
        BreakerRequest,
        ClusterView,
        PauseRequest,
        PruneRequest,
        ReloadReport,
        Series,
    )
    from remediator.world import World

__all__ = ["Operations"]

log = structlog.get_logger(__name__)
P = ParamSpec("P")
R = TypeVar("R")
_TO_END = 2.0
"""Real seconds that a rejection waits for the run's end, so that its answer can tell."""
_MOST_WAITING = 500
_WEEK = timedelta(days=7)


def _leads(
    takes: type, gives: type[R]
) -> Callable[[Callable[Concatenate[Operations, P], Coroutine[Any, Any, R]]], Callable[Concatenate[Operations, P], Coroutine[Any, Any, R]]]:
    """For what only the leader does: a standby sends it there. ``takes``: the type of its first argument."""

    def wrap(
        method: Callable[Concatenate[Operations, P], Coroutine[Any, Any, R]],
    ) -> Callable[Concatenate[Operations, P], Coroutine[Any, Any, R]]:
        @wraps(method)
        async def call(self: Operations, /, *args: P.args, **named: P.kwargs) -> R:
            if self.standby:
                return await self.errands.send(method.__name__, args[0], named, gives)
            return await method(self, *args, **named)

        _OF_THE_LEADER[method.__name__] = takes
        return call

    return wrap


_OF_THE_LEADER: dict[str, type] = {}


class Operations:
    """See ``remediator.server.service.Service``."""

    def __init__(
        self,
        world: World,
        pipeline: Pipeline,
        *,
        limits: Limits,
        ceiling: Mode,
        first_load: ReloadReport,
        retention: timedelta = LEAST_RETENTION,
    ) -> None:
        self.journal: Journal = world.journal
        self.feed: Feed = world.feed
        self.retention = retention
        self.last_reload = first_load
        self.not_ready = "starting"
        self.on_reload: Callable[[], Awaitable[ReloadReport]] | None = None
        """The daemon's, since it knows where playbooks come from."""
        self._world = world
        self._pipeline = pipeline
        self._limits = limits
        self._ceiling = ceiling
        self._started_at = world.clock.now()
        self._breaker: Standing | None = None
        self._doors = {"kubernetes": "not asked yet", "prometheus": "not asked yet", "alertmanager": "not asked yet"}
        self._pauses: tuple[Pause, ...] = ()
        self.surroundings = Surroundings(world)
        self.errands = Errands(world, {name: (getattr(self, name), takes) for name, takes in _OF_THE_LEADER.items()})

    @property
    def standby(self) -> bool:
        """Whether another replica leads, or might."""
        return self._world.elector is not None and not self._pipeline.leads

    @property
    def library(self) -> Library:
        """See Service."""
        return self._world.library

    @property
    def actions(self) -> Mapping[str, type[Action[Any]]]:
        """See Service."""
        return actions()

    @property
    def gates(self) -> Mapping[str, type[Gate]]:
        """See Service."""
        return gates()

    def receive(self, body: bytes, *, sender: str) -> Awaitable[Kept]:
        """See Service."""
        return self._pipeline.receive(body, sender=sender, limits=self._limits)

    @_leads(ManualRequest, Decision)
    async def trigger(self, request: ManualRequest) -> Decision:
        """See Service."""
        playbook = self.library.by_name(request.playbook)
        parameters = playbook.fill(request.parameters)
        alert = self._alert_of(request)
        trigger = Trigger(kind=TriggerKind.MANUAL, by=request.by, reason=request.reason)
        decider = self._pipeline.decider
        try:
            target = await self._target(playbook, request.target)
        except Refused as error:
            return await decider.refuse(playbook, alert, error.reason, error.detail)
        except KubeError as error:
            return await decider.refuse(playbook, alert, Reason.UNREADABLE, str(error))
        try:
            judged = await decider.person(playbook, target, trigger, alert=alert, parameters=parameters, dry_run=request.dry_run)
        except HandsOver as error:
            raise NotLeading(f"{error}: it gives up the lead now. Nothing was done; ask again in a few seconds.") from error
        if judged.run is not None:
            await self._pipeline.begin([judged.run])
        return judged.decision

    @_leads(MatchRequest, MatchReport)
    async def match(self, request: MatchRequest) -> MatchReport:
        """See Service. Judges the episode that fires now, or one that would begin now; nothing is kept."""
        labels = request.labels
        playbook = choose(labels, self.library)
        misses = tuple(NearMiss(playbook=m.playbook, matched=m.matched, of=m.of, failed=m.failed) for m in nearest(labels, self.library))
        if playbook is None or playbook.when is None:
            return MatchReport(labels=labels, decision=DecisionKind.UNMATCHED, reason=Reason.UNMATCHED, nearest=misses)
        alert, facts = await self._as_it_fires(labels), Facts(self._world)
        try:
            target = await self._pipeline.decider.aim(playbook, playbook.when.target, alert, facts)
        except Refused as error:
            reason, detail = error.reason, error.detail
        except (KubeError, Unreadable) as error:
            reason, detail = Reason.UNREADABLE, str(error)
        else:
            trigger = Trigger(kind=TriggerKind.ALERT, by="match")
            judged = await self._pipeline.decider.judge(playbook, target, trigger, facts=facts, alert=alert)
            found = judged.decision
            return MatchReport(
                labels=labels,
                playbook=playbook.name,
                target=target,
                decision=found.decision,
                reason=found.reason,
                detail=found.detail,
                gates=found.gates,
                evidence=found.evidence,
            )
        evidence = await facts.evidence(sought_by(playbook), alert, "")
        told = self._pipeline.decider.without_gates(DecisionKind.REFUSED, reason, detail)
        return MatchReport(labels=labels, playbook=playbook.name, evidence=evidence, **told)

    @_leads(str, Run)
    async def cancel(self, run: str, *, by: str, reason: str) -> Run:
        """See Service. The wish is on disk before the run hears of it, so a restart does not lose it."""
        async with self._world.signals.writing(run):
            stored = await self._run(run)
            if not stored.state.open:
                raise UsageError(f"run {run} has ended: {stored.state}")
            asked = evolve(stored, cancel=f"{by}: {reason}" if reason else by)
            await self.journal.save_run(asked)
        self._world.signals.cancel(run)
        self.feed.publish("run", run)
        return asked

    @_leads(str, Run)
    async def undo(self, run: str, *, by: str, reason: str) -> Run:
        """See Service."""
        stored = await self._run(run)
        if stored.state.open:
            raise UsageError(f"run {run} is {stored.state}; cancel it first: remediator runs cancel {run}")
        if not any(change.left_behind for step in stored.steps for change in step.changes):
            raise UsageError(f"run {run} left nothing behind that could be put back")
        await self.journal.note("undo", run, {"by": by, "reason": reason})
        await self._pipeline.undo(run)
        return stored

    @_leads(str, Run)
    async def approve(self, run: str, *, by: str, reason: str, named: bool = True) -> Run:
        """See Service."""
        return await self._answer(run, by=by, reason=reason, yes=True, named=named)

    @_leads(str, Run)
    async def reject(self, run: str, *, by: str, reason: str) -> Run:
        """See Service. Where nothing has to be undone the run is over when this returns."""
        await self._answer(run, by=by, reason=reason, yes=False)
        try:
            async with asyncio.timeout(_TO_END):
                return await self._moved_on(run)
        except TimeoutError:
            return await self._run(run)

    async def _moved_on(self, run: str) -> Run:
        """The run once it waits for nobody any more."""
        seen = 0
        while (stored := await self._run(run)).state is RunState.AWAITING_APPROVAL and not self.feed.closed:
            seen = await self.feed.next_change(run, seen)
        return stored

    async def invited(self, text: str) -> Run | None:
        """See Service."""
        found = self._world.invitations.read(text)
        run = None if found is None else await self.journal.run(found.run)
        return None if run is None or found is None else self._still_asks(run, found.asked)

    async def answer_invited(self, text: str, *, by: str, reason: str, yes: bool) -> Run:
        """See Service."""
        found = self._world.invitations.read(text)
        if found is None:
            raise UsageError("it is no link of this daemon")
        self._still_asks(await self._run(found.run), found.asked)
        return await self.answer_question(found.run, asked=found.asked, by=by, reason=reason, yes=yes)

    @_leads(str, Run)
    async def answer_question(self, run: str, *, asked: int, by: str, reason: str, yes: bool) -> Run:
        """The answer to the question that ``run`` asked then, of whoever held its link: what the link says, and not its text."""
        return await self._answer(run, by=by, reason=reason, yes=yes, asked=asked)

    def _still_asks(self, run: Run, then: int) -> Run:
        """``run``, if it waits for one person's answer to the question it asked then, in milliseconds since 1970. Raises UsageError."""
        asked = run.approvals[-1] if run.approvals else None
        if asked is None or milliseconds(asked.asked_at) != then or run.state is not RunState.AWAITING_APPROVAL:
            raise UsageError(f"The question was answered, or run {run.id} has ended. Sign in to see how it stands.")
        if asked.expires_at <= self._world.clock.now():
            raise UsageError(f"The question of run {run.id} expired {iso(asked.expires_at)}.")
        if asked.people > 1:
            raise UsageError(f"Run {run.id} needs {asked.people} different people, and a link does not tell who holds it. Sign in.")
        return run

    async def _answer(self, run: str, *, by: str, reason: str, yes: bool, named: bool = True, asked: int | None = None) -> Run:
        """A person's answer is on disk before the run hears of it, and a yes before the next decision on an alert asks for its facts.

        ``asked``: when, if it is about that question and no other.
        """
        between = self._pipeline.decider.between_decisions if yes and self._pipeline.leads else nullcontext()
        async with between, self._world.signals.writing(run):
            if asked is not None:
                self._still_asks(await self._run(run), asked)
            said = Answer(by=by, at=self._world.clock.now(), approved=yes, reason=reason)
            before = await self._run(run)
            told = answer(before, said, named=named)
            await self.journal.save_run(told, begins=before.unapproved and not told.unapproved)
        self._world.signals.tell(run)
        self.feed.publish("run", run)
        log.info("a person answered", run=run, by=by, approved=yes, reason=reason, state=told.state.value)
        return told

    @_leads(str, Demotion)
    async def reinstate(self, playbook: str, *, by: str, reason: str) -> Demotion:
        """See Service."""
        lifted = await self._world.demotions.reinstate(self.journal, self._world.clock, playbook, by=by, reason=reason)
        if lifted is None:
            raise UsageError(f"playbook {playbook} is not demoted")
        self.feed.publish("playbook", playbook)
        return lifted

    def mode_of(self, playbook: Playbook) -> dict[str, Any]:
        """See Service."""
        demotion = self._world.demotions.of(playbook.name)
        mode, lacks = self._world.mode(playbook).value, self.surroundings.lacks.get(playbook.name, "")
        told = {"mode_in_force": mode, "demoted": to_json(demotion) if demotion else None, "missing_rights": lacks}
        return {**told, "missing_kinds": self.surroundings.absent.get(playbook.name, "")}

    async def record(self, playbook: Playbook) -> Record:
        """See Service."""
        (found,) = records([playbook.name], await self._outcomes())
        return found

    async def _outcomes(self) -> list[tuple[Run, Episode | None]]:
        return await self.journal.outcomes(since=self._world.clock.now() - LOOK_BACK)

    async def full_status(self, *, with_records: bool = True) -> Status:
        """See Service."""
        plain = self.status()
        try:
            waiting = await self.journal.runs(state=[RunState.AWAITING_APPROVAL], limit=_MOST_WAITING)
            outcomes = await self._outcomes() if with_records else []
            if not plain.leader:  # it works on nothing itself
                open_runs, undecided = await self.journal.open_outlines(), await self.journal.undecided(_MOST_WAITING)
                since = undecided[0].received_at if undecided else None
                plain = evolve(plain, open_runs=len(open_runs), undecided=len(undecided), undecided_since=since)
        except JournalUnavailable as error:
            log.warning("the status lacks what is in the journal", error=str(error))
            return plain
        ran = {run.playbook for run, _ in outcomes}
        names = [playbook.name for playbook in self.library.playbooks if playbook.name in ran]
        return evolve(plain, waiting=waiting_of(waiting.items), records=records(names, outcomes))

    async def pause(self, request: PauseRequest) -> Pause:
        """See Service."""
        if request.playbook is not None:
            self.library.by_name(request.playbook)
        now = self._world.clock.now()
        pause = Pause(
            id=new_id(now),
            playbook=request.playbook,
            target=_key(request.target) if request.target is not None else None,
            reason=request.reason,
            by=request.by,
            at=now,
            until=now + timedelta(seconds=request.seconds) if request.seconds is not None else None,
        )
        await self.journal.add_pause(pause)
        await self._know_pauses()
        log.warning("paused", scope=pause.playbook or pause.target or "everything", by=pause.by, reason=pause.reason)
        return pause

    async def resume(self, *, playbook: str | None, target: str | None, by: str) -> int:
        """See Service."""
        key = _key(target) if target is not None else None
        ended = await self.journal.end_pauses(playbook=playbook, target=key, by=by, at=self._world.clock.now())
        await self._know_pauses()
        log.warning("resumed", scope=playbook or key or "everything", by=by, ended=ended)
        return ended

    async def breaker(self) -> Standing:
        """See Service."""
        return standing(await breaker_past(self._world), self._world.limits.breaker, self._world.clock.now())

    async def reset_breaker(self, request: BreakerRequest) -> Reset:
        """See Service."""
        found = await self.breaker()
        if not found.open or found.since is None:
            raise UsageError("No breaker is open.")
        reset = Reset(at=self._world.clock.now(), by=request.by, reason=request.reason, backlog=request.backlog, opened_at=found.since)
        await self.journal.note(NOTE, "", reset)
        log.warning("breaker reset", by=reset.by, reason=reset.reason, backlog=reset.backlog.value, open_since=found.since.isoformat())
        await self._know_breaker()
        self.feed.publish("breaker", "")
        return reset

    async def prune(self, request: PruneRequest) -> Pruned:
        """See Service."""
        age = self.retention if request.seconds is None else timedelta(seconds=request.seconds)
        if age < LEAST_RETENTION:
            least = LEAST_RETENTION.days
            raise UsageError(f"What is younger than {least}d cannot be pruned: gates and the breaker look back. Say {least}d or more.")
        before = self._world.clock.now() - age
        done = await self.journal.prune(before=before, keep=request.keep)
        if done.removed:
            log.info("journal pruned", by=request.by, older_than=str(age), through=done.through, removed=done.removed)
        try:
            forgotten = await self._pipeline.forget(before)
        except (EngineError, JournalUnavailable) as error:
            log.warning("the run engine still holds runs that were pruned; the next pruning sees to it", error=str(error))
        else:
            if forgotten:
                log.info("the run engine forgot what was pruned", works=forgotten)
        return done

    async def reload(self) -> ReloadReport:
        """See Service."""
        if self.on_reload is not None:
            self.last_reload = await self.on_reload()
        self.feed.publish("reload", "")
        return self.last_reload

    async def why(self, ref: str) -> Noun:
        """See Service."""
        return await tell(self.journal, self._world.redact.known(ref))  # the answer names what was asked for

    async def recurrence(self, *, since: datetime | None = None, at_least: int = 2) -> Page[Recurrence]:
        """See Service."""
        since = since or self._world.clock.now() - _WEEK
        return Page(items=recurrences(await self.journal.done(recurring(), since=since), at_least=at_least))

    async def effect(self, *, since: datetime | None = None, playbook: str | None = None) -> Page[Effect]:
        """See Service."""
        since = since or self._world.clock.now() - LOOK_BACK
        wanted = effects if playbook is None else lambda runs: effects(run for run in runs if run.playbook == playbook)
        return Page(items=await self.journal.over_runs(wanted, since=since, dry_run=False))

    async def bgp(self) -> Report:
        """See Service."""
        world = self._world
        where = world.cilium
        routes = await read_routes(
            world.kube, world.prometheus, namespace=where.namespace, agents=where.agent_selector, now=world.clock.now()
        )
        return report(routes, Rules(min_speakers=world.limits.min_speakers))

    async def cluster(self) -> ClusterView:
        """See Service."""
        return await overlook(self._world)

    async def series(self, run: Run) -> Series:
        """See Service."""
        return await course(self._world, run)

    def status(self) -> Status:
        """See Service."""
        ready, detail = self.ready()
        return Status(
            version=__version__,
            mode=self._ceiling,
            dry_run=self._world.dry_run,
            paused=tuple(p for p in self._pauses if p.until is None or p.until > self._world.clock.now()),
            started_at=self._started_at,
            ready=ready,
            ready_detail=detail,
            playbooks=len(self.library.playbooks),
            last_reload=self.last_reload,
            undecided=self._pipeline.undecided,
            undecided_since=self._pipeline.waiting_since,
            open_runs=len(self._world.engine.running) if self._world.engine else 0,
            journal=self._journal_words(),
            kubernetes=self._doors["kubernetes"],
            prometheus=self._doors["prometheus"],
            alertmanager=self._doors["alertmanager"],
            cilium=self.surroundings.cilium,
            leader=self._pipeline.leads,
            breaker=self._breaker,
            demoted=self._world.demotions.all,
            unavailable=self.surroundings.unavailable,
        )

    def _journal_words(self) -> str:
        if not self.journal.healthy:
            return "cannot keep anything at the moment"
        faults = self.journal.faults
        return f"NOT WHAT WAS WRITTEN: {faults[0]}; remediator journal verify says more" if faults else "ok"

    def ready(self) -> tuple[bool, str]:
        """See Service."""
        if self.not_ready:
            return False, self.not_ready
        if not self.journal.healthy:
            return False, "the journal cannot keep anything at the moment"
        if self._pipeline.leads:
            return True, "leader"
        holder = self._world.elector.holder if self._world.elector is not None else ""
        return True, f"standby; {holder or 'nobody'} leads"

    async def look_at_doors(self) -> None:
        """Ask each system once whether it answers, for the status; the daemon repeats it."""
        await self._know_pauses()
        await self._know_breaker()
        prometheus, alertmanager = self._world.prometheus, self._world.alertmanager
        answers = {
            "kubernetes": await _answers(self._world.kube.version),
            "prometheus": await _answers(prometheus.require_fresh) if prometheus else "not set",
            "alertmanager": await _answers(alertmanager.active) if alertmanager else "not set",
        }
        self._doors.update({door: self._world.redact.text(words) for door, words in answers.items()})

    async def _know_pauses(self) -> None:
        self._pauses = tuple(await self.journal.pauses(self._world.clock.now()))
        METRICS.paused.set(len(self._pauses))
        self.feed.publish("pause", "")

    async def _know_breaker(self) -> None:
        """What was known is forgotten only if it cannot be read: a status in the meantime tells what was true a moment ago."""
        try:
            self._breaker = await self.breaker()
        except JournalUnavailable:
            self._breaker = None
            raise
        METRICS.breaker_open.set(self._breaker.open)

    async def _run(self, run: str) -> Run:
        stored = await self.journal.run(run)
        if stored is None:
            raise UsageError(f"there is no run {run!r}")
        return stored

    async def _target(self, playbook: Playbook, text: str) -> Target:
        kind, namespace, name = _parts(text)
        if playbook.when is not None and kind not in playbook.when.target.kinds:
            raise UsageError(f"playbook {playbook.name} acts on a {' or '.join(playbook.when.target.kinds)}; {text} is a {kind}")
        return await find(kind, name, namespace, self._world.kube)

    async def _as_it_fires(self, labels: dict[str, str]) -> Alert:
        """With the start that Alertmanager knows it by, if it fires; what cannot be asked is for the gates to say."""
        alert = _alert(labels, self._world)
        try:
            active = await self._world.alertmanager.active() if self._world.alertmanager else []
        except MonitoringError:
            active = []
        starts = [one.starts_at for one in active if one.fingerprint == alert.fingerprint]
        return evolve(alert, starts_at=max(starts)) if starts else alert

    def _alert_of(self, request: ManualRequest) -> Alert | None:
        if request.alert is not None:
            return _parse_alert(request.alert, self._limits)
        return _alert(request.labels, self._world) if request.labels else None


def _alert(labels: dict[str, str], world: World) -> Alert:
    """An alert that fires from now on, with nothing but labels."""
    return Alert(
        name=labels.get("alertname", ""),
        fingerprint=fingerprint(labels),
        starts_at=world.clock.now(),
        status=AlertStatus.FIRING,
        labels=labels,
    )


def _parse_alert(alert: dict[str, Any], limits: Limits) -> Alert:
    """One alert in the form of Alertmanager's payload. Raises PayloadError."""
    body = msgspec.json.encode({"version": "4", "alerts": [{"status": "firing", **alert}]})
    at = datetime.now(UTC)
    return parse_delivery(body, id="", at=at, limits=limits).alerts[0]


def _parts(target: str) -> tuple[str, str, str]:
    """``Node/node-3``, ``node/node-3``, ``Pod/kube-system/cilium-x`` -> kind as Kubernetes has it, namespace, name. Raises UsageError."""
    match target.split("/"):
        case [kind, name] if kind and name:
            return kinds.by_name(kind).kind, "", name
        case [kind, namespace, name] if kind and namespace and name:
            return kinds.by_name(kind).kind, namespace, name
        case _:
            raise UsageError(f"target {target!r} is not Kind/name or Kind/namespace/name, for example Node/node-3")


def _key(target: str) -> str:
    """As Target.key of an object that could be there, so that a pause of it works. Raises UsageError."""
    kind, namespace, name = _parts(target)
    if kinds.by_name(kind).namespaced != bool(namespace):
        raise UsageError(f"target {target!r}: a {kind} has {'no' if namespace else 'a'} namespace")
    if not kinds.possible_name(name):
        raise UsageError(f"target {target!r}: no object can have the name {name!r}")
    return Target(kind=kind, namespace=namespace, name=name).key


async def _answers(ask: Callable[[], Awaitable[Any]]) -> str:
    try:
        await ask()
    except RemediatorError as error:
        return f"does not answer: {error}"
    return "ok"
