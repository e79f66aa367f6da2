"""Whether a pod may join those that are on a node and around it: affinity to pods, spread, ports, volumes for one pod alone.

In: the nodes and who is on them; then pods, one after the other, as they find a place. Out: why a pod may not go to a node. Nothing is
asked. As the scheduler judges (interpodaffinity, podtopologyspread, nodeports, volumerestrictions): pods on any node count, also on those
that take no more; a pod that goes does not count for spread, but does for affinity. What is counted once is kept and brought up to date,
since hundreds of pods of one workload ask the same.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from remediator.cluster.constraints import Offer, Placed, Spread, Term, Want, selects

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from remediator.cluster.constraints import Load, Port, Selector

__all__ = ["Company", "Neighbours"]

_Namespaces: TypeAlias = "Mapping[str, Mapping[str, str]]"


class _Crowd(NamedTuple):
    """Pods that belong together by what they ask of nodes; for those one count of places serves."""

    terms: tuple[object, ...]
    spread: tuple[Spread, ...]
    namespace: str


class _Here(NamedTuple):
    pod: Placed
    node: Offer
    terminating: bool


class Company:
    """What one pod minds about everybody else, at one moment; ``against`` is asked for each node."""

    def __init__(self, around: Neighbours, pod: Want) -> None:
        self._around, self._pod = around, pod
        self._taken = any(claim in around.claims for claim in pod.claims)
        self._friends = around.friends(pod.affinity) if pod.affinity else Counter()
        self._alone = not self._friends and all(term.matches(pod, around.namespaces) for term in pod.affinity)
        self._foes = [(term.key, around.matched(term)) for term in pod.anti]
        self._shunned = around.shunned_by(pod)
        self._spread = [(one, *around.spread(pod, one)) for one in pod.spread]

    def against(self, node: Offer) -> str:
        """Why the pod may not join those on ``node``, or nothing."""
        return next(self._reasons(node), "")

    def _reasons(self, node: Offer) -> Iterator[str]:
        if self._taken:
            yield "its ReadWriteOncePod volume is in use by another pod"
        if any(port.clashes(taken) for port in self._pod.ports for taken in self._around.ports[node.name]):
            yield "a host port is taken"
        if self._uneven(node.labels):
            yield "the spread would be too uneven"
        if not self._befriended(node.labels):
            yield "pod affinity is not met"
        if any(counts[node.labels[key]] for key, counts in self._foes if key in node.labels):
            yield "pod anti-affinity forbids it"
        if any((key, value) in self._shunned for key, value in node.labels.items()):
            yield "the anti-affinity of another pod forbids it"

    def _befriended(self, labels: Mapping[str, str]) -> bool:
        """The first of several that want to be together may begin anywhere, if it is one of those that it looks for."""
        terms = self._pod.affinity
        if any(term.key not in labels for term in terms):
            return False
        return all(self._friends[term.key, labels[term.key]] for term in terms) or self._alone

    def _uneven(self, labels: Mapping[str, str]) -> bool:
        for one, counts, least in self._spread:
            if one.key not in labels:
                return True
            own = selects(one.selector, self._pod.labels)
            if counts.get(labels[one.key], 0) + own - least > one.skew:
                return True
        return False


class Neighbours:
    """Everybody, and where they are."""

    def __init__(self, load: Load) -> None:
        self.nodes = {node.name: node for node in (*load.offers, *load.others)}
        self.namespaces = load.namespaces
        self.ports: defaultdict[str, list[Port]] = defaultdict(list)
        self.claims: set[str] = set()
        self._all: list[_Here] = []
        self._shun: dict[Term, set[str]] = {}
        """By each term of anti-affinity that somebody has: the values of its key where they are."""
        self._matched: dict[Term, Counter[str]] = {}
        self._friends: dict[tuple[Term, ...], Counter[tuple[str, str]]] = {}
        self._alike: dict[tuple[str, Selector], Counter[str]] = {}
        self._places: dict[_Crowd, tuple[Offer, ...]] = {}
        for pod in load.residents:
            self.add(pod, pod.node, terminating=pod.terminating)

    def add(self, pod: Placed, node: str, *, terminating: bool = False) -> None:
        """``pod`` is on ``node`` from now on."""
        self.ports[node] += pod.ports
        self.claims.update(pod.claims)
        there = self.nodes.get(node)
        if there is None:
            return
        self._all.append(_Here(pod, there, terminating))
        for term in pod.anti:
            if term.key in there.labels:
                self._shun.setdefault(term, set()).add(there.labels[term.key])
        for term, matched in self._matched.items():
            _count(matched, term, pod, there, self.namespaces)
        for terms, friends in self._friends.items():
            _count_all(friends, terms, pod, there, self.namespaces)
        for (namespace, selector), alike in self._alike.items():
            alike[node] += _alike(pod, namespace, selector)  # whoever is on its way out is here from the beginning

    def company(self, pod: Want) -> Company:
        """What ``pod`` minds now."""
        return Company(self, pod)

    def matched(self, term: Term) -> Counter[str]:
        """How many pods the term speaks of, by the value of its key."""
        if term not in self._matched:
            counts: Counter[str] = Counter()
            for here in self._all:
                _count(counts, term, here.pod, here.node, self.namespaces)
            self._matched[term] = counts
        return self._matched[term]

    def friends(self, terms: tuple[Term, ...]) -> Counter[tuple[str, str]]:
        """How many pods all terms speak of, by each term's key and its value."""
        if terms not in self._friends:
            counts: Counter[tuple[str, str]] = Counter()
            for here in self._all:
                _count_all(counts, terms, here.pod, here.node, self.namespaces)
            self._friends[terms] = counts
        return self._friends[terms]

    def shunned_by(self, pod: Want) -> set[tuple[str, str]]:
        """The places, as key and value, that pods there keep ``pod`` away from."""
        return {(term.key, value) for term, values in self._shun.items() if term.matches(pod, self.namespaces) for value in values}

    def spread(self, pod: Want, one: Spread) -> tuple[dict[str, int], int]:
        """How many pods of the kind are in each place that counts, and how many in the emptiest of them."""
        alike = self._alike_in(pod.namespace, one.selector)
        counts: dict[str, int] = {}
        for node in self._places_for(pod, one):
            value = node.labels[one.key]
            counts[value] = counts.get(value, 0) + alike[node.name]
        return counts, min(counts.values(), default=0) if len(counts) >= one.domains else 0

    def _alike_in(self, namespace: str, selector: Selector) -> Counter[str]:
        """By node; an empty selector counts nobody (countPodsMatchSelector)."""
        key = (namespace, selector or None)
        if key not in self._alike:
            found = (here for here in self._all if not here.terminating and _alike(here.pod, namespace, key[1]))
            self._alike[key] = Counter(here.node.name for here in found)
        return self._alike[key]

    def _places_for(self, pod: Want, one: Spread) -> tuple[Offer, ...]:
        """Nodes with the keys of all constraints of the pod, so far as its policies let them count."""
        crowd = _Crowd((tuple(pod.selector.items()), pod.terms, pod.tolerations, one), pod.spread, pod.namespace)
        if crowd not in self._places:
            keys = [each.key for each in pod.spread]
            self._places[crowd] = tuple(
                node
                for node in self.nodes.values()
                if all(key in node.labels for key in keys) and (not one.affinity or pod.likes(node)) and (not one.taints or pod.bears(node))
            )
        return self._places[crowd]


def _alike(pod: Placed, namespace: str, selector: Selector) -> bool:
    return pod.namespace == namespace and selects(selector, pod.labels)


def _count(counts: Counter[str], term: Term, pod: Placed, node: Offer, namespaces: _Namespaces) -> None:
    if term.key in node.labels and term.matches(pod, namespaces):
        counts[node.labels[term.key]] += 1


def _count_all(counts: Counter[tuple[str, str]], terms: tuple[Term, ...], pod: Placed, node: Offer, namespaces: _Namespaces) -> None:
    if all(term.matches(pod, namespaces) for term in terms):
        counts.update((term.key, node.labels[term.key]) for term in terms if term.key in node.labels)
