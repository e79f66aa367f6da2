"""What an action is given: the doors, and the only way to change the cluster, which writes the intent down before the call.

In: one step of one run. Out: changes on disk. Refuses to send anything once a person cancelled or paused, or the step's time is up.
"""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar

import structlog

from remediator.actions import Observed
from remediator.approval import ask, question
from remediator.clock import iso
from remediator.errors import KubeError, MonitoringError, NotLeading, StepFailed
from remediator.gates.paused import paused_by_mark
from remediator.kube import kinds
from remediator.kube.errors import AlreadyExists, NotFound
from remediator.model import PLAN, Change, ChangeState, Evidence, encode, evolve, new_id
from remediator.reasons import Reason
from remediator.settings import Event
from remediator.telling import Message
from remediator.words import folded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from datetime import datetime

    from remediator.actions import Action, Cilium
    from remediator.clock import Clock
    from remediator.kube import Kube
    from remediator.model import Resource, Run, Step, Target
    from remediator.monitoring import Alertmanager, Prometheus
    from remediator.probing import Prober
    from remediator.world import Asking, World

__all__ = ["CancelledByPersonError", "StepContext"]

log = structlog.get_logger(__name__)
R = TypeVar("R")

_EVERY = timedelta(seconds=1)
_REST = 3
"""How much longer than a look the pause after it is at least, so that lists of a large cluster are not asked for one after another."""
_UNREADABLE = timedelta(seconds=10)
"""Between two questions to gates that could not be read in mid-step."""
_FRESH = timedelta(seconds=1)
"""So old may be what is known of a pause mark when a call goes out."""
_LONGEST_WORDS = 2000
"""Characters of a message to people."""
_EVIDENCE_LIMIT = 64 * 1024
"""Bytes of JSON that one piece of evidence may have in the journal."""


class Refusal(Protocol):
    """What the gates said, where they said no."""

    @property
    def reason(self) -> Reason | None:
        """Of the first that refused."""
        ...

    @property
    def detail(self) -> str:
        """Of all that refused."""
        ...


class CancelledByPersonError(Exception):
    """Somebody asked to cancel the run; nothing further is sent. ``str()`` says who and why."""


