"""The match stage: which playbook takes an alert, and on which one object.

In: an alert's labels. Out: a Playbook, or the nearest misses and why they missed; then a Target that exists, with its uid. Refuses with
``target_missing`` or ``target_ambiguous`` and says what was found; an empty selector never means "all".
"""

from __future__ import annotations

import heapq
import ipaddress
import re
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, Protocol

from remediator.attribution.places import NODE_LABELS
from remediator.errors import ExpressionError, Refused, Unreadable, UsageError
from remediator.kube import kinds
from remediator.kube.errors import Invalid, NotFound
from remediator.model import Noun, Target
from remediator.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from remediator.kube import Kind, Listing
    from remediator.model import Alert
    from remediator.playbook import Library, Playbook, TargetSpec

__all__ = ["NearMiss", "about_ourselves", "assumed", "choose", "find", "nearest", "resolve"]

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", re.ASCII)
"""DNS-1123 subdomain, as Kubernetes names objects; anything else from a label never reaches a URL."""


class Reads(Protocol):
    """Where objects are looked up: ``Kube`` itself, or what was read of it in one moment."""

    async def get(self, kind: Kind, name: str, namespace: str) -> dict[str, Any]:
        """See Kube.get."""

    async def list(self, kind: Kind) -> Listing[dict[str, Any]]:
        """See Kube.list."""


class NearMiss(Noun, frozen=True, kw_only=True):
    """A playbook that almost took the alert, and which of its matchers did not fit."""

    playbook: str
    matched: int
    of: int
    failed: tuple[str, ...]


OURSELVES: Final = "remediator"
"""The label ``kind`` of alerts about remediator itself (deploy/prometheus/self.yaml)."""


def about_ourselves(labels: Mapping[str, str]) -> bool:
    """Whether no playbook may take the alert: what is broken is not to mend itself."""
    return labels.get("kind") == OURSELVES


def choose(labels: Mapping[str, str], library: Library) -> Playbook | None:
    """The first playbook, in the library's order, all of whose matchers fit; none for an alert about remediator itself."""
    if about_ourselves(labels):
        return None
    for playbook in library.takers(labels.get("alertname", "")):
        if playbook.matches(labels):
            return playbook
    return None


def nearest(labels: Mapping[str, str], library: Library, most: int = 3) -> tuple[NearMiss, ...]:
    """Why the best candidates did not take the alert, for people who wonder."""
    misses = []
    for playbook in library.playbooks if not about_ourselves(labels) else ():
        matchers = playbook.when.alerts if playbook.when else ()
        failed = [matcher for matcher in matchers if not matcher.matches(labels)]
        if failed:
            misses.append((len(failed) / len(matchers), playbook.name, len(matchers), failed))
    return tuple(
        NearMiss(
            playbook=name,
            matched=of - len(failed),
            of=of,
            failed=tuple(f"{matcher} (it is {labels.get(matcher.label, '')!r})" for matcher in failed),
        )
        for _, name, of, failed in heapq.nsmallest(most, misses, key=itemgetter(0, 1))
    )


async def resolve(spec: TargetSpec, alert: Alert, kube: Reads) -> Target:
    """The object that ``spec`` and the alert's labels name, as the API server has it now.

    Raises Refused (target_missing, target_ambiguous), Unreadable, KubeError.
    """
    name, namespace = _named(spec, alert)
    kind = kinds.by_name(_kind(spec, alert.labels))
    if kind.kind == "Node":
        return await _node(name, alert.labels, kube)
    return await find(kind.kind, *_by_labels(kind, name, namespace, alert.labels), kube)


def _by_labels(kind: Kind, name: str, namespace: str, labels: Mapping[str, str]) -> tuple[str, str]:
    """Name and namespace of an object that is no node: what the playbook says, else the labels named after them."""
    if not name:
        name = labels.get(kind.kind.lower(), "")
        namespace = namespace or labels.get("namespace", "")
    if not name or (kind.namespaced and not namespace):
        needs = f"{kind.kind.lower()} and namespace" if kind.namespaced else kind.kind.lower()
        raise Refused(Reason.TARGET_MISSING, f"the alert has no label {needs}; it has {_shown(labels)}")
    return name, namespace if kind.namespaced else ""


def _kind(spec: TargetSpec, labels: Mapping[str, str]) -> str:
    """Of several kinds the one that a label is named after."""
    if len(spec.kinds) == 1:
        return spec.kinds[0]
    found = [kind for kind in spec.kinds if labels.get(kind.lower())]
    if len(found) > 1:
        raise Refused(Reason.TARGET_AMBIGUOUS, f"the alert names a {' and a '.join(found)}; it has {_shown(labels)}")
    if not found:
        needs = " or ".join(kind.lower() for kind in spec.kinds)
        raise Refused(Reason.TARGET_MISSING, f"the alert has no label {needs}; it has {_shown(labels)}")
    return found[0]


