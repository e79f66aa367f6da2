"""Replace one pod of a workload: by an eviction, which keeps to PodDisruptionBudgets, or by a delete, which does not ask them.

In: a pod, which is the target, or the only one that parameters find. Out: its successor is ready. Refused before anything changes: no pod,
or several, one that nothing makes anew (unless forced), a workload in mid-rollout, the only replica, a pod that crashes by itself, a node
that could not stop it, what is marked, Cilium's own.
"""

from __future__ import annotations

from abc import abstractmethod
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from remediator.actions import Action, Context, Observed, Parameters, Rule
from remediator.actions.workloads import Thing, pods_of, refuse_ciliums, refuse_crashing, refuse_marked, refuse_single, workload_of
from remediator.cilium.hold import hold
from remediator.cilium.once import refuse_second
from remediator.cluster.rollout import rolling
from remediator.errors import Refused, StepFailed
from remediator.fields import Duration
from remediator.kube import kinds, records
from remediator.kube.errors import NotFound, SeveralBudgets, TooManyRequests
from remediator.model import Change, Resource
from remediator.reasons import Reason
from remediator.units import format_duration

if TYPE_CHECKING:
    from remediator.kube.records import Pod

__all__ = ["DeletePod", "EvictPod"]


class PodParameters(Parameters):
    """``{action: workload.evict_pod, namespace: storage, labels: app=csi-node, fields: "spec.nodeName=${target.name}"}``"""

    namespace: str = Field(default="", description="where the pod is; absent: the target is the pod")
    name: str = Field(default="", description="of the pod; else labels or fields, which must find exactly one")
    labels: str = Field(default="", description="label selector, where no name is given")
    fields: str = Field(default="", description="field selector, where no name is given")
    force: bool = Field(default=False, description="a pod without a controller too; nothing makes it anew")
    allow_single_replica: tuple[str, ...] = Field(default=(), description="workloads ([namespace/]name) whose only replica may be replaced")
    ready_for: Duration = Field(
        default=timedelta(seconds=30),
        ge=timedelta(0),
        le=timedelta(minutes=10),
        description="how long the successor must stay ready before the step succeeds",
    )

    @model_validator(mode="after")
    def _one(self) -> PodParameters:
        selected = bool(self.labels or self.fields)
        if self.name and selected:
            raise ValueError("name, or labels and fields; not both")
        if bool(self.namespace) != (bool(self.name) or selected):
            raise ValueError("a namespace, and in it a name or labels or fields; without all of them the pod is the target")
        return self


class _Replace(Action[PodParameters]):
    """What both have in common."""

    disruptive: ClassVar[bool] = True
    undone_by: ClassVar[str] = "nothing to undo: the pod's controller replaces it"
    brings: ClassVar[tuple[str, ...]] = ("duplicate", "recurrence")
    Parameters: ClassVar[type[Parameters]] = PodParameters
    verb: ClassVar[str]

    @abstractmethod
    async def send(self, ctx: Context, old: Resource, request_id: str, *, dry_run: bool) -> Any:
        """The call."""

    async def check(self, ctx: Context, parameters: PodParameters) -> None:
        """See Action."""
        if ctx.changes:
            return  # it was sent before a crash; what is left to do disturbs nothing
        pod = await _pod(ctx, parameters)
        refuse_second(ctx.run, self.name, on=_resource(pod).key)
        refuse_ciliums(ctx, pod.namespace, pod.labels)
        thing = await _maker(ctx, pod, parameters)
        await refuse_marked(ctx, {"kind": "Pod", "metadata": _metadata(pod)})
        if thing is not None:
            await refuse_marked(ctx, thing)
            if thing["kind"] != "ReplicaSet" and (words := rolling(thing)):
                raise Refused(Reason.ROLLOUT_IN_PROGRESS, words)
            refuse_single(thing, parameters.allow_single_replica)
        refuse_crashing(ctx, [pod])
        await _refuse_silent_node(ctx, pod)

    async def act(self, ctx: Context, parameters: PodParameters) -> str:
        """See Action."""
        if ctx.changes:
            old, before = ctx.changes[-1].resource, ctx.changes[-1].before or {}
        else:
            pod = await _pod(ctx, parameters)
            thing = await _maker(ctx, pod, parameters)
            old, before = _resource(pod), await _look_before(ctx, pod, thing)
            await ctx.plan(self._plan(pod, thing, parameters))
            await self._change(ctx, old, before)
        if ctx.dry_run:
            return f"would {self.verb} {old.key}"
        if not before.get("kind"):
            await hold(ctx, f"{old.key} to be gone", lambda: _gone(ctx, old), lasting=timedelta(0))
            return f"{old.key} is gone; nothing makes it anew"
        new = await _prove(ctx, old, before, parameters.ready_for)
        return f"{old.name} was replaced by {new}, ready for {format_duration(parameters.ready_for)}"

    async def _change(self, ctx: Context, old: Resource, before: dict[str, Any]) -> None:
        async def call(request_id: str, dry_run: bool) -> Any:  # noqa: FBT001 - the shape that ctx.change calls
            return await self.send(ctx, old, request_id, dry_run=dry_run)

        try:
            await ctx.change(self.verb, old, call, before=before, undoable=False)
        except StepFailed as error:
            cause = error.__cause__
            if isinstance(cause, SeveralBudgets) or (isinstance(cause, TooManyRequests) and cause.budget is not None):
                raise StepFailed(error.detail, reason=Reason.PDB) from error
            raise

    def _plan(self, pod: Pod, thing: Thing | None, parameters: PodParameters) -> list[str]:
        first = f"{self.verb} pod {pod.namespace}/{pod.name} (uid {pod.uid}, {'Ready' if pod.ready else 'not ready'}) on {pod.node_name}"
        if thing is None:
            return [f"{first}; it has no controller that is known here, so nothing may make it anew", "wait until it is gone"]
        made = f"{thing['kind']} {thing['metadata']['name']} makes a new one"
        return [
            f"{first}; {made}",
            f"wait for the new one to be Ready for {format_duration(parameters.ready_for)}",
            "nothing is to be undone",
        ]

    async def observe(self, ctx: Context, change: Change) -> Observed:
        """See Action: the call carried the uid, so the old pod's fate tells."""
        try:
            pod = await ctx.kube.get(kinds.POD, change.resource.name, change.resource.namespace, decode=records.Pod)
        except NotFound:
            return Observed.APPLIED
        return Observed.APPLIED if pod.uid != change.resource.uid or pod.terminating else Observed.ABSENT


