"""Keeps secrets out of the journal and the logs: by the name of a key, by known values, by the shape of a text.

In: plain data, texts, nouns. Out: the same with every secret replaced by ``<redacted>``; what held none comes back as it was.
A key is judged word by word from its end: ``db-password``, ``apiKey`` and ``X-Auth-Token`` name secrets, ``node-token-count``,
``secretName`` and ``token_file`` do not. Nothing is refused.
"""

from __future__ import annotations

import base64
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from urllib.parse import quote, unquote, urlsplit

import msgspec
from pydantic import StringConstraints, TypeAdapter

from remediator.model import from_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from remediator.model import Noun

    N = TypeVar("N", bound=Noun)

__all__ = ["MARK", "Redactor", "canonical", "secrets_of"]

MARK = "<redacted>"
SHORTEST_SECRET = 4
"""Known values below this many characters are ignored: replacing them would shred every text, and they keep nothing safe."""

canonical: Callable[[Any], bytes] = msgspec.json.Encoder(order="sorted").encode
"""JSON with sorted keys, no spaces, UTF-8: the form that digests and the chain are computed over."""

_TOKEN = 16
"""Characters from which on a piece of a URL may be a secret; shorter ones are names."""
_PLAIN = frozenset((str, int, float, bool, type(None)))
"""Types of which JSON says all that a text would."""
_BETWEEN, _DIGIT, _LETTER, _CAPITALS = re.compile(r"[/&=?,;:@]"), re.compile("[0-9]"), re.compile("[A-Za-z]"), re.compile("[A-Z]{2}")

_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
_SECRET_WORDS = frozenset(
    ("authorization", "cookie", "credential", "credentials", "jwt", "passphrase", "passwd", "password", "passwords", "pwd")
) | {"secret", "secrets", "token", "tokens"}
_SECRET_ENDS = ("token", "password", "passwd", "passphrase", "secret", "authorization")
_KEY_OWNERS = ("access", "api", "auth", "encryption", "master", "private", "secret", "signing", "ssh")
_KEYS = tuple(f"{owner}{between}key" for owner in _KEY_OWNERS for between in ("", "_", "-", ".", " "))
_BESIDE_THE_POINT = frozenset(("value", "header", "string", "hash", "plain", "text", "base", "b"))

# What must occur in a lower-cased text before anything in it can be a secret by its shape or by a key.
_HINTS = ("token", "secret", "passw", "passphr", "pwd", "authoriz", "credential", "cookie", "jwt", "bearer", "eyj")

_WEAK = r"secret|token|credentials?"
_STRONG = r"password|passwd|passphrase|pwd|authorization|(?:api|access|secret|private)[ _-]?key"
# Linear on any input: no unbounded run in front of what is looked for.
_SHAPES: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----(?:.*?-----END [A-Z0-9 ]{0,40}PRIVATE KEY-----|.*)", re.DOTALL),
        MARK,
    ),
    (re.compile(r"(?<![\w-])eyJ[\w-]{8,}\.eyJ[\w-]*\.[\w-]*"), MARK),
    (re.compile(r"(://[^\s/@:\"']*):[^\s/@\"']+@"), rf"\1:{MARK}@"),
    (re.compile(r"\b(bearer|basic)\s{1,3}(?=[^\s\d]{0,400}\d)[\w.~+/=-]{8,}", re.IGNORECASE | re.ASCII), rf"\1 {MARK}"),
    (
        re.compile(
            rf"((?:{_WEAK}|{_STRONG})(?:\s?=\s?|\\?[\"']\s?[:=]\s?)\\?[\"']?|(?:{_STRONG})\s?:\s?[\"']?)"
            r"(?!\s|<redacted>)(?:(?:bearer|basic)\s{1,3}(?!<redacted>))?[^\s\"'\\,;&}]+",
            re.IGNORECASE | re.ASCII,
        ),
        rf"\1{MARK}",
    ),
)


@lru_cache(maxsize=4096)
def _names_secret(key: str) -> bool:
    """Whether a value under ``key`` is a secret, judged by the key's last words."""
    words = [word.lower() for word in _WORD.findall(key)]
    while words and (words[-1] in _BESIDE_THE_POINT or words[-1].isdigit()):
        words.pop()
    if not words:
        return False
    if words[-1] in ("key", "keys", "apikey", "apikeys"):
        return any(known in key.lower() for known in _KEYS)
    return words[-1] in _SECRET_WORDS or words[-1].endswith(_SECRET_ENDS)


def _scan_for(words: Iterable[str]) -> Callable[[str], bool]:
    """Whether a text holds one of ``words``: all looked for at once, at a gigabyte a second, by the engine behind pydantic."""
    pattern = "|".join(map(re.escape, sorted(words)))
    return TypeAdapter(Annotated[str, StringConstraints(pattern=pattern)]).validator.isinstance_python


_WORDS_AT_ONCE = 64
"""For so many of few beginnings the engine is quick."""
_holds_key = _scan_for(_KEYS)


