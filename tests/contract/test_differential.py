"""The same requests to the simulated cluster and to a real control plane, answer beside answer.

Uids, versions, times and what only one of them fills in are left out; everything else must be equal. A difference is a fault of the
simulated cluster.
"""

from __future__ import annotations

import json
import re
from difflib import unified_diff
from typing import Any

import pytest

pytestmark = pytest.mark.controlplane

MERGE = "application/merge-patch+json"
JSON = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"
_VOLATILE = {"uid", "resourceVersion", "creationTimestamp", "managedFields", "deletionTimestamp", "time", "continue"}
_POD = {"containers": [{"name": "c", "image": "example.test/c:1"}], "nodeName": "node-4"}
_UID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "example.test/c:1"}]}}
_NODE = "/api/v1/nodes/node-4"

# Each line: method, path below the namespace's /api/v1/namespaces/NS (or absolute), body, content type, query.
STORIES: dict[str, list[tuple[Any, ...]]] = {
    "a ConfigMap's life": [
        ("POST", "configmaps", {"metadata": {"name": "a", "annotations": {"x.y/z": "1"}}, "data": {"k": "v"}}),
        ("GET", "configmaps/a"),
        ("PATCH", "configmaps/a", {"data": {"k": None}}, MERGE),
        ("PATCH", "configmaps/a", {"metadata": {"annotations": None}}, MERGE),
        ("PATCH", "configmaps/a", [{"op": "add", "path": "/data", "value": {"a": "1"}}, {"op": "remove", "path": "/data/a"}], JSON),
        ("PATCH", "configmaps/a", {"immutable": True}, MERGE),
        ("PATCH", "configmaps/a", {"metadata": {"labels": {"a": "b"}, "finalizers": ["example.test/x"]}}, STRATEGIC),
        ("PATCH", "configmaps/a", {"metadata": {"finalizers": ["example.test/y"]}}, STRATEGIC),
        ("PATCH", "configmaps/a", {"metadata": {"$deleteFromPrimitiveList/finalizers": ["example.test/x"]}}, STRATEGIC),
        ("PATCH", "configmaps/a", {"metadata": {"finalizers": []}}, MERGE),
        ("DELETE", "configmaps/a"),
    ],
    "bad bodies": [
        ("POST", "configmaps", [], "application/json"),
        ("POST", "configmaps", {"metadata": {"name": "a", "annotations": {"bad key": "1"}}}),
        ("POST", "configmaps", {"metadata": {"name": "a", "labels": {"/x": "1"}}}),
        ("POST", "configmaps", {"metadata": {"name": "a", "labels": {"X_/x": "1"}}}),
        ("POST", "configmaps", {"metadata": {"name": "a", "labels": {"x": "1" * 64}}}),
        ("POST", "configmaps", {"metadata": {"name": "a" * 254}}),
        ("POST", "configmaps", {"metadata": {"name": "a..b"}}),
        ("POST", "configmaps", {"metadata": {"name": "a", "resourceVersion": "5"}}),
        ("POST", "configmaps", {"metadata": {"name": "a"}, "data": {"x": 1}}),
        ("POST", "configmaps", {"metadata": []}),
        ("POST", "/api/v1/namespaces", {"metadata": {"name": "A.b"}}),
    ],
    "a Node": [
        ("PATCH", _NODE, {"metadata": {"annotations": {"example.test/a": "1"}}}, MERGE, {"dryRun": "All"}),
        ("PATCH", _NODE, {"spec": {"taints": [{"key": "a", "effect": "Bad"}]}}, MERGE),
        ("PATCH", _NODE, {"spec": {"unschedulable": 1}}, STRATEGIC),
        ("PATCH", _NODE, [{"op": "add", "path": "/metadata/labels/no~0such~1x", "value": 5}], JSON),
        ("PATCH", _NODE, {"metadata": {"resourceVersion": "1"}}, STRATEGIC),
        ("PATCH", _NODE, {"metadata": {"uid": "00000000-0000-0000-0000-000000000000"}, "spec": {"unschedulable": True}}, STRATEGIC),
        ("DELETE", _NODE, {"preconditions": {"uid": "x"}}),
        ("DELETE", _NODE, None, "application/json", {"dryRun": "All"}),
        ("PUT", _NODE, {"metadata": {"name": "node-4", "resourceVersion": "1"}}),
    ],
    "a Deployment": [
        (
            "POST",
            "apps/deployments",
            {"metadata": {"name": "d"}, "spec": {"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": _TEMPLATE}},
        ),
        ("PATCH", "apps/deployments/d", {"spec": {"template": {"spec": {"containers": [{"name": "d", "image": "d:1"}]}}}}, STRATEGIC),
        (
            "PATCH",
            "apps/deployments/d",
            {"spec": {"template": {"spec": {"$setElementOrder/containers": [{"name": "c"}, {"name": "d"}]}}}},
            STRATEGIC,
        ),
        ("PATCH", "apps/deployments/d", {"spec": {"template": {"spec": {"containers": [{"image": "d:1"}]}}}}, STRATEGIC),
        ("PATCH", "apps/deployments/d", {"spec": {"replicas": "x"}}, MERGE),
        (
            "PATCH",
            "apps/deployments/d",
            {"spec": {"template": {"spec": {"containers": [{"$patch": "replace"}, {"name": "z", "image": "z:1"}]}}}},
            STRATEGIC,
        ),
        ("PATCH", "apps/deployments/d", {"spec": {"template": None}}, MERGE),
        ("POST", "apps/deployments", {"metadata": {"name": "e"}, "spec": {"template": _TEMPLATE}}),
        (
            "POST",
            "apps/daemonsets",
            {"metadata": {"name": "e"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"spec": {}}}},
        ),
        ("DELETE", "apps/deployments/d", {"propagationPolicy": "Background"}),
    ],
    "a Lease": [
        ("POST", "lease", {"metadata": {"name": "l"}, "spec": {"holderIdentity": "a", "leaseDurationSeconds": 15, "leaseTransitions": 1}}),
        ("PUT", "lease/l", {"metadata": {"name": "l", "resourceVersion": "1"}, "spec": {}}),
        ("PATCH", "lease/l", {"spec": {"holderIdentity": ""}}, MERGE),
        ("PATCH", "lease/l", {"spec": {"leaseDurationSeconds": -1}}, MERGE),
        ("PATCH", "lease/l", {"spec": {"renewTime": "2026-01-01T00:00:00.5Z"}}, MERGE),
        ("PATCH", "lease/l", [{"op": "test", "path": "/spec/holderIdentity", "value": "a"}], JSON),
        ("DELETE", "lease/l"),
    ],
    "a custom resource": [
        ("PATCH", "/apis/cilium.io/v2/ciliumnodes/none", {"spec": {}}, MERGE),
        ("PATCH", "/apis/cilium.io/v2/ciliumnodes/none", [], JSON),
        (
            "POST",
            "/apis/cilium.io/v2/ciliumnodes",
            {"apiVersion": "cilium.io/v1", "kind": "CiliumNode", "metadata": {"name": "n"}, "spec": {}},
        ),
        (
            "POST",
            "/apis/cilium.io/v2/ciliumnodes",
            {"apiVersion": "cilium.io/v2", "kind": "CiliumNode", "metadata": {"name": "N"}, "spec": {}},
        ),
        ("DELETE", "/apis/cilium.io/v2/ciliumnodes/none"),
        ("GET", "/apis/cilium.io/v9/ciliumnodes"),
        ("GET", "/apis/cilium.io/v2/ciliumnodes/none/status"),
        ("GET", "/apis/cilium.io/v2/ciliumendpoints"),
    ],
    "a pod's eviction": [
        ("POST", "pods", {"metadata": {"name": "p"}, "spec": _POD}, "application/json", {"dryRun": "All"}),
        ("POST", "pods/p/eviction", {"metadata": {"name": "p"}}),
        (
            "POST",
            "pods/p/eviction",
            {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}},
            "application/json",
            {"dryRun": "x"},
        ),
        ("GET", "pods/p/status"),
        ("GET", "pods/p/nosuch"),
        ("DELETE", "pods/p/eviction"),
    ],
    "server-side apply": [
        (
            "PATCH",
            "configmaps/s",
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "s"}, "data": {"a": "1"}},
            APPLY,
            {"fieldManager": "m"},
        ),
        ("PATCH", "configmaps/s", {"data": {"a": "2", "b": "3"}}, MERGE, {"fieldManager": "n"}),
        ("PATCH", "configmaps/s", {"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "1", "b": "1"}}, APPLY, {"fieldManager": "m"}),
        ("PATCH", "configmaps/s", {"apiVersion": "v1", "kind": "ConfigMap", "data": {}}, APPLY, {"fieldManager": "m"}),
        ("PATCH", "configmaps/s", {"apiVersion": "v1", "kind": "Secret", "data": {}}, APPLY, {"fieldManager": "m"}),
        (
            "PATCH",
            "configmaps/s",
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"resourceVersion": "1"}},
            APPLY,
            {"fieldManager": "m"},
        ),
    ],
    "status doors": [
        ("POST", "pods", {"metadata": {"name": "p"}, "spec": {**_POD, "schedulerName": "nobody", "nodeName": ""}}),
        ("GET", "pods/p/status"),
        ("PATCH", "pods/p/status", {"spec": {"nodeName": "x"}, "metadata": {"annotations": {"a": "b"}}, "status": {"reason": "R"}}, MERGE),
        ("PATCH", "pods/p", {"status": {"reason": "other"}}, MERGE),
        ("PATCH", "pods/p/status", {"status": {"conditions": [{"type": "X", "status": "True"}, {"type": "X", "status": "False"}]}}, MERGE),
        ("PATCH", "pods/p/status", [{"op": "test", "path": "/status/reason", "value": "R"}], JSON),
        ("PATCH", "pods/p", {"spec": {"tolerations": []}}, MERGE),
        ("PATCH", "pods/p", {"metadata": {"finalizers": ["no-slash"]}}, MERGE),
        ("DELETE", "pods/p"),
        ("GET", "pods/p"),
    ],
    "deleting": [
        ("POST", "configmaps", {"metadata": {"name": "a", "labels": {"x": "1"}}}),
        ("POST", "configmaps", {"metadata": {"name": "b", "labels": {"x": "1"}}}),
        ("DELETE", "configmaps/a", {"gracePeriodSeconds": "5"}),
        ("DELETE", "configmaps/a", {"propagationPolicy": "Bad"}),
        ("DELETE", "configmaps/a", None, "", {"propagationPolicy": "Orphan", "dryRun": "All"}),
        ("DELETE", "configmaps", None, "", {"labelSelector": "x=1", "dryRun": "All"}),
        ("DELETE", "configmaps/a", {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"resourceVersion": "1"}}),
        ("DELETE", "configmaps/a", {"orphanDependents": True}),
        ("DELETE", "configmaps/b", b"{}"),
        ("DELETE", "configmaps/b", None, "", {"gracePeriodSeconds": "-1"}),
        ("DELETE", "configmaps/b", None, "", {"gracePeriodSeconds": "x"}),
    ],
    "names and kinds": [
        ("POST", "configmaps", {"kind": "ConfigMap", "metadata": {"name": "a"}}),
        ("POST", "configmaps", {"apiVersion": "v1", "metadata": {"name": "b"}}),
        ("PUT", "configmaps/b", {"kind": "ConfigMap", "apiVersion": "apps/v1", "metadata": {"name": "b"}}),
        ("PUT", "configmaps/b", {"metadata": {"name": "b", "namespace": "other"}}),
        ("PUT", "configmaps/b", {"metadata": {}}),
        ("PUT", "configmaps/b", {"metadata": {"name": "b", "creationTimestamp": None, "generation": 7, "labels": {}}}),
        ("GET", "configmaps/B_"),
        ("GET", "/api/v1/namespaces/default/nodes"),
        ("GET", "/api/v1/nodes/node-4/pods"),
        ("GET", "/apis/apps"),
        ("GET", "/apis/nope"),
        ("GET", "/apis/apps/v9"),
        ("OPTIONS", "configmaps"),
    ],
    "budgets": [
        ("POST", "/apis/policy/v1/namespaces/default/poddisruptionbudgets", {"metadata": {"name": "b"}, "spec": {"minAvailable": -1}}),
        ("PUT", "/apis/policy/v1/namespaces/default/poddisruptionbudgets/none", {"metadata": {"name": "none"}, "spec": {}}),
        ("PATCH", "/apis/policy/v1/namespaces/default/poddisruptionbudgets/none", {"spec": {}}, MERGE),
    ],
    "queries": [
        ("GET", "pods", None, "", {"labelSelector": "a b"}),
        ("GET", "pods", None, "", {"labelSelector": "a,,b"}),
        ("GET", "pods", None, "", {"labelSelector": "a=b=c"}),
        ("GET", "pods", None, "", {"labelSelector": "a in b"}),
        ("GET", "pods", None, "", {"labelSelector": "a>x"}),
        ("GET", "pods", None, "", {"labelSelector": "=x"}),
        ("GET", "pods", None, "", {"labelSelector": "!"}),
        ("GET", "pods", None, "", {"labelSelector": "a notin (b"}),
        ("GET", "pods", None, "", {"labelSelector": "a in (b c)"}),
        ("GET", "pods", None, "", {"labelSelector": "a=b,"}),
        ("GET", "pods", None, "", {"fieldSelector": "a"}),
        ("GET", "pods", None, "", {"fieldSelector": "status.phase=Running,"}),
        ("GET", "pods", None, "", {"fieldSelector": "metadata.labels.a=x"}),
        ("GET", "pods", None, "", {"resourceVersionMatch": "Bad", "resourceVersion": "1"}),
        ("GET", "pods", None, "", {"resourceVersion": "-1"}),
        ("GET", "pods", None, "", {"timeoutSeconds": "5", "limit": "0"}),
        ("DELETE", "pods", None, "", {"labelSelector": "a in b"}),
    ],
}


