"""What the API says about itself: versions, groups, resources.

In comes a path, out comes the discovery document of the real server's shape, or None for a path that is not one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from remediator.sim.kinds import Kinds, Resource
    from remediator.sim.objects import Obj

__all__ = ["VERSION", "discover"]

VERSION = {
    "major": "1",
    "minor": "36",
    "emulationMajor": "1",
    "emulationMinor": "36",
    "minCompatibilityMajor": "1",
    "minCompatibilityMinor": "35",
    "gitVersion": "v1.36.3",
    "gitCommit": "simulated",
    "gitTreeState": "",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "none",
    "compiler": "none",
    "platform": "simulated",
}
_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
_REVIEWS: list[Obj] = [
    {"name": f"{kind.lower()}s", "singularName": kind.lower(), "namespaced": False, "kind": kind, "verbs": ["create"]}
    for kind in ("SelfSubjectAccessReview", "SelfSubjectRulesReview")
]
_OWN_KIND: dict[str, Obj] = {
    "eviction": {"group": "policy", "version": "v1", "kind": "Eviction", "verbs": ["create"]},
    "binding": {"kind": "Binding", "verbs": ["create"]},
    "exec": {"kind": "PodExecOptions", "verbs": ["create", "get"]},
    "log": {"verbs": ["get"]},
    "scale": {"group": "autoscaling", "version": "v1", "kind": "Scale", "verbs": ["get", "patch", "update"]},
}


def discover(path: str, kinds: Kinds, host: str) -> Obj | None:
    """The document at ``path`` (no trailing slash)."""
    groups = {**{g: v for g, v in kinds.groups().items() if g}, "authorization.k8s.io": ["v1"]}
    cidrs = [{"clientCIDR": "0.0.0.0/0", "serverAddress": host}]
    fixed: dict[str, Callable[[], Obj]] = {
        "/version": lambda: dict(VERSION),
        "/api": lambda: {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": cidrs},
        "/apis": lambda: {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(g, v) for g, v in groups.items()]},
        "/api/v1": lambda: _resources(kinds, "", "v1"),
        "/openapi/v3": lambda: _open_api_index(groups),
    }
    if path in fixed:
        return fixed[path]()
    match path.strip("/").split("/"):
        case ["apis", group] if group in groups:
            return {"kind": "APIGroup", "apiVersion": "v1", **_group(group, groups[group])}
        case ["apis", group, version] if version in groups.get(group, ()):
            return _resources(kinds, group, version)
        case ["openapi", "v3", *rest]:
            return _open_api(kinds, rest)
        case _:
            return None


def _open_api_index(groups: dict[str, list[str]]) -> Obj:
    paths = ["api/v1", *(f"apis/{g}/{v}" for g, versions in groups.items() for v in versions)]
    return {"paths": {path: {"serverRelativeURL": f"/openapi/v3/{path}"} for path in paths}}


def _open_api(kinds: Kinds, path: list[str]) -> Obj:
    """Just enough for kubectl to learn that the server validates fields itself."""
    group, version = ("", path[1]) if path[0] == "api" else (path[1], path[-1])
    parameter = {"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}
    paths = {}
    for resource in kinds.all():
        if resource.group == group and version in resource.served:
            named = "/namespaces/{namespace}" if resource.namespaced else ""
            kind = {"group": group, "version": version, "kind": resource.kind}
            operation = {"parameters": [parameter], "x-kubernetes-group-version-kind": kind, "x-kubernetes-action": "patch"}
            paths[f"/{'/'.join(path)}{named}/{resource.plural}/{{name}}"] = {"patch": operation}
    return {"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": VERSION["gitVersion"]}, "paths": paths}


def _group(name: str, versions: list[str]) -> Obj:
    listed = [{"groupVersion": f"{name}/{v}", "version": v} for v in versions]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def _resources(kinds: Kinds, group: str, version: str) -> Obj:
    found = [e for r in kinds.all() if r.group == group and version in r.served for e in _entries(r)]
    if group == "authorization.k8s.io":
        found = _REVIEWS
    group_version = f"{group}/{version}" if group else version
    head = {"kind": "APIResourceList", "apiVersion": "v1"} if group else {"kind": "APIResourceList"}
    return {**head, "groupVersion": group_version, "resources": found}


def _entries(resource: Resource) -> list[Obj]:
    main: Obj = {
        "name": resource.plural,
        "singularName": resource.kind.lower(),
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": _VERBS,
    }
    if resource.short_names:
        main["shortNames"] = list(resource.short_names)
    if resource.categories:
        main["categories"] = list(resource.categories)
    return [main, *(_subresource(resource, name) for name in resource.subresources)]


def _subresource(resource: Resource, name: str) -> Obj:
    entry = {"name": f"{resource.plural}/{name}", "singularName": "", "namespaced": resource.namespaced}
    return {**entry, "kind": resource.kind, "verbs": ["get", "patch", "update"], **_OWN_KIND.get(name, {})}
