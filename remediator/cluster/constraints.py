"""What decides where a pod may run, as plain values: nodes, pods with what they ask for, pods that are there. Pure; nothing is refused.

Each answers for itself whether it fits a node or a pod; what depends on who else is there is ``neighbours``. The meanings are those of the
scheduler (Kubernetes 1.36, pkg/scheduler/framework/plugins: nodeaffinity, tainttoleration, interpodaffinity, podtopologyspread, ...).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from remediator.model import Noun

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "HOLDING",
    "Load",
    "Offer",
    "Placed",
    "Port",
    "Requirement",
    "Resident",
    "Selector",
    "Spread",
    "Taint",
    "Term",
    "Toleration",
    "Want",
    "selects",
]

HOLDING = ("NoSchedule", "NoExecute")
"""Effects of taints that keep pods off."""


class Taint(Noun, frozen=True, kw_only=True):
    """Of a node."""

    key: str
    value: str = ""
    effect: str = ""


class Toleration(Noun, frozen=True, kw_only=True):
    """Of a pod (core/v1 Toleration, ToleratesTaint)."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""

    def tolerates(self, taint: Taint) -> bool:
        """Whether the taint does not keep the pod off."""
        if self.effect not in ("", taint.effect) or self.key not in ("", taint.key):
            return False
        return self.operator == "Exists" or (self.operator in ("", "Equal") and bool(self.key) and self.value == taint.value)


class Requirement(Noun, frozen=True, kw_only=True):
    """One expression of a selector: of labels, or (``field``) of a node's name."""

    key: str
    operator: str
    values: tuple[str, ...] = ()
    field: bool = False

    def met(self, labels: Mapping[str, str]) -> bool:  # noqa: PLR0911 - one for each operator
        """Whether something with these labels fits; an operator that is unknown here fits nothing."""
        value = labels.get(self.key)
        match self.operator:
            case "In":
                return value in self.values
            case "NotIn":
                return value not in self.values
            case "Exists":
                return value is not None
            case "DoesNotExist":
                return value is None
            case "Gt" | "Lt":
                if value is None or not value.lstrip("-").isdecimal() or not self.values or not self.values[0].lstrip("-").isdecimal():
                    return False
                return int(value) > int(self.values[0]) if self.operator == "Gt" else int(value) < int(self.values[0])
            case _:
                return False


Selector: TypeAlias = "tuple[Requirement, ...] | None"
"""A label selector: None selects nothing, an empty one everything."""


def selects(selector: Selector, labels: Mapping[str, str]) -> bool:
    """Whether the selector takes something with these labels."""
    return selector is not None and all(one.met(labels) for one in selector)


class Term(Noun, frozen=True, kw_only=True):
    """One required term of a pod's affinity or anti-affinity to other pods."""

    key: str
    """The label of nodes whose equal values make one place of several nodes."""
    selector: Selector = None
    namespaces: tuple[str, ...] = ()
    """The pod's own where the term names none at all."""
    namespace_selector: Selector = None

    def matches(self, pod: Placed, namespaces: Mapping[str, Mapping[str, str]]) -> bool:
        """Whether it speaks of that pod. ``namespaces``: the labels of each."""
        there = pod.namespace in self.namespaces or selects(self.namespace_selector, namespaces.get(pod.namespace, {}))
        return there and selects(self.selector, pod.labels)


class Spread(Noun, frozen=True, kw_only=True):
    """One topology spread constraint with ``whenUnsatisfiable: DoNotSchedule``."""

    key: str
    skew: int = 1
    selector: Selector = None
    domains: int = 1
    """With fewer places than this, the emptiest counts as empty."""
    affinity: bool = True
    """Nodes that the pod's selector and node affinity leave out are no places."""
    taints: bool = False
    """Nodes with taints that the pod does not tolerate are no places."""


