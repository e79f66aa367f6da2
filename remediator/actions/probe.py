"""Look from the daemon's own place whether something answers: a page, a name server, a port. Changes nothing.

In: an address that the playbook names; without one, the addresses of the Services before the target workload's pods. Out: what was seen, as
evidence. A probe fails the step unless ``expect`` says otherwise. Nothing from an alert's text ever names what is asked.
"""

from __future__ import annotations

import asyncio
import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from remediator.actions import Action, Context, Parameters, Rule
from remediator.actions.looking import ProbeParameters, judged, status_fault
from remediator.actions.workloads import services_of
from remediator.clock import parse_time
from remediator.cluster.rollout import KINDS
from remediator.errors import StepFailed
from remediator.fields import Duration  # noqa: TC001 - pydantic needs it when the class is made
from remediator.model import to_json

if TYPE_CHECKING:
    from remediator.probing import DnsSeen, HttpSeen

__all__ = ["ProbeDns", "ProbeHttp", "ProbeTcp"]

_MOST = 16
"""Addresses that one step asks."""
_READS = (
    Rule(resources=("services",), verbs=("list",)),
    Rule(groups=("apps",), resources=("deployments", "statefulsets", "daemonsets"), verbs=("get",)),
)


def _address(value: str) -> str:
    if value:
        ipaddress.ip_address(value)  # raises ValueError, whose words name the value
    return value


