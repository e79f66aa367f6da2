"""The course of one drain, from what is seen to what is proved.

In: a Context, the wishes of the playbook, what is seen of the node. Out: one sentence. Raised: Refused before any change, else StepFailed.
After a crash it is begun anew and finds what is left: pods that went are gone, pods that were evicted are only waited for.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

from remediator.clock import iso
from remediator.drain.classify import Fate, Rules, Sorted, classify, daemonset_of
from remediator.drain.cordon import cordon
from remediator.drain.evictor import Evictor, Orders
from remediator.drain.plan import Plan, make_plan
from remediator.drain.rehearsal import probe, rehearse
from remediator.drain.result import Outcome, PodResult
from remediator.drain.volumes import attached, claims_of, volumes_of
from remediator.errors import Refused, StepFailed
from remediator.kube import kinds
from remediator.kube.records import Node, Object, Pod
from remediator.kube.workloads import PodDisruptionBudget
from remediator.model import Noun, to_json
from remediator.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from remediator.actions import Context
    from remediator.drain.plan import Refusal
    from remediator.drain.sight import Sight
    from remediator.kube import Kube

__all__ = ["Course", "Wishes", "hindrances"]

_DETACH = timedelta(seconds=2)
_SILENT = timedelta(seconds=1)
"""How long after its end a deletion on an unreachable node is waited for (Cluster API, machine_controller.go)."""


class Wishes(Noun, frozen=True, kw_only=True):
    """What the playbook says about this drain; the action's parameters, described there."""

    delete_emptydir_data: bool
    force: bool
    grace_period: int | None
    allow_zero_budget: tuple[str, ...]
    parallel: int
    headroom: timedelta
    skip_wait: timedelta | None
    quiet_for: timedelta
    unreachable: str

    def rules(self, node: Node) -> Rules:
        """By which the pods of ``node`` are sorted. A kubelet that is silent ends none, so a deletion that is overdue is not waited for."""
        skip_wait = _SILENT if _is_silent(node) else self.skip_wait
        return Rules(delete_emptydir_data=self.delete_emptydir_data, force=self.force, skip_wait=skip_wait)


def _is_silent(node: Node) -> bool:
    return node.ready_status == "Unknown"


async def hindrances(kube: Kube, name: str, wishes: Wishes, *, now: datetime) -> tuple[Refusal, ...]:
    """Everything that would keep the node from ever being drained as wished, as the drain itself would find it. Raises KubeError."""
    node, pods, budgets = await asyncio.gather(
        kube.get(kinds.NODE, name, decode=Node),
        kube.list(kinds.POD, fields=f"spec.nodeName={name}", decode=Pod),
        kube.list(kinds.PDB, decode=PodDisruptionBudget),
    )
    sets = await kube.list(kinds.DAEMONSET, decode=Object) if any(map(daemonset_of, pods.items)) else None
    known = frozenset((one.namespace, one.name) for one in sets.items) if sets is not None else frozenset()
    found = classify(pods.items, wishes.rules(node), daemonsets=known, now=now)
    return make_plan(found, budgets.items, allow_zero=frozenset(wishes.allow_zero_budget)).refusals


