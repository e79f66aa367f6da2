"""Look from the daemon's own place at what Prometheus' probers look at: is it they who see nothing, or does it not answer?

In: a PromQL query whose series carry the addresses as ``instance``, as blackbox-exporter's do. Out: what was seen of each, as evidence.
The addresses are those that Prometheus was told to probe, never text of an alert. What is neither a page nor a port is left out and named.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar, NamedTuple
from urllib.parse import urlsplit

from pydantic import Field

from remediator.actions import Action, Context, Parameters
from remediator.actions.looking import ProbeParameters, judged, status_fault
from remediator.errors import MonitoringError, StepFailed
from remediator.model import to_json

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta

    from remediator.monitoring import Sample
    from remediator.probing import Seen

__all__ = ["ProbeTargets"]

_MOST = 16
"""Addresses that one step asks."""
_DNS = 53


class TargetsParameters(ProbeParameters):
    """``{action: probe.targets, query: 'probe_success{probe="service",location="outside"} == 0', expect: any}``"""

    query: str = Field(min_length=1, max_length=4096, description="PromQL; each series names an address by its label instance")


class ProbeTargets(Action[TargetsParameters]):
    """One GET or one connection to each address."""

    name: ClassVar[str] = "probe.targets"
    summary: ClassVar[str] = "look from the daemon's own place at the pages and ports that Prometheus' probers look at"
    Parameters: ClassVar[type[Parameters]] = TargetsParameters

    async def act(self, ctx: Context, parameters: TargetsParameters) -> str:
        """See Action. No page and no port among the series fails, unless the step only records."""
        places, others = _places(await _series(ctx, parameters.query))
        found = await asyncio.gather(*(_look(ctx, place, parameters.within) for place in places[:_MOST]))
        ctx.evidence("targets", to_json([seen for seen, _ in found]))
        if others:
            ctx.evidence("not looked at", others[:_MOST])
        if not found and parameters.expect != "any":
            raise StepFailed(f"no series of {parameters.query} has a page or a port as its instance")
        return judged(parameters.expect, found, f"{len(found)} of {len(found)} answer")


async def _series(ctx: Context, query: str) -> list[Sample]:
    if ctx.prometheus is None:
        raise StepFailed("the settings name no prometheus.url")
    try:
        await ctx.prometheus.require_fresh()
        return await ctx.prometheus.query(query)
    except MonitoringError as error:
        raise StepFailed(str(error)) from error


class _Place(NamedTuple):
    url: str
    host: str
    port: int


def _places(series: Iterable[Sample]) -> tuple[list[_Place], list[str]]:
    """Pages and ports, each once; and what is neither. Port 53 is a name server's: probe.dns knows what to ask it."""
    places: list[_Place] = []
    others: list[str] = []
    for instance in dict.fromkeys(sample.labels.get("instance", "") for sample in series):
        place = _place(instance)
        if place is None:
            others.append(instance)
        else:
            places.append(place)
    return places, others


def _place(instance: str) -> _Place | None:
    page = instance.startswith(("http://", "https://"))
    try:
        parts = urlsplit(instance if page else f"//{instance}")
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if not host or parts.username is not None:
        return None
    if page:
        return _Place(instance, host, port or 0)
    return None if not port or port == _DNS or parts.path else _Place("", host, port)


async def _look(ctx: Context, place: _Place, within: timedelta) -> tuple[Seen, str]:
    if place.url:
        page = await ctx.probe.http(place.url, within=within)
        return page, page.trouble or status_fault(page)
    port = await ctx.probe.tcp(place.host, place.port, within=within)
    return port, port.trouble
