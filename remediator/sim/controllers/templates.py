"""Pods from templates: what DaemonSets, ReplicaSets and StatefulSets have in common.

In comes an owner with ``spec.template``; out comes a new pod that belongs to it, or the template's hash. Nothing is refused.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from remediator.sim.objects import clone, dig, name_of, namespace_of, owner_reference

if TYPE_CHECKING:
    from remediator.sim.objects import Obj

__all__ = ["new_pod", "template_hash"]

_LETTERS = "bcdfghjklmnpqrstvwxz2456789"


def template_hash(owner: Obj) -> str:
    """Ten letters that change when the template does."""
    text = json.dumps(owner["spec"]["template"], sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).digest()
    return "".join(_LETTERS[byte % len(_LETTERS)] for byte in digest[:10])


def new_pod(owner: Obj, labels: dict[str, str]) -> Obj:
    """A pod of the owner's template, with further labels, not yet stored."""
    template = clone(owner["spec"]["template"])
    meta = template.get("metadata") or {}
    found: Obj = {
        "generateName": f"{name_of(owner)}-",
        "namespace": namespace_of(owner),
        "labels": {**(meta.get("labels") or {}), **labels},
        "ownerReferences": [owner_reference(owner)],
    }
    if dig(template, "metadata.annotations"):
        found["annotations"] = meta["annotations"]
    if meta.get("finalizers"):
        found["finalizers"] = [*meta["finalizers"]]
    return {"metadata": found, "spec": template["spec"]}