class Course:
    """One drain, from what is seen to what is proved."""

    def __init__(self, ctx: Context, wishes: Wishes, sight: Sight, node: Node) -> None:
        self._ctx = ctx
        self._wishes = wishes
        self._sight = sight
        self._node = node
        self._unreachable = _is_silent(node)
        self._rules = wishes.rules(node)
        self._daemonsets: frozenset[tuple[str, str]] = frozenset()
        self._asked: set[tuple[str, str]] = set()
        self._volumes: dict[str, tuple[str, ...]] = {}
        """Pod uid -> the volumes that have to be detached."""
        self._evictor: Evictor | None = None
        self._skipped: dict[str, Sorted] = {}
        self._emptied = ""

    @property
    def _grace(self) -> int | None:
        """A kubelet that is silent gives no grace: its pods are marked and forgotten (Cluster API, machine_controller.go)."""
        return 1 if self._unreachable else self._wishes.grace_period

    async def carry(self) -> str:
        """See Action.act."""
        await self._learn(self._sight.pods.values())
        found = self._sort(self._sight.pods.values())
        plan = make_plan(found, self._sight.budgets.values(), allow_zero=frozenset(self._wishes.allow_zero_budget))
        if not self._ctx.changes and plan.refusals:
            raise Refused(plan.refusals[0].reason, "; ".join(f"{r.reason}: {r.detail}" for r in plan.refusals))
        await self._ctx.plan(self._lines(plan))
        if not self._ctx.changes:
            await probe(self._ctx, plan, self._grace)
        if self._ctx.dry_run:
            return await rehearse(self._ctx, plan, self._node.name, self._grace)
        return await self._drain(found)

    # --- looking -----------------------------------------------------------------------------------------------------

    async def _learn(self, pods: Iterable[Pod]) -> None:
        """Read which DaemonSets exist, if there is a pod of one that is not known. What cannot be read stops the drain."""
        new = {key for pod in pods if (key := daemonset_of(pod)) is not None} - self._asked
        if new:
            listing = await self._ctx.kube.list(kinds.DAEMONSET, decode=Object)
            self._daemonsets |= {(one.namespace, one.name) for one in listing.items}
            self._asked |= new

    def _sort(self, pods: Iterable[Pod]) -> tuple[Sorted, ...]:
        evicted = {str(change.before["controller"]) for change in self._ctx.changes if change.before and "controller" in change.before}
        if self._evictor is not None:
            mine = (one for one in self._evictor.moving.values() if one.ours or one.in_flight)
            evicted |= {one.pod.controller.uid for one in mine if one.pod.controller}
        found = classify(pods, self._rules, daemonsets=self._daemonsets, now=self._ctx.clock.now(), evicted=frozenset(evicted))
        self._skipped |= {one.pod.uid: one for one in found if one.fate is Fate.SKIP}
        return found

    async def _welcome(self, pods: Iterable[Pod]) -> tuple[Sorted, ...]:
        """What becomes of pods that are new here. What they need to be known by is asked for until the API server tells."""
        every = list(pods)
        if any(self._unknown(pod) for pod in every):
            await self._ctx.wait_for("what new pods belong to and use", lambda: self._get_to_know(every))
        return self._sort(every)

    def _unknown(self, pod: Pod) -> bool:
        """Whether something is to be asked before it can be sorted."""
        daemonset = daemonset_of(pod)
        return (daemonset is not None and daemonset not in self._asked) or (pod.uid not in self._volumes and bool(claims_of(pod)))

    async def _get_to_know(self, pods: list[Pod]) -> bool:
        """Also the volumes that each uses, while its claims can still be read."""
        await self._learn(pods)
        for pod in pods:
            if pod.uid not in self._volumes and claims_of(pod):
                self._volumes[pod.uid] = await volumes_of(self._ctx.kube, pod)
        return True

    def _lines(self, plan: Plan) -> list[str]:
        lines = [f"cordon {self._ctx.run.target.key}", *plan.lines()]
        if self._unreachable:
            lines.append("the node is unreachable: pods are marked for deletion with a grace of 1 s, and none is proved to be gone")
        return lines

    # --- doing -------------------------------------------------------------------------------------------------------

    async def _drain(self, found: tuple[Sorted, ...]) -> str:
        began = iso(self._ctx.clock.now())
        if self._ctx.changes:
            await self._ctx.still_allowed()  # much may have happened while nobody was here
        said = "cordoned by this run" if self._ctx.changes else await cordon(self._ctx, self._node.name)
        await self._sight.follow_node()
        await self._list_again()
        orders = Orders(
            grace=self._grace,
            headroom=self._wishes.headroom,
            skip_wait=self._rules.skip_wait,
            parallel=self._wishes.parallel,
            wait_until_gone=not self._unreachable,
        )
        self._evictor = evictor = Evictor(self._ctx, self._sight, orders, self._welcome, self._volumes)
        mine = {change.resource.uid for change in self._ctx.changes}
        try:
            for one in await self._welcome(one.pod for one in found):
                evictor.take(one, ours=one.pod.uid in mine)
            await self._until_quiet(evictor)
            await self._until_detached()
        finally:
            self._ctx.evidence("pods", to_json(self._results()))
            self._ctx.evidence("times", {"began": began, "emptied": self._emptied})
        return self._end(evictor, said)

    async def _until_quiet(self, evictor: Evictor) -> None:
        """Evict until a list is empty and nothing new came for a while: a scheduler that had not seen the cordon may still bind pods.

        Counted from the list after the cordon, or from the last pod that came since, not from the last pod's end: a scheduler learns of the
        cordon while pods stop as well as afterwards (docs/adr/0009).
        """
        while True:
            await evictor.run()
            self._emptied = iso(self._ctx.clock.now())
            if not await self._newcomers_in_time(evictor):
                await self._list_again()
                if not await self._take_newcomers(evictor):
                    return
            if self._ctx.clock.now() >= self._ctx.deadline:
                raise StepFailed(f"pods come to {self._node.name} again and again, until {iso(self._ctx.deadline)}", reason=Reason.DEADLINE)

    async def _newcomers_in_time(self, evictor: Evictor) -> bool:
        """Watch until it was quiet for long enough; whether pods came meanwhile."""
        until = evictor.newest + self._wishes.quiet_for
        while not self._unreachable and (left := until - self._ctx.clock.now()) > timedelta(0):
            await self._ctx.rest(self._sight.woken, left)
            if await self._take_newcomers(evictor):
                return True
        return False

    async def _list_again(self) -> None:
        """See all pods of the node anew, since a watch may have missed something; asked for until there is an answer."""

        async def listed() -> bool:
            await self._sight.list_again()
            return True

        await self._ctx.wait_for("a list of the node's pods", listed)

    async def _take_newcomers(self, evictor: Evictor) -> bool:
        """Let pods go that came meanwhile, or that are there although they were said to be gone; whether there were any."""
        settled = {uid for uid, one in evictor.moving.items() if one.outcome is Outcome.SKIPPED or not one.outcome.over}
        here = await self._welcome(self._sight.pods.values())
        found = [one for one in here if one.fate is not Fate.SKIP and one.pod.uid not in settled]
        for one in found:
            evictor.take(one)
        return bool(found)

    async def _until_detached(self) -> None:
        before = {str(name) for change in self._ctx.changes for name in (change.before or {}).get("volumes", ())}
        gone = {name for uid, names in self._volumes.items() if uid not in self._skipped for name in names}
        kept = {name for uid, names in self._volumes.items() if uid in self._skipped for name in names}
        volumes = frozenset(before | gone) - kept
        if not volumes or self._unreachable:
            return

        async def detached() -> bool | None:
            left = await attached(self._ctx.kube, self._node.name, volumes)
            if left:
                await self._ctx.progress(f"every pod is gone; still attached: {', '.join(left)}")
            return None if left else True

        await self._ctx.wait_for("volumes to be detached", detached, every=_DETACH)

    # --- telling -----------------------------------------------------------------------------------------------------

    def _results(self) -> list[PodResult]:
        """Each pod's end."""
        moved = [one.result() for one in self._evictor.moving.values()] if self._evictor else []
        left = [PodResult(pod=f"{s.pod.namespace}/{s.pod.name}", outcome=Outcome.SKIPPED, detail=s.why) for s in self._skipped.values()]
        return [*moved, *left]

    def _end(self, evictor: Evictor, said: str) -> str:
        outcomes = [one.outcome for one in evictor.moving.values()]
        if self._unreachable:
            marked = sum(not outcome.over or outcome is Outcome.SKIPPED for outcome in outcomes)
            words = f"{self._node.name} is unreachable: {marked} pods are marked for deletion, none is proved to be gone; it is not drained"
            if self._wishes.unreachable == "fail":
                raise StepFailed(words)
            return words
        evicted, left = outcomes.count(Outcome.EVICTED), outcomes.count(Outcome.GONE)
        parts = [f"drained: {evicted} pods evicted"]
        parts += [f"{left} went by themselves"] if left else []
        parts += [f"{len(self._skipped)} stay"] if self._skipped else []
        return f"{', '.join(parts)}; {said}" if "already" in said else ", ".join(parts)