class HttpParameters(ProbeParameters):
    """``{action: probe.http, url: 'https://grafana.example', status: [200, 302], expect: any}``"""

    url: str = Field(min_length=1, max_length=2048, description="http or https; TLS is always verified")
    status: tuple[int, ...] = Field(default=(), max_length=20, description="the statuses that count as success; absent: all below 400")
    address: str = Field(default="", description="connect to this IP address, whatever the name in the URL resolves to")
    ca_file: str = Field(default="", description="authorities to trust instead of the usual ones, on the daemon's disk")
    certificate_for: Duration | None = Field(default=None, description="for so long the certificate must still be valid")

    @field_validator("url")
    @classmethod
    def _plain(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("is not a URL; write for example https://grafana.example")
        if parts.username is not None or parts.password is not None:
            raise ValueError("must not hold a user or a password")
        return value

    @field_validator("address")
    @classmethod
    def _is_address(cls, value: str) -> str:
        return _address(value)


class ProbeHttp(Action[HttpParameters]):
    """One GET. Redirects are told and not followed."""

    name: ClassVar[str] = "probe.http"
    summary: ClassVar[str] = "ask for a page from the daemon's own place and keep status, times and the certificate's end"
    Parameters: ClassVar[type[Parameters]] = HttpParameters

    async def act(self, ctx: Context, parameters: HttpParameters) -> str:
        """See Action."""
        wanted = parameters
        ca_file = Path(wanted.ca_file) if wanted.ca_file else None
        seen = await ctx.probe.http(wanted.url, within=wanted.within, address=wanted.address, ca_file=ca_file)
        ctx.evidence("probe", to_json(seen))
        return judged(wanted.expect, [(seen, seen.trouble or _http_fault(ctx, seen, wanted))], f"status {seen.status}")


def _http_fault(ctx: Context, seen: HttpSeen, wanted: HttpParameters) -> str:
    if fault := status_fault(seen, wanted.status):
        return fault
    if wanted.certificate_for is not None:
        if seen.certificate is None:
            return "there is no certificate"
        if parse_time(seen.certificate.not_after) < ctx.clock.now() + wanted.certificate_for:
            return f"the certificate ends {seen.certificate.not_after}"
    return ""


class DnsParameters(ProbeParameters):
    """``{action: probe.dns, server: 10.25.150.252, name: grafana.example, type: A, answers: [10.25.150.223]}``"""

    server: str = Field(default="", description="IP address of the name server; absent: the Services of the target workload with a port 53")
    port: int = Field(default=53, ge=1, le=65535)
    name: str = Field(min_length=1, max_length=253, description="what is asked for")
    type: str = Field(default="A", pattern="^[A-Za-z0-9]{1,16}$", description="of the records")
    over: tuple[Literal["udp", "tcp"], ...] = Field(default=("udp", "tcp"), min_length=1, max_length=2)
    rcode: str = Field(default="NOERROR", description="the answer's code that counts as success")
    answers: tuple[str, ...] = Field(default=(), max_length=20, description="data of records that must be among the answers")

    @field_validator("server")
    @classmethod
    def _is_address(cls, value: str) -> str:
        return _address(value)


class ProbeDns(Action[DnsParameters]):
    """One question over UDP and TCP to each server."""

    name: ClassVar[str] = "probe.dns"
    summary: ClassVar[str] = "ask a name server over UDP and TCP from the daemon's own place and keep the answers"
    rbac: ClassVar[tuple[Rule, ...]] = _READS
    Parameters: ClassVar[type[Parameters]] = DnsParameters

    async def act(self, ctx: Context, parameters: DnsParameters) -> str:
        """See Action."""
        wanted = parameters
        places = [_Place(wanted.server, wanted.port)] if wanted.server else await _places(ctx, only_port=wanted.port)
        asked = [(place, over) for place in dict.fromkeys(_Place(p.host, p.port) for p in places) for over in dict.fromkeys(wanted.over)]

        async def ask(place: _Place, over: str) -> DnsSeen:
            try:
                return await ctx.probe.dns(place.host, place.port, wanted.name, wanted.type, tcp=over == "tcp", within=wanted.within)
            except ValueError as error:
                raise StepFailed(str(error)) from error

        found = await asyncio.gather(*(ask(*one) for one in asked))
        ctx.evidence(f"{wanted.type.upper()} {wanted.name}", to_json(found))
        return judged(wanted.expect, [(seen, seen.trouble or _dns_fault(seen, wanted)) for seen in found], f"{len(found)} answers")


def _dns_fault(seen: DnsSeen, wanted: DnsParameters) -> str:
    if seen.rcode != wanted.rcode.upper():
        return f"{seen.rcode} over {seen.transport}"
    data = {answer.partition(" ")[2].lower().removesuffix(".") for answer in seen.answers}
    missing = [one for one in wanted.answers if one.lower().removesuffix(".") not in data]
    return f"{', '.join(missing)} is not among the {len(seen.answers)} answers over {seen.transport}" if missing else ""


class TcpParameters(ProbeParameters):
    """``{action: probe.tcp, host: 10.25.150.225, port: 6881}``"""

    host: str = Field(default="", max_length=253, description="name or IP address; absent: the Services of the target workload")
    port: int | None = Field(default=None, ge=1, le=65535, description="absent: every TCP port of these Services")


class ProbeTcp(Action[TcpParameters]):
    """Opens a connection to each address and port and closes it again."""

    name: ClassVar[str] = "probe.tcp"
    summary: ClassVar[str] = "see from the daemon's own place whether ports take connections"
    rbac: ClassVar[tuple[Rule, ...]] = _READS
    Parameters: ClassVar[type[Parameters]] = TcpParameters

    async def act(self, ctx: Context, parameters: TcpParameters) -> str:
        """See Action."""
        wanted = parameters
        if wanted.host and wanted.port is None:
            raise StepFailed("a host needs a port beside it")
        if wanted.host:
            places = [_Place(wanted.host, wanted.port or 0)]
        else:
            places = [place for place in await _places(ctx, only_port=wanted.port) if place.protocol == "TCP"]
        found = await asyncio.gather(*(ctx.probe.tcp(place.host, place.port, within=wanted.within) for place in places))
        ctx.evidence("ports", to_json(found))
        return judged(wanted.expect, [(seen, seen.trouble) for seen in found], f"{len(found)} ports took a connection")


class _Place(NamedTuple):
    host: str
    port: int
    protocol: str = "TCP"


async def _places(ctx: Context, *, only_port: int | None) -> list[_Place]:
    """Cluster and load balancer addresses of the Services that lead to the target workload's pods. Raises StepFailed, KubeError."""
    target = ctx.run.target
    if target.kind not in KINDS:
        raise StepFailed(f"no address is given, and {target.key} is no {', '.join(KINDS[:-1])} or {KINDS[-1]} with Services")
    places = [
        _Place(host, port["port"], port.get("protocol", "TCP"))
        for service in await services_of(ctx)
        for host in _hosts(service)
        for port in service["spec"].get("ports") or ()
        if only_port in (None, port["port"])
    ]
    return list(dict.fromkeys(places))[:_MOST]


def _hosts(service: dict[str, Any]) -> list[str]:
    cluster = service["spec"].get("clusterIP") or ""
    outside = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    return [host for host in (cluster, *(one.get("ip", "") for one in outside)) if host and host != "None"]
