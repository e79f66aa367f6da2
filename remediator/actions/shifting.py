"""What the actions that shift BGP have in common: one look at everything, refusals, the patch with its mark, what has to come back.

In: a Context. Out: Looks and Changes. What would make a change have no effect or an unknown one (no operator, an agent that is not Ready,
another shift under way, two configurations that fight for the node) is refused by the gates that these actions bring; what only a step's
parameters tell is refused here.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from remediator.actions import Observed, Rule
from remediator.bgp.assemble import assemble, marked_by
from remediator.bgp.model import Metrics, Node, Routes
from remediator.bgp.objects import MARK, Objects
from remediator.bgp.read import kind_of, read_objects
from remediator.clock import iso
from remediator.errors import Refused, StepFailed
from remediator.kube.errors import Conflict, Invalid, NotFound
from remediator.model import Resource, evolve
from remediator.reasons import Reason
from remediator.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from datetime import datetime

    from remediator.actions import Context
    from remediator.kube import Kind
    from remediator.model import Change

__all__ = [
    "LOOKS",
    "READS",
    "Look",
    "Sessions",
    "arrive",
    "come_back",
    "look",
    "note",
    "owns",
    "persist",
    "pointer",
    "put_back",
    "recorded",
    "refuse_conflict",
    "refuse_unknown_state",
    "returned",
    "seen_by_mark",
    "send",
    "whole_patch",
]

_TRIES = 5
_SEEN_BY_STATUS = timedelta(seconds=15)
"""An agent writes its status every 5 s, give or take."""
_SEEN_BY_SCRAPE = timedelta(seconds=90)
_CILIUM = Rule(
    groups=("cilium.io",),
    resources=(
        "ciliumnodes",
        "ciliumbgpclusterconfigs",
        "ciliumbgppeerconfigs",
        "ciliumbgpadvertisements",
        "ciliumbgpnodeconfigs",
        "ciliumbgpnodeconfigoverrides",
        "ciliumbgppeeringpolicies",
        "ciliumloadbalancerippools",
        "ciliuml2announcementpolicies",
    ),
    verbs=("list",),
)
LOOKS = (
    Rule(resources=("pods", "services"), verbs=("list",)),
    Rule(groups=("discovery.k8s.io",), resources=("endpointslices",), verbs=("list",)),
    Rule(groups=("apps",), resources=("deployments",), verbs=("list",), scope="cilium.namespace"),
    Rule(groups=("coordination.k8s.io",), resources=("leases",), verbs=("get",), scope="cilium.namespace"),
    _CILIUM,
)
"""What a look takes, apart from the nodes."""
READS = (*LOOKS, evolve(_CILIUM, verbs=("get",)))
"""A look, and one object again right before it is changed."""
T = TypeVar("T")
Object = dict[str, Any]
Patch = list[dict[str, Any]]
Sessions = dict[str, dict[str, Any]]
"""``node/instance/peer`` -> what it was like: address, routes, timers. Kept in a change, so that an undo knows what has to come back."""


class Look(NamedTuple):
    """One moment."""

    objects: Objects
    routes: Routes


class RacedError(Exception):
    """The object changed between read and patch, so the patch's test failed and nothing was altered."""


async def look(ctx: Context, *, metrics: bool = True) -> Look:
    """Read everything. Raises KubeError, Unreadable."""
    where = ctx.cilium
    prometheus = ctx.prometheus if metrics else None
    objects = await read_objects(ctx.kube, prometheus, namespace=where.namespace, agents=where.agent_selector, now=ctx.clock.now())
    return Look(objects, assemble(objects))


def refuse_unknown_state(routes: Routes) -> None:
    """Whoever cannot tell who speaks must not take a speaker away."""
    if routes.metrics is Metrics.UNREADABLE:
        raise Refused(Reason.UNREADABLE, f"who speaks cannot be told: {routes.metrics_detail}")


def refuse_conflict(routes: Routes, names: Sequence[str]) -> None:
    """Of two configurations that select one node the operator refuses the second; which one would win after a change is a guess."""
    found = [f"{name}: {words}" for name, words in routes.conflicts.items() if name in names]
    if found:
        raise Refused(Reason.TARGET_AMBIGUOUS, f"two BGP configurations select the same node: {'; '.join(found)}")


async def arrive(ctx: Context, what: str, pending: Callable[[], Awaitable[str]], *, hold: timedelta, meanwhile: str) -> None:
    """Wait until nothing is ``pending`` (words for what is), and then that it stays so for ``hold``. Raises StepFailed with the words."""
    since: datetime | None = None
    last = ""

    async def arrived() -> bool | None:
        nonlocal since, last
        last = await pending()
        now = ctx.clock.now()
        since = min(since or now, now) if not last else None  # a clock that was set back does not lengthen the wait
        await ctx.progress(last or meanwhile)
        return True if since is not None and now - since >= hold else None

    try:
        await ctx.wait_for(f"{what}, and to stay so for {format_duration(hold)}", arrived)
    except StepFailed as error:
        if error.reason is Reason.DEADLINE and last:
            raise StepFailed(f"{error.detail}: {last}", reason=Reason.DEADLINE) from error
        raise


async def come_back(ctx: Context, what: str, sessions: Sessions) -> None:
    """Sessions and route counts as recorded, within twice the time after which a speaker tries again (its jitter may double it).

    Agents report every few seconds, scrapes come every half a minute, so the objects are asked, and Prometheus only where they are silent.
    """
    silent = any(session["legacy"] for session in sessions.values())
    retry = 2 * max((session["connect_retry_seconds"] for session in sessions.values()), default=0)
    within = timedelta(seconds=retry) + (_SEEN_BY_SCRAPE if silent else _SEEN_BY_STATUS)
    until = ctx.clock.now() + within

    async def back() -> str | None:
        missing = returned((await look(ctx, metrics=silent)).routes, sessions)
        if not missing:
            return ""
        await ctx.progress(missing)
        return missing if ctx.clock.now() >= until else None

    missing = await ctx.wait_for(f"the sessions of {what}", back)
    if missing:
        raise StepFailed(f"{what} is as it was, but after {format_duration(within)} {missing}", reason=Reason.DEADLINE)