class Redactor:
    """Replaces secrets. ``secrets`` are known values (tokens read from files), replaced wherever they stand."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = {form for secret in secrets for form in _forms(secret.strip()) if len(form) >= SHORTEST_SECRET}
        self._known = tuple(sorted(known, key=len, reverse=True))
        words = {*_HINTS, *(canonical(form)[1:-1].lower().decode() for form in known)}
        groups = [words] if len(words) <= _WORDS_AT_ONCE else [set(_HINTS), words - set(_HINTS)]
        self._scans = (*map(_scan_for, groups), _holds_key)

    def known(self, text: str) -> str:
        """``text`` without the known values; nothing else is touched."""
        for value in self._known:
            if value in text:
                text = text.replace(value, MARK)
        return text

    def text(self, s: str) -> str:
        """``s`` without known values and without what has the shape of a secret (``password=...``, ``user:pass@``, keys, JWTs)."""
        s = self.known(s)
        lowered = s.lower()
        if "@" in s or "key" in lowered or any(hint in lowered for hint in _HINTS):
            for shape, instead in _SHAPES:
                s = shape.sub(instead, s)
        return s

    def data(self, value: Any) -> Any:
        """Plain data (dicts, lists, scalars) without secrets, in values, in keys and in texts; the same object if it held none."""
        if isinstance(value, str):
            clean = self.text(value)
            return value if clean == value else clean
        if isinstance(value, dict):
            return self._mapping(value)
        if isinstance(value, list | tuple):
            items = [self.data(item) for item in value]
            same = all(new is old for new, old in zip(items, value, strict=True))
            return value if same else (items if isinstance(value, list) else tuple(items))
        return self._other(value)

    def encoded(self, noun: N, encode: Callable[[Any], bytes] = canonical) -> tuple[N, str]:
        """``noun`` without secrets and its JSON. Raises ValueError or TypeError if it has none (lone surrogates)."""
        raw = encode(noun)
        text = raw.decode()
        if self._holds_none(raw, text):
            return noun, text
        plain = msgspec.json.decode(raw)
        clean = self.data(plain)
        if clean is plain:
            return noun, text
        return from_json(clean, type(noun)), encode(clean).decode()

    def event(self, event: dict[str, Any]) -> dict[str, Any]:
        """As ``data``, for what is logged: texts and numbers, nearly always without a secret, which one look at all of them tells."""
        if _PLAIN.issuperset(map(type, event.values())):
            try:
                raw = canonical(event)
                if self._holds_none(raw, raw.decode()):
                    return event
            except ValueError:  # a lone surrogate, or a number that JSON has no word for
                pass
        clean: dict[str, Any] = self.data(event)
        return clean

    def _holds_none(self, raw: bytes, text: str) -> bool:
        """Whether JSON holds nothing that could be a secret by a key, by its shape or by its value."""
        if "@" in text:
            return False
        lowered = text.lower() if text.isascii() else raw.lower().decode()  # of other letters each would be looked up
        for holds in self._scans:  # noqa: SIM110 - a generator takes as long as one of them
            if holds(lowered):
                return False
        return True

    def _mapping(self, value: dict[Any, Any]) -> dict[Any, Any]:
        sealed = _sealed_keys(value)
        result = {}
        changed = False
        for key, item in value.items():
            hidden = key in sealed or (isinstance(key, str) and _names_secret(key))
            clean_key, clean = self.data(key), self.data(_hide(item, all_of_it=key in sealed) if hidden else item)
            changed = changed or clean_key is not key or clean is not item
            result[clean_key] = clean
        return result if changed else value

    def _other(self, value: Any) -> Any:
        if isinstance(value, msgspec.Struct):
            plain = msgspec.to_builtins(value)
            clean = self.data(plain)
            return value if clean is plain else clean
        if isinstance(value, bytes | BaseException):
            shown = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
            clean = self.text(shown)
            return value if clean == shown else clean
        return value


def secrets_of(url: str, *, tokens: bool = True) -> list[str]:
    """What of a URL is a secret by itself: its password, and (``tokens``) pieces that look like one, such as the path of a webhook.

    The host counts only where the scheme is none of HTTP: apprise writes tokens there.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return []
    found = [unquote(parts.password)] if parts.password else []
    if tokens and parts.scheme:
        host = "" if parts.scheme in ("http", "https") else parts.netloc
        pieces = _BETWEEN.split(f"{parts.username or ''}/{host}/{parts.path}/{parts.query}")
        found += [unquote(piece) for piece in pieces if _is_token(piece)]
    return found


def _is_token(piece: str) -> bool:
    """Letters with digits, or, since one token in a hundred has none, small ones and two capitals in a row, which names lack."""
    mixed = bool(_CAPITALS.search(piece)) and not piece.isupper()
    return len(piece) >= _TOKEN and bool(_LETTER.search(piece)) and (mixed or bool(_DIGIT.search(piece)))


def _forms(secret: str) -> tuple[str, ...]:
    """The ways in which a known value is likely to turn up: as it is, in a URL, in base64."""
    if len(secret) < SHORTEST_SECRET:
        return ()
    return secret, quote(secret, safe=""), base64.b64encode(secret.encode()).decode().rstrip("=")


def _sealed_keys(value: dict[Any, Any]) -> frozenset[str]:
    """Keys that only their neighbours give away: the data of a Kubernetes Secret, the value of a ``name``/``value`` pair."""
    if value.get("kind") == "Secret":
        return frozenset(("data", "stringData"))
    named = value.get("name")
    return frozenset(("value",)) if isinstance(named, str) and _names_secret(named) else frozenset()


def _hide(item: Any, *, all_of_it: bool) -> Any:
    """Texts and numbers under a secret key are replaced; what is deeper is judged by its own keys, unless ``all_of_it``."""
    if isinstance(item, dict):
        return {key: _hide(deeper, all_of_it=True) for key, deeper in item.items()} if all_of_it else item
    if isinstance(item, list | tuple):
        return [_hide(deeper, all_of_it=all_of_it) for deeper in item]
    return item if item is None or isinstance(item, bool) else MARK
