"""Look and write down: a Prometheus query, Kubernetes objects. Changes nothing; what was seen is attached to the step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from remediator.actions import Action, Context, Parameters, Rule, scope_of
from remediator.errors import MonitoringError, StepFailed, UsageError
from remediator.kube import kinds
from remediator.kube.errors import NotFound
from remediator.model import to_json

if TYPE_CHECKING:
    from collections.abc import Mapping

_MOST = 50
"""Samples or objects that are kept of one look."""


class QueryParameters(Parameters):
    """``{action: prometheus.query, query: 'up{job="cilium-agent"} == 0', expect: some}``"""

    query: str = Field(min_length=1, max_length=4096, description="PromQL, evaluated at once")
    expect: Literal["any", "some", "none"] = Field(default="any", description="some: at least one sample; none: no sample; else it fails")


class PrometheusQuery(Action[QueryParameters]):
    """Asks Prometheus and keeps the answer. A query that cannot be answered, or is answered from stale data, fails.

    A series without a number (a quantile over no pings) is left out and counted: one dead peer must not keep all evidence away. Where
    something is expected of the answer it fails the step instead, since it would be neither there nor absent.
    """

    name: ClassVar[str] = "prometheus.query"
    summary: ClassVar[str] = "ask Prometheus and keep the answer as evidence"
    Parameters: ClassVar[type[Parameters]] = QueryParameters

    async def act(self, ctx: Context, parameters: QueryParameters) -> str:
        """See Action."""
        if ctx.prometheus is None:
            raise StepFailed("the settings name no prometheus.url")
        try:
            await ctx.prometheus.require_fresh()
            found = await ctx.prometheus.query(parameters.query, nan="keep" if parameters.expect == "any" else "refuse")
        except MonitoringError as error:
            raise StepFailed(str(error)) from error
        samples = [sample for sample in found if not math.isnan(sample.value)]
        ctx.evidence(parameters.query, to_json(samples[:_MOST]))
        if parameters.expect != "any" and bool(samples) != (parameters.expect == "some"):
            raise StepFailed(f"expected {parameters.expect}, got {len(samples)} samples of {parameters.query}")
        without = len(found) - len(samples)
        return f"{len(samples)} samples" + (f"; {without} more have no number" if without else "")


class GetParameters(Parameters):
    """``{action: kube.get, kind: Pod, namespace: kube-system, labels: k8s-app=cilium, fields: spec.nodeName=node-3}``"""

    kind: str
    name: str = ""
    namespace: str = ""
    labels: str = Field(default="", description="label selector, where no name is given")
    fields: str = Field(default="", description="field selector, where no name is given")


class KubeGet(Action[GetParameters]):
    """Reads objects and keeps them as evidence, without managedFields and with Secrets refused."""

    name: ClassVar[str] = "kube.get"
    summary: ClassVar[str] = "read Kubernetes objects and keep them as evidence"
    rbac: ClassVar[tuple[Rule, ...]] = (Rule(resources=("nodes", "pods"), verbs=("get", "list")),)
    Parameters: ClassVar[type[Parameters]] = GetParameters

    @classmethod
    def needs(cls, parameters: Mapping[str, Any]) -> tuple[Rule, ...]:
        """See Action: of the kind that the step names; a kind that only a run can fill in is none that could be granted before."""
        try:
            kind = kinds.by_name(str(parameters.get("kind", "")))
        except UsageError:
            return cls.rbac
        verb, where = "get" if parameters.get("name") else "list", str(parameters.get("namespace", ""))
        return (
            Rule(groups=(kind.group,), resources=(kind.plural,), verbs=(verb,), scope=scope_of(where) if kind.namespaced else "cluster"),
        )

    async def act(self, ctx: Context, parameters: GetParameters) -> str:
        """See Action."""
        if parameters.kind == "Secret":
            raise StepFailed("Secrets are never read")
        kind = kinds.by_name(parameters.kind)
        if parameters.name:
            try:
                found = [await ctx.kube.get(kind, parameters.name, parameters.namespace)]
            except NotFound:
                found = []
        else:
            one_more = _MOST + 1  # which tells that there are more, and spares the others, who may be a whole large cluster's
            listing = await ctx.kube.list(
                kind, parameters.namespace, labels=parameters.labels, fields=parameters.fields, limit_total=one_more
            )
            found = listing.items
        ctx.evidence(parameters.kind, [_without_noise(thing) for thing in found[:_MOST]])
        return f"{len(found)} found" if len(found) <= _MOST else f"more than {_MOST} found"


def _without_noise(thing: dict[str, Any]) -> dict[str, Any]:
    metadata = {key: value for key, value in thing.get("metadata", {}).items() if key != "managedFields"}
    return {**thing, "metadata": metadata}
