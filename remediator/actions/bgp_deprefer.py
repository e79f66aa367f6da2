"""Make routers prefer other paths before anything is withdrawn (make before break): planned-shut community, lower local preference.

It marks what one CiliumBGPAdvertisement announces, from every node and to every router that selects it: Cilium has no attributes for one
node. So it is refused where every path of an address would be marked, since then nothing is left to prefer, unless the playbook says that
the address is announced elsewhere too. The router must honour GRACEFUL_SHUTDOWN (RFC 8326, 65535:0); local preference is for iBGP only.
No object shows what routers made of it: afterwards it is only sure that sessions and route counts did not suffer.
"""

from __future__ import annotations

import dataclasses
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
    refuse_unknown_state,
    returned,
    seen_by_mark,
    send,
    whole_patch,
)
from remediator.bgp.assemble import assemble
from remediator.bgp.gitops import managed_by
from remediator.bgp.objects import MARK
from remediator.bgp.read import kind_of
from remediator.errors import Refused, StepFailed
from remediator.fields import Duration
from remediator.kube import kinds
from remediator.reasons import Reason
from remediator.units import format_duration

if TYPE_CHECKING:
    from remediator.bgp.model import Prefix
    from remediator.model import Change

__all__ = ["Deprefer"]

Object = dict[str, Any]
PLANNED_SHUT = "planned-shut"
"""The well-known community 65535:0, by Cilium's name for it."""


class DepreferParameters(Parameters):
    """``{action: bgp.deprefer, advertisement: services-rack-a, settle: 30s}``"""

    advertisement: str = Field(default="", max_length=253, description="name of the CiliumBGPAdvertisement; absent: the target is one")
    community: bool = Field(default=True, description="add the community planned-shut")
    local_preference: int | None = Field(default=None, ge=0, le=4294967295, description="set this local preference (iBGP only)")
    elsewhere: bool = Field(default=False, description="the addresses are announced by another site, so every path here may be marked")
    settle: Duration = Field(default=timedelta(seconds=30), ge=timedelta(0), le=timedelta(hours=1), description="time for routers to move")


class Deprefer(Action[DepreferParameters]):
    """Marks the routes of one advertisement as about to go."""

    name: ClassVar[str] = "bgp.deprefer"
    summary: ClassVar[str] = "mark the routes of one advertisement as about to go, so that routers prefer others"
    changes: ClassVar[str] = f"advertisements[].attributes of one CiliumBGPAdvertisement and the annotation {MARK}"
    undone_by: ClassVar[str] = "the attributes before, if nobody changed them since"
    disruptive: ClassVar[bool] = True
    undo_disturbs: ClassVar[bool] = True
    rbac: ClassVar[tuple[Rule, ...]] = (
        Rule(resources=("nodes",), verbs=("list",)),
        *READS,
        Rule(groups=("cilium.io",), resources=("ciliumbgpadvertisements",), verbs=("patch",)),
    )
    brings: ClassVar[tuple[str, ...]] = ("bgp_shift",)
    Parameters: ClassVar[type[Parameters]] = DepreferParameters

    async def check(self, ctx: Context, parameters: DepreferParameters) -> None:
        """See Action."""
        if ctx.changes:
            return  # patched before a crash
        if not parameters.community and parameters.local_preference is None:
            raise Refused(Reason.TARGET_MISSING, "neither community nor local_preference: there is nothing to mark the routes with")
        seen = await look(ctx)
        thing = _advertisement(ctx, seen, parameters)
        refuse_unknown_state(seen.routes)
        if owner := managed_by(thing):
            raise Refused(Reason.GITOPS_MANAGED, f"CiliumBGPAdvertisement {thing['metadata']['name']}: {owner}")
        alone = [prefix for prefix, others in _paths(seen, thing) if not others]
        if alone and not parameters.elsewhere:
            names = ", ".join(f"{prefix.prefix} ({prefix.of})" for prefix in alone[:5])
            raise Refused(Reason.ROUTE_COVERAGE, f"every path of {names} would be marked, so routers have nothing to prefer")

    async def act(self, ctx: Context, parameters: DepreferParameters) -> str:
        """See Action."""
        change = ctx.changes[-1] if ctx.changes else await persist("the CiliumBGPAdvertisement", lambda: self._mark(ctx, parameters))
        if change is None:
            return "its routes carry these marks already; left as it is"
        if ctx.dry_run:
            return f"would mark the routes of {change.resource.key}"
        what = f"the routes of {change.resource.key} to be as many as before"
        await arrive(ctx, what, lambda: _suffered(ctx, change), hold=parameters.settle, meanwhile="marked; routers move")
        return f"marked the routes of {change.resource.key}; sessions and route counts stayed for {format_duration(parameters.settle)}"

    async def _mark(self, ctx: Context, parameters: DepreferParameters) -> Change | None:
        """None if its routes carry the marks already."""
        seen = await look(ctx)
        thing = _advertisement(ctx, seen, parameters)
        was = _attributes(thing)
        wanted = {at: _marked(attributes, parameters) for at, attributes in was.items()}
        if wanted == was:
            return None
        await ctx.plan(_plan(seen, thing, parameters))
        mark = note(ctx, was)
        sessions = recorded(seen.routes.nodes)
        operations = [one for at in was for one in _replaced(at, was[at], wanted[at])]
        before = {"attributes": was, MARK: None, "sessions": sessions}
        after = {"attributes": wanted, MARK: mark, "sessions": sessions}
        kind = kind_of(kinds.BGP_ADVERTISEMENT, thing)
        return await send(ctx, kind, thing, whole_patch(thing, mark, *operations), before=before, after=after)

    async def observe(self, ctx: Context, change: Change) -> Observed:
        """See Action: attributes and mark come together."""
        return await seen_by_mark(ctx, kinds.BGP_ADVERTISEMENT, change)

    async def undo(self, ctx: Context, change: Change) -> str | None:
        """See Action."""
        ours, previous = (change.after or {})["attributes"], (change.before or {})["attributes"]
        operations = [one for at in ours for one in _replaced(at, ours[at], previous[at])]
        if not await put_back(
            ctx, kinds.BGP_ADVERTISEMENT, change, unchanged=lambda thing: _attributes(thing) == ours, operations=lambda _: operations
        ):
            return None
        await self.restored(ctx, change)
        return f"the routes of {change.resource.key} are as preferred as before"

    async def restored(self, ctx: Context, change: Change) -> None:
        """See Action: sessions and routes as recorded."""
        await come_back(ctx, change.resource.key, (change.before or {})["sessions"])


