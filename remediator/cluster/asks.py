"""What a pod's spec asks of nodes and of other pods, out of the API's plain data into values of ``constraints``. Pure; nothing is refused.

The API server has checked it: required keys are there. What it may have merged itself already (``matchLabelKeys``) is merged once more,
which changes nothing then (core/v1: PodAffinityTerm, TopologySpreadConstraint).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remediator.cluster.constraints import Port, Requirement, Selector, Spread, Term, Toleration

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Terms = tuple[tuple[Requirement, ...], ...]

__all__ = ["asked_of_nodes", "node_terms", "pod_terms", "port", "spreads", "toleration"]

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_OPERATORS = {"matchLabelKeys": "In", "mismatchLabelKeys": "NotIn"}


def asked_of_nodes(affinity: Mapping[str, Any]) -> Terms:
    """A pod's required node affinity."""
    return node_terms((affinity.get("nodeAffinity") or {}).get(_REQUIRED))


def node_terms(selector: Mapping[str, Any] | None) -> Terms:
    """A NodeSelector; a term that asks for nothing fits nothing, and none but such fit no node at all."""
    terms = (selector or {}).get("nodeSelectorTerms") or ()
    found = tuple(_node_term(term) for term in terms)
    return tuple(term for term in found if term) or (_NOWHERE if found else ())


_NOWHERE: Terms = ((Requirement(key="metadata.name", operator="DoesNotExist", field=True),),)


def _node_term(term: Mapping[str, Any]) -> tuple[Requirement, ...]:
    labels = tuple(map(_requirement, term.get("matchExpressions") or ()))
    return labels + tuple(_requirement(one, field=True) for one in term.get("matchFields") or ())


def _requirement(expression: Mapping[str, Any], *, field: bool = False) -> Requirement:
    values = tuple(expression.get("values") or ())
    return Requirement(key=str(expression["key"]), operator=str(expression["operator"]), values=values, field=field)


def _selector(selector: Mapping[str, Any] | None) -> Selector:
    if selector is None:
        return None
    labels = (selector.get("matchLabels") or {}).items()
    equal = tuple(Requirement(key=key, operator="In", values=(value,)) for key, value in labels)
    return equal + tuple(map(_requirement, selector.get("matchExpressions") or ()))


def pod_terms(affinity: Mapping[str, Any], kind: str, namespace: str, labels: Mapping[str, str]) -> tuple[Term, ...]:
    """The required terms of ``podAffinity`` or ``podAntiAffinity`` of a pod with these labels."""
    return tuple(_pod_term(term, namespace, labels) for term in (affinity.get(kind) or {}).get(_REQUIRED) or ())


def _pod_term(term: Mapping[str, Any], namespace: str, labels: Mapping[str, str]) -> Term:
    named, by_label = tuple(term.get("namespaces") or ()), term.get("namespaceSelector")
    return Term(
        key=str(term["topologyKey"]),
        selector=_with_keys(_selector(term.get("labelSelector")), term, labels),
        namespaces=named if named or by_label is not None else (namespace,),
        namespace_selector=_selector(by_label),
    )


def _with_keys(selector: Selector, term: Mapping[str, Any], labels: Mapping[str, str]) -> Selector:
    """The selector with the pod's own values of the keys that it names; keys that the pod lacks ask for nothing."""
    if selector is None:
        return None
    own = (
        Requirement(key=key, operator=operator, values=(labels[key],))
        for field, operator in _OPERATORS.items()
        for key in term.get(field) or ()
        if key in labels
    )
    return (*selector, *own)


def spreads(constraints: Iterable[Mapping[str, Any]], labels: Mapping[str, str]) -> tuple[Spread, ...]:
    """The constraints that are no mere wish."""
    return tuple(_spread(one, labels) for one in constraints if one.get("whenUnsatisfiable") == "DoNotSchedule")


def _spread(one: Mapping[str, Any], labels: Mapping[str, str]) -> Spread:
    return Spread(
        key=str(one["topologyKey"]),
        skew=int(one["maxSkew"]),
        selector=_with_keys(_selector(one.get("labelSelector")), one, labels),
        domains=int(one.get("minDomains") or 1),
        affinity=one.get("nodeAffinityPolicy", "Honor") == "Honor",
        taints=one.get("nodeTaintsPolicy", "Ignore") == "Honor",
    )


def port(one: Mapping[str, Any]) -> Port:
    """A container's port that has a ``hostPort``."""
    return Port(number=int(one["hostPort"]), protocol=one.get("protocol") or "TCP", address=one.get("hostIP") or Port(number=0).address)


def toleration(one: Mapping[str, Any]) -> Toleration:
    """One of a pod's tolerations."""
    return Toleration(**{key: str(value) for key, value in one.items() if key in Toleration.__struct_fields__})
