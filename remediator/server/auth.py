"""Who may do what: three bearer tokens, each for its scope. In: a request's Authorization header; out: nothing, or a 401 or 403.

The webhook token opens the webhook and nothing else; the write token opens what the read token opens, and steers. A scope without a token
is shut, except where the settings say ``insecure`` (the daemon allows that on a loopback address only).
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from remediator.server.problems import HttpProblem

if TYPE_CHECKING:
    from aiohttp import web

__all__ = ["Doorkeeper", "Scope", "Tokens"]

_CHALLENGE = 'Bearer realm="remediator"'


class Scope(StrEnum):
    """What a route asks for."""

    NONE = "none"
    WEBHOOK = "webhook"
    READ = "read"
    WRITE = "write"


_GRANTS = {
    Scope.WEBHOOK: frozenset({Scope.WEBHOOK}),
    Scope.READ: frozenset({Scope.READ}),
    Scope.WRITE: frozenset({Scope.READ, Scope.WRITE}),
}


@dataclass(frozen=True, kw_only=True, repr=False)
class Tokens:
    """The secrets, as the daemon read them from their files, without white space around them."""

    webhook: str | None = None
    read: str | None = None
    write: str | None = None
    insecure: bool = False
    """Leave a scope open that has no token. Only ever with a loopback address."""

    def __post_init__(self) -> None:
        """Raise ValueError for a token that would let anybody in."""
        for name in ("webhook", "read", "write"):
            token = getattr(self, name)
            if token is not None and (not token or token != token.strip()):
                raise ValueError(f"the {name} token is empty or has white space around it")

    def __repr__(self) -> str:
        """Without the secrets."""
        given = [name for name in ("webhook", "read", "write") if getattr(self, name) is not None]
        return f"Tokens({', '.join(given) or 'none'}{', insecure' if self.insecure else ''})"


class Doorkeeper:
    """Admits requests by their token."""

    def __init__(self, tokens: Tokens) -> None:
        given = {Scope.WEBHOOK: tokens.webhook, Scope.READ: tokens.read, Scope.WRITE: tokens.write}
        self._known = [(token.encode(), _GRANTS[scope]) for scope, token in given.items() if token is not None]
        self._open = {Scope.NONE, *(scope for scope, token in given.items() if token is None and tokens.insecure)}

    def admit(self, request: web.Request, scope: Scope) -> None:
        """Return if the request may have ``scope``; raise HttpProblem 401 or 403 otherwise."""
        if scope in self._open:
            return
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "bearer" or not token:
            raise _unauthorized("Send the header 'Authorization: Bearer TOKEN'.", _CHALLENGE)
        granted = self._granted(token.strip().encode("utf-8", "surrogateescape"))
        if not granted:
            raise _unauthorized("The token is not known here.", f'{_CHALLENGE}, error="invalid_token"')
        if scope not in granted:
            challenge = f'{_CHALLENGE}, error="insufficient_scope", scope="{scope}"'
            detail = f"The token does not open this route; it takes the {scope} token."
            raise HttpProblem(403, "Forbidden", detail, headers={"WWW-Authenticate": challenge})

    def _granted(self, token: bytes) -> frozenset[Scope]:
        """All tokens are compared, each in constant time, so that the time tells nothing about which one is near."""
        granted: frozenset[Scope] = frozenset()
        for known, scopes in self._known:
            granted |= scopes if hmac.compare_digest(token, known) else frozenset()
        return granted


def _unauthorized(detail: str, challenge: str) -> HttpProblem:
    return HttpProblem(401, "Unauthorized", detail, headers={"WWW-Authenticate": challenge})
