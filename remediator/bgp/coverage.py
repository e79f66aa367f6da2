"""What would be left if a node, or a peer, went away: the judgement behind the gate ``route_coverage``. Pure.

In: Routes, who goes, and the rules. Out: a Loss for every prefix that would lose something, with the words that refuse it, if any.
Of those who stay only nodes count whose every session works, so that the routers that keep the prefix keep enough speakers of it. Of those
who go every node counts that may announce it, so that a count of routes that is seconds old makes nothing look gone already.
A pod network has one speaker by nature: it may go once no pod is reached through it any more (drain first).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remediator.bgp.model import Node, Prefix, PrefixKind, Routes
from remediator.model import Noun, evolve

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Loss", "PrefixReport", "Report", "Rules", "alone", "losses", "plan_lines", "report", "warnings"]


class Rules(Noun, frozen=True, kw_only=True):
    """What has to be left."""

    min_speakers: int = 2
    each_peer: bool = True
    """Every router that has the prefix keeps at least one speaker of it."""
    min_zones: int = 1
    """Zones that the remaining speakers lie in, where they lie in that many now."""
    pod_cidrs: bool = True
    """A pod network stays announced while pods are reached through it."""


class Loss(Noun, frozen=True, kw_only=True):
    """One prefix that would lose speakers or peers."""

    prefix: Prefix
    now: tuple[str, ...]
    """Nodes that count as speakers, and those that go and may be some."""
    left: tuple[str, ...]
    """Those of them that stay and whose every session works."""
    peers_lost: tuple[str, ...] = ()
    zones_left: tuple[str, ...] = ()
    why: str = ""
    """Why it must not be; empty if it may."""


def losses(routes: Routes, rules: Rules, *, nodes: Iterable[str] = (), peers: Iterable[str] = ()) -> tuple[Loss, ...]:
    """What each prefix would lose if ``nodes`` went away, or if nobody announced to ``peers`` (addresses) any more."""
    going, without = frozenset(nodes), frozenset(peers)
    whole = {node.name: node for node in routes.nodes if not any(s.trouble for s in node.sessions if s.address not in without)}
    found = []
    for prefix in routes.prefixes:
        stays = {
            node: tuple(peer for peer in reached if peer not in without)
            for node, reached in prefix.speakers.items()
            if node not in going and any(peer not in without for peer in reached)
        }
        doubtful = {node: peers for node, peers in prefix.perhaps.items() if node in going or not without.isdisjoint(peers)}
        if not doubtful and all(stays.get(node) == reached for node, reached in prefix.speakers.items()):
            continue
        found.append(_loss(routes, rules, prefix, doubtful, stays, whole, without))
    return tuple(found)


def _loss(
    routes: Routes,
    rules: Rules,
    prefix: Prefix,
    doubtful: dict[str, tuple[str, ...]],
    stays: dict[str, tuple[str, ...]],
    whole: dict[str, Node],
    without: frozenset[str],
) -> Loss:
    left = tuple(sorted(node for node in stays if node in whole))
    had = {peer for speakers in (prefix.speakers, doubtful) for reached in speakers.values() for peer in reached}
    keeps = {peer for node in left for peer in stays[node]}
    now = {*prefix.speakers, *doubtful}
    zones = {node.zone for node in routes.nodes if node.name in now} - {""}
    loss = Loss(
        prefix=prefix,
        now=tuple(sorted(now)),
        left=left,
        peers_lost=tuple(sorted(had - keeps - without)),
        zones_left=tuple(sorted({whole[node].zone for node in left} - {""})),
    )
    return evolve(loss, why=_why(rules, loss, zones, len(stays) - len(left)))


def _why(rules: Rules, loss: Loss, zones: set[str], partial: int) -> str:
    prefix = loss.prefix
    if prefix.kind is PrefixKind.POD_CIDR:
        if rules.pod_cidrs and prefix.pods:
            return f"{prefix.pods} pods of {prefix.of} are reached through it; drain the node first"
        return ""
    parts = []
    if len(loss.left) < rules.min_speakers:
        local = ", since with externalTrafficPolicy Local only nodes with a ready endpoint announce it" if prefix.policy == "Local" else ""
        more = f" ({partial} more with sessions that do not all work)" if partial else ""
        parts.append(f"{len(loss.left)} of {len(loss.now)} speakers would be left{more}, {rules.min_speakers} are wanted{local}")
    if rules.each_peer and loss.peers_lost and loss.left:
        parts.append(f"router {', '.join(loss.peers_lost)} would have it from nobody")
    if loss.left and len(loss.zones_left) < min(rules.min_zones, len(zones)):
        parts.append(f"its speakers would lie in {len(loss.zones_left)} of {len(zones)} zones, {rules.min_zones} are wanted")
    return "; ".join(parts)


def alone(routes: Routes, name: str) -> tuple[Prefix, ...]:
    """Addresses of services that nobody but the node announces, by a session whose peer withdraws them at once when its agent restarts.

    Pod networks are left out: each has one speaker by nature.
    """
    node = routes.node(name)
    bare = {session.address for session in node.sessions if not session.graceful} if node is not None else set()
    return tuple(
        prefix
        for prefix in routes.prefixes
        if prefix.kind is PrefixKind.SERVICE
        and not set(prefix.speakers) - {name}
        and bare & {*prefix.speakers.get(name, ()), *prefix.perhaps.get(name, ())}
    )


def plan_lines(found: Iterable[Loss]) -> list[str]:
    """For people, before anything is done: what goes, and what stays."""
    lines = []
    for loss in found:
        prefix = loss.prefix
        words = f"{prefix.prefix} ({_what(prefix)}): {len(loss.now)} speakers now, {len(loss.left)} left"
        lines.append(words + (f": {', '.join(loss.left)}" if loss.left else "") + (f". {loss.why}" if loss.why else ""))
    return lines


def _what(prefix: Prefix) -> str:
    if prefix.kind is PrefixKind.POD_CIDR:
        return f"pods of {prefix.of}"
    return f"{prefix.of}, policy {prefix.policy}" if prefix.policy else prefix.of


class PrefixReport(Noun, frozen=True, kw_only=True):
    """One prefix, and how many speakers it would have left without each of its speakers."""

    prefix: str
    kind: PrefixKind
    of: str
    policy: str = ""
    speakers: dict[str, tuple[str, ...]] = {}  # noqa: RUF012 - msgspec copies defaults
    left: dict[str, int] = {}  # noqa: RUF012 - msgspec copies defaults
    """Node -> speakers that would be left if that node went away."""
    least: int = 0
    """The smallest of them; 0 if nobody announces it."""


class Report(Noun, frozen=True, kw_only=True):
    """``GET /api/v1/bgp``: who announces what."""

    version: str
    operator: str
    metrics: str
    metrics_detail: str
    min_speakers: int
    nodes: tuple[Node, ...]
    prefixes: tuple[PrefixReport, ...]
    conflicts: dict[str, str]
    pools: tuple[str, ...]
    l2_policies: tuple[str, ...]
    warnings: tuple[str, ...]


def report(routes: Routes, rules: Rules) -> Report:
    """Everything that ``bgp status`` shows. What is left is what ``losses`` would say node by node, without asking for each."""
    whole = {node.name for node in routes.nodes if not any(session.trouble for session in node.sessions)}
    prefixes = []
    for prefix in routes.prefixes:
        full = [node for node in prefix.speakers if node in whole]
        left = {node: len(full) - (node in whole) for node in prefix.speakers}
        prefixes.append(
            PrefixReport(
                prefix=prefix.prefix,
                kind=prefix.kind,
                of=prefix.of,
                policy=prefix.policy,
                speakers=prefix.speakers,
                left=left,
                least=min(left.values(), default=0),
            )
        )
    return Report(
        version=routes.version,
        operator=routes.operator,
        metrics=routes.metrics.value,
        metrics_detail=routes.metrics_detail,
        min_speakers=rules.min_speakers,
        nodes=routes.nodes,
        prefixes=tuple(prefixes),
        conflicts=routes.conflicts,
        pools=routes.pools,
        l2_policies=routes.l2_policies,
        warnings=tuple(warnings(routes)),
    )


def warnings(routes: Routes) -> list[str]:
    """What a person should know of, in sentences. Neither cordon nor drain stops BGP, and no label of kubernetes.io does."""
    lines = []
    for node in routes.nodes:
        announced = [p for p in routes.announced_by(node.name) if p.kind is PrefixKind.SERVICE]
        if node.unschedulable and announced:
            lines.append(f"{node.name} is cordoned and still announces {len(announced)} VIPs: a cordon or drain does not stop BGP")
        if node.lag:
            lines.append(f"{node.name}: {node.lag}")
        lines += [f"{node.name}, session {s.key}: {s.trouble}" for s in node.sessions if s.trouble]
    lines += [f"{prefix.prefix} ({prefix.of}) is announced by nobody" for prefix in routes.prefixes if not prefix.speakers]
    lines += [f"{name}: {words}" for name, words in routes.conflicts.items()]
    if routes.operator:
        lines.append(f"the Cilium operator does not work: {routes.operator}; label changes have no effect")
    if routes.metrics == "unreadable":
        lines.append(f"Prometheus could not be asked: {routes.metrics_detail}")
    return [*lines, *routes.notes]
