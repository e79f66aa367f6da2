"""Take the routes away from one router and leave its sessions up: its CiliumBGPPeerConfig is made to select no advertisement.

It works on every node that has a session by that configuration, so it is refused where a second router shares it, and where the other
routers would not keep every prefix. The selectors before are tested by the patch, kept in the record, and put back by the undo.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from remediator.actions import Action, Context, Observed, Parameters, Rule
from remediator.actions.shifting import (
    READS,
    Look,
    arrive,
    come_back,
    look,
    note,
    owns,
    persist,
    pointer,
    put_back,
    recorded,
    refuse_conflict,
    refuse_unknown_state,
    seen_by_mark,
    send,
    whole_patch,
)
from remediator.bgp.coverage import Rules, losses, plan_lines
from remediator.bgp.gitops import managed_by
from remediator.bgp.model import Metrics
from remediator.bgp.objects import MARK
from remediator.bgp.read import kind_of
from remediator.errors import Refused, StepFailed
from remediator.fields import Duration
from remediator.kube import kinds
from remediator.reasons import Reason
from remediator.units import format_duration

if TYPE_CHECKING:
    from remediator.bgp.model import Node
    from remediator.model import Change

__all__ = ["WithdrawPeer"]

Object = dict[str, Any]
NONE = {"matchLabels": {"remediator.dev/none": "true"}}
"""Selects no advertisement, as nobody gives one that label."""


class PeerParameters(Parameters):
    """``{action: bgp.withdraw_peer, peer_config: peer-tor1, timeout: 3m}``"""

    peer_config: str = Field(default="", max_length=253, description="name of the CiliumBGPPeerConfig; absent: the target is one")
    hold: Duration | None = Field(default=None, ge=timedelta(0), le=timedelta(hours=1), description="absent: the router's hold time")


class WithdrawPeer(Action[PeerParameters]):
    """Announces nothing to one router any more, from any node."""

    name: ClassVar[str] = "bgp.withdraw_peer"
    summary: ClassVar[str] = "announce nothing to one router any more, with its sessions left up"
    changes: ClassVar[str] = f"families[].advertisements of one CiliumBGPPeerConfig and the annotation {MARK}"
    undone_by: ClassVar[str] = "the selectors before, if nobody changed them since; then the routes have to come back"
    disruptive: ClassVar[bool] = True
    undo_disturbs: ClassVar[bool] = True
    rbac: ClassVar[tuple[Rule, ...]] = (
        Rule(resources=("nodes",), verbs=("list",)),
        *READS,
        Rule(groups=("cilium.io",), resources=("ciliumbgppeerconfigs",), verbs=("patch",)),
    )
    brings: ClassVar[tuple[str, ...]] = ("bgp_agent", "bgp_conflict", "bgp_shift")
    Parameters: ClassVar[type[Parameters]] = PeerParameters

    async def check(self, ctx: Context, parameters: PeerParameters) -> None:
        """See Action. Where the parameters name the configuration, the gates cannot see whom it concerns; so that is looked at here."""
        if ctx.changes:
            return  # patched before a crash
        seen = await look(ctx)
        thing = _config(ctx, seen, parameters)
        name, address = thing["metadata"]["name"], _router(seen, thing)
        refuse_unknown_state(seen.routes)
        if owner := managed_by(thing):
            raise Refused(Reason.GITOPS_MANAGED, f"CiliumBGPPeerConfig {name}: {owner}")
        speaking = _speaking(seen, address)
        down = [f"{node.name}: {node.agent}" for node in speaking if not node.agent_ready]
        if down:
            raise Refused(Reason.AGENT_NOT_READY, f"their agents would not withdraw anything: {'; '.join(down)}")
        refuse_conflict(seen.routes, sorted({config for node in speaking for config in node.configs}))
        found = losses(seen.routes, Rules(min_speakers=ctx.min_speakers), peers=[address])
        short = [f"{loss.prefix.prefix} ({loss.prefix.of}): {loss.why}" for loss in found if loss.why]
        if short:
            raise Refused(Reason.ROUTE_COVERAGE, f"without {address}: {'; '.join(short[:5])}")

    async def act(self, ctx: Context, parameters: PeerParameters) -> str:
        """See Action."""
        change = ctx.changes[-1] if ctx.changes else await persist("the CiliumBGPPeerConfig", lambda: self._withdraw(ctx, parameters))
        if change is None:
            return "it announces nothing to this router; left as it is"
        sessions: dict[str, dict[str, Any]] = (change.before or {})["sessions"]
        if ctx.dry_run:
            return f"would withdraw the routes of {len(sessions)} sessions by {change.resource.key}"
        held = max((session["hold_seconds"] for session in sessions.values()), default=0)
        hold = parameters.hold if parameters.hold is not None else timedelta(seconds=held)
        words = "withdrawn; the router forgets the routes"
        await arrive(ctx, f"the routes of {change.resource.key} to go", lambda: _pending(ctx, change), hold=hold, meanwhile=words)
        return f"withdrew all routes of {len(sessions)} sessions by {change.resource.key}; gone for {format_duration(hold)}, sessions up"

    async def _withdraw(self, ctx: Context, parameters: PeerParameters) -> Change | None:
        """None if it selects nothing already."""
        seen = await look(ctx)
        thing = _config(ctx, seen, parameters)
        address = _router(seen, thing)
        families = _families(thing)
        if all(selector == NONE for selector in families.values()):
            return None
        await ctx.plan(_plan(ctx, seen, thing, address))
        sessions = recorded(seen.routes.nodes, address=address)
        mark = note(ctx, families)
        operations = [one for at, selector in families.items() for one in _replaced(at, selector, NONE)]
        by_metrics = seen.routes.metrics is Metrics.READ
        before = {"advertisements": families, MARK: None, "sessions": sessions, "metrics": by_metrics}
        after = {"advertisements": dict.fromkeys(families, NONE), MARK: mark, "sessions": sessions, "metrics": by_metrics}
        kind = kind_of(kinds.BGP_PEER_CONFIG, thing)
        return await send(ctx, kind, thing, whole_patch(thing, mark, *operations), before=before, after=after)

    async def observe(self, ctx: Context, change: Change) -> Observed:
        """See Action: selectors and mark come together."""
        return await seen_by_mark(ctx, kinds.BGP_PEER_CONFIG, change)

    async def undo(self, ctx: Context, change: Change) -> str | None:
        """See Action."""
        ours, previous = (change.after or {})["advertisements"], (change.before or {})["advertisements"]
        operations = [one for at, selector in previous.items() for one in _replaced(at, ours[at], selector)]
        if not await put_back(
            ctx, kinds.BGP_PEER_CONFIG, change, unchanged=lambda thing: _families(thing) == ours, operations=lambda _: operations
        ):
            return None
        await self.restored(ctx, change)
        return f"{change.resource.key} announces again"

    async def restored(self, ctx: Context, change: Change) -> None:
        """See Action: sessions and routes as recorded."""
        await come_back(ctx, change.resource.key, (change.before or {})["sessions"])


def _config(ctx: Context, seen: Look, parameters: PeerParameters) -> Object:
    target = ctx.run.target
    name = parameters.peer_config or (target.name if target.kind == kinds.BGP_PEER_CONFIG.kind else "")
    if not name:
        raise Refused(Reason.TARGET_MISSING, f"peer_config is not given, and {target.key} is no CiliumBGPPeerConfig")
    found = next((thing for thing in seen.objects.peer_configs if thing["metadata"]["name"] == name), None)
    if found is None:
        raise Refused(Reason.TARGET_MISSING, f"there is no CiliumBGPPeerConfig {name}")
    return found


def _router(seen: Look, thing: Object) -> str:
    """The one router that is spoken to by this configuration. Raises Refused if it is none, more than one, or each node's own."""
    name = thing["metadata"]["name"]
    configs = [instance for c in seen.objects.cluster_configs for instance in c["spec"].get("bgpInstances") or ()]
    peers = [p for i in configs for p in i.get("peers") or () if (p.get("peerConfigRef") or {}).get("name") == name]
    addresses = sorted({peer.get("peerAddress") or "discovered by each node" for peer in peers})
    if not addresses:
        raise Refused(Reason.TARGET_MISSING, f"no peer uses CiliumBGPPeerConfig {name}")
    if len(addresses) > 1 or not peers[0].get("peerAddress"):
        words = f"CiliumBGPPeerConfig {name} is shared by the routers {', '.join(addresses)}; give each its own"
        raise Refused(Reason.TARGET_AMBIGUOUS, words)
    return addresses[0]


