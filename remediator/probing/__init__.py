"""The only door to what is asked from the daemon's own place: a page, a name server, a port.

In: an address that a playbook names, or that the cluster's Services have. Out: what was seen, also where nothing answered: a probe never
raises over what is at the other end. Nothing is kept open between two probes. Importing this is cheap: aiohttp and dnspython come with the
first use.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from remediator.probing.seen import Certificate, DnsSeen, HttpSeen, Seen, TcpSeen, words_of

if TYPE_CHECKING:
    from datetime import timedelta
    from pathlib import Path

__all__ = ["Certificate", "DnsSeen", "HttpSeen", "Prober", "Seen", "TcpSeen"]


class Prober:
    """Asks. ``within`` is real time for the whole of one question; proxies and ~/.netrc of the environment are not used."""

    async def http(self, url: str, *, within: timedelta, address: str = "", ca_file: Path | None = None) -> HttpSeen:
        """GET ``url`` without following redirects; TLS is verified, by ``ca_file`` instead of the usual authorities.

        ``address``: connect there, whatever the name in the URL resolves to; the name stands in SNI and the Host header all the same.
        """
        from remediator.probing import http  # noqa: PLC0415 - a quarter of a second that --help must not pay

        return await http.ask(url, within=within, address=address, ca_file=ca_file)

    async def dns(self, server: str, port: int, name: str, kind: str, *, tcp: bool, within: timedelta) -> DnsSeen:
        """Ask the name server at the IP address ``server`` for records of one kind. Raises ValueError for a bad name or kind."""
        from remediator.probing import dns  # noqa: PLC0415 - see above

        return await dns.ask(server, port, name, kind, tcp=tcp, within=within)

    async def tcp(self, host: str, port: int, *, within: timedelta) -> TcpSeen:
        """Open a connection and close it again."""
        began = time.monotonic()
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            async with asyncio.timeout(within.total_seconds()):
                _, writer = await asyncio.open_connection(host, port)
        except (OSError, TimeoutError) as error:
            return TcpSeen(what=where, seconds=_since(began), trouble=words_of(error, within))
        writer.transport.abort()
        return TcpSeen(what=where, seconds=_since(began))


def _since(began: float) -> float:
    return round(time.monotonic() - began, 6)
