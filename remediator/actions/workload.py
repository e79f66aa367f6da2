"""Restart a workload by a rollout, as ``kubectl rollout restart`` does it, and believe only a rollout that is complete.

In: a Deployment, StatefulSet or DaemonSet, which is the target or named by parameters. Out: every pod of it is new and works.
Refused before anything changes: a rollout under way or held back (paused, OnDelete, a partition), one replica, pods that crash by
themselves, a workload that is marked, Cilium's own, one whose template Git writes itself, a second restart of it in one run.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from remediator.actions import Action, Context, Observed, Parameters, Rule
from remediator.actions.workloads import (
    Thing,
    pods_of,
    refuse_ciliums,
    refuse_crashing,
    refuse_marked,
    refuse_single,
    resource_of,
    workload,
)
from remediator.bgp.gitops import managed_by
from remediator.cilium.hold import hold
from remediator.cilium.once import refuse_second
from remediator.clock import iso
from remediator.cluster.rollout import RESTARTED_AT, held_back, pending, replicas, restarted_at, rolling, stuck
from remediator.errors import Refused, StepFailed
from remediator.fields import Duration
from remediator.kube import kinds
from remediator.kube.errors import NotFound
from remediator.reasons import Reason
from remediator.units import format_duration

if TYPE_CHECKING:
    from remediator.model import Change, Resource

__all__ = ["RolloutRestart"]

_PEOPLE = ("kubectl", "remediator", "argocd-server", "before-first-apply")
"""Field managers whose annotation no GitOps controller puts back: kubectl's and ours, and the restart button of Argo CD."""


class RolloutParameters(Parameters):
    """``{action: workload.rollout_restart, kind: Deployment, namespace: kube-system, name: hubble-relay, timeout: 10m}``"""

    kind: Literal["", "Deployment", "StatefulSet", "DaemonSet"] = Field(
        default="", description="with name and namespace; absent: the target"
    )
    namespace: str = ""
    name: str = ""
    allow_single_replica: tuple[str, ...] = Field(
        default=(), description="workloads ([namespace/]name) that may be restarted though they have one replica only"
    )
    ready_for: Duration = Field(
        default=timedelta(seconds=30),
        ge=timedelta(0),
        le=timedelta(minutes=10),
        description="how long the rollout must stay complete before the step succeeds",
    )

    @model_validator(mode="after")
    def _whole(self) -> RolloutParameters:
        if len({bool(self.kind), bool(self.namespace), bool(self.name)}) > 1:
            raise ValueError("kind, namespace and name belong together; without all three it is the target")
        return self


class RolloutRestart(Action[RolloutParameters]):
    """Rolls one workload."""

    name: ClassVar[str] = "workload.rollout_restart"
    summary: ClassVar[str] = "restart a Deployment, StatefulSet or DaemonSet by a rollout and wait until it is complete"
    changes: ClassVar[str] = f"the annotation {RESTARTED_AT} of the pod template; its pods are replaced as its strategy says"
    undone_by: ClassVar[str] = "nothing to undo: taking the annotation back would restart it once more"
    disruptive: ClassVar[bool] = True
    rbac: ClassVar[tuple[Rule, ...]] = (
        Rule(groups=("apps",), resources=("deployments", "statefulsets", "daemonsets"), verbs=("get", "patch")),
        Rule(groups=("apps",), resources=("replicasets",), verbs=("list",)),
        Rule(resources=("pods",), verbs=("list",)),
        Rule(resources=("namespaces",), verbs=("get",)),
    )
    brings: ClassVar[tuple[str, ...]] = ("duplicate", "recurrence")
    Parameters: ClassVar[type[Parameters]] = RolloutParameters

    async def check(self, ctx: Context, parameters: RolloutParameters) -> None:
        """See Action."""
        if ctx.changes:
            return  # it was sent before a crash; what is left to do disturbs nothing
        found = await _workload(ctx, parameters)
        refuse_second(ctx.run, self.name, on=resource_of(found).key)
        refuse_ciliums(ctx, found["metadata"]["namespace"], _template_labels(found))
        await refuse_marked(ctx, found)
        if words := held_back(found) or rolling(found):
            raise Refused(Reason.ROLLOUT_IN_PROGRESS, words)
        if words := _reverted(found):
            raise Refused(Reason.GITOPS_MANAGED, words)
        refuse_single(found, parameters.allow_single_replica)
        refuse_crashing(ctx, await pods_of(ctx, found))

    async def act(self, ctx: Context, parameters: RolloutParameters) -> str:
        """See Action."""
        if ctx.changes:
            resource = ctx.changes[-1].resource
        else:
            found = await _workload(ctx, parameters)
            resource = resource_of(found)
            await ctx.plan(_plan(found, parameters))
            await _patch(ctx, resource, restarted_at(found))
        if ctx.dry_run:
            return f"would restart {resource.key}"
        await hold(ctx, f"the rollout of {resource.key}", lambda: _pending(ctx, resource), lasting=parameters.ready_for)
        return f"{resource.key} was restarted; its rollout is complete for {format_duration(parameters.ready_for)}"

    async def observe(self, ctx: Context, change: Change) -> Observed:
        """See Action: the annotation is the change. Somebody else's later restart hides ours, and then nobody can tell."""
        try:
            raw = await ctx.kube.get(kinds.by_name(change.resource.kind), change.resource.name, change.resource.namespace)
        except NotFound:
            return Observed.ABSENT
        value = restarted_at(raw)
        if raw["metadata"]["uid"] != change.resource.uid or value == (change.before or {}).get(RESTARTED_AT):
            return Observed.ABSENT
        return Observed.APPLIED if value == (change.after or {}).get(RESTARTED_AT) else Observed.UNCLEAR


