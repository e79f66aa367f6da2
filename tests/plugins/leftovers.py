"""PYTEST_DONT_REWRITE. Each test leaves the session's control plane as it found it, and each file too.

One that does not is failed, and told what is left. Compared are nodes (labels, annotations, cordons, taints, whether they are ready), the
agents, how their DaemonSet updates, namespaces, leases and what Cilium's cluster-wide kinds hold. A namespace that is ending counts as
gone. Nothing is read where nobody wrote.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from standins.api import Api

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from plugins.controlplane import ControlPlane

Things = dict[str, dict[str, Any]]
"""kind/name -> what of it has to come through."""
WATCHED: pytest.StashKey[Watched] = pytest.StashKey()
"""The control plane of the session, once it runs."""
AGENTS, SET = "Agents/", "DaemonSet/cilium"
READY = {"state": "ready"}
_PATIENCE = 60.0
_LOOK = 0.2
_CILIUM = (
    "ciliumbgpadvertisements",
    "ciliumbgpclusterconfigs",
    "ciliumbgpnodeconfigoverrides",
    "ciliumbgpnodeconfigs",
    "ciliumbgppeerconfigs",
    "ciliumegressgatewaypolicies",
    "ciliumloadbalancerippools",
    "ciliumnodes",
)


class Watched:
    """A control plane, and how it was when last looked at."""

    def __init__(self, plane: ControlPlane) -> None:
        self._api = Api(plane.kubeconfig)
        self._audit = plane.audit
        self._size = 0
        self._seen: Things = {}
        while any(node["spec"].get("taints") for node in self._items("/api/v1/nodes")):
            time.sleep(_LOOK)
        self.first = self.things()

    def things(self) -> Things:
        """Everything as it is now; as it was if nobody has written since."""
        size = self._audit.stat().st_size if self._audit.exists() else 0
        if not self._seen or size != self._size:
            self._size, self._seen = size, self._read()
        return self._seen

    def since(self, before: Things) -> list[str]:
        """What is not as before, once it had the time to become so."""
        deadline = time.monotonic() + _PATIENCE
        while (found := left_behind(before, self.things())) and time.monotonic() < deadline:
            time.sleep(_LOOK)
            self.forget()
        return found

    def forget(self) -> None:
        """Look anew the next time: controllers write too, and are in no audit log."""
        self._seen = {}

    def close(self) -> None:
        self._api.close()

    def _read(self) -> Things:
        spaces = {space["metadata"]["name"] for space in self._items("/api/v1/namespaces") if space["status"]["phase"] == "Active"}
        found: Things = {f"Namespace/{name}": {} for name in spaces}
        for node in self._items("/api/v1/nodes"):
            ready = [one["status"] for one in node["status"].get("conditions", ()) if one["type"] == "Ready"]
            found[f"Node/{node['metadata']['name']}"] = {**_shape(node), "ready": ready}
        for lease in self._items("/apis/coordination.k8s.io/v1/leases"):
            meta = lease["metadata"]
            if meta["namespace"] in spaces - {"kube-node-lease"} and not meta["name"].startswith("apiserver-"):
                found[f"Lease/{meta['namespace']}/{meta['name']}"] = {}
        for pod in self._items("/api/v1/namespaces/kube-system/pods?labelSelector=k8s-app%3Dcilium"):
            if node := pod["spec"].get("nodeName"):
                agents = found.setdefault(f"{AGENTS}{node}", {"state": ""})
                agents["state"] = " and ".join(filter(None, (agents["state"], _state(pod))))
        for one in self._items("/apis/apps/v1/namespaces/kube-system/daemonsets?fieldSelector=metadata.name%3Dcilium"):
            found[SET] = {name: one["spec"][name] for name in ("updateStrategy", "template")}
        for plural in _CILIUM:
            for thing in self._items(f"/apis/cilium.io/v2/{plural}") or self._items(f"/apis/cilium.io/v2alpha1/{plural}"):
                found[f"{plural}/{thing['metadata']['name']}"] = _shape(thing)
        return found

    def _items(self, path: str) -> list[dict[str, Any]]:
        found = self._api.get(path)  # a kind that the control plane does not have is none
        return list(found["items"]) if found else []


def left_behind(before: Things, after: Things) -> list[str]:
    """In words, what is not as it was. Agents that came up on nodes that were there are no trace, nor is the DaemonSet they came with.

    Nor is it that one was on its way and has gone.
    """
    return [words for key in sorted(before.keys() | after.keys()) if (words := _difference(key, before, after))]


def _difference(key: str, before: Things, after: Things) -> str:
    old, new = before.get(key), after.get(key)
    if old == new or (key.startswith(AGENTS) and new == READY and f"Node/{key.removeprefix(AGENTS)}" in before):
        return ""
    if key.startswith(AGENTS) and new is None and old != READY:
        return ""
    if old is None:
        came = SET in after and SET not in before
        return "" if key == SET and came else f"{key} was not there before{f': {new}' if new else ''}"
    if new is None:
        return f"{key} is gone"
    changed = sorted(field for field in old.keys() | new.keys() if old.get(field) != new.get(field))
    return f"{key}: " + "; ".join(f"{field} was {old.get(field)}, is {new.get(field)}" for field in changed)


def _shape(thing: Mapping[str, Any]) -> dict[str, Any]:
    """What people and remediator write. Some labels and annotations of nodes come from controllers, when they get to it."""
    meta = thing["metadata"]
    labels = {key: value for key, value in meta.get("labels", {}).items() if not key.startswith("beta.kubernetes.io/")}
    annotations = {key: value for key, value in meta.get("annotations", {}).items() if not key.startswith("node.alpha.kubernetes.io/")}
    return {"labels": labels, "annotations": annotations, "spec": thing.get("spec")}


def _state(pod: Mapping[str, Any]) -> str:
    if "deletionTimestamp" in pod["metadata"]:
        return "ending"
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions", ()))
    return "ready" if ready else "not ready"


def _guarded(request: pytest.FixtureRequest, who: str) -> Iterator[None]:
    stash = request.config.stash
    before = stash[WATCHED].things() if WATCHED in stash else None
    yield
    if WATCHED in stash:
        watched = stash[WATCHED]
        left = watched.since(watched.first if before is None else before)
        assert not left, "\n".join([f"{who} left the control plane other than it was:", *left])


@pytest.fixture(autouse=True)
def _a_test_leaves_no_trace(request: pytest.FixtureRequest) -> Iterator[None]:
    yield from _guarded(request, "this test")


@pytest.fixture(autouse=True, scope="module")
def _a_file_leaves_no_trace(request: pytest.FixtureRequest) -> Iterator[None]:
    yield from _guarded(request, "what the tests of this file share")
