"""One GET over aiohttp, with TLS verified, and the certificate that was shown. Redirects are told and not followed."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from remediator import __version__
from remediator.clock import iso
from remediator.probing.seen import Certificate, HttpSeen, words_of

if TYPE_CHECKING:
    from datetime import timedelta
    from pathlib import Path

__all__ = ["ask"]

_BODY: Final = 512
_HEADER: Final = 200
_ERROR: Final = 400


class _Fixed(AbstractResolver):
    """Every name is at one address."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        """See AbstractResolver."""
        family = socket.AF_INET6 if ":" in self._address else socket.AF_INET
        return [ResolveResult(hostname=host, host=self._address, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST)]

    async def close(self) -> None:
        """Nothing is open."""


class _Times:
    """When the connection stood, where it led to, and what was shown there."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.connected: float | None = None
        self.certificate: dict[str, Any] = {}

    def trace(self) -> aiohttp.TraceConfig:
        traced = aiohttp.TraceConfig()

        async def connected(*_: Any) -> None:
            self.connected = self.since()

        traced.on_connection_create_end.append(connected)
        return traced

    def tls(self, ca_file: Path | None) -> ssl.SSLContext:
        """Verifies as usual. The response has let go of its connection by the time it can be asked, so the handshake tells."""
        context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
        times = self

        class Told(ssl.SSLObject):
            def do_handshake(self) -> None:
                super().do_handshake()
                times.certificate = self.getpeercert() or {}

        context.sslobject_class = Told
        return context

    def since(self) -> float:
        return round(time.monotonic() - self.began, 6)


async def ask(url: str, *, within: timedelta, address: str, ca_file: Path | None) -> HttpSeen:
    """See ``Prober.http``."""
    times = _Times()
    try:
        async with asyncio.timeout(within.total_seconds()):
            return await _get(url, times, address, ca_file)
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        return HttpSeen(
            what=url,
            seconds=times.since(),
            trouble=words_of(error, within),
            connect_seconds=times.connected,
            certificate=_certificate(times.certificate),
        )


async def _get(url: str, times: _Times, address: str, ca_file: Path | None) -> HttpSeen:
    connector = aiohttp.TCPConnector(ssl=times.tls(ca_file), resolver=_Fixed(address) if address else None, force_close=True)
    async with (
        aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": f"remediator/{__version__}"},
            trust_env=False,
            trace_configs=[times.trace()],
            auto_decompress=False,
        ) as session,
        session.get(url, allow_redirects=False, timeout=aiohttp.ClientTimeout(total=None)) as answer,
    ):
        connection = answer.connection
        peer = connection.transport.get_extra_info("peername") if connection and connection.transport else None
        body = await answer.content.read(_BODY) if answer.status >= _ERROR else b""
        return HttpSeen(
            what=url,
            seconds=times.since(),
            status=answer.status,
            connect_seconds=times.connected,
            address=str(peer[0]) if peer else address,
            certificate=_certificate(times.certificate),
            server=answer.headers.get("Server", "")[:_HEADER],
            location=answer.headers.get("Location", "")[:_HEADER],
            body=body.decode("utf-8", "replace"),
        )


def _certificate(told: dict[str, Any]) -> Certificate | None:
    if not told:
        return None
    ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(told["notAfter"]), UTC)
    return Certificate(subject=_name(told.get("subject", ())), issuer=_name(told.get("issuer", ())), not_after=iso(ends))


def _name(parts: Any) -> str:
    """``commonName=x, organizationName=y``, as getpeercert() nests it."""
    return ", ".join(f"{key}={value}" for part in parts for key, value in part)[:_HEADER]
