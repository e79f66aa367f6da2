"""Label selectors as Cilium evaluates them, and the label change after which a node is no longer selected. Pure.

In: ``metav1.LabelSelector`` as plain data, and the labels of a CiliumNode (the operator matches those, not the Node's:
``operator/pkg/bgpv2/cluster.go``). Out: yes or no, or the smallest change of one label after which no selector matches any more.
Refused (Unreadable): an operator that this version does not know, since a guess could withdraw the wrong node.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from remediator.errors import Unreadable
from remediator.model import Noun

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["DRAIN_LABEL", "LabelChange", "Method", "NamedSelector", "NoWay", "applied", "selects", "selects_node", "way_out"]

DRAIN_LABEL = "remediator.dev/bgp-drain"
"""A ClusterConfig whose selector says ``{key: remediator.dev/bgp-drain, operator: DoesNotExist}`` lets go of a node that carries it."""
_OFF = "disabled"
"""As Cilium's guide writes it (bgp-control-plane-operation, "Shutting Down a Node")."""
_OTHERS = re.compile(r"([a-z0-9.-]+\.)?(kubernetes\.io|k8s\.io)/.*")
"""Labels of the kubelet and of other controllers: zones, roles, hostnames. Whoever changes one changes more than BGP."""

Method: TypeAlias = Literal["auto", "drain_label", "selector_label"]
Selector: TypeAlias = "Mapping[str, Any]"


class NamedSelector(Noun, frozen=True, kw_only=True):
    """The node selector of one configuration. None selects every node."""

    name: str
    """``CiliumBGPClusterConfig/cilium-bgp``"""
    selector: dict[str, Any] | None


class LabelChange(Noun, frozen=True, kw_only=True):
    """One label of a node to be set, or taken off (None)."""

    key: str
    value: str | None
    method: Literal["drain_label", "selector_label"]

    def __str__(self) -> str:
        return f"label {self.key} taken off" if self.value is None else f"label {self.key}={self.value}"


class NoWay(Noun, frozen=True, kw_only=True):
    """No change of one label would do; ``why`` says so to a person."""

    why: str


def selects(selector: Selector | None, labels: Mapping[str, str]) -> bool:
    """As ``LabelSelectorAsSelector`` has it: None selects nothing, an empty selector everything. Raises Unreadable."""
    if selector is None:
        return False
    wanted = selector.get("matchLabels") or {}
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        _holds(expression, labels) for expression in selector.get("matchExpressions") or ()
    )


def selects_node(selector: Selector | None, labels: Mapping[str, str]) -> bool:
    """The node selector of a CiliumBGPClusterConfig: None selects every node."""
    return selector is None or selects(selector, labels)


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, operator, values = expression.get("key", ""), expression.get("operator"), expression.get("values") or ()
    match operator:
        case "In":
            return key in labels and labels[key] in values
        case "NotIn":
            return key not in labels or labels[key] not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case _:
            raise Unreadable("node selector", f"this version does not know the operator {operator!r}")


def applied(labels: Mapping[str, str], change: LabelChange) -> dict[str, str]:
    """``labels`` as they would be after ``change``."""
    after = {key: value for key, value in labels.items() if key != change.key}
    return after if change.value is None else {**after, change.key: change.value}


def way_out(selectors: Sequence[NamedSelector], labels: Mapping[str, str], method: Method = "auto") -> LabelChange | NoWay:
    """The change after which none of ``selectors`` selects the node. A change that makes another one take it over is none."""
    holding = [one for one in selectors if selects_node(one.selector, labels)]
    if not holding:
        return NoWay(why="no configuration selects the node, so there is nothing to withdraw")
    for change in _candidates(holding, method):
        after = applied(labels, change)
        if after != dict(labels) and not any(selects_node(one.selector, after) for one in selectors):
            return change
    return NoWay(why=_why(holding, method))


def _why(holding: Sequence[NamedSelector], method: Method) -> str:
    names = ", ".join(one.name for one in holding)
    ours = f"add {{key: {DRAIN_LABEL}, operator: DoesNotExist}} to matchExpressions of its nodeSelector"
    if method == "drain_label":
        return f"the selector of {names} does not heed {DRAIN_LABEL}; {ours}"
    return f"{names} selects the node by no label that could be changed without touching what others own; {ours}"


def _candidates(holding: Sequence[NamedSelector], method: Method) -> Iterator[LabelChange]:
    if method in ("auto", "drain_label"):
        yield LabelChange(key=DRAIN_LABEL, value="true", method="drain_label")
    if method in ("auto", "selector_label"):
        for one in holding:
            yield from _of(one.selector or {})


def _of(selector: Selector) -> Iterator[LabelChange]:
    """Every change of one label that breaks one term of ``selector``; the label's own value is broken before the label is taken off."""
    terms = [{"key": key, "operator": "In", "values": [value]} for key, value in (selector.get("matchLabels") or {}).items()]
    for term in (*terms, *(selector.get("matchExpressions") or ())):
        key, values = str(term.get("key")), list(term.get("values") or ())
        if key == DRAIN_LABEL or _OTHERS.fullmatch(key):
            continue
        match term.get("operator"):
            case "In":
                value = None if _OFF in values else _OFF
            case "Exists":
                value = None
            case "NotIn":
                value = values[0]
            case _:
                value = "true"
        yield LabelChange(key=key, value=value, method="selector_label")