class Port(Noun, frozen=True, kw_only=True):
    """A port of the node that a pod takes."""

    number: int
    protocol: str = "TCP"
    address: str = "0.0.0.0"  # noqa: S104 - what the scheduler takes for "all addresses"; nothing is bound

    def clashes(self, other: Port) -> bool:
        """Whether both cannot be on one node."""
        same = (self.number, self.protocol) == (other.number, other.protocol)
        return same and ("0.0.0.0" in (self.address, other.address) or self.address == other.address)  # noqa: S104 - as above


class Placed(Noun, frozen=True, kw_only=True):
    """A pod, as far as other pods mind it."""

    name: str
    """``namespace/name``"""
    labels: dict[str, str] = {}  # noqa: RUF012 - msgspec copies defaults
    anti: tuple[Term, ...] = ()
    """Required anti-affinity; it holds against those that come later, too."""
    ports: tuple[Port, ...] = ()
    claims: tuple[str, ...] = ()
    """``namespace/name`` of claims that one pod alone may use (ReadWriteOncePod)."""

    @property
    def namespace(self) -> str:
        """The first part of its name."""
        return self.name.partition("/")[0]


class Resident(Placed, frozen=True, kw_only=True):
    """A pod that stays where it is."""

    node: str
    terminating: bool = False


class Want(Placed, frozen=True, kw_only=True):
    """A pod that has to go somewhere else."""

    requests: dict[str, float] = {}  # noqa: RUF012 - as above
    selector: dict[str, str] = {}  # noqa: RUF012 - as above
    terms: tuple[tuple[Requirement, ...], ...] = ()
    """Required node affinity: one of them must be met whole."""
    tolerations: tuple[Toleration, ...] = ()
    affinity: tuple[Term, ...] = ()
    """Required affinity to other pods: all terms together."""
    spread: tuple[Spread, ...] = ()
    volumes: tuple[tuple[tuple[Requirement, ...], ...], ...] = ()
    """For each volume where it can be reached, in the manner of ``terms``."""
    stuck: str = ""
    """Why no node at all may run it."""
    unjudged: tuple[str, ...] = ()
    """What else it asks for that nobody looks at here."""

    @property
    def waits_for_others(self) -> bool:
        """Whether a place that is none now may become one when others have come."""
        return bool(self.affinity or self.spread)

    def likes(self, node: Offer) -> bool:
        """Whether its node selector and node affinity fit the node."""
        if any(node.labels.get(key) != value for key, value in self.selector.items()):
            return False
        return not self.terms or any(node.meets(term) for term in self.terms)

    def bears(self, node: Offer) -> bool:
        """Whether it tolerates the node's taints."""
        hard = (taint for taint in node.taints if taint.effect in HOLDING)
        return all(any(toleration.tolerates(taint) for toleration in self.tolerations) for taint in hard)

    def reaches(self, node: Offer) -> bool:
        """Whether its volumes can be reached from the node."""
        return all(any(node.meets(term) for term in volume) for volume in self.volumes)


class Offer(Noun, frozen=True, kw_only=True):
    """A node."""

    name: str
    labels: dict[str, str] = {}  # noqa: RUF012 - as above
    taints: tuple[Taint, ...] = ()
    allocatable: dict[str, float] = {}  # noqa: RUF012 - as above
    used: dict[str, float] = {}  # noqa: RUF012 - as above

    def meets(self, term: tuple[Requirement, ...]) -> bool:
        """Whether it meets a whole term of a node selector."""
        return all(one.met({"metadata.name": self.name} if one.field else self.labels) for one in term)


class Load(Noun, frozen=True, kw_only=True):
    """What would move, where it could go, and who is there."""

    wants: tuple[Want, ...] = ()
    offers: tuple[Offer, ...] = ()
    """Nodes that could take pods: Ready, not cordoned, not on their way out."""
    others: tuple[Offer, ...] = ()
    """The rest, the target among them, as it is once cordoned: they take nothing, and yet count as places where pods are, or are not."""
    residents: tuple[Resident, ...] = ()
    """Pods that stay, on any node; those that no pod that moves could mind may be left out."""
    namespaces: dict[str, dict[str, str]] = {}  # noqa: RUF012 - as above
    """The labels of each, if some term asks for them."""
