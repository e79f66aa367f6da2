"""The words of a link that lets whoever holds it answer one question to people.

In: a run and when its question was asked. Out: a text that only this daemon can make, and back. It says nothing about whether the question
still waits: that is the journal's, and an answer, the question's time or the run's end make the text worthless.
"""

from __future__ import annotations

import hmac
import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Invitation", "Invitations", "milliseconds"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST = 200


class Invitation(NamedTuple):
    """Which question it is."""

    run: str
    asked: int
    """When, in milliseconds since 1970."""


class Invitations:
    """Makes and reads them. ``known``: secrets of this daemon, so that links outlive a restart and end with them; without any, not."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        given = "\0".join(sorted(known)).encode()
        self._key = hmac.new(given, b"remediator invitations", "sha256").digest() if given else secrets.token_bytes(32)

    def text(self, run: str, asked_at: datetime) -> str:
        """For the link to the question that ``run`` asked then."""
        body = f"{run}.{milliseconds(asked_at)}"
        return f"{body}.{self._seal(body)}"

    def read(self, text: str) -> Invitation | None:
        """What ``text`` invites to; None if it is not of this daemon."""
        body, _, seal = text[:_LONGEST].rpartition(".")
        run, _, asked = body.rpartition(".")
        if not hmac.compare_digest(seal.encode("utf-8", "surrogateescape"), self._seal(body).encode()):
            return None
        return Invitation(run, int(asked))

    def _seal(self, body: str) -> str:
        return hmac.new(self._key, body.encode("utf-8", "surrogateescape"), "sha256").hexdigest()


def milliseconds(at: datetime) -> int:
    """Since 1970."""
    return (at - _EPOCH) // timedelta(milliseconds=1)
