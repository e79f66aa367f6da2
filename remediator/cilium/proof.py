"""What must be true after something of Cilium was restarted, each point a small function. Pure: what was read in, words out.

Words say what is not as it should be yet; empty means that the point is proved. Ready alone is no proof: the readiness probe checks little
more than the CNI file, and pods that are scheduled seconds later can stay broken (cilium/cilium#29405).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remediator.cilium.picture import AGENT_TAINT
from remediator.cilium.sessions import Sessions, not_back

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from remediator.kube.records import CiliumEndpoint, Node, Pod

__all__ = ["cilium_node", "endpoints", "failed_again", "new_pod", "sessions_back", "taint_gone"]


def new_pod(pods: Sequence[Pod], old_uid: str) -> str:
    """A pod of another uid is there and Ready; the same name says nothing (kubernetes, StatefulSet and static pods keep theirs)."""
    later = [pod for pod in pods if pod.uid != old_uid]
    if not later:
        return "no new pod is there"
    return "" if len(later) == 1 and later[0].ready else f"{', '.join(pod.name for pod in later)} is not ready"


def failed_again(pod: Pod, first: Pod) -> str:
    """The new pod was replaced or restarts by itself: then a second restart helps no more than the first (cilium#27922, #26411)."""
    if pod.uid != first.uid:
        return f"{first.name} was replaced by {pod.name} while it was watched"
    if pod.restarts > first.restarts:
        return f"{pod.name} restarted by itself right after the restart (crash_looping)"
    return ""


def taint_gone(node: Node) -> str:
    """The operator takes the taint off once the agent is Ready; until then nothing is scheduled there (operator/watchers/node_taint.go)."""
    return f"{node.name} still carries {AGENT_TAINT}" if node.tainted(AGENT_TAINT) else ""


def cilium_node(found: object | None, name: str) -> str:
    """The agent registers its node as a CiliumNode at start (pkg/nodediscovery); peers reach the node by it."""
    return "" if found is not None else f"CiliumNode {name} is not there"


def endpoints(found: Iterable[CiliumEndpoint], addresses: Iterable[str]) -> str:
    """Every endpoint of the node is restored and regenerated: ``state: ready`` (cilium#43577, #37077: endpoints that stay stale)."""
    here = set(addresses)
    states = [endpoint.status.state for endpoint in found if endpoint.node_address in here]
    waiting = [state for state in states if state != "ready"]
    kinds = ", ".join(sorted({state or "without state" for state in waiting}))
    return f"{len(waiting)} of {len(states)} endpoints are not ready ({kinds})" if waiting else ""


def sessions_back(before: Sessions, config: dict[str, Any] | None) -> str:
    """Every BGP session that the node had is established again, later than before (cilium#38008, #39835, #31346)."""
    missing = not_back(before, config)
    return f"BGP sessions are not back: {', '.join(missing)}" if missing else ""