def _advertisement(ctx: Context, seen: Look, parameters: DepreferParameters) -> Object:
    target = ctx.run.target
    name = parameters.advertisement or (target.name if target.kind == kinds.BGP_ADVERTISEMENT.kind else "")
    if not name:
        raise Refused(Reason.TARGET_MISSING, f"advertisement is not given, and {target.key} is no CiliumBGPAdvertisement")
    found = next((thing for thing in seen.objects.advertisements if thing["metadata"]["name"] == name), None)
    if found is None:
        raise Refused(Reason.TARGET_MISSING, f"there is no CiliumBGPAdvertisement {name}")
    return found


def _paths(seen: Look, thing: Object) -> list[tuple[Prefix, int]]:
    """Each prefix that the advertisement announces, and how many nodes announce it by others too: those paths are not marked."""
    name = thing["metadata"]["name"]
    others = [one for one in seen.objects.advertisements if one["metadata"]["name"] != name]
    unmarked = assemble(dataclasses.replace(seen.objects, advertisements=others))
    alone = assemble(dataclasses.replace(seen.objects, advertisements=[thing]))
    left = {(prefix.prefix, prefix.of): len(prefix.speakers) for prefix in unmarked.prefixes}
    return [(prefix, left.get((prefix.prefix, prefix.of), 0)) for prefix in alone.prefixes if prefix.speakers]


def _attributes(thing: Object) -> dict[str, Any]:
    """Index of the advertisement -> its attributes, None where it has none. JSON has text for keys."""
    return {str(at): entry.get("attributes") for at, entry in enumerate(thing["spec"].get("advertisements") or ())}


def _marked(attributes: Object | None, parameters: DepreferParameters) -> Object:
    marked = dict(attributes or {})
    if parameters.community:
        communities = dict(marked.get("communities") or {})
        known = list(communities.get("wellKnown") or ())
        communities["wellKnown"] = known if PLANNED_SHUT in known else [*known, PLANNED_SHUT]
        marked["communities"] = communities
    if parameters.local_preference is not None:
        marked["localPreference"] = parameters.local_preference
    return marked


def _replaced(at: str, before: Any, after: Any) -> list[dict[str, Any]]:
    """Absence cannot be tested in a JSON patch; the test of the resourceVersion stands for it."""
    path = pointer("spec", "advertisements", at, "attributes")
    test = [] if before is None else [{"op": "test", "path": path, "value": before}]
    return [*test, {"op": "remove", "path": path} if after is None else {"op": "add", "path": path, "value": after}]


def _plan(seen: Look, thing: Object, parameters: DepreferParameters) -> list[str]:
    marks = [PLANNED_SHUT] if parameters.community else []
    marks += [f"local preference {parameters.local_preference}"] if parameters.local_preference is not None else []
    lines = [f"mark the routes of CiliumBGPAdvertisement {thing['metadata']['name']} with {', '.join(marks)}; nothing is withdrawn"]
    return [
        *lines,
        *(f"{p.prefix} ({p.of}): {len(p.speakers)} speakers marked, {others} announce it unmarked" for p, others in _paths(seen, thing)),
    ]


async def _suffered(ctx: Context, change: Change) -> str:
    """What is worse than before: nothing should be, all along."""
    seen = await look(ctx)
    thing = next((c for c in seen.objects.advertisements if c["metadata"]["name"] == change.resource.name), None)
    if thing is None or not owns(thing, change.run) or _attributes(thing) != (change.after or {})["attributes"]:
        raise StepFailed(f"somebody changed {change.resource.key} meanwhile")
    return returned(seen.routes, (change.before or {})["sessions"])
