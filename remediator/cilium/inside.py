"""What an agent says of itself when it is asked inside of its container: its own status, and whom it reaches by a probe made just now.

In: the end of a command (``Executed``), the nodes that matter. Out: words about what is not as it should be; empty means proved. Pure. What
cannot be read proves nothing and says so: a code other than 0, an answer that was cut, JSON of another form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from remediator.kube.errors import cut

if TYPE_CHECKING:
    from collections.abc import Collection

    from remediator.kube.execute import Executed

__all__ = ["CONTAINER", "HEALTH", "LONGEST", "STATUS", "reaches", "says_ok"]

CONTAINER: Final = "cilium-agent"
"""Of the agent's pod (cilium, install/kubernetes/cilium/templates/cilium-agent/daemonset.yaml)."""
STATUS: Final = ("cilium-dbg", "status", "--brief")
HEALTH: Final = ("cilium-health", "status", "--probe", "-o", "json")
LONGEST: Final = 8 * 1024 * 1024
"""Bytes of an answer: a health report has half a kilobyte a node, and Cilium is tested with 5000 nodes."""
_MOST_NAMES: Final = 5


class _Connectivity(msgspec.Struct):
    status: str = ""


class _Path(msgspec.Struct):
    icmp: _Connectivity | None = None
    http: _Connectivity | None = None

    @property
    def wrong(self) -> str:
        """Why it does not count as reached; a probe without a status went well, and none at all is not known yet (pkg/health/client)."""
        for name, probe in (("ICMP", self.icmp), ("HTTP", self.http)):
            if probe is None:
                return f"{name} not probed"
            if probe.status:
                return f"{name}: {cut(probe.status)}"
        return ""


class _Addresses(msgspec.Struct):
    primary: _Path | None = msgspec.field(default=None, name="primary-address")


class _Node(msgspec.Struct):
    """A NodeStatus. ``endpoint`` is the older form of ``health-endpoint``; neither is there where endpoint health checking is off."""

    name: str = ""
    host: _Addresses | None = None
    health: _Addresses | None = msgspec.field(default=None, name="health-endpoint")
    endpoint: _Path | None = None

    @property
    def wrong(self) -> str:
        """What keeps it from being reached."""
        host = self.host.primary if self.host else None
        words = host.wrong if host else "not probed"
        if words:
            return words
        pod = self.health.primary if self.health else self.endpoint
        return f"health endpoint {pod.wrong}" if pod and pod.wrong else ""


class _Self(msgspec.Struct):
    name: str = ""


class _Report(msgspec.Struct):
    """A HealthStatusResponse (cilium, api/v1/health/openapi.yaml)."""

    local: _Self | None = None
    nodes: list[_Node] | None = None

    def own(self) -> dict[str, str]:
        """Node of this cluster -> why it is not reached. Names begin with their cluster's unless that is ``default`` (pkg/node/types)."""
        cluster, slash, _ = (self.local.name if self.local else "").rpartition("/")
        parts = [(node.name.rpartition("/"), node) for node in self.nodes or ()]
        return {name: node.wrong for (of, mark, name), node in parts if (of, mark) == (cluster, slash)}


def says_ok(ended: Executed) -> str:
    """``cilium-dbg status --brief`` prints OK and nothing else.

    The code does not do: it is 0 with ``error in kubernetes: ...``, too (cilium, cilium-dbg/cmd/status.go, pkg/client/client.go).
    """
    words = _unreadable(STATUS, ended)
    if words:
        return words
    said = _text(ended.stdout)
    return "" if said == "OK" else f"{' '.join(STATUS)} says: {said or 'nothing'}"


def reaches(ended: Executed, nodes: Collection[str], *, down: Collection[str] = ()) -> str:
    """``cilium-health status --probe -o json`` lists every one of ``nodes`` and reaches all of the cluster's, host and health endpoint.

    ``down``: nodes that are known to be down besides, of which nothing is expected. Nodes of other clusters of a mesh do not count.
    """
    words = _unreadable(HEALTH, ended)
    if words:
        return words
    try:
        found = msgspec.json.decode(ended.stdout, type=_Report).own()
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        return f"{' '.join(HEALTH)} is not to be read: {error}"
    if not found:
        return f"{' '.join(HEALTH)} lists no node"
    found |= {name: "not listed" for name in nodes if name not in found}
    wrong = [f"{name} ({words})" for name, words in sorted(found.items()) if words and name not in down]
    more = f" and {len(wrong) - _MOST_NAMES} more" if len(wrong) > _MOST_NAMES else ""
    return f"the agent does not reach {', '.join(wrong[:_MOST_NAMES])}{more}" if wrong else ""


def _unreadable(argv: tuple[str, ...], ended: Executed) -> str:
    if ended.code:
        said = _text(ended.stderr) or _text(ended.stdout)
        return f"{' '.join(argv)} ended with code {ended.code}" + (f": {said}" if said else "")
    return f"the answer of {' '.join(argv)} is too long, only its beginning was read" if ended.cut else ""


def _text(output: bytes) -> str:
    return cut(output[:4096].decode("utf-8", "replace"))