def _address(namespace: str, path: str) -> str:
    if path.startswith("/"):
        return path
    first, _, rest = path.partition("/")
    groups = {
        "apps": f"/apis/apps/v1/namespaces/{namespace}/{rest}",
        "lease": f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases",
    }
    if first == "lease":
        return f"{groups['lease']}/{rest}".rstrip("/")
    return groups.get(first, f"/api/v1/namespaces/{namespace}/{path}")


def _comparable(value: Any) -> Any:
    if isinstance(value, dict):
        found = {k: _comparable(v) for k, v in value.items() if k not in _VOLATILE}
        if found.get("field") == "patch":
            found.pop("message")  # parsers word their complaints differently
        return found
    if isinstance(value, list):
        items = [_comparable(v) for v in value]
        # a real server names some faults twice, once for the object and once for its change
        return [item for i, item in enumerate(items) if item not in items[:i] or "reason" not in item]
    if isinstance(value, str):
        if value.startswith(' "" is invalid: patch:'):
            return "invalid patch"
        return re.sub(r"(resource version: |current: |\()\d+\b", r"\1N", re.sub(_UID, "UID", value))
    return value


def _answer(status: int, body: Any) -> str:
    shown = _comparable(body)
    if isinstance(body, dict) and body.get("kind") == "Status" and status == 400:
        shown.pop("message", None)  # parsers word their complaints differently
    if isinstance(body, dict) and body.get("kind") == "Node":
        shown = body["metadata"]["name"]  # each test bed has its own
    if isinstance(body, dict) and body.get("kind") == "Deployment":
        shown.pop("status", None)  # the controllers are at it meanwhile
        shown["metadata"].pop("annotations", None)
    if isinstance(body, dict) and body.get("kind") == "Pod":
        shown["spec"].pop("volumes", None)  # the simulated cluster mounts no tokens
        for container in shown["spec"]["containers"]:
            container.pop("volumeMounts", None)
    return json.dumps({"status": status, "body": shown}, indent=1, sort_keys=True)


@pytest.fixture
async def both(control_plane, simulation, connect, namespace_name):
    """Two APIs, each with a namespace of the same name."""
    apis = [await connect(simulation.url), await connect(control_plane)]
    for api in apis:
        await api.furnish(namespace_name)
    yield apis
    for api in apis:
        await api.delete(f"/api/v1/namespaces/{namespace_name}")


@pytest.mark.parametrize("story", STORIES)
async def test_the_answers_are_the_same(both, story, namespace_name):
    differences = []
    for method, path, *rest in STORIES[story]:
        body, kind, query = [*rest, *(None, "application/json", {})[len(rest) :]]
        answers = []
        for api in both:
            answer = await api(method, _address(namespace_name, path), body, kind or "application/json", **query)
            answers.append(_answer(answer.status, answer.body))
        if answers[0] != answers[1]:
            lines = unified_diff(answers[0].splitlines(), answers[1].splitlines(), "simulated", "real", n=1, lineterm="")
            differences += [f"{method} {path} {json.dumps(body)} {query}", *lines]
    assert not differences, "\n".join(differences)