class StepContext:
    """See ``remediator.actions.Context``. ``undoes`` marks every change as putting that one back."""

    def __init__(self, world: World, run: Run, step: Step, action: Action[Any], *, deadline: datetime, undoes: str = "") -> None:
        self.run = run
        self.kube: Kube = world.kube
        self.prometheus: Prometheus | None = world.prometheus
        self.alertmanager: Alertmanager | None = world.alertmanager
        self.probe: Prober = world.probe
        self.clock: Clock = world.clock
        self.step = step
        self.files: Mapping[str, Any] = {}
        """Given by the run stage."""
        self.cilium: Cilium = world.cilium
        self.min_speakers = world.limits.min_speakers
        self.dry_run = run.dry_run
        self.seen: list[Evidence] = []
        self._said = ""
        self.changes: tuple[Change, ...] = ()
        self.deadline = deadline
        self.judge: Callable[[], Awaitable[Refusal | None]] | None = None
        """Asks every gate again; given by the run stage."""
        self.preview: Callable[[], Awaitable[None]] | None = None
        """Writes down what would be done once people say yes; given by the run stage."""
        self.asking: Asking = world.asking
        """How people are asked; the run stage knows what the playbook says."""
        self._looks: dict[tuple[str, str], tuple[datetime, asyncio.Future[dict[str, Any]]]] = {}
        """What was looked at for marks, and when."""
        self.asked = False
        """Whether people said yes in this step."""
        self._world = world
        self._step = step
        self._action = action
        self._undoes = undoes
        self._heeds = "" if undoes else run.id
        self._cancelled = world.signals.cancelled(self._heeds)
        self._resolved = world.signals.resolved(self._heeds)

    async def plan(self, lines: Sequence[str]) -> None:
        """See Context."""
        if any(known.name == PLAN for known in (*self._step.evidence, *self.seen)):
            return  # after a crash the first one stands, since a part of it may be done already
        self.evidence(PLAN, list(lines))
        await self._save_progress()

    async def progress(self, words: str) -> None:
        """See Context."""
        if words != self._said:
            self._said = words
            await self._save_progress()

    async def rest(self, woken: asyncio.Event, at_most: timedelta) -> None:
        """See Context."""
        news = (woken.wait(), self._cancelled.wait(), self._resolved.wait(), self.clock.sleep(at_most))
        waits = [asyncio.ensure_future(w) for w in news]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        woken.clear()
        await self._heed_people()
        if self._resolved.is_set():
            self._resolved.clear()
            await self.still_allowed()

    async def ask(self, text: str, *, expires: timedelta | None = None, people: int | None = None) -> str:
        """See Context."""
        if self.preview is not None:
            await self.preview()
        fewest, own = self._world.asking.people, people or self.asking.people
        asking = evolve(self.asking, expires=expires or self.asking.expires, people=max(own, fewest))
        answered = await ask(self._world, self.run.id, question(asking, self.clock.now(), text=text, step=self._step.index))
        if answered.reason is Reason.CANCELLED_BY:
            raise CancelledByPersonError
        if answered.reason is not None:
            raise StepFailed(answered.detail, reason=answered.reason)
        self.asked = True
        return answered.detail

    async def still_allowed(self) -> None:
        """See Context."""
        refused = await self.judge() if self.judge else None
        if refused is not None and refused.reason is Reason.UNREADABLE:
            refused = await self._once_readable(refused)
        if refused is not None:
            raise StepFailed(f"stopped in the middle, a gate refuses now: {refused.detail}", reason=refused.reason)

    async def _once_readable(self, refused: Refusal) -> Refusal | None:
        """What the gates say as soon as all that they ask can be read, or at the step's end: whoever waits here sends nothing."""
        judge, detail = self.judge, refused.detail
        assert judge is not None  # noqa: S101 - it said so
        log.warning("the step waits, since a gate cannot be read", run=self.run.id, step=self._step.name, detail=detail)
        while (left := self.deadline - self.clock.now()) > timedelta(0):
            await self.progress(f"waits until the gates can be read: {detail}")
            await self._world.signals.sleep(self.clock, self._heeds, min(_UNREADABLE, left))
            await self._heed_people()
            again = await judge()
            if again is None or again.reason is not Reason.UNREADABLE:
                return again
            refused = again
        return refused

    async def settle(self, change: Change, words: str) -> None:
        """See Context."""
        if change.left_behind:
            await self._close(change, ChangeState.KEPT, words)

    async def put_back(self, run: str, resource: Resource, mark: str) -> None:
        """See Context."""
        if self.dry_run:
            return
        stored = await self._world.journal.run(run)
        changes = [change for step in stored.steps for change in step.changes] if stored else []
        for change in changes:
            if change.left_behind and change.resource.uid == resource.uid and mark in (change.after or {}):
                detail = f"put back by run {self.run.id}"
                await self._world.journal.save_change(evolve(change, state=ChangeState.UNDONE, detail=detail, ended_at=self.clock.now()))
        self._world.feed.publish("run", run)

    async def _save_progress(self) -> None:
        """Neither undoing nor a step of an ended run has a row of its own to write to."""
        if self._undoes:
            return
        at = self.clock.now() if self._said else None
        step = evolve(self._step, detail=self._said, detail_at=at, evidence=(*self._step.evidence, *self.seen))
        async with self._world.signals.writing(self.run.id):
            await self._world.journal.save_step(self.run.id, step)
        self._world.feed.publish("run", self.run.id)

    async def tell(self, text: str, *, title: str = "", routes: Sequence[str] = ()) -> tuple[str, ...]:
        """See Context."""
        run = self.run
        message = Message(
            id=f"{run.id}.step.{self._step.index}",
            event=Event.PREDICTED if run.dry_run else Event.STEP,
            at=iso(self.clock.now()),
            summary=folded(str(self._world.redact.data(text)), _LONGEST_WORDS),
            playbook=run.playbook,
            target=run.target.key,
            run=run.id,
            state=run.state.value,
            alert=run.alert.name if run.alert else "",
            title=title,
            aside=True,
        )
        self._world.teller.tell_later(message, routes)
        return self._world.teller.taking(message, routes)

    def evidence(self, name: str, data: Any) -> None:
        """See Context."""
        clean = self._world.redact.data(data)
        size = len(encode(clean))
        if size > _EVIDENCE_LIMIT:
            clean = {
                "cut": f"{size} bytes of JSON; the first {_EVIDENCE_LIMIT} follow",
                "text": encode(clean)[:_EVIDENCE_LIMIT].decode("utf-8", "ignore"),
            }
        self.seen.append(Evidence(name=name, at=self.clock.now(), data=clean))

    async def wait_for(self, what: str, look: Callable[[], Awaitable[R | None]], *, every: timedelta | None = None) -> R:
        """See Context. A look that cannot be answered now counts as nothing seen yet."""
        return await self._wait(what, look, every=every or _EVERY, heed=True)

    async def _wait(self, what: str, look: Callable[[], Awaitable[R | None]], *, every: timedelta, heed: bool) -> R:
        while True:
            if heed:
                await self._heed_people()
            began = time.monotonic()
            try:
                found = await look()
            except (KubeError, MonitoringError) as error:
                if not error.retryable:
                    raise StepFailed(f"waiting for {what}: {error}") from error
                found, what_else = None, f" (last look failed: {error})"
            else:
                what_else = ""
            if found is not None:
                return found
            if self.clock.now() >= self.deadline:
                raise StepFailed(f"waited for {what} until {iso(self.deadline)}{what_else}", reason=Reason.DEADLINE)
            pause = max(every, timedelta(seconds=_REST * (time.monotonic() - began)))
            await self._world.signals.sleep(self.clock, self._heeds if heed else "", min(pause, self.deadline - self.clock.now()))

    async def change(
        self,
        verb: str,
        resource: Resource,
        call: Callable[[str, bool], Awaitable[Any]],
        *,
        before: dict[str, Any] | None = None,
        after: dict[str, Any] | None = None,
        undoable: bool = True,
        repeatable: bool = False,
    ) -> Change:
        """See Context."""
        self._heed_leadership()
        await self._heed_people()
        if not self._undoes and (lost := self._world.leases.lost(self.run.id)):
            raise StepFailed(f"{verb} {resource.key} was not sent: the lease on the target is lost: {lost}", reason=Reason.LOST_LEASE)
        await self._heed_marks(resource)
        now = self.clock.now()
        if now >= self.deadline:
            raise StepFailed(f"{verb} {resource.key} was not sent: the time for it ended {iso(self.deadline)}", reason=Reason.DEADLINE)
        identity = new_id(now)
        change = Change(
            id=identity,
            run=self.run.id,
            step=self._step.name,
            action=self._action.name,
            verb=verb,
            resource=resource,
            before=before,
            after=after,
            undoes=self._undoes,
            undoable=undoable,
            request_id=identity,
            state=ChangeState.INTENDED,
            dry_run=self.dry_run,
            at=now,
        )
        await self._world.journal.save_change(change)
        sending = asyncio.ensure_future(self._send(change, call, repeatable=repeatable))
        try:
            return await asyncio.shield(sending)
        except asyncio.CancelledError:
            await sending  # the daemon stops: the call under way ends and its outcome reaches the disk first
            raise

    def _heed_leadership(self) -> None:
        if not self._world.may_act:
            self._hand_over()

    def _hand_over(self) -> NoReturn:
        """End here, as when the daemon stops, since another replica may lead: it takes the run up, looks, and goes on."""
        log.error("nothing is sent: this replica leads no more", run=self.run.id, step=self._step.name)
        raise asyncio.CancelledError

    async def _send(self, change: Change, call: Callable[[str, bool], Awaitable[Any]], *, repeatable: bool) -> Change:
        self._heed_leadership()  # once more, since the process may have stood still while the intent was written
        try:
            await call(change.request_id, self.dry_run)
        except NotLeading:  # the door asks too, when the connection stands
            self._hand_over()
        except (KubeError, MonitoringError) as error:
            if isinstance(error, AlreadyExists) and not self.dry_run:
                return await self._after_doubt(change, error, repeatable=True)
            if not getattr(error, "maybe_applied", True):
                await self._close(change, ChangeState.ABSENT, str(error))
                raise StepFailed(f"{change.verb} {change.resource.key}: {error}") from error
            return await self._after_doubt(change, error, repeatable=repeatable)
        if self.dry_run:
            return await self._close(change, ChangeState.INTENDED, "dry run: the API server would have accepted it")
        return await self._close(change, _applied(change))

    async def _after_doubt(self, change: Change, error: KubeError | MonitoringError, *, repeatable: bool) -> Change:
        """The call may have taken effect without an answer, now or earlier: look; only what may be sent twice may be sent again."""
        seen = await self.observe(change)
        if seen is Observed.APPLIED:
            return await self._close(change, _applied(change), f"seen to have taken effect after: {error}")
        if seen is Observed.FOREIGN:
            await self._close(change, ChangeState.FOREIGN, str(error))
            raise StepFailed(f"{change.verb} {change.resource.key}: somebody else's is there: {error}") from error
        if repeatable and seen is Observed.ABSENT:
            await self._close(change, ChangeState.ABSENT, f"seen not to have taken effect after: {error}")
            raise StepFailed(f"{change.verb} {change.resource.key}: {error}") from error
        await self._close(change, ChangeState.UNKNOWN, str(error))
        raise StepFailed(f"{change.verb} {change.resource.key} may or may not have taken effect: {error}", unknown=True) from error

    async def observe(self, change: Change) -> Observed:
        """What the cluster says about ``change``; UNCLEAR if it cannot be asked in the step's time.

        People who cancelled or paused want nothing to be sent; that a call which may have been sent is looked at is no less due then.
        """
        what = f"a look at {change.resource.key}"
        try:
            seen = await self._wait(what, lambda: self._action.observe(self, change), every=_EVERY, heed=False)
        except StepFailed as error:
            log.warning("a change could not be looked at", change=change.id, error=str(error))
            return Observed.UNCLEAR
        return seen

    async def recover(self, change: Change) -> Observed:
        """A change whose outcome is not on disk after a crash: look, and write down what is seen."""
        seen = await self.observe(change)
        state = {
            Observed.APPLIED: _applied(change),
            Observed.ABSENT: ChangeState.ABSENT,
            Observed.FOREIGN: ChangeState.FOREIGN,
            Observed.UNCLEAR: ChangeState.UNKNOWN,
        }[seen]
        if change.dry_run:
            state = ChangeState.INTENDED
        await self._close(change, state, f"looked at after a restart: {seen}")
        return seen

    async def _close(self, change: Change, state: ChangeState, detail: str = "") -> Change:
        closed = evolve(change, state=state, detail=detail, ended_at=self.clock.now())
        await self._world.journal.save_change(closed)
        if state in (ChangeState.APPLIED, ChangeState.KEPT):
            self._world.events.acted(self.run, closed)
        self._world.tracing.call(self.run, self._step, closed)
        self._world.feed.publish("run", self.run.id)
        return closed

    async def _heed_people(self) -> None:
        """Raise if the run was cancelled, or paused since it began."""
        if self._undoes:
            return  # putting things back goes on after a cancel and under a pause
        if self._cancelled.is_set():
            raise CancelledByPersonError
        await self._heed_pauses(self.run.target)

    async def _heed_pauses(self, *things: Target) -> None:
        now = self.clock.now()
        for pause in await self._world.journal.pauses(now):
            if any(pause.covers(playbook=self.run.playbook, target=thing.key, now=now) for thing in things):
                raise StepFailed(f"paused by {pause.by}: {pause.reason}", reason=Reason.PAUSED)

    async def _heed_marks(self, resource: Resource) -> None:
        """Raise if what is about to be changed is paused, or carries the mark, or the target or a namespace does; also if none can tell."""
        if self._undoes:
            return
        await self._heed_pauses(resource)
        marked = {("Node", thing.name) for thing in (self.run.target, resource) if thing.kind == "Node"}
        marked |= {("Namespace", thing.namespace) for thing in (self.run.target, resource) if thing.namespace}
        for kind, name in sorted(marked):
            try:
                thing = await self._looked_at(kind, name)
            except NotFound:
                continue  # the call itself tells
            except KubeError as error:
                raise StepFailed(f"whether {kind}/{name} is paused cannot be read: {error}", reason=Reason.UNREADABLE) from error
            why = paused_by_mark(thing, self.clock.now())
            if why is not None:
                raise StepFailed(f"{kind}/{name} {why}", reason=Reason.PAUSED)

    async def _looked_at(self, kind: str, name: str) -> dict[str, Any]:
        """The object as it was no longer than a moment ago: calls that go out together share one look."""
        now = self.clock.now()
        at, look = self._looks.get((kind, name), (now, None))
        if look is None or (look.done() and (now - at > _FRESH or look.cancelled() or look.exception() is not None)):
            look = asyncio.ensure_future(self.kube.get(kinds.by_name(kind), name))
            self._looks[kind, name] = now, look
        return await asyncio.shield(look)


def _applied(change: Change) -> ChangeState:
    """The state of a change that took effect; the same whether its answer came or a look after a crash tells."""
    return ChangeState.APPLIED if change.undoable else ChangeState.KEPT
