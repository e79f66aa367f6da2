"""What other open episodes tell of a node: further evidence beside the pairs.

In: open episodes, as the journal has them with their labels, and the nodes that take part. Out: one Hint for each node and alert name. The
labels say which node it is, not the episode's target: that may be one whom attribution blamed itself. Left out: every alert that is itself
computed from pairs (it would count the same observations twice, and a percentile over all observers of a target fires for everybody in a
small cluster), and those that name an observer (CiliumHealthEndpointsUnreachable, ``cilium_unreachable_*``). So this is a list of what may
count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from remediator.attribution.model import Hint
from remediator.attribution.places import NODE_LABELS, Names

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from remediator.attribution.model import Place
    from remediator.model import Episode

__all__ = ["OF_A_NODE_ITSELF", "hints_of"]

OF_A_NODE_ITSELF: Final = frozenset(
    {
        "CiliumAgentDown",
        "CiliumAgentMissing",
        "CiliumAgentNotReadyTaint",
        "CiliumEndpointRegenerationFailing",
        "ConntrackMapFull",
        "NodeFailure",
        "NodeNicErrors",
        "NodeSaturated",
    }
)
"""Alerts whose cause sits on the node that they name. Retransmits and drop ratios rise on victims as well and are not here."""


def hints_of(episodes: Iterable[Episode], nodes: Iterable[Place]) -> tuple[Hint, ...]:
    """The hints of all open episodes, each once."""
    names = Names(nodes)
    found = {
        (node, episode.name)
        for episode in episodes
        if episode.resolved_at is None and episode.name in OF_A_NODE_ITSELF and (node := _node(names, episode.labels))
    }
    return tuple(Hint(node=node, alert=alert) for node, alert in sorted(found))


def _node(names: Names, labels: Mapping[str, str]) -> str | None:
    """Only the best label that there is: where it names no listed node, a lesser one names somebody else."""
    return names.node(labels, [key for key in (*NODE_LABELS, "instance") if labels.get(key)][:1])