async def _workload(ctx: Context, parameters: RolloutParameters) -> Thing:
    return await workload(ctx, parameters.kind, parameters.namespace, parameters.name)


def _template_labels(found: Thing) -> dict[str, str]:
    labels: dict[str, str] = (found["spec"]["template"].get("metadata") or {}).get("labels") or {}
    return labels


def _reverted(found: Thing) -> str:
    """Why GitOps would put the annotation back: only where it wrote it itself.

    What Git does not have is left alone: for Argo CD a field that only the live object has is no difference, and its own restart button
    works the same way; Flux takes back what kubectl applied, not what other managers own.
    """
    who = managed_by(found)
    for entry in found["metadata"].get("managedFields") or () if who else ():
        fields = entry.get("fieldsV1") or {}
        for part in ("f:spec", "f:template", "f:metadata", "f:annotations"):
            fields = fields.get(part) or {}
        if f"f:{RESTARTED_AT}" in fields and not entry.get("manager", "").startswith(_PEOPLE):
            return f"{who}, and {entry.get('manager')} writes {RESTARTED_AT} itself: it would restart the pods once more"
    return ""


def _plan(found: Thing, parameters: RolloutParameters) -> list[str]:
    key, wanted = resource_of(found).key, replicas(found)
    lines = [
        f"restart {key} by a rollout: {wanted} pods are replaced as its strategy says",
        f"wait until the rollout is complete, and stays so for {format_duration(parameters.ready_for)}",
    ]
    if wanted == 1 and found["kind"] != "DaemonSet":
        lines.append("mind: it has one replica, which is allowed by name; what it does may be interrupted")
    if who := managed_by(found):
        lines.append(f"mind: {who}; it leaves this annotation alone")
    return [*lines, "nothing is to be undone"]


async def _patch(ctx: Context, resource: Resource, before: str | None) -> None:
    """One merge patch that holds the uid, so that it fails (409) on a workload that was deleted and made anew."""
    stamp = iso(ctx.clock.now())
    body = {"metadata": {"uid": resource.uid}, "spec": {"template": {"metadata": {"annotations": {RESTARTED_AT: stamp}}}}}
    kind = kinds.by_name(resource.kind)

    async def call(request_id: str, dry_run: bool) -> Any:  # noqa: FBT001 - the shape that ctx.change calls
        return await ctx.kube.patch(kind, resource.name, body, resource.namespace, type="merge", dry_run=dry_run, request_id=request_id)

    await ctx.change("patch", resource, call, before={RESTARTED_AT: before}, after={RESTARTED_AT: stamp}, undoable=False)


async def _pending(ctx: Context, resource: Resource) -> str:
    found = {**await ctx.kube.get(kinds.by_name(resource.kind), resource.name, resource.namespace), "kind": resource.kind}
    if found["metadata"]["uid"] != resource.uid:
        raise StepFailed(f"{resource.key} was deleted and made anew while its rollout was watched")
    if words := stuck(found):
        raise StepFailed(words)
    return pending(found)
