"""What the API server fills in when an object is created: defaults that clients see, first statuses, labels.

In comes a new object (altered in place), out comes nothing. Only what a client of this program may look at is filled in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remediator.sim.objects import dig

if TYPE_CHECKING:
    from remediator.sim.kinds import Resource
    from remediator.sim.objects import Obj
    from remediator.sim.store import Store

__all__ = ["complete", "complete_pod_spec", "copy_zone", "refill", "select_by_uid", "tidy"]

_MAY_BE_NULL = ("eventTime", "firstTimestamp", "lastTimestamp", "lastProbeTime", "lastTransitionTime")
_NOT_READY = "node.kubernetes.io/not-ready"
_UNREACHABLE = "node.kubernetes.io/unreachable"
_ZONE = "topology.kubernetes.io/zone"


def complete(resource: Resource, obj: Obj, store: Store) -> None:
    """Fill in a new object."""
    if resource.has_status and resource.kind != "Node":
        obj.pop("status", None)
    if resource.custom:
        return
    filler = _FILLERS.get(resource.kind)
    if filler is not None:
        filler(obj)
    if resource.kind == "Pod":
        copy_zone(obj, store)


def refill(resource: Resource, obj: Obj) -> None:
    """Fill in what an update may have left out."""
    if resource.kind in ("DaemonSet", "Deployment", "ReplicaSet", "StatefulSet") and dig(obj, "spec.template.spec.containers"):
        complete_pod_spec(obj["spec"]["template"]["spec"])
    if resource.kind == "Pod" and isinstance(obj.get("spec"), dict):
        _tolerate_trouble(obj["spec"])
        for condition in dig(obj, "status.conditions") or ():
            condition.setdefault("lastProbeTime", None)
            condition.setdefault("lastTransitionTime", None)


def tidy(resource: Resource, obj: Obj) -> None:
    """Leave out what the server would not keep: nulls, empty maps and lists, a false ``unschedulable``."""
    _drop_nulls(obj)
    meta = obj.get("metadata")
    if isinstance(meta, dict):
        _drop_empty(meta, "labels", "annotations", "finalizers", "ownerReferences", "managedFields")
    if not resource.custom:
        _drop_empty(obj, "data", "binaryData")
    if resource.kind == "Node":
        _drop_empty(obj.get("spec") or {}, "taints", "unschedulable")
    if resource.kind == "Pod":
        _drop_empty(obj.get("spec") or {}, "nodeName")


def _drop_empty(obj: Obj, *fields: str) -> None:
    for field in fields:
        if field in obj and (obj[field] is False or obj[field] in ({}, [], "")):
            del obj[field]


def _drop_nulls(value: Any) -> None:
    if isinstance(value, dict):
        for key in [key for key, item in value.items() if item is None and key not in _MAY_BE_NULL]:
            del value[key]
        for item in value.values():
            _drop_nulls(item)
    elif isinstance(value, list):
        for item in value:
            _drop_nulls(item)


_PRIORITIES = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}
"""The two classes that every cluster has; others count as none here."""


def complete_pod_spec(spec: Obj) -> None:
    """Defaults of a pod or of a template's pod."""
    for container in spec.get("containers") or ():
        container.setdefault("resources", {})
        container.setdefault("terminationMessagePath", "/dev/termination-log")
        container.setdefault("terminationMessagePolicy", "File")
        container.setdefault("imagePullPolicy", "Always" if ":" not in str(container.get("image")) else "IfNotPresent")
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("securityContext", {})
    spec.setdefault("schedulerName", "default-scheduler")


def copy_zone(pod: Obj, store: Store) -> None:
    """Give a bound pod the zone label of its node, as newer API servers do."""
    node = store.get(("", "nodes"), str(dig(pod, "spec.nodeName") or ""))
    zone = dig(node, "metadata.labels", {}).get(_ZONE)
    if zone:
        pod["metadata"]["labels"] = {**(pod["metadata"].get("labels") or {}), _ZONE: zone}


def _pod(obj: Obj) -> None:
    spec = obj["spec"]
    complete_pod_spec(spec)
    spec.setdefault("serviceAccountName", "default")
    spec.setdefault("serviceAccount", spec["serviceAccountName"])
    spec.setdefault("priority", _PRIORITIES.get(spec.get("priorityClassName", ""), 0))
    spec.setdefault("enableServiceLinks", True)
    spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
    _tolerate_trouble(spec)
    obj["status"] = {"phase": "Pending", "qosClass": "BestEffort"}


