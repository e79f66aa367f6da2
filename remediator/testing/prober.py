"""The door to what the daemon probes, where the cluster is simulated: nothing leaves this process.

An address of a simulated service answers as long as a pod that is ready stands behind it. Everything else is nobody's: no name resolves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from remediator.probing import DnsSeen, HttpSeen, Prober, TcpSeen
from remediator.sim.reach import answers

if TYPE_CHECKING:
    from datetime import timedelta
    from pathlib import Path

    from remediator.sim import Simulation

__all__ = ["SimulatedProber"]

_NOBODY = "nobody answers there in the simulated cluster"
_PORTS = {"http": 80, "https": 443}


class SimulatedProber(Prober):
    """Asks the simulated cluster what it would answer. It takes no time."""

    def __init__(self, simulation: Simulation) -> None:
        self._cluster = simulation.cluster

    async def http(  # noqa: D102 - see Prober
        self,
        url: str,
        *,
        within: timedelta,  # noqa: ARG002 - nobody is slow here
        address: str = "",
        ca_file: Path | None = None,  # noqa: ARG002 - nor has a certificate
    ) -> HttpSeen:
        parts = urlsplit(url)
        host, port = address or parts.hostname or "", parts.port or _PORTS[parts.scheme]
        if answers(self._cluster, host, port):
            return HttpSeen(what=url, seconds=0, status=200, address=host)
        return HttpSeen(what=url, seconds=0, trouble=_NOBODY)

    async def dns(  # noqa: D102 - see Prober
        self,
        server: str,
        port: int,
        name: str,  # noqa: ARG002 - every name is known
        kind: str,  # noqa: ARG002 - of every kind
        *,
        tcp: bool,
        within: timedelta,  # noqa: ARG002 - as above
    ) -> DnsSeen:
        transport = "tcp" if tcp else "udp"
        if answers(self._cluster, server, port):
            return DnsSeen(what=f"{server}:{port}", seconds=0, transport=transport, rcode="NOERROR")
        return DnsSeen(what=f"{server}:{port}", seconds=0, transport=transport, trouble=_NOBODY)

    async def tcp(self, host: str, port: int, *, within: timedelta) -> TcpSeen:  # noqa: ARG002, D102 - as above
        return TcpSeen(what=f"{host}:{port}", seconds=0, trouble="" if answers(self._cluster, host, port) else _NOBODY)
