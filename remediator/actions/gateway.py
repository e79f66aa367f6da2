"""Shift the weights of a HTTPRoute's backends: traffic leaves one backend for another, and comes back with the undo.

In: a HTTPRoute, the target or named, and the new weight of each backend by name; without weights, a workload as the target, whose traffic
goes to the route's other backends. Out: the weights are in force, as every Gateway of the route says. Refused: weights that leave a rule
with none (every request would be answered 500), a backend that would gain traffic and has no ready endpoint, a route that GitOps writes,
one that another run has shifted.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from remediator.actions import Action, Context, Observed, Parameters, Rule
from remediator.actions.shifting import arrive, note, owns, persist, pointer, put_back, seen_by_mark, send, whole_patch
from remediator.actions.workloads import services_of
from remediator.bgp.assemble import marked_by
from remediator.bgp.gitops import managed_by
from remediator.cluster.rollout import KINDS
from remediator.errors import Refused, StepFailed
from remediator.fields import Duration
from remediator.kube import kinds
from remediator.kube.errors import NotFound
from remediator.reasons import Reason
from remediator.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from remediator.model import Change

__all__ = ["SHIFTED_BY", "ShiftWeight"]

Object = dict[str, Any]
Weights = dict[str, int | None]
"""``rule/backend`` by index -> weight, None where none is written, which means 1. JSON has text for keys."""
SHIFTED_BY = "remediator.dev/weight-shifted-by"
_SERVICE_NAME = "kubernetes.io/service-name"
"""Label of an EndpointSlice."""


class WeightParameters(Parameters):
    """``{action: gateway.shift_weight, weights: {grafana: 0, grafana-standby: 1}}``"""

    weights: dict[str, Annotated[int, Field(ge=0, le=1_000_000)]] = Field(
        default_factory=dict, max_length=16, description="by backend name; absent: the target is a workload, and its backends get 0"
    )
    route: str = Field(
        default="", max_length=253, description="name of the HTTPRoute; absent: the target is one, or the one that sends to the target"
    )
    namespace: str = Field(default="", max_length=63, description="of the HTTPRoute; absent: the target's")
    allow_gitops: bool = Field(default=False, description="also where a GitOps controller manages the route and may put it back")
    settle: Duration = Field(
        default=timedelta(seconds=30), ge=timedelta(0), le=timedelta(hours=1), description="for so long every Gateway must accept the route"
    )


class ShiftWeight(Action[WeightParameters]):
    """One patch of one route."""

    name: ClassVar[str] = "gateway.shift_weight"
    summary: ClassVar[str] = "shift a HTTPRoute's weights, or all away from the target workload, and wait until its Gateways accept them"
    changes: ClassVar[str] = f"rules[].backendRefs[].weight of one HTTPRoute and the annotation {SHIFTED_BY}"
    undone_by: ClassVar[str] = "the weights before, if nobody changed them since"
    disruptive: ClassVar[bool] = True
    rbac: ClassVar[tuple[Rule, ...]] = (
        Rule(groups=("gateway.networking.k8s.io",), resources=("httproutes",), verbs=("get", "list", "patch")),
        Rule(groups=("discovery.k8s.io",), resources=("endpointslices",), verbs=("list",)),
        Rule(resources=("services",), verbs=("list",)),
        Rule(groups=("apps",), resources=("deployments", "statefulsets", "daemonsets"), verbs=("get",)),
    )
    Parameters: ClassVar[type[Parameters]] = WeightParameters

    async def check(self, ctx: Context, parameters: WeightParameters) -> None:
        """See Action."""
        if ctx.changes:
            return  # patched before a crash
        route = await _route(ctx, parameters)
        words = f"HTTPRoute/{route['metadata']['namespace']}/{route['metadata']['name']}"
        if (owner := managed_by(route)) and not parameters.allow_gitops:
            raise Refused(Reason.GITOPS_MANAGED, f"{words}: {owner}")
        if mark := marked_by(route["metadata"].get("annotations") or {}, SHIFTED_BY):
            raise Refused(Reason.TARGET_BUSY, f"run {mark.get('run')} has shifted {words} and not put it back")
        wanted = await _wanted(ctx, route, parameters)
        for name in _gaining(route, wanted):
            if not await _ready(ctx, route["metadata"]["namespace"], name):
                raise Refused(Reason.CAPACITY, f"{words}: Service {name} would get traffic and has no ready endpoint")
        if trouble := _trouble(route):
            ctx.evidence("the route before", trouble)

    async def act(self, ctx: Context, parameters: WeightParameters) -> str:
        """See Action."""
        change = ctx.changes[-1] if ctx.changes else await persist("the HTTPRoute", lambda: self._shift(ctx, parameters))
        if change is None:
            return "the weights are so already; left as they are"
        if ctx.dry_run:
            return f"would shift the weights of {change.resource.key}"
        await self._accepted(ctx, change, parameters.settle)
        return f"shifted the weights of {change.resource.key}; its Gateways accept them for {format_duration(parameters.settle)}"

    async def _shift(self, ctx: Context, parameters: WeightParameters) -> Change | None:
        route = await _route(ctx, parameters)
        was = _weights(route)
        wanted = await _wanted(ctx, route, parameters)
        changed = {at: weight for at, weight in wanted.items() if weight != was[at]}
        if not changed:
            return None
        await ctx.plan(
            [f"backend {at} of the route ({_name(route, at)}): weight {was[at]} becomes {weight}" for at, weight in changed.items()]
        )
        before = {at: was[at] for at in changed}
        mark = note(ctx, before)
        patch = whole_patch(route, mark, *_operations(route, before, changed), by=SHIFTED_BY)
        return await send(
            ctx, kinds.HTTP_ROUTE, route, patch, before={"weights": before, SHIFTED_BY: None}, after={"weights": changed, SHIFTED_BY: mark}
        )

    async def observe(self, ctx: Context, change: Change) -> Observed:
        """See Action: weights and mark come together."""
        return await seen_by_mark(ctx, kinds.HTTP_ROUTE, change, by=SHIFTED_BY)

    async def undo(self, ctx: Context, change: Change) -> str | None:
        """See Action."""
        ours, previous = (change.after or {})["weights"], (change.before or {})["weights"]

        def unchanged(route: Object) -> bool:
            now = _weights(route)
            return all(now.get(at, -1) == weight for at, weight in ours.items())

        back = await put_back(
            ctx,
            kinds.HTTP_ROUTE,
            change,
            unchanged=unchanged,
            operations=lambda route: _operations(route, ours, previous),
            by=SHIFTED_BY,
        )
        if not back:
            return None
        await self.restored(ctx, change)
        return f"the weights of {change.resource.key} are as before"

    async def restored(self, ctx: Context, change: Change) -> None:
        """See Action: the Gateways took it."""
        await self._accepted(ctx, change, timedelta(0))

    async def _accepted(self, ctx: Context, change: Change, lasting: timedelta) -> None:
        async def pending() -> str:
            route = await ctx.kube.get(kinds.HTTP_ROUTE, change.resource.name, change.resource.namespace)
            if lasting and not owns(route, change.run, by=SHIFTED_BY):
                raise StepFailed(f"somebody changed {change.resource.key} meanwhile")
            return _trouble(route)

        await arrive(ctx, f"every Gateway of {change.resource.key} to accept it", pending, hold=lasting, meanwhile="accepted; settling")


async def _route(ctx: Context, parameters: WeightParameters) -> Object:
    target = ctx.run.target
    name = parameters.route or (target.name if target.kind == kinds.HTTP_ROUTE.kind else "")
    namespace = parameters.namespace or target.namespace
    if not parameters.weights and target.kind not in KINDS:
        raise Refused(Reason.TARGET_MISSING, f"weights are not given, and {target.key} is no workload that traffic could leave")
    if not name and not parameters.weights:
        return await _sending(ctx, namespace)
    if not name or not namespace:
        raise Refused(Reason.TARGET_MISSING, f"route and namespace are not given, and {target.key} is no HTTPRoute")
    try:
        return await ctx.kube.get(kinds.HTTP_ROUTE, name, namespace)
    except NotFound as error:
        raise Refused(Reason.TARGET_MISSING, f"there is no HTTPRoute {namespace}/{name}") from error


async def _sending(ctx: Context, namespace: str) -> Object:
    """The one route that sends traffic to the target."""
    services = await _services(ctx)
    routes = (await ctx.kube.list(kinds.HTTP_ROUTE, namespace)).items
    found = [route for route in routes if any(_to(route, ref, services) for refs in _backends(route) for ref in refs)]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(sorted(route["metadata"]["name"] for route in found))
        raise Refused(Reason.TARGET_AMBIGUOUS, f"{len(found)} HTTPRoutes in {namespace} send to {ctx.run.target.key}: {names}; name one")
    words = f"no HTTPRoute in {namespace} sends to {', '.join(sorted(services)) or 'a Service'} of {ctx.run.target.key}"
    raise Refused(Reason.TARGET_MISSING, words)


async def _services(ctx: Context) -> frozenset[str]:
    """Of the target, by name."""
    return frozenset(service["metadata"]["name"] for service in await services_of(ctx))


def _to(route: Object, ref: Object, services: Collection[str]) -> bool:
    """Whether a backend is one of these Services of the target's own namespace."""
    own = ref.get("namespace") in (None, route["metadata"]["namespace"])
    return ref.get("kind", "Service") == "Service" and own and ref["name"] in services


