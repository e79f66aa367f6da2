"""What probes saw, as nouns; and errors of the network in words on one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remediator.model import Noun

if TYPE_CHECKING:
    from datetime import timedelta

__all__ = ["Certificate", "DnsSeen", "HttpSeen", "Seen", "TcpSeen", "words_of"]

_LONGEST = 256


class Seen(Noun, frozen=True, kw_only=True):
    """One question and what came of it."""

    what: str
    """Whom was asked."""
    seconds: float
    """From the beginning to the answer, or to the end of patience."""
    trouble: str = ""
    """Why there was no answer; empty where there was one."""


class TcpSeen(Seen, frozen=True, kw_only=True):
    """A port that took a connection, or did not."""


class Certificate(Noun, frozen=True, kw_only=True):
    """Of the server, as it was verified."""

    subject: str
    issuer: str
    not_after: str
    """RFC 3339"""


class HttpSeen(Seen, frozen=True, kw_only=True):
    """A page."""

    status: int | None = None
    connect_seconds: float | None = None
    """Until the connection stood, with name resolution and TLS."""
    address: str = ""
    """Where the connection led to."""
    certificate: Certificate | None = None
    server: str = ""
    location: str = ""
    """Where a redirect would lead to."""
    body: str = ""
    """The beginning, where the status is an error: it often says why."""


class DnsSeen(Seen, frozen=True, kw_only=True):
    """An answer of a name server."""

    transport: str
    rcode: str = ""
    answers: tuple[str, ...] = ()
    """Of the answer section, CNAMEs among them; as a zone file has them."""
    truncated: bool = False


def words_of(error: BaseException, within: timedelta) -> str:
    """One line, at most 256 characters."""
    if isinstance(error, TimeoutError):
        return f"no answer within {within.total_seconds():g} s"
    flat = " ".join((str(error) or type(error).__name__).split())
    return flat if len(flat) <= _LONGEST else flat[: _LONGEST - 3] + "..."
