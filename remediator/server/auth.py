"""Who may do what, and who that is. In: a request; out: a Person, or a 401, 403 or 429.

A person is known by a bearer token; on pages also by the cookie that ``/login`` gives for one; or by the headers of a proxy that the
settings list. The webhook token opens the webhook and nothing else; a write token opens what a read token opens, and steers. A scope
without a token is shut, except where the settings say ``insecure`` (the daemon allows that on a loopback address only).

What a browser sends by itself (cookie, proxy) proves no intent, so a change asked for that way needs a token of the page it was asked on.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import compress, repeat
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aiohttp.hdrs import AUTHORIZATION

from remediator.server.attempts import Attempts
from remediator.server.problems import HttpProblem
from remediator.server.proxy import Proxy
from remediator.telemetry import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aiohttp import web

    from remediator.clock import Clock

__all__ = ["COOKIE", "CSRF_FIELD", "SESSION_SECONDS", "Doorkeeper", "Named", "Person", "Scope", "Tokens"]

COOKIE = "remediator_session"
CSRF_FIELD = "csrf"
SESSION_SECONDS = 12 * 3600
"""How long a sign-in lasts: a shift."""
_CHALLENGE = 'Bearer realm="remediator"'
_LONGEST_NAME = 100
_DIGITS = 12
"""Of the time at which a sign-in ends, in seconds since 1970."""


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
class Named:
    """A token that belongs to somebody: what its holder does is recorded under ``name``."""

    name: str
    token: str
    scope: Scope


@dataclass(frozen=True, kw_only=True, repr=False)
class Tokens:
    """The secrets, as the daemon read them from their files, without white space around them."""

    webhook: str | None = None
    read: str | None = None
    write: str | None = None
    named: tuple[Named, ...] = ()
    insecure: bool = False
    """Leave a scope open that has no token. Only ever with a loopback address."""

    def __post_init__(self) -> None:
        """Raise ValueError for a token that would let anybody in, or that is not one person's alone."""
        for name, token in self._all():
            if token is not None and (not token or token != token.strip()):
                raise ValueError(f"the {name} token is empty or has white space around it")
        given = [token for _, token in self._all() if token is not None]
        for one in self.named:
            if given.count(one.token) > 1:
                raise ValueError(f"the token of {one.name} is another token too, so it does not tell who holds it")

    def _all(self) -> list[tuple[str, str | None]]:
        return [("webhook", self.webhook), ("read", self.read), ("write", self.write), *((one.name, one.token) for one in self.named)]

    def __repr__(self) -> str:
        """Without the secrets."""
        given = [name for name, token in self._all() if token is not None]
        return f"Tokens({', '.join(given) or 'none'}{', insecure' if self.insecure else ''})"


@dataclass(frozen=True, kw_only=True)
class Person:
    """Who sent a request, as far as that is known."""

    scopes: frozenset[Scope] = frozenset()
    name: str = ""
    """Proved by a token of their own or by a proxy; empty if the token is everybody's."""
    claim: str = ""
    """What they called themselves when they signed in."""
    ambient: bool = False
    """Known by something that a browser sends along by itself."""
    seal: str = ""
    """What the tokens of their pages are bound to."""


@dataclass(frozen=True, kw_only=True)
class _Known:
    token: bytes
    scopes: frozenset[Scope]
    name: str = ""