def _backends(route: Object) -> list[list[Object]]:
    return [list(rule.get("backendRefs") or ()) for rule in route["spec"].get("rules") or ()]


def _weights(route: Object) -> Weights:
    return {f"{rule}/{at}": ref.get("weight") for rule, refs in enumerate(_backends(route)) for at, ref in enumerate(refs)}


def _name(route: Object, at: str) -> str:
    rule, index = map(int, at.split("/"))
    return str(_backends(route)[rule][index]["name"])


async def _wanted(ctx: Context, route: Object, parameters: WeightParameters) -> dict[str, int]:
    """The new weights. Raises Refused where a backend is not there, or where a rule would have none left."""
    by_name = parameters.weights
    if by_name:
        wanted = {at: by_name[_name(route, at)] for at in _weights(route) if _name(route, at) in by_name}
        missing = set(by_name) - {_name(route, at) for at in wanted}
    else:
        services = await _services(ctx)
        wanted = _away(route, services)
        missing = set() if wanted else set(services) or {f"of {ctx.run.target.key}"}
    if missing:
        raise Refused(Reason.TARGET_MISSING, f"the route has no backend {', '.join(sorted(missing))}")
    for rule, refs in enumerate(_backends(route)):
        after = [wanted.get(f"{rule}/{at}", 1 if ref.get("weight") is None else ref["weight"]) for at, ref in enumerate(refs)]
        if after and not any(after):
            raise Refused(Reason.CAPACITY, f"rule {rule} would have no backend with a weight: every request would be answered 500")
    return wanted


