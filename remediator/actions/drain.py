"""Drain a node as ``kubectl drain`` does, with what its users miss: owned cordon, plan first, budgets watched, waves, deadlines, a result.

The way of a drain: see what is there, refuse what cannot work, say the plan, cordon, evict in waves, wait until every pod is gone, list
until it stays quiet, wait until volumes are detached. Partial is failed; an unreachable node is never called drained. What it knows is in
``remediator.drain``; this file puts it in order.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from remediator.actions import Action, Context, Observed, Parameters, Rule
from remediator.clock import iso
from remediator.drain import cordon as cordons
from remediator.drain.classify import Fate, Rules, Sorted, classify, daemonset_of
from remediator.drain.eviction import Answer, evict, read
from remediator.drain.evictor import Evictor, Orders
from remediator.drain.health import unready_daemons
from remediator.drain.plan import Plan, make_plan
from remediator.drain.result import Outcome, PodResult
from remediator.drain.sight import Sight
from remediator.drain.volumes import attached, claims_of, volumes_of
from remediator.errors import KubeError, Refused, StepFailed
from remediator.fields import Duration
from remediator.kube import kinds
from remediator.kube.errors import NotFound
from remediator.kube.records import Node, Object, Pod
from remediator.model import Change, to_json
from remediator.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Drain"]

_OLDEST = 22
"""Minor version of Kubernetes from which on evictions are policy/v1."""
_AFTER_UNDO = timedelta(minutes=2)
_DETACH = timedelta(seconds=2)


class DrainParameters(Parameters):
    """``{action: node.drain, timeout: 15m, delete_emptydir_data: true}``"""

    delete_emptydir_data: bool = Field(default=False, description="evict pods with an emptyDir too; what is in it is lost")
    force: bool = Field(default=False, description="evict pods without a controller too; nothing makes them anew")
    grace_period: int | None = Field(default=None, ge=1, description="seconds that each pod gets to stop; absent: the pod's own")
    allow_zero_budget: tuple[str, ...] = Field(
        default=(),
        description="PodDisruptionBudgets ([namespace/]name) that allow nothing now and that an operator clears after the cordon",
    )
    parallel: int = Field(default=10, ge=1, le=100, description="evictions under way at once")
    headroom: Duration = Field(
        default=timedelta(seconds=30), ge=timedelta(0), description="how long after its grace period a pod may still be there"
    )
    skip_wait: Duration | None = Field(default=None, description="pods whose deletion is longer overdue than this are not waited for")
    quiet_for: Duration = Field(
        default=timedelta(seconds=5),
        ge=timedelta(seconds=1),
        le=timedelta(minutes=10),
        description="how long no pod may show up between two empty lists before the node counts as drained",
    )
    unreachable: Literal["fail", "mark"] = Field(
        default="fail",
        description="a node whose kubelet is silent: its pods are marked for deletion and the step fails, or (mark) succeeds and says so",
    )


class Drain(Action[DrainParameters]):
    """Empties the target node of all pods but those of DaemonSets and static ones."""

    name: ClassVar[str] = "node.drain"
    summary: ClassVar[str] = "cordon the target node and evict its pods, keeping to their PodDisruptionBudgets, until they are gone"
    changes: ClassVar[str] = f"evicts pods; spec.unschedulable and the annotation {cordons.ANNOTATION} of the Node"
    undone_by: ClassVar[str] = "lifting the cordon, if it is still the run's own; pods stay where they went"
    disruptive: ClassVar[bool] = True
    rbac: ClassVar[tuple[Rule, ...]] = (
        Rule(resources=("nodes",), verbs=("get", "list", "watch", "patch")),
        Rule(resources=("pods",), verbs=("get", "list", "watch")),
        Rule(resources=("pods/eviction",), verbs=("create",)),
        Rule(groups=("apps",), resources=("daemonsets",), verbs=("list",)),
        Rule(groups=("policy",), resources=("poddisruptionbudgets",), verbs=("list", "watch")),
        Rule(resources=("persistentvolumeclaims",), verbs=("get",)),
        Rule(groups=("storage.k8s.io",), resources=("volumeattachments",), verbs=("list",)),
    )
    Parameters: ClassVar[type[Parameters]] = DrainParameters

    async def check(self, ctx: Context, parameters: DrainParameters) -> None:
        """See Action. What can be known without a list of pods; the rest is refused by ``act`` before it changes anything."""
        del parameters
        if ctx.run.target.kind != "Node":
            raise Refused(Reason.TARGET_MISSING, f"only a Node can be drained; {ctx.run.target.key} is none")
        await _refuse_old_server(ctx)

    async def act(self, ctx: Context, parameters: DrainParameters) -> str:
        """See Action."""
        node = await ctx.kube.get(kinds.NODE, ctx.run.target.name, decode=Node)
        if node.uid != ctx.run.target.uid:
            raise Refused(Reason.TARGET_CHANGED, f"{ctx.run.target.key} is another node of that name now")
        async with Sight(ctx.kube, ctx.clock, node.name) as sight:
            return await _Drain(ctx, parameters, sight, node).carry()

    async def observe(self, ctx: Context, change: Change) -> Observed:
        """See Action: the node's note tells of the cordon, the pod's deletion of an eviction."""
        if change.resource.kind == "Node":
            return Observed.APPLIED if await cordons.took_effect(ctx, change) else Observed.ABSENT
        try:
            pod = await ctx.kube.get(kinds.POD, change.resource.name, change.resource.namespace, decode=Pod)
        except NotFound:
            return Observed.APPLIED
        return Observed.APPLIED if pod.uid != change.resource.uid or pod.terminating else Observed.ABSENT

    async def undo(self, ctx: Context, change: Change) -> str | None:
        """See Action: lifts the cordon if it is still this run's, then waits until the node's DaemonSet pods work."""
        said = await cordons.lift_of(ctx, change)
        if said is None:
            return None
        until = min(ctx.clock.now() + _AFTER_UNDO, ctx.deadline)

        async def settled() -> str | None:
            waiting = await unready_daemons(ctx.kube, change.resource.name)
            if not waiting:
                return said
            return f"{said}; {waiting}" if ctx.clock.now() >= until else None

        return await ctx.wait_for("the DaemonSet pods of the node to be ready", settled)


class _Drain:
    """One drain, from what is seen to what is proved."""

    def __init__(self, ctx: Context, parameters: DrainParameters, sight: Sight, node: Node) -> None:
        self._ctx = ctx
        self._parameters = parameters
        self._sight = sight
        self._node = node
        self._unreachable = node.ready_status == "Unknown"
        self._rules = Rules(delete_emptydir_data=parameters.delete_emptydir_data, force=parameters.force, skip_wait=self._skip_wait)
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
        return 1 if self._unreachable else self._parameters.grace_period

    @property
    def _skip_wait(self) -> timedelta | None:
        return timedelta(seconds=1) if self._unreachable else self._parameters.skip_wait

    async def carry(self) -> str:
        """See Action.act."""
        await self._learn(self._sight.pods.values())
        found = self._sort(self._sight.pods.values())
        plan = make_plan(found, self._sight.budgets.values(), allow_zero=frozenset(self._parameters.allow_zero_budget))
        if not self._ctx.changes and plan.refusals:
            raise Refused(plan.refusals[0].reason, "; ".join(f"{r.reason}: {r.detail}" for r in plan.refusals))
        await self._ctx.plan(self._lines(plan))
        if self._ctx.dry_run:
            return await self._rehearse(plan)
        if not self._ctx.changes:
            await self._probe(plan)
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

    def _lines(self, plan: Plan) -> list[str]:
        lines = [f"cordon {self._ctx.run.target.key}", *plan.lines()]
        if self._unreachable:
            lines.append("the node is unreachable: pods are marked for deletion with a grace of 1 s, and none is proved to be gone")
        return lines

    # --- before anything changes -------------------------------------------------------------------------------------

    async def _probe(self, plan: Plan) -> None:
        """One eviction for each namespace as a dry run of the API server: rights and webhooks show before the cordon."""
        first: dict[str, Pod] = {}
        for wave in plan.waves:
            for one in wave:
                first.setdefault(one.pod.namespace, one.pod)
        for pod in first.values():
            try:
                await self._ctx.kube.evict(pod.name, pod.namespace, uid=pod.uid, grace=self._grace, dry_run=True)
            except KubeError as error:
                reply = await read(self._ctx.kube, pod, error)
                if reply.answer in (Answer.FORBIDDEN, Answer.FAILED):
                    raise StepFailed(f"pods of namespace {pod.namespace} cannot be evicted: {reply.words}") from error

    async def _rehearse(self, plan: Plan) -> str:
        """The dry run: the cordon and each pod once, never again. What a budget allows is counted here, since the server does not."""
        await cordons.cordon(self._ctx, self._node.name)
        results = []
        for one in (one for wave in plan.waves for one in wave):
            reply = await evict(self._ctx, one.pod, grace=self._grace, claims=())
            results.append(PodResult(pod=f"{one.pod.namespace}/{one.pod.name}", outcome=_rehearsed(reply.answer), detail=reply.words))
        self._ctx.evidence("pods", to_json(results))
        never = [result for result in results if result.outcome.lost]
        if never:
            reason = Reason.PDB if never[0].outcome is Outcome.MULTI_PDB else None
            raise StepFailed("; ".join(f"{result.pod} {result.outcome}: {result.detail}" for result in never), reason=reason)
        held = sum(result.outcome is Outcome.BLOCKED_BY_PDB for result in results)
        wait = f"; {held} would have to wait for a budget" if held else ""
        return f"would evict {plan.evictions} pods and leave {len(plan.skipped)}{wait}"

    # --- doing -------------------------------------------------------------------------------------------------------

    async def _drain(self, found: tuple[Sorted, ...]) -> str:
        began = iso(self._ctx.clock.now())
        said = "cordoned by this run" if self._ctx.changes else await cordons.cordon(self._ctx, self._node.name)
        await self._sight.follow_node()
        orders = Orders(
            grace=self._grace,
            headroom=self._parameters.headroom,
            skip_wait=self._skip_wait,
            parallel=self._parameters.parallel,
            wait_until_gone=not self._unreachable,
        )
        self._evictor = evictor = Evictor(self._ctx, self._sight, orders, self._sort, self._volumes)
        mine = {change.resource.uid for change in self._ctx.changes}
        try:
            for one in found:
                evictor.take(one, ours=one.pod.uid in mine)
            await self._until_quiet(evictor)
            await self._until_detached()
        finally:
            self._ctx.evidence("pods", to_json(self._results()))
            self._ctx.evidence("times", {"began": began, "emptied": self._emptied})
        return self._end(evictor, said)

    async def _until_quiet(self, evictor: Evictor) -> None:
        """Evict until two lists, some time apart, show nothing to evict: a scheduler that had not seen the cordon may still bind pods."""
        while True:
            await self._know_volumes()
            await evictor.run()
            self._emptied = iso(self._ctx.clock.now())
            if await self._empty(evictor) and (self._unreachable or await self._stays_empty(evictor)):
                return

    async def _stays_empty(self, evictor: Evictor) -> bool:
        until = self._ctx.clock.now() + self._parameters.quiet_for
        while (left := until - self._ctx.clock.now()) > timedelta(0):
            await self._ctx.rest(self._sight.woken, left)
            if await self._take_newcomers(evictor):
                return False
        return await self._empty(evictor)

    async def _empty(self, evictor: Evictor) -> bool:
        """A fresh list shows no pod that has to go."""
        await self._sight.list_again()
        return not await self._take_newcomers(evictor)

    async def _take_newcomers(self, evictor: Evictor) -> bool:
        """Let pods go that came meanwhile, or that are there although they were said to be gone; whether there were any."""
        await self._learn(self._sight.pods.values())
        settled = {uid for uid, one in evictor.moving.items() if one.outcome is Outcome.SKIPPED or not one.outcome.over}
        found = [one for one in self._sort(self._sight.pods.values()) if one.fate is not Fate.SKIP and one.pod.uid not in settled]
        for one in found:
            evictor.take(one)
        return bool(found)

    async def _know_volumes(self) -> None:
        """Read which volumes the pods use while their claims can still be read."""
        for uid, pod in list(self._sight.pods.items()):
            if uid not in self._volumes and uid not in self._skipped and claims_of(pod):
                self._volumes[uid] = await volumes_of(self._ctx.kube, pod)

    async def _until_detached(self) -> None:
        before = {str(name) for change in self._ctx.changes for name in (change.before or {}).get("volumes", ())}
        volumes = frozenset(before | {name for names in self._volumes.values() for name in names})
        if not volumes or self._unreachable:
            return
        kept = {name for one in self._skipped.values() for name in await volumes_of(self._ctx.kube, one.pod)}

        async def detached() -> bool | None:
            left = await attached(self._ctx.kube, self._node.name, volumes - kept)
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
            if self._parameters.unreachable == "fail":
                raise StepFailed(words)
            return words
        evicted, left = outcomes.count(Outcome.EVICTED), outcomes.count(Outcome.GONE)
        parts = [f"drained: {evicted} pods evicted"]
        parts += [f"{left} went by themselves"] if left else []
        parts += [f"{len(self._skipped)} stay"] if self._skipped else []
        return f"{', '.join(parts)}; {said}" if "already" in said else ", ".join(parts)


def _rehearsed(answer: Answer) -> Outcome:
    return {
        Answer.BUDGET: Outcome.BLOCKED_BY_PDB,
        Answer.SEVERAL: Outcome.MULTI_PDB,
        Answer.FORBIDDEN: Outcome.FORBIDDEN,
        Answer.FAILED: Outcome.FAILED,
        Answer.GONE: Outcome.GONE,
    }.get(answer, Outcome.LEFT)


async def _refuse_old_server(ctx: Context) -> None:
    version = await ctx.kube.version()
    told = re.match(r"v?1\.(\d+)", version)
    if told and int(told[1]) < _OLDEST:
        raise Refused(Reason.UNREADABLE, f"Kubernetes {version} does not know policy/v1 evictions; 1.{_OLDEST} or newer is needed")
