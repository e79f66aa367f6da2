"""Evicts the pods of a node, wave by wave, and waits until they are gone.

In: what is seen (Sight), who goes (Moving), how (Orders). Out: nothing, once no pod is left; else StepFailed that says which pods are left,
why, and which budget holds them. A pod that can never go ends the drain: it could not succeed, so nothing more is disturbed.

One loop decides, a bounded number of tasks send. The loop sleeps until something changes (a pod, a budget, an answer) or a time comes.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from remediator.drain.budgets import Covering, free, key_of, numbers
from remediator.drain.classify import Fate, Sorted
from remediator.drain.eviction import Answer, Reply, evict
from remediator.drain.pressure import Pressure, headroom, pause
from remediator.drain.result import Moving, Outcome, reason_of, summary
from remediator.errors import KubeError, StepFailed
from remediator.model import Noun, evolve
from remediator.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from datetime import datetime

    from remediator.actions import Context
    from remediator.drain.sight import Sight
    from remediator.kube.records import Pod
    from remediator.kube.workloads import PodDisruptionBudget

__all__ = ["Evictor", "Orders"]

_RELIST = timedelta(seconds=30)
_AGAIN = timedelta(seconds=2)
"""Between two lists, where a pod should be gone by now."""
_JUDGE = timedelta(seconds=60)
_REPORT = timedelta(seconds=1)
_PATIENCE = 12
"""Failures of the server for one pod before it counts as failed; throttling and budgets are none."""
log = structlog.get_logger(__name__)


class Orders(Noun, frozen=True, kw_only=True):
    """How to evict. ``grace``: None is the pod's own."""

    grace: int | None = None
    headroom: timedelta = timedelta(seconds=30)
    skip_wait: timedelta | None = None
    parallel: int = 10
    wait_until_gone: bool = True
    """False on an unreachable node: there a deletion is accepted and never completes."""


