"""One question to one name server, over dnspython: no search list, no cache, no second server."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype

from remediator.probing.seen import DnsSeen, words_of

if TYPE_CHECKING:
    from datetime import timedelta

__all__ = ["ask"]

_MOST: Final = 50
_LONGEST: Final = 300


async def ask(server: str, port: int, name: str, kind: str, *, tcp: bool, within: timedelta) -> DnsSeen:
    """See ``Prober.dns``."""
    try:
        query = dns.message.make_query(name, kind)
    except (dns.exception.DNSException, ValueError) as error:
        raise ValueError(f"{kind} {name} cannot be asked for: {error}") from error
    seconds = within.total_seconds()
    where, transport = f"{server} port {port}", "tcp" if tcp else "udp"
    began = time.monotonic()
    try:
        async with asyncio.timeout(seconds):
            if tcp:
                answer = await dns.asyncquery.tcp(query, server, port=port)
            else:
                # What comes from elsewhere, or is no answer to this question, is not waited upon as if it were one.
                answer = await dns.asyncquery.udp(query, server, port=port, ignore_unexpected=True, ignore_errors=True)
    except (dns.exception.DNSException, OSError, TimeoutError, EOFError) as error:
        return DnsSeen(what=where, transport=transport, seconds=round(time.monotonic() - began, 6), trouble=words_of(error, within))
    return DnsSeen(
        what=where,
        transport=transport,
        seconds=round(time.monotonic() - began, 6),
        rcode=dns.rcode.to_text(answer.rcode()),
        answers=tuple(
            f"{dns.rdatatype.to_text(records.rdtype)} {record.to_text()}"[:_LONGEST] for records in answer.answer for record in records
        )[:_MOST],
        truncated=bool(answer.flags & dns.flags.TC),
    )