class Doorkeeper:
    """Admits requests."""

    def __init__(self, tokens: Tokens, *, clock: Clock, proxy: Proxy | None = None) -> None:
        given = {Scope.WEBHOOK: tokens.webhook, Scope.READ: tokens.read, Scope.WRITE: tokens.write}
        self._known = [_Known(token=token.encode(), scopes=_GRANTS[scope]) for scope, token in given.items() if token is not None]
        self._known += [_Known(token=one.token.encode(), scopes=_GRANTS[one.scope], name=one.name) for one in tokens.named]
        self._tokens = [known.token for known in self._known]
        self._holders: dict[bytes, Person] = {}
        """By which of the known tokens are theirs, a byte for each; kept, since each webhook asks."""
        granted = frozenset(scope for known in self._known for scope in known.scopes)
        self._open = {Scope.NONE}
        if tokens.insecure:
            self._open |= {scope for scope, token in given.items() if token is None and (scope is Scope.READ or scope not in granted)}
        self._proxy = proxy or Proxy()
        self._clock = clock
        self._attempts = Attempts(clock)
        everything = b"\0".join(sorted(known.token for known in self._known))
        self._key = _mac(everything, "pages") if everything else secrets.token_hex(32)

    def admit(self, request: web.Request, scope: Scope, *, browser: bool = False) -> Person:
        """Who asks, if they may have ``scope``; raise HttpProblem 401, 403 or 429 otherwise. ``browser``: a sign-in counts here."""
        if scope is Scope.NONE:
            return Person()
        person = self._person(request, scope, browser=browser)
        if person is None:
            raise _unauthorized("Send the header 'Authorization: Bearer TOKEN'.", _CHALLENGE)
        if scope not in person.scopes:
            challenge = f'{_CHALLENGE}, error="insufficient_scope", scope="{scope}"'
            whose = f"{person.name} may not do this" if person.name else "The token does not open this route"
            raise HttpProblem(403, "Forbidden", f"{whose}; it takes the {scope} token.", headers={"WWW-Authenticate": challenge})
        if scope is Scope.WRITE and request.method not in ("GET", "HEAD"):
            self._of_own_will(request, person, form=browser)
        return person

    def _person(self, request: web.Request, scope: Scope, *, browser: bool) -> Person | None:
        of_proxy = self._proxied(request)
        kind, _, token = request.headers.get(AUTHORIZATION, "").partition(" ")
        if kind.lower() == "bearer" and token:
            person = self.holder(request, token, scope)
            return Person(scopes=person.scopes, name=of_proxy.name) if of_proxy and not person.name else person
        return (self._signed_in(request) if browser else None) or of_proxy or self._passer_by(scope)

    def holder(self, request: web.Request, token: str, scope: Scope = Scope.READ) -> Person:
        """Who holds ``token``. Raises HttpProblem 401 if nobody does, 429 if that was tried too often from there.

        The webhook's own token passes always: Alertmanager loses what is answered with a 429. So does a token that was right there before.
        """
        said = token.strip().encode("utf-8", "surrogateescape")
        found = self._find(said)
        if found and scope is Scope.WEBHOOK and scope in found.scopes:
            return found
        address = self._proxy.client(request)
        if wait := self._attempts.wait(address, said):
            raise _limited(address, wait)
        if found is None:
            self._attempts.failed(address)
            METRICS.auth_failures.labels("unknown_token").inc()
            raise _unauthorized("The token is not known here.", f'{_CHALLENGE}, error="invalid_token"')
        self._attempts.succeeded(address, said)
        return found

    @contextmanager
    def guesses(self, request: web.Request) -> Iterator[Callable[[], None]]:
        """For what lets somebody in without a token: call what it gives for a guess. Raises HttpProblem 429 if there were too many."""
        address = self._proxy.client(request)
        if wait := self._attempts.wait(address):
            raise _limited(address, wait)

        def guessed() -> None:
            self._attempts.failed(address)
            METRICS.auth_failures.labels("unknown_token").inc()

        yield guessed

    def _find(self, token: bytes) -> Person | None:
        """All tokens are compared, each in constant time, so that the time tells nothing about which one is near."""
        equal = bytes(map(hmac.compare_digest, repeat(token), self._tokens))
        if 1 in equal and equal not in self._holders:
            theirs = list(compress(self._known, equal))
            scopes = frozenset(scope for known in theirs for scope in known.scopes)
            self._holders[equal] = Person(scopes=scopes, name=theirs[0].name)
        return self._holders.get(equal)

    def _proxied(self, request: web.Request) -> Person | None:
        identity = self._proxy.identity(request)
        if identity is None:
            return None
        scopes = frozenset(scope for group in identity.grants for scope in _GRANTS[Scope(group)])
        return Person(scopes=scopes, name=identity.name, ambient=True, seal=f"proxy {identity.name}")

    def _passer_by(self, scope: Scope) -> Person | None:
        opened = frozenset(self._open - {Scope.NONE})
        return Person(scopes=opened, seal="open") if scope in opened else None

    def _of_own_will(self, request: web.Request, person: Person, *, form: bool) -> None:
        """Refuse what another site made a browser send. The token of a page's form is checked where the form is read."""
        if cross_site(request) and (person.ambient or person.seal):
            raise self._unsealed("the request comes from another site")
        if person.ambient and not form and not self.sealed(person, request.headers.get("X-CSRF-Token", "")):
            raise self._unsealed("send the header X-CSRF-Token with the token of a page, or use a bearer token")

    @staticmethod
    def _unsealed(detail: str) -> HttpProblem:
        METRICS.auth_failures.labels("csrf").inc()
        return HttpProblem(403, "Forbidden", f"This change is not taken: {detail}.")

    # Sign-ins

    def sign_in(self, token: str, claim: str) -> str:
        """The cookie's value for the holder of ``token``, which ``holder`` has let pass; ``claim`` is what they call themselves."""
        body = f"{int(self._clock.now().timestamp()) + SESSION_SECONDS}.{secrets.token_urlsafe(16)}.{_packed(claim[:_LONGEST_NAME])}"
        return f"{body}.{_mac(token.strip().encode(), body)}"

    def _signed_in(self, request: web.Request) -> Person | None:
        """The person of the cookie. It is bound to the token it was given for, so it ends with that token."""
        body, _, mac = request.cookies.get(COOKIE, "").rpartition(".")
        parts = body.split(".")
        if len(parts) != 3 or not body.isascii() or not parts[0].isdecimal() or len(parts[0]) > _DIGITS:
            return None  # not of ours; what int() or encode() does not take is let nowhere near them
        if int(parts[0]) <= self._clock.now().timestamp():
            return None
        sealed_by = (known.token for known in self._known if _same(mac, _mac(known.token, body)))
        found = self._find(next(sealed_by, b""))  # one secret may be several tokens
        return found and replace(found, claim=_unpacked(parts[2]), ambient=True, seal=parts[1])

    def seal(self, person: Person) -> str:
        """The token for the forms of this person's pages."""
        return _mac(self._key.encode(), f"csrf {person.seal}")

    def sealed(self, person: Person, token: str) -> bool:
        """Whether ``token`` is that of this person's pages."""
        return _same(token, self.seal(person))

    def check_form(self, person: Person, token: str) -> None:
        """Raise HttpProblem 403 unless the form came from a page of this person's."""
        if not self.sealed(person, token):
            raise self._unsealed("the form is too old or not from here; load the page again")

    def secure(self, request: web.Request) -> bool:
        """Whether the browser speaks TLS, to us or to a listed proxy."""
        return request.secure or self._proxy.secure(request)


def cross_site(request: web.Request) -> bool:
    """Whether a browser says that another site made it send this."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = request.headers.get("Origin")
    try:
        return origin is not None and urlsplit(origin).netloc != request.host
    except ValueError:  # no address, so not ours
        return True


def _limited(address: str, wait: float) -> HttpProblem:
    METRICS.auth_failures.labels("limited").inc()
    detail = f"Too many unknown tokens came from {address}; try again in {wait:.0f} s."
    return HttpProblem(429, "Too many attempts", detail, headers={"Retry-After": str(int(wait) + 1)})


def _unauthorized(detail: str, challenge: str) -> HttpProblem:
    return HttpProblem(401, "Unauthorized", detail, headers={"WWW-Authenticate": challenge})


def _same(given: str, known: str) -> bool:
    """In constant time."""
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), known.encode())


def _mac(key: bytes, text: str) -> str:
    return hmac.new(key, f"remediator {text}".encode(), "sha256").hexdigest()


def _packed(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode("utf-8", "replace")).decode().rstrip("=")


def _unpacked(text: str) -> str:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("utf-8", "replace")
