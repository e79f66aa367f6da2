"""What actions on workloads share: which one is meant, and what forbids to replace its pods.

In: the run's target, or the object that parameters name. Out: the object as the API has it, and its pods. Refused, in words: what is marked
as protected, what belongs to Cilium (its own actions know what to look at), what is rolled out already, the only replica of something.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remediator.cilium.judge import crash_loop
from remediator.cilium.picture import OPERATOR_SELECTOR
from remediator.cluster.marks import forbidden
from remediator.cluster.rollout import KINDS, replicas
from remediator.errors import Refused, UsageError
from remediator.kube import kinds, records
from remediator.kube.errors import NotFound
from remediator.model import Resource
from remediator.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable

    from remediator.actions import Context
    from remediator.kube.records import Owner, Pod

__all__ = [
    "Thing",
    "pods_of",
    "refuse_ciliums",
    "refuse_crashing",
    "refuse_marked",
    "refuse_single",
    "resource_of",
    "services_of",
    "workload",
    "workload_of",
]

Thing = dict[str, Any]


async def workload(ctx: Context, kind: str, namespace: str, name: str) -> Thing:
    """The Deployment, StatefulSet or DaemonSet that is meant: the named one, else the target. Raises Refused."""
    target = ctx.run.target
    if not kind:
        kind, namespace, name = target.kind, target.namespace, target.name
    if kind not in KINDS:
        raise Refused(Reason.TARGET_MISSING, f"{kind} {name} is none of {', '.join(KINDS)}; name one with kind, namespace and name")
    found = await _get(ctx, kind, namespace, name)
    if found is None:
        raise Refused(Reason.TARGET_MISSING, f"{kind}/{namespace}/{name} does not exist")
    if (kind, namespace, name) == (target.kind, target.namespace, target.name) and found["metadata"]["uid"] != target.uid:
        raise Refused(Reason.TARGET_CHANGED, f"{target.key} is another one of that name now")
    return found


async def _get(ctx: Context, kind: str, namespace: str, name: str) -> Thing | None:
    """With its kind, which answers to a get carry but items of lists do not."""
    try:
        found = await ctx.kube.get(kinds.by_name(kind), name, namespace)
    except (NotFound, UsageError):
        return None
    return {**found, "kind": kind}


async def workload_of(ctx: Context, pod: Pod) -> Thing | None:
    """Who makes the pod's successor: its controller, or that one's Deployment. None where that is nothing known here."""
    owner: Owner | None = pod.controller
    if owner is not None and owner.kind == "ReplicaSet":
        found = await _get(ctx, "ReplicaSet", pod.namespace, owner.name)
        above = next((one for one in (found or {}).get("metadata", {}).get("ownerReferences") or () if one.get("controller")), None)
        if above is None:
            return found if found and found["metadata"]["uid"] == owner.uid else None
        kind, name, uid = above["kind"], above["name"], above["uid"]
    elif owner is not None:
        kind, name, uid = owner.kind, owner.name, owner.uid
    else:
        return None
    found = await _get(ctx, kind, pod.namespace, name) if kind in KINDS else None
    return found if found is not None and found["metadata"]["uid"] == uid else None


async def pods_of(ctx: Context, thing: Thing) -> tuple[Pod, ...]:
    """Every pod that it, or a ReplicaSet of it, controls; those on their way out included."""
    owners = {thing["metadata"]["uid"]}
    if thing["kind"] == "Deployment":
        sets = await ctx.kube.list(kinds.REPLICASET, thing["metadata"]["namespace"], decode=records.Object)
        owners |= {one.uid for one in sets.items if one.controller is not None and one.controller.uid in owners}
    found = await ctx.kube.list(kinds.POD, thing["metadata"]["namespace"], decode=records.Pod)
    return tuple(pod for pod in found.items if pod.controller is not None and pod.controller.uid in owners)


async def services_of(ctx: Context) -> list[Thing]:
    """The Services whose selectors fit the pods of the target workload. Raises KubeError."""
    target = ctx.run.target
    workload = await ctx.kube.get(kinds.by_name(target.kind), target.name, target.namespace)
    labels = workload["spec"]["template"]["metadata"].get("labels") or {}
    return [one for one in (await ctx.kube.list(kinds.SERVICE, target.namespace)).items if _leads_to(one, labels)]


def _leads_to(service: Thing, labels: dict[str, str]) -> bool:
    selector = service["spec"].get("selector") or {}
    return bool(selector) and selector.items() <= labels.items()


def resource_of(thing: Thing) -> Resource:
    """As changes name it."""
    meta = thing["metadata"]
    return Resource(kind=thing["kind"], namespace=meta["namespace"], name=meta["name"], uid=meta["uid"])


async def refuse_marked(ctx: Context, thing: Thing) -> None:
    """Gates look at the run's target; what a step names besides, and its namespace, may carry a mark of their own. Raises Refused."""
    namespace = await ctx.kube.get(kinds.NAMESPACE, thing["metadata"]["namespace"])
    for kind, one in ((thing["kind"], thing), ("Namespace", namespace)):
        if mark := forbidden(one):
            raise Refused(Reason.PROTECTED, f"{kind} {one['metadata']['name']} carries {mark}")


def refuse_ciliums(ctx: Context, namespace: str, labels: dict[str, str]) -> None:
    """A restart of agents or operator has gates and proofs of its own, which this would go around. Raises Refused."""
    for action, selector in (("cilium.restart_agent", ctx.cilium.agent_selector), ("cilium.restart_operator", OPERATOR_SELECTOR)):
        key, _, value = selector.partition("=")
        if namespace == ctx.cilium.namespace and labels.get(key) == value:
            raise Refused(Reason.PROTECTED, f"{selector} in {namespace} is Cilium's; {action} knows what to look at before and after")


def refuse_single(thing: Thing, allowed: Iterable[str]) -> None:
    """The only replica is gone until its successor works. ``allowed``: [namespace/]name of those where that is accepted. Raises Refused."""
    meta, wanted = thing["metadata"], replicas(thing)
    if wanted == 0:
        raise Refused(Reason.TARGET_MISSING, f"{thing['kind']} {meta['name']} is scaled to 0: there is nothing to replace")
    if wanted > 1 or thing["kind"] == "DaemonSet" or {meta["name"], f"{meta['namespace']}/{meta['name']}"} & set(allowed):
        return
    words = f"{thing['kind']} {meta['namespace']}/{meta['name']} has one replica; allow_single_replica: [{meta['name']}] accepts that"
    raise Refused(Reason.SINGLE_REPLICA, words)


def refuse_crashing(ctx: Context, pods: Iterable[Pod]) -> None:
    """Raises Refused where a container crashes by itself: its log is what helps."""
    if words := crash_loop(pods, ctx.clock.now()):
        raise Refused(Reason.CRASH_LOOPING, words)