class Evictor:
    """Used once per step."""

    def __init__(
        self,
        ctx: Context,
        sight: Sight,
        orders: Orders,
        welcome: Callable[[Iterable[Pod]], Awaitable[tuple[Sorted, ...]]],
        volumes: dict[str, tuple[str, ...]],
    ) -> None:
        self.moving: dict[str, Moving] = {}
        """By uid."""
        self._ctx = ctx
        self._sight = sight
        self._orders = orders
        self._welcome = welcome
        self._volumes = volumes
        self._pressure = Pressure()
        self._covering = Covering()
        self._tasks: set[asyncio.Task[None]] = set()
        now = ctx.clock.now()
        self.newest = now
        """When the last pod that has to go came into sight."""
        self._listed, self._judged, self._reported = now, now, now
        self._wave: bool | None = None
        self._throttled_until = now
        """The API server asked everybody to wait, or did not answer."""

    async def run(self) -> None:
        """Until no pod is left that must go. Raises StepFailed."""
        try:
            while True:
                self._raise_faults()
                await self._look()
                if self._done():
                    return
                await self._keep_watch()
                await self._launch()
                await self._report()
                await self._ctx.rest(self._sight.woken, self._until())
        finally:
            await self._settle()

    def take(self, one: Sorted, *, ours: bool = False) -> None:
        """Let the pod go too; it is known from now on. ``ours``: it was evicted before a crash."""
        known = self.moving.get(one.pod.uid)
        if one.fate in (Fate.EVICT, Fate.WAIT) and (known is None or known.outcome.over):
            self.moving[one.pod.uid] = Moving(sorted=one, ours=ours)
            self.newest = self._ctx.clock.now()

    # --- looking -----------------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        """Bring what is known of each pod up to date; pods that came meanwhile are taken in, or refused."""
        now = self._ctx.clock.now()
        for uid, one in self.moving.items():
            pod = self._sight.pods.get(uid)
            if pod is None:
                self._went(one)
            else:
                one.sorted = evolve(one.sorted, pod=pod)
                self._note_leaving(one, now)
        late = [pod for uid, pod in self._sight.pods.items() if uid not in self.moving]
        for sorted_ in await self._welcome(late):
            if sorted_.reason is not None:
                raise StepFailed(f"{sorted_.pod.namespace}/{sorted_.pod.name} came meanwhile and {sorted_.why}", reason=sorted_.reason)
            self.take(sorted_)
        lost = [one for one in self.moving.values() if one.outcome.lost]
        if lost:
            raise StepFailed(self._account(lost), reason=reason_of(lost))

    def _went(self, one: Moving) -> None:
        if not one.outcome.over and not one.in_flight:
            one.outcome, one.words = (Outcome.EVICTED if one.ours else Outcome.GONE), ""

    def _note_leaving(self, one: Moving, now: datetime) -> None:
        """A terminating pod is waited for: its own grace and some headroom, by our own clock, since its timestamp is by another.

        Only a list from after that time says that it is still there: an API server that is away tells no more of pods that went.
        """
        pod = one.pod
        if not pod.terminating or one.outcome.over or one.outcome.lost:
            return
        if one.leaving_since is None:
            one.leaving_since = now
        one.outcome, one.words = Outcome.LEAVING, ""
        if pod.metadata.finalizers:
            one.words = f"held by finalizers {', '.join(pod.metadata.finalizers)}"
        stamp, skip = pod.metadata.deletion_timestamp, self._orders.skip_wait
        if skip is not None and stamp is not None and now - stamp > skip:
            one.outcome, one.words = Outcome.SKIPPED, "its deletion is long overdue; not waited for"
        elif self._orders.wait_until_gone and self._sight.listed_at > self._deadline_of(one):
            one.outcome = Outcome.STUCK_TERMINATING
            one.words = one.words or f"its kubelet did not stop it{self._node_state()}"

    def _deadline_of(self, one: Moving) -> datetime:
        grace = self._orders.grace if self._orders.grace is not None and one.ours else one.pod.spec.termination_grace_period_seconds
        assert one.leaving_since is not None  # noqa: S101 - it is terminating
        return one.leaving_since + timedelta(seconds=grace) + self._orders.headroom

    def _overdue(self, one: Moving, now: datetime) -> bool:
        return self._orders.wait_until_gone and one.outcome is Outcome.LEAVING and now > self._deadline_of(one)

    def _node_state(self) -> str:
        node = self._sight.node
        return f"; node {node.name} is Ready={node.ready_status}" if node is not None and not node.ready else ""

    def _done(self) -> bool:
        if self._tasks:
            return False
        return all(one.outcome.over or (one.pod.terminating and not self._orders.wait_until_gone) for one in self.moving.values())

    async def _keep_watch(self) -> None:
        """Stop if somebody uncordoned, the time is up or a gate refuses; list again from time to time."""
        now = self._ctx.clock.now()
        node, target = self._sight.node, self._ctx.run.target
        if node is None or node.uid != target.uid:
            raise StepFailed(f"{target.key} was deleted in the middle of the drain", reason=Reason.TARGET_CHANGED)
        if not node.unschedulable:
            raise StepFailed(f"somebody uncordoned {target.key} in the middle of the drain; nothing more is evicted. {self._account()}")
        if now >= self._ctx.deadline:
            left = [one for one in self.moving.values() if not one.outcome.over]
            raise StepFailed(self._account(left), reason=reason_of(left))
        if now - self._judged >= _JUDGE:
            self._judged = now
            await self._ctx.still_allowed()
        if now - self._listed >= (_AGAIN if any(self._overdue(one, now) for one in self.moving.values()) else _RELIST):
            self._listed = now
            try:
                await self._sight.list_again()
            except KubeError as error:
                log.warning("the node's pods could not be listed again", error=str(error))

    # --- sending -----------------------------------------------------------------------------------------------------

    async def _launch(self) -> None:
        """Start as many evictions of the present wave as limits and budgets allow."""
        wave = [one for one in self.moving.values() if not one.outcome.over]
        critical = all(one.sorted.critical for one in wave)
        if critical != self._wave:
            if self._wave is not None:
                await self._ctx.still_allowed()
                self._judged = self._ctx.clock.now()
            self._wave = critical
        if self._ctx.clock.now() < self._throttled_until:
            return
        self._covering.look(self._sight.budgets.values())
        full: dict[str, str] = {}
        for one in wave:
            if len(self._tasks) >= self._orders.parallel:
                return
            if one.sorted.critical is critical and self._may_try(one, full):
                self._start(one)

    def _may_try(self, one: Moving, full: dict[str, str]) -> bool:
        """Whether its eviction may be sent now. ``full``: budgets that allow no more in this turn, and what is said of them."""
        now = self._ctx.clock.now()
        if one.in_flight or one.outcome.lost or one.pod.terminating or one.leaving_since is not None:
            return False
        if one.not_before is not None and now < one.not_before:
            return False
        mine = self._covering.of(one.pod)
        if len(mine) > 1:
            one.outcome, one.words = Outcome.MULTI_PDB, " and ".join(map(key_of, mine))
            self._sight.woken.set()
            return False
        one.asked = {}
        for budget in mine:
            if free(one.pod, budget):
                continue
            key = key_of(budget)
            if key not in full and self._is_full(budget, now):
                said = self._pressure.said(key)
                full[key] = f"{key} ({numbers(budget)})" + (f"; the API server says: {said}" if said else "")
            if key in full:
                one.outcome, one.words = Outcome.BLOCKED_BY_PDB, full[key]
                return False
            one.asked = {key: budget.metadata.resource_version}
        return True

    def _is_full(self, budget: PodDisruptionBudget, now: datetime) -> bool:
        if self._sight.budgets_are_fresh and headroom(budget, self.moving.values()) <= 0:
            return True
        return not self._pressure.open(budget, now)

    def _start(self, one: Moving) -> None:
        one.in_flight = True
        one.tries += 1
        task = asyncio.create_task(self._try(one), name=f"evict {one.label}")
        self._tasks.add(task)
        task.add_done_callback(lambda _: self._sight.woken.set())

    async def _try(self, one: Moving) -> None:
        try:
            reply = await evict(self._ctx, one.pod, grace=self._orders.grace, claims=self._volumes.get(one.pod.uid, ()))
            self._take_reply(one, reply)
        finally:
            one.in_flight = False

    def _take_reply(self, one: Moving, reply: Reply) -> None:
        now = self._ctx.clock.now()
        if reply.answer is Answer.ACCEPTED:
            one.ours, one.leaving_since, one.outcome, one.words = True, now, Outcome.LEAVING, ""
            for key in one.asked:
                self._pressure.granted(key)
            return
        asked, one.asked = one.asked, {}
        one.words = reply.words
        one.not_before = now + pause(one.tries, at_least=reply.after)
        if reply.after or reply.answer is Answer.AWAY:
            self._throttled_until = one.not_before
        one.busy += reply.answer is Answer.BUSY and not reply.after
        match reply.answer:
            case Answer.GONE:
                one.outcome = Outcome.GONE
            case Answer.BUDGET:
                self._refused(one, reply, asked, now)
            case Answer.SEVERAL:
                one.outcome = Outcome.MULTI_PDB
            case Answer.FORBIDDEN:
                one.outcome = Outcome.FORBIDDEN
            case Answer.FAILED:
                one.outcome = Outcome.FAILED
            case _ if one.busy >= _PATIENCE:
                one.outcome = Outcome.FAILED
            case _:
                one.outcome = Outcome.LEFT

    def _refused(self, one: Moving, reply: Reply, asked: dict[str, str], now: datetime) -> None:
        """429 by a budget: said at once, since a drain that hangs without a word is what people curse (kubernetes/kubectl#172)."""
        log.info("a budget does not allow an eviction", pod=one.label, says=reply.words, tries=one.tries)
        one.outcome, one.not_before = Outcome.BLOCKED_BY_PDB, None
        for key, version in asked.items():
            self._pressure.refused(key, version, now, reply.words)
        if not asked:
            one.not_before = now + pause(one.tries)
        self._reported = now - _REPORT

    def _raise_faults(self) -> None:
        """What a task raised is this loop's to raise; that the time is up it knows itself, and says better what is left then."""
        for task in [task for task in self._tasks if task.done()]:
            self._tasks.discard(task)
            error = task.exception()
            if error is not None and not (isinstance(error, StepFailed) and error.reason is Reason.DEADLINE):
                raise error

    async def _settle(self) -> None:
        """Leave no task behind: calls under way end, and their outcomes reach the disk."""
        if self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- telling -----------------------------------------------------------------------------------------------------

    async def _report(self) -> None:
        now = self._ctx.clock.now()
        if now - self._reported >= _REPORT:
            self._reported = now
            await self._ctx.progress(self._account())

    def _account(self, about: list[Moving] | None = None) -> str:
        """How it stands: how many are left, and for each cause which pods, a few by name."""
        causes: dict[str, list[str]] = {}
        for one in self.moving.values() if about is None else about:
            if one.words and not one.outcome.over:
                causes.setdefault(f"{one.outcome.value}: {one.words}", []).append(one.label)
        parts = [summary(self.moving.values())]
        for cause, pods in list(causes.items())[:5]:
            more = f" and {len(pods) - 3} more" if len(pods) > 3 else ""
            parts.append(f"{', '.join(pods[:3])}{more} {cause}")
        return "; ".join(parts)

    def _until(self) -> timedelta:
        """How long the loop may sleep if nothing wakes it."""
        now = self._ctx.clock.now()
        times = [self._ctx.deadline, self._listed + _RELIST, self._judged + _JUDGE]
        times += [self._throttled_until] if self._throttled_until > now else []
        times += [one.not_before for one in self.moving.values() if one.not_before is not None and one.not_before > now]
        leaving = [one for one in self.moving.values() if one.outcome is Outcome.LEAVING and one.leaving_since is not None]
        times += [max(self._deadline_of(one), self._listed + _AGAIN) for one in leaving]
        if self._orders.skip_wait is not None:
            stamps = (one.pod.metadata.deletion_timestamp for one in self.moving.values() if one.outcome is Outcome.LEAVING)
            times += [stamp + self._orders.skip_wait for stamp in stamps if stamp is not None]
        ends = self._pressure.next(self._sight.budgets)
        times += [ends] if ends is not None and ends > now else []
        return max(min(times) - now, timedelta(milliseconds=50))
