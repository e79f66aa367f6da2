"""Cilium as Kubernetes shows it at one moment, as far as a restart depends on it. Values only; ``reading`` makes them."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - a dataclass field's type
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from remediator.kube.records import Pod
    from remediator.kube.workloads import DaemonSet, Deployment

__all__ = ["AGENT_TAINT", "ENVOY_SELECTOR", "OPERATOR_LEASE", "OPERATOR_SELECTOR", "Fleet", "Picture"]

AGENT_TAINT = "node.cilium.io/agent-not-ready"
"""Set and removed by the Cilium operator (operator/watchers/node_taint.go)."""
OPERATOR_SELECTOR = "io.cilium/app=operator"
"""On the operator's Deployment and pods (install/kubernetes/cilium/templates/cilium-operator)."""
OPERATOR_LEASE = "cilium-operator-resource-lock"
"""The operator's leader election (operator/cmd/root.go)."""
ENVOY_SELECTOR = "k8s-app=cilium-envoy"
"""The DaemonSet of Envoy where it does not run inside of the agent (install/kubernetes/cilium/templates/cilium-envoy)."""


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """The pods that a selector finds, and the DaemonSets that make them."""

    selector: str
    pods: tuple[Pod, ...] = ()
    daemonsets: tuple[DaemonSet, ...] = ()
    newest: Mapping[str, str] = field(default_factory=dict)
    """Uid of a DaemonSet that updates OnDelete -> the revision that a new pod would have."""

    def on(self, node: str) -> tuple[Pod, ...]:
        """The pods of one node, without those on their way out."""
        return tuple(pod for pod in self.pods if pod.node_name == node and not pod.terminating)

    def daemonset_of(self, pod: Pod) -> DaemonSet | None:
        """Who would make the pod's successor; None if nobody would."""
        owner = pod.controller
        return next((d for d in self.daemonsets if owner is not None and d.uid == owner.uid), None)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Agents and operator of one cluster."""

    agents: Fleet
    operators: tuple[Deployment, ...] = ()
    operator_pods: tuple[Pod, ...] = ()
