"""Whether a GitOps controller manages an object and would put back what we change in it. Pure.

In: an object. Out: who manages it, by which mark. Labels of Nodes are not managed that way: nodes are made by the kubelet, not from Git.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["managed_by"]

_MARKS = (
    ("annotations", "argocd.argoproj.io/tracking-id", "Argo CD"),
    ("labels", "argocd.argoproj.io/instance", "Argo CD"),
    ("labels", "app.kubernetes.io/instance", "Argo CD (by its usual tracking label)"),
    ("labels", "kustomize.toolkit.fluxcd.io/name", "Flux"),
    ("labels", "helm.toolkit.fluxcd.io/name", "Flux"),
)


def managed_by(thing: Mapping[str, Any]) -> str:
    """Words for a refusal, empty if nobody does."""
    for where, key, who in _MARKS:
        value = (thing["metadata"].get(where) or {}).get(key)
        if value:
            return f"{who} manages it: {where[:-1]} {key}={value}"
    return ""