def _away(route: Object, services: Collection[str]) -> dict[str, int]:
    """The target's backends get none. In a rule where the others have none either, they get what the target had between all of its."""
    wanted: dict[str, int] = {}
    for rule, refs in enumerate(_backends(route)):
        ours = {at for at, ref in enumerate(refs) if _to(route, ref, services)}
        others = [at for at in range(len(refs)) if at not in ours]
        weights = [1 if ref.get("weight") is None else ref["weight"] for ref in refs]
        wanted |= {f"{rule}/{at}": 0 for at in ours}
        if ours and not any(weights[at] for at in others):
            wanted |= {f"{rule}/{at}": sum(weights[at] for at in ours) for at in others}
    return wanted


def _gaining(route: Object, wanted: Mapping[str, int]) -> list[str]:
    """Services that get more than before: by a larger weight, or by what leaves another backend of their rule."""
    was = {at: 1 if weight is None else weight for at, weight in _weights(route).items()}
    losing = {at.partition("/")[0] for at, weight in wanted.items() if weight < was[at]}
    after = {at: wanted.get(at, weight) for at, weight in was.items()}
    more = {at for at, weight in was.items() if after[at] > weight or (after[at] == weight > 0 and at.partition("/")[0] in losing)}
    services = {ref["name"] for refs in _backends(route) for ref in refs if ref.get("kind", "Service") == "Service"}
    return sorted({_name(route, at) for at in more} & services)


async def _ready(ctx: Context, namespace: str, service: str) -> bool:
    found = await ctx.kube.list(kinds.ENDPOINT_SLICE, namespace, labels=f"{_SERVICE_NAME}={service}")
    endpoints = [one for piece in found.items for one in piece.get("endpoints") or ()]
    return any((one.get("conditions") or {}).get("ready") is not False for one in endpoints)


def _operations(route: Object, before: Mapping[str, int | None], after: Mapping[str, int | None]) -> list[Object]:
    """Index and name of each backend are tested, so that a route that was rearranged is never hit at the wrong place."""
    patch: list[Object] = []
    for at, weight in after.items():
        rule, index = at.split("/")
        place = ("spec", "rules", rule, "backendRefs", index)
        patch.append({"op": "test", "path": pointer(*place, "name"), "value": _name(route, at)})
        if before[at] is not None:
            patch.append({"op": "test", "path": pointer(*place, "weight"), "value": before[at]})
        path = pointer(*place, "weight")
        patch.append({"op": "remove", "path": path} if weight is None else {"op": "add", "path": path, "value": weight})
    return patch


def _trouble(route: Object) -> str:
    """What its Gateways have against the route as it is written now; empty if nothing."""
    parents = (route.get("status") or {}).get("parents") or ()
    if not parents:
        return "no Gateway has said anything about it"
    generation = route["metadata"].get("generation", 0)
    for parent in parents:
        name = parent["parentRef"]["name"]
        for kind in ("Accepted", "ResolvedRefs"):
            told = next((one for one in parent.get("conditions") or () if one["type"] == kind), None)
            if told is None or told.get("observedGeneration", 0) < generation:
                return f"{name} has not looked at it yet"
            if told["status"] != "True":
                return f"{name}: {kind} is {told['status']}, {told.get('reason', '')}: {told.get('message', '')[:200]}"
    return ""
