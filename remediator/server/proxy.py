"""Who somebody is behind a proxy that asked them already (Authelia and the like). In: a request; out: a name and what its groups grant.

``Remote-User`` and ``Remote-Groups`` count from the addresses that the settings list and from nowhere else: anybody can send a header.
From elsewhere they are ignored and counted (``remediator_forged_identity_headers_total``).
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from remediator.telemetry import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiohttp import web

__all__ = ["Identity", "Proxy"]

Network: TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"
_USER, _GROUPS = "Remote-User", "Remote-Groups"
_LONGEST_NAME = 100


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What a proxy says. ``grants``: of ``read`` and ``write`` what the groups give."""

    name: str
    grants: frozenset[str]


class Proxy:
    """The listed proxies, and what groups may do."""

    def __init__(self, addresses: Iterable[str] = (), *, read: Iterable[str] = (), write: Iterable[str] = ()) -> None:
        self._networks: tuple[Network, ...] = tuple(ipaddress.ip_network(address) for address in addresses)
        self._grants = {"read": frozenset(read), "write": frozenset(write)}

    def identity(self, request: web.Request) -> Identity | None:
        """Who the proxy says it is; None without such a word, or if it does not come from a listed proxy alone."""
        if _USER not in request.headers and _GROUPS not in request.headers:
            return None
        names, groups = request.headers.getall(_USER, []), request.headers.getall(_GROUPS, [])
        if not self._listed(request.remote) or len(names) != 1 or len(groups) > 1:
            METRICS.forged_headers.inc()
            return None
        name = names[0].strip()
        if not name or not name.isprintable() or len(name) > _LONGEST_NAME:
            return None
        of = {group.strip() for group in (groups[0].split(",") if groups else ())} - {""}
        return Identity(name=name, grants=frozenset(scope for scope, wanted in self._grants.items() if of & wanted))

    def client(self, request: web.Request) -> str:
        """The address that the request came from; behind listed proxies the last one that is none of them."""
        address = request.remote or ""
        if self._networks and self._listed(address):
            hops = [hop.strip() for line in request.headers.getall("X-Forwarded-For", []) for hop in line.split(",")]
            address = next((hop for hop in reversed(hops) if not self._listed(hop)), address)
        return address[:_LONGEST_NAME]

    def secure(self, request: web.Request) -> bool:
        """Whether a listed proxy says that it is spoken to by TLS."""
        return self._listed(request.remote) and request.headers.get("X-Forwarded-Proto", "").lower() == "https"

    def _listed(self, address: str | None) -> bool:
        if not self._networks:
            return False
        try:
            found = ipaddress.ip_address(address or "")
        except ValueError:
            return False
        found = getattr(found, "ipv4_mapped", None) or found
        return any(found in network for network in self._networks)
