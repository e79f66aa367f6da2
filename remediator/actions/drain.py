"""Drain a node as ``kubectl drain`` does, with what its users miss: owned cordon, plan first, budgets watched, waves, deadlines, a result.

The way of a drain: see what is there, refuse what cannot work, say the plan, cordon, evict in waves, wait until every pod is gone, list
until it stays quiet, wait until volumes are detached. Partial is failed; an unreachable node is never called drained. What it knows is in
``remediator.drain``; ``course`` there puts it in order.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from remediator.actions import Action, Context, Observed, Parameters, Rule
from remediator.drain import cordon as cordons
from remediator.drain.course import Course, Wishes
from remediator.drain.health import unready_daemons
from remediator.drain.sight import Sight
from remediator.errors import Refused
from remediator.fields import Duration
from remediator.kube import kinds
from remediator.kube.errors import NotFound
from remediator.kube.records import Node, Pod
from remediator.reasons import Reason

if TYPE_CHECKING:
    from remediator.model import Change

__all__ = ["Drain"]

_OLDEST = 22
"""Minor version of Kubernetes from which on evictions are policy/v1."""
_AFTER_UNDO = timedelta(minutes=2)


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
        description="how long no new pod may have shown up, and then a list be empty, before the node counts as drained",
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
    brings: ClassVar[tuple[str, ...]] = ("capacity", "evictable")
    rbac: ClassVar[tuple[Rule, ...]] = (
        Rule(resources=("nodes",), verbs=("get", "list", "watch", "patch")),
        Rule(resources=("pods",), verbs=("get", "list", "watch")),
        Rule(resources=("pods/eviction",), verbs=("create",)),
        Rule(groups=("apps",), resources=("daemonsets",), verbs=("list",)),
        Rule(groups=("policy",), resources=("poddisruptionbudgets",), verbs=("list", "watch")),
        Rule(resources=("persistentvolumeclaims",), verbs=("get", "list")),
        Rule(resources=("persistentvolumes", "namespaces"), verbs=("list",)),
        Rule(groups=("storage.k8s.io",), resources=("volumeattachments", "storageclasses"), verbs=("list",)),
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
            return await Course(ctx, Wishes(**dict(parameters)), sight, node).carry()

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


async def _refuse_old_server(ctx: Context) -> None:
    version = await ctx.kube.version()
    told = re.match(r"v?1\.(\d+)", version)
    if told and int(told[1]) < _OLDEST:
        raise Refused(Reason.UNREADABLE, f"Kubernetes {version} does not know policy/v1 evictions; 1.{_OLDEST} or newer is needed")