def recorded(nodes: Sequence[Node], *, address: str = "") -> Sessions:
    """The sessions that work now; with ``address`` only those with that router."""
    return {
        f"{node.name}/{session.key}": {
            "address": session.address,
            "advertised": session.advertised,
            "connect_retry_seconds": session.connect_retry_seconds,
            "hold_seconds": session.hold_seconds,
            "legacy": not session.config,
        }
        for node in nodes
        for session in node.sessions
        if session.works and address in ("", session.address)
    }


def returned(routes: Routes, sessions: Mapping[str, Mapping[str, Any]]) -> str:
    """What is not back yet of ``sessions``; empty if everything is."""
    now = {f"{node.name}/{session.key}": session for node in routes.nodes for session in node.sessions}
    missing = []
    for key, before in sessions.items():
        session = now.get(key)
        if session is None or not session.works:
            missing.append(f"{key}: {'it is gone' if session is None else session.trouble}")
        elif session.advertised < before["advertised"]:
            missing.append(f"{key} advertises {session.advertised} of {before['advertised']} routes")
    return "; ".join(missing)


def note(ctx: Context, previous: Any) -> str:
    """The mark: stable for the run, so that a second look finds the very same text; with what was there before, for people."""
    why = ctx.run.alert.name if ctx.run.alert else ctx.run.trigger.reason
    words = {"run": ctx.run.id, "at": iso(ctx.run.started_at), "reason": why, "previous": previous}
    return json.dumps(words, separators=(",", ":"), sort_keys=True)


def owns(thing: Object, run: str, *, by: str = MARK) -> bool:
    """Whether the object carries that run's mark; ``by``: the annotation."""
    mark = marked_by(thing["metadata"].get("annotations") or {}, by)
    return mark is not None and mark.get("run") == run


def pointer(*parts: str | int) -> str:
    """A JSON pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def whole_patch(thing: Object, mark: str | None, *operations: dict[str, Any], by: str = MARK) -> Patch:
    """Tests, mark and operations in one patch: the change is never there without the mark, nor the mark without the change."""
    metadata = thing["metadata"]
    patch: Patch = [{"op": "test", "path": f"/metadata/{field}", "value": metadata[field]} for field in ("uid", "resourceVersion")]
    if mark is not None and not metadata.get("annotations"):
        patch.append({"op": "add", "path": "/metadata/annotations", "value": {}})
    at = pointer("metadata", "annotations", by)
    patch.append({"op": "remove", "path": at} if mark is None else {"op": "add", "path": at, "value": mark})
    return [*patch, *operations]


async def persist(what: str, attempt: Callable[[], Awaitable[T]]) -> T:
    """What ``attempt`` returns, made again on fresh state as long as it raises RacedError. Raises StepFailed after some tries."""
    last = ""
    for _ in range(_TRIES):
        try:
            return await attempt()
        except RacedError as error:
            last = str(error)
    raise StepFailed(f"{what} changed under every one of {_TRIES} tries; last: {last}")


async def seen_by_mark(ctx: Context, kind: Kind, change: Change, *, by: str = MARK) -> Observed:
    """Whether ``change`` took effect: the mark comes and goes with it, so the mark tells."""
    try:
        thing = await ctx.kube.get(kind, change.resource.name, change.resource.namespace)
    except NotFound:
        return Observed.ABSENT
    return Observed.APPLIED if owns(thing, change.run, by=by) is not bool(change.undoes) else Observed.ABSENT


async def put_back(
    ctx: Context,
    kind: Kind,
    change: Change,
    *,
    unchanged: Callable[[Object], bool],
    operations: Callable[[Object], Patch],
    by: str = MARK,
) -> bool:
    """Take ``change`` and its mark back in one patch; False if the object is gone or no longer as ``change`` left it."""

    async def attempt() -> bool:
        try:
            thing = await ctx.kube.get(kind, change.resource.name, change.resource.namespace)
        except NotFound:
            return False
        if not owns(thing, change.run, by=by) or not unchanged(thing):
            return False
        patch = whole_patch(thing, None, *operations(thing), by=by)
        await send(ctx, kind_of(kind, thing), thing, patch, before=change.after or {}, after=change.before or {}, undoable=False)
        return True

    return await persist(change.resource.key, attempt)


async def send(ctx: Context, kind: Kind, thing: Object, patch: Patch, *, before: Object, after: Object, undoable: bool = True) -> Change:
    """Send ``patch`` as a change. Raises RacedError if one of its tests failed."""
    metadata = thing["metadata"]
    resource = Resource(kind=kind.kind, namespace=metadata.get("namespace", ""), name=metadata["name"], uid=metadata["uid"])

    async def call(request_id: str, dry_run: bool) -> Any:  # noqa: FBT001 - the shape that ctx.change calls
        return await ctx.kube.patch(kind, resource.name, patch, resource.namespace, type="json", dry_run=dry_run, request_id=request_id)

    try:
        return await ctx.change("patch", resource, call, before=before, after=after, undoable=undoable)
    except StepFailed as error:
        # 409 as of any write; 422 is a failed test, but also the schema's no, which a second try on fresh state would meet again.
        if isinstance(error.__cause__, Conflict | Invalid):
            raise RacedError(str(error)) from error
        raise
