"""A state as Kubernetes objects: two nodes and a namespace of its own for each copy, so that many stand side by side in one cluster.

In come a ``State`` and the name of who will drain it; out come the objects. Pods find their nodes by a label that only this copy's two
nodes carry: ``home``, which is drained, and ``spare``, where replacements go.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from differential.states import Budget, Owner, Selects, State, Workload

__all__ = ["CLONES", "COPY", "CRD", "HELD", "HOLD", "Copy"]

COPY = "differential/copy"
HELD = "differential/held"
"""``pending``: the kubelets may not start the pod. ``orphan``: the garbage collector may not have it."""
FINALIZER = "differential/finalizer"
CLONES = "/apis/differential.test/v1/namespaces/{}/clones"
_ABSENT = "00000000-0000-4000-8000-000000000000"
_CORDON = {"key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoSchedule"}

CRD: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "clones.differential.test"},
    "spec": {
        "group": "differential.test",
        "scope": "Namespaced",
        "names": {"kind": "Clone", "listKind": "CloneList", "plural": "clones", "singular": "clone"},
        "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}],
    },
}
# Without it a real cluster ends what some states are made of within a second: kwok starts every pod, and the garbage collector takes pods
# whose owner is not there. (In the wild both last longer: images are pulled, collectors lag.)
HOLD: dict[str, Any] = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "ValidatingAdmissionPolicy",
    "metadata": {"name": "differential-hold"},
    "spec": {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "objectSelector": {"matchExpressions": [{"key": HELD, "operator": "Exists"}]},
            "resourceRules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["pods/status"]},
                {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["DELETE"], "resources": ["pods"]},
            ],
        },
        "validations": [
            {
                "expression": "request.operation == 'DELETE' ? !request.userInfo.username.endsWith(':generic-garbage-collector') : "
                f"!(request.userInfo.username == 'component' && object.metadata.labels['{HELD}'] == 'pending')",
                "message": "held for a test",
            }
        ],
    },
}
HOLD_BINDING: dict[str, Any] = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "ValidatingAdmissionPolicyBinding",
    "metadata": {"name": "differential-hold"},
    "spec": {"policyName": "differential-hold", "validationActions": ["Deny"]},
}


@dataclass(frozen=True)
class Copy:
    """One copy of a state, for one of the two who drain."""

    state: State
    who: str

    @property
    def mark(self) -> str:
        """What its names have in common."""
        return f"diff-{self.state.seed}-{self.who}"

    @property
    def home(self) -> str:
        """The node that is drained."""
        return f"{self.mark}-home"

    @property
    def spare(self) -> str:
        """The node for replacements."""
        return f"{self.mark}-spare"

    def namespace(self, workload: Workload | None = None) -> str:
        """Where the workload lives."""
        return f"{self.mark}-end" if workload is not None and workload.ending_namespace else self.mark

    @property
    def namespaces(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(dict.fromkeys([self.mark, *map(self.namespace, self.state.workloads)]))

    def node(self, name: str) -> dict[str, Any]:
        """A node that kwok keeps alive."""
        labels = {"type": "kwok", "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", COPY: self.mark}
        size = {"cpu": "32", "memory": "256Gi", "pods": "250"}
        meta = {"name": name, "labels": labels, "annotations": {"kwok.x-k8s.io/node": "fake"}}
        return {"apiVersion": "v1", "kind": "Node", "metadata": meta, "status": {"allocatable": size, "capacity": size}}

    def budget(self, budget: Budget) -> dict[str, Any]:
        """A PodDisruptionBudget."""
        listed = {"matchExpressions": [{"key": "app", "operator": "In", "values": list(budget.workloads)}]}
        nothing = {"matchLabels": {"app": "nothing-is-called-so"}}
        selector = {Selects.LISTED: listed, Selects.EVERYTHING: {}, Selects.NOTHING: nothing}[budget.selects]
        spec: dict[str, Any] = {budget.form.value: budget.amount, "selector": selector}
        if budget.always_allow:
            spec["unhealthyPodEvictionPolicy"] = "AlwaysAllow"
        return {"metadata": {"name": budget.name}, "spec": spec}

    def template(self, workload: Workload) -> dict[str, Any]:
        """The pod, as far as all owners make it alike."""
        meta: dict[str, Any] = {"labels": {"app": workload.name}, "annotations": {}}
        spec: dict[str, Any] = {
            "containers": [{"name": "c", "image": "example.test/c:1"}],
            "nodeSelector": {COPY: self.mark},
            "terminationGracePeriodSeconds": workload.stop_after + 30,
        }
        if workload.stop_after:
            meta["annotations"]["controlplane/stop-after"] = f"{workload.stop_after}s"
        if workload.pending:
            meta["labels"][HELD] = "pending"
            meta["annotations"]["controlplane/start-after"] = "24h"
        if workload.finalizer:
            meta["finalizers"] = [FINALIZER]
        if workload.emptydir:
            spec["volumes"] = [{"name": "scratch", "emptyDir": {}}]
        if workload.critical:
            spec["priorityClassName"] = "system-cluster-critical"
        if workload.tolerates_cordon:
            spec |= {"nodeSelector": {"kubernetes.io/hostname": self.home}, "tolerations": [_CORDON]}
        return {"metadata": meta, "spec": spec}

    def pod(self, workload: Workload, number: int, owner: dict[str, Any] | None) -> dict[str, Any]:
        """A pod that no controller of Kubernetes makes, put onto the node by hand."""
        made = self.template(workload)
        made["metadata"]["name"] = f"{workload.name}-{number}"
        if owner is not None:
            made["metadata"]["ownerReferences"] = [owner]
        if workload.owner is Owner.MIRROR:
            made["metadata"]["annotations"]["kubernetes.io/config.mirror"] = "0123456789abcdef0123456789abcdef"
        if workload.owner is Owner.DAEMON_SET_GONE:
            made["metadata"]["labels"][HELD] = "orphan"
        if workload.owner is Owner.JOB:
            made["spec"]["restartPolicy"] = "Never"
        made["spec"]["nodeName"] = self.home
        return made

    def controller(self, workload: Workload) -> tuple[str, dict[str, Any]]:
        """The owner that makes its pods by itself: where to create it, and what."""
        meta = {"name": workload.name}
        selector = {"matchLabels": {"app": workload.name}}
        template = self.template(workload)
        space = self.namespace(workload)
        if workload.owner is Owner.JOB:
            template["spec"]["restartPolicy"] = "Never"
            counts = {"completions": workload.here, "parallelism": workload.here}
            return f"/apis/batch/v1/namespaces/{space}/jobs", {"metadata": meta, "spec": {**counts, "template": template}}
        spec: dict[str, Any] = {"selector": selector, "template": template}
        if workload.owner is Owner.DAEMON_SET:
            return f"/apis/apps/v1/namespaces/{space}/daemonsets", {"metadata": meta, "spec": spec}
        spec["replicas"] = workload.here
        if workload.owner is Owner.STATEFUL_SET:
            spec |= {"serviceName": workload.name, "podManagementPolicy": "Parallel"}
            return f"/apis/apps/v1/namespaces/{space}/statefulsets", {"metadata": meta, "spec": spec}
        return f"/apis/apps/v1/namespaces/{space}/deployments", {"metadata": meta, "spec": spec}


def reference(api_version: str, kind: str, name: str, uid: str = _ABSENT) -> dict[str, Any]:
    """A controller reference; without a uid to something that is not there."""
    return {"apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "controller": True}