def assumed(spec: TargetSpec, alert: Alert) -> Target:
    """The object that ``spec`` and the labels name, without asking whether it exists; a node known by its address alone is called by it.

    Raises Refused (target_missing).
    """
    name, namespace = _named(spec, alert)
    kind = kinds.by_name(_kind(spec, alert.labels))
    if kind.kind == "Node":
        return Target(kind=kind.kind, name=_host(name, alert.labels))
    name, namespace = _by_labels(kind, name, namespace, alert.labels)
    return Target(kind=kind.kind, name=name, namespace=namespace)


def _named(spec: TargetSpec, alert: Alert) -> tuple[str, str]:
    """What the playbook's own templates say; empty where it has none or the label is missing."""
    values = {"alert": {"name": alert.name, "labels": alert.labels, "annotations": alert.annotations}}
    try:
        name = str(spec.name.render(values)) if spec.name is not None else ""
        namespace = str(spec.namespace.render(values)) if spec.namespace is not None else ""
    except (Unreadable, ExpressionError) as error:
        raise Refused(Reason.TARGET_MISSING, f"{error}; the alert has {_shown(alert.labels)}") from error
    if spec.name is not None and not name:
        raise Refused(Reason.TARGET_MISSING, f"the target's name is empty; the alert has {_shown(alert.labels)}")
    return name, namespace


async def find(kind: str, name: str, namespace: str, kube: Reads) -> Target:
    """One object by name. Raises Refused (target_missing) if there is none, UsageError for a kind that is not known."""
    if not _NAME.fullmatch(name) or (namespace and not _NAME.fullmatch(namespace)):
        raise Refused(Reason.TARGET_MISSING, f"{name!r} is not a name that an object can have")
    known = kinds.by_name(kind)
    if known.namespaced != bool(namespace):
        raise UsageError(f"write the target as {'Kind/namespace/name' if known.namespaced else 'Kind/name'}: a {known.kind} has "
                         f"{'a' if known.namespaced else 'no'} namespace")  # fmt: skip
    try:
        thing = await kube.get(known, name, namespace)
    except (NotFound, Invalid) as error:
        key = Target(kind=known.kind, name=name, namespace=namespace).key
        raise Refused(Reason.TARGET_MISSING, f"{key} does not exist") from error
    return _target(known.kind, thing)


async def _node(name: str, labels: Mapping[str, str], kube: Reads) -> Target:
    """A node by the name given, else by a label that names one, else by the host of ``instance``."""
    given = _given(name, labels)
    host = _host(name, labels)
    address = _address(host)
    if address is None and given:
        return await find("Node", given, "", kube)
    listing = await kube.list(kinds.NODE)
    found = [node for node in listing.items if _answers_to(node, host, address)]
    if len(found) == 1:
        return _target("Node", found[0])
    if found:
        names = ", ".join(sorted(node["metadata"]["name"] for node in found))
        raise Refused(Reason.TARGET_AMBIGUOUS, f"{host} belongs to {len(found)} nodes: {names}")
    raise Refused(Reason.TARGET_MISSING, f"no node has the name or InternalIP {host!r}")


def _given(name: str, labels: Mapping[str, str]) -> str:
    return name or next((labels[label] for label in NODE_LABELS if labels.get(label)), "")


def _host(name: str, labels: Mapping[str, str]) -> str:
    """What a node is called or its address. Raises Refused (target_missing)."""
    host = _given(name, labels) or host_of(labels.get("instance", ""))
    if not host:
        raise Refused(Reason.TARGET_MISSING, f"no label names a node (node, instance, ...); the alert has {_shown(labels)}")
    return host


def host_of(instance: str) -> str:
    """``10.0.0.1:9962`` -> ``10.0.0.1``, ``[fd00::1]:9962`` -> ``fd00::1``, ``fd00::1`` and ``node-1`` as they are."""
    if instance.startswith("["):
        return instance[1:].partition("]")[0]
    host, colon, port = instance.rpartition(":")
    return host if colon and port.isdigit() and ":" not in host else instance


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _answers_to(node: dict[str, Any], host: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None) -> bool:
    if node["metadata"]["name"] == host:
        return True
    addresses: Iterable[dict[str, str]] = (node.get("status") or {}).get("addresses") or ()
    if address is None:
        return any(a["type"] == "Hostname" and a["address"] == host for a in addresses)
    return any(a["type"] == "InternalIP" and _address(a["address"]) == address for a in addresses)


def _target(kind: str, thing: dict[str, Any]) -> Target:
    metadata = thing["metadata"]
    return Target(kind=kind, name=metadata["name"], namespace=metadata.get("namespace", ""), uid=metadata["uid"])


def _shown(labels: Mapping[str, str]) -> str:
    pairs = [f"{name}={value[:60]!r}" for name, value in sorted(labels.items())[:20]]
    return ", ".join(pairs) or "no labels"