_READS = (
    Rule(resources=("nodes", "namespaces"), verbs=("get",)),
    Rule(resources=("pods",), verbs=("get", "list")),
    Rule(groups=("apps",), resources=("deployments", "statefulsets", "daemonsets", "replicasets"), verbs=("get",)),
    Rule(groups=("apps",), resources=("replicasets",), verbs=("list",)),
)


class DeletePod(_Replace):
    """Deletes the pod, whatever budgets say."""

    name: ClassVar[str] = "workload.delete_pod"
    summary: ClassVar[str] = "delete one pod and wait until its successor is ready; PodDisruptionBudgets are not asked"
    changes: ClassVar[str] = "deletes one pod by uid; its controller makes a new one"
    rbac: ClassVar[tuple[Rule, ...]] = (*_READS, Rule(resources=("pods",), verbs=("delete",)))
    verb: ClassVar[str] = "delete"

    async def send(self, ctx: Context, old: Resource, request_id: str, *, dry_run: bool) -> Any:
        """See _Replace."""
        return await ctx.kube.delete(kinds.POD, old.name, old.namespace, uid=old.uid, dry_run=dry_run, request_id=request_id)


class EvictPod(_Replace):
    """Evicts the pod, if its budget allows it now."""

    name: ClassVar[str] = "workload.evict_pod"
    summary: ClassVar[str] = "evict one pod, keeping to its PodDisruptionBudget, and wait until its successor is ready"
    changes: ClassVar[str] = "evicts one pod by uid; its controller makes a new one"
    rbac: ClassVar[tuple[Rule, ...]] = (*_READS, Rule(resources=("pods/eviction",), verbs=("create",)))
    verb: ClassVar[str] = "evict"

    async def send(self, ctx: Context, old: Resource, request_id: str, *, dry_run: bool) -> Any:
        """See _Replace."""
        await ctx.kube.evict(old.name, old.namespace, uid=old.uid, dry_run=dry_run, request_id=request_id)


# --- before --------------------------------------------------------------------------------------------------------------