def _tolerate_trouble(spec: Obj) -> None:
    """Every pod tolerates a node in trouble for five minutes, unless it says otherwise."""
    tolerations = list(spec.get("tolerations") or ())
    for key in (_NOT_READY, _UNREACHABLE):
        tolerated = any(t.get("key") in (None, "", key) and t.get("effect") in (None, "", "NoExecute") for t in tolerations)
        if not tolerated:
            tolerations.append({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300})
    spec["tolerations"] = tolerations


def _template(obj: Obj) -> Obj:
    spec: Obj = obj["spec"]
    spec["template"].setdefault("metadata", {})
    complete_pod_spec(spec["template"]["spec"])
    return spec


def _daemonset(obj: Obj) -> None:
    spec = _template(obj)
    strategy = spec.setdefault("updateStrategy", {"type": "RollingUpdate"})
    if strategy.get("type", "RollingUpdate") == "RollingUpdate":
        strategy.setdefault("rollingUpdate", {}).setdefault("maxUnavailable", 1)
        strategy["rollingUpdate"].setdefault("maxSurge", 0)
    spec.setdefault("revisionHistoryLimit", 10)
    annotations = obj["metadata"].get("annotations") or {}
    obj["metadata"]["annotations"] = {**annotations, "deprecated.daemonset.template.generation": "1"}
    zeros = ("currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady")
    obj["status"] = dict.fromkeys(zeros, 0)


def _deployment(obj: Obj) -> None:
    spec = _template(obj)
    spec.setdefault("replicas", 1)
    spec.setdefault("strategy", {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}})
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)
    obj["status"] = {}


def _replicaset(obj: Obj) -> None:
    _template(obj).setdefault("replicas", 1)
    obj["status"] = {"replicas": 0}


def _statefulset(obj: Obj) -> None:
    spec = _template(obj)
    spec.setdefault("replicas", 1)
    spec.setdefault("podManagementPolicy", "OrderedReady")
    spec.setdefault("updateStrategy", {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}})
    spec.setdefault("revisionHistoryLimit", 10)
    obj["status"] = {"replicas": 0, "availableReplicas": 0}


def _job(obj: Obj) -> None:
    spec = _template(obj)
    spec.setdefault("parallelism", 1)
    spec.setdefault("completions", 1)
    spec.setdefault("backoffLimit", 6)
    spec.setdefault("completionMode", "NonIndexed")
    spec.setdefault("suspend", False)
    spec.setdefault("manualSelector", False)
    spec.setdefault("podReplacementPolicy", "TerminatingOrFailed")
    obj["status"] = {}


def select_by_uid(job: Obj) -> None:
    """The selector and the labels by which a new Job, which has its uid by now, knows its pods."""
    meta, spec = job["metadata"], job["spec"]
    prefixes = ("", "batch.kubernetes.io/")
    labels = {f"{p}{key}": value for p in prefixes for key, value in (("controller-uid", meta["uid"]), ("job-name", meta["name"]))}
    template = spec["template"]["metadata"]
    template["labels"] = {**(template.get("labels") or {}), **labels}
    spec.setdefault("selector", {"matchLabels": {"batch.kubernetes.io/controller-uid": meta["uid"]}})


def _namespace(obj: Obj) -> None:
    labels = obj["metadata"].get("labels") or {}
    obj["metadata"]["labels"] = {**labels, "kubernetes.io/metadata.name": obj["metadata"]["name"]}
    obj["spec"] = {"finalizers": ["kubernetes"]}
    obj["status"] = {"phase": "Active"}


def _pdb(obj: Obj) -> None:
    obj.setdefault("spec", {})
    obj["status"] = {"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0}


def _event(obj: Obj) -> None:
    obj.setdefault("source", {})
    obj.setdefault("firstTimestamp", None)
    obj.setdefault("lastTimestamp", None)
    obj.setdefault("eventTime", None)
    obj.setdefault("reportingComponent", "")
    obj.setdefault("reportingInstance", "")


def _service(obj: Obj) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("type", "ClusterIP")
    spec.setdefault("sessionAffinity", "None")
    spec.setdefault("internalTrafficPolicy", "Cluster")
    obj["status"] = {"loadBalancer": {}}


def _node(obj: Obj) -> None:
    obj.setdefault("spec", {})
    obj.setdefault("status", {})


def _lease(obj: Obj) -> None:
    obj.setdefault("spec", {})


_FILLERS = {
    "Pod": _pod,
    "DaemonSet": _daemonset,
    "Deployment": _deployment,
    "ReplicaSet": _replicaset,
    "StatefulSet": _statefulset,
    "Job": _job,
    "Namespace": _namespace,
    "PodDisruptionBudget": _pdb,
    "Event": _event,
    "Service": _service,
    "Node": _node,
    "Lease": _lease,
}