def _speaking(seen: Look, address: str) -> list[Node]:
    return [node for node in seen.routes.nodes if any(session.address == address for session in node.sessions)]


def _families(thing: Object) -> dict[str, Any]:
    """Index of the family -> its selector, for those that have one. JSON has text for keys."""
    families = thing["spec"].get("families") or ()
    return {str(at): family["advertisements"] for at, family in enumerate(families) if family.get("advertisements") is not None}


def _replaced(at: str, before: Any, after: Any) -> list[dict[str, Any]]:
    path = pointer("spec", "families", at, "advertisements")
    return [{"op": "test", "path": path, "value": before}, {"op": "replace", "path": path, "value": after}]


def _plan(ctx: Context, seen: Look, thing: Object, address: str) -> list[str]:
    nodes = _speaking(seen, address)
    lines = [f"withdraw all routes from {address} on {len(nodes)} nodes: CiliumBGPPeerConfig {thing['metadata']['name']} selects nothing"]
    return [*lines, *plan_lines(losses(seen.routes, Rules(min_speakers=ctx.min_speakers), peers=[address]))]


async def _pending(ctx: Context, change: Change) -> str:
    """What has not followed yet: every session stays established and advertises nothing, by the status and by the metrics."""
    seen = await look(ctx)
    thing = next((c for c in seen.objects.peer_configs if c["metadata"]["name"] == change.resource.name), None)
    if thing is None or not owns(thing, change.run) or _families(thing) != (change.after or {})["advertisements"]:
        raise StepFailed(f"somebody changed {change.resource.key} meanwhile")
    now = {f"{node.name}/{session.key}": (node, session) for node in seen.routes.nodes for session in node.sessions}
    by_metrics = (change.before or {}).get("metrics")
    waiting = []
    for key in (change.before or {})["sessions"]:
        if key not in now or not now[key][1].works:
            waiting.append(f"{key} is down")
            continue
        node, session = now[key]
        counts = [n for (name, peer, _), n in seen.objects.metrics.advertised.items() if (name, peer) == (node.name, session.address)]
        left = session.advertised or (sum(counts) if by_metrics else 0)
        if left:
            waiting.append(f"{key} still advertises {left} routes")
    return "; ".join(waiting)