async def _pod(ctx: Context, parameters: PodParameters) -> Pod:
    """The one live pod that is meant. Raises Refused."""
    target = ctx.run.target
    if parameters.labels or parameters.fields:
        listing = await ctx.kube.list(
            kinds.POD, parameters.namespace, labels=parameters.labels, fields=parameters.fields, decode=records.Pod
        )
        found = [pod for pod in listing.items if not pod.terminating and not pod.finished]
        what = " ".join(part for part in (parameters.labels, parameters.fields) if part)
        if len(found) != 1:
            reason = Reason.TARGET_AMBIGUOUS if found else Reason.TARGET_MISSING
            names = f": {', '.join(pod.name for pod in found[:5])}" if found else ""
            raise Refused(reason, f"{len(found)} live pods in {parameters.namespace} with {what}, not one{names}")
        return found[0]
    if not parameters.name and target.kind != "Pod":
        raise Refused(Reason.TARGET_MISSING, f"{target.key} is no Pod; name one with namespace, and name, labels or fields")
    name, namespace = parameters.name or target.name, parameters.namespace or target.namespace
    try:
        pod = await ctx.kube.get(kinds.POD, name, namespace, decode=records.Pod)
    except NotFound as error:
        raise Refused(Reason.TARGET_MISSING, f"Pod/{namespace}/{name} does not exist") from error
    if not parameters.name and pod.uid != target.uid:
        raise Refused(Reason.TARGET_CHANGED, f"{target.key} is another one of that name now")
    if pod.terminating:
        raise Refused(Reason.TARGET_MISSING, f"Pod/{namespace}/{name} is on its way out already")
    return pod


async def _maker(ctx: Context, pod: Pod, parameters: PodParameters) -> Thing | None:
    """Who makes its successor; None if it is forced. Raises Refused."""
    if pod.mirror:
        raise Refused(Reason.UNMANAGED_PODS, f"{pod.name} is a static pod: the kubelet runs it from a file, and goes on doing so")
    thing = await workload_of(ctx, pod)
    if thing is None and not parameters.force:
        owner = pod.controller
        words = f"its controller is {owner.kind} {owner.name}, which is not known to make it anew" if owner else "it has no controller"
        raise Refused(Reason.UNMANAGED_PODS, f"{pod.namespace}/{pod.name}: {words}; force: true accepts that")
    return thing


async def _refuse_silent_node(ctx: Context, pod: Pod) -> None:
    if not pod.node_name:
        return
    node = await ctx.kube.get(kinds.NODE, pod.node_name, decode=records.Node)
    if not node.ready:
        raise Refused(Reason.AGENT_NOT_READY, f"node {node.name} is not Ready: its kubelet could not stop {pod.name}")


def _metadata(pod: Pod) -> dict[str, Any]:
    return {"name": pod.name, "namespace": pod.namespace, "labels": pod.labels, "annotations": pod.annotations}


def _resource(pod: Pod) -> Resource:
    return Resource(kind="Pod", namespace=pod.namespace, name=pod.name, uid=pod.uid)


async def _look_before(ctx: Context, pod: Pod, thing: Thing | None) -> dict[str, Any]:
    """What the proof will be measured by."""
    if thing is None:
        return {"uid": pod.uid, "node": pod.node_name}
    pods = [one.uid for one in await pods_of(ctx, thing)]
    meta = thing["metadata"]
    return {"uid": pod.uid, "node": pod.node_name, "pods": sorted(pods), "kind": thing["kind"], "name": meta["name"], "owner": meta["uid"]}


# --- after ---------------------------------------------------------------------------------------------------------------


async def _gone(ctx: Context, old: Resource) -> str:
    try:
        pod = await ctx.kube.get(kinds.POD, old.name, old.namespace, decode=records.Pod)
    except NotFound:
        return ""
    return "" if pod.uid != old.uid else f"{old.key} is still there"


async def _prove(ctx: Context, old: Resource, before: dict[str, Any], ready_for: timedelta) -> str:
    """The name of the successor, once it stayed ready. Raises StepFailed."""
    owner: Thing = {"kind": before["kind"], "metadata": {"namespace": old.namespace, "name": before["name"], "uid": before["owner"]}}
    seen: list[Pod] = []

    def fits(pod: Pod) -> bool:
        if before["kind"] == "StatefulSet" and pod.name != old.name:
            return False
        return bool(before["kind"] != "DaemonSet" or pod.node_name == before["node"])

    async def look() -> str:
        pods = [pod for pod in await pods_of(ctx, owner) if pod.uid not in before["pods"] and not pod.terminating and fits(pod)]
        if not pods:
            seen.clear()
            return f"{before['kind']} {before['name']} has made no new pod yet"
        works = [pod for pod in pods if pod.ready]
        if not works:
            seen.clear()
            return f"{', '.join(pod.name for pod in pods[:5])} is not ready"
        another = bool(seen) and seen[0].uid not in {pod.uid for pod in works}
        if another or not seen:
            seen[:] = works[:1]
        return f"{works[0].name} took the place of the one that was watched" if another else ""

    await hold(ctx, f"the successor of {old.name} to stay ready", look, lasting=ready_for)
    return seen[0].name
