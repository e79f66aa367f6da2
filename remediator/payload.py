"""JSON from strangers: a body of bytes in, plain data or one PayloadError with the path of the fault out.

Stricter than any JSON library alone. Refused: what is not JSON (RFC 8259) in UTF-8, NaN and Infinity, numbers that no float holds, a key
that occurs twice in one object, text with lone surrogates or NUL (no database keeps it), and whatever goes beyond ``Limits``. The outline
of a body (depth, count of values and keys) is measured on the bytes between its strings, in a few passes of C code, before any parser
recurses into it.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from remediator.errors import PayloadError, PayloadTooLarge

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Limits", "convert", "spell", "strict"]

T = TypeVar("T")


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a body may have at most."""

    body: int = 4 * 1024 * 1024
    """Bytes."""
    depth: int = 32
    """Objects and lists within one another."""
    values: int = 200_000
    """Members of objects and items of lists, all together."""
    text: int = 64 * 1024
    """Bytes of one piece of text."""
    alerts: int = 2_000
    """Of one delivery."""
    labels: int = 200
    """Of one alert; annotations too."""


class _Twice(dict[str, Any]):
    """An object in which ``key`` occurs more than once."""

    key: str


class _NoNumber(str):
    """``NaN``, ``Infinity`` or ``-Infinity`` where a value should stand."""

    __slots__ = ()


_BRACKETS = bytes.maketrans(b"{[}]", b"(())")
_NO_BRACKET = bytes(byte for byte in range(256) if byte not in b"{[}]")
# A string that the text ends within is matched up to that end, so that each token costs its own length and no more.
_TOKEN = re.compile(r'"(?P<text>(?:[^"\\]++|\\.)*+)(?:"|\\?\Z)|[{}\[\],:]', re.DOTALL)
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}", re.ASCII)
_WHERE = re.compile(r"(?P<what>.*?)(?: - at `(?:key in )?\$(?P<path>.*)`)?", re.DOTALL)
_STEP = re.compile(r"\[(\d+)\]|\.(\w+)", re.ASCII)
_MISSING = re.compile(r"Object missing required field `(\w+)`", re.ASCII)
_TYPE = re.compile(r"`([^`]*)`")
_TYPES = {
    "str": "a string",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "null": "null",
    "array": "a list",
    "object": "an object",
    "datetime": "a time",
}
_ODD_ESCAPE = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
_LARGEST = 2**63
_LONGEST = len(str(-_LARGEST))


def strict(body: bytes, limits: Limits) -> Any:
    """Plain data of a JSON body, whole and clean; PayloadError with the path of the first fault otherwise."""
    _measure(body, limits)
    text = _decode(body)
    try:
        data = json.loads(text, object_pairs_hook=_members, parse_constant=_NoNumber, parse_int=_integer)
    except json.JSONDecodeError as error:
        detail = f"not JSON: {error.msg} (line {error.lineno}, column {error.colno})"
        raise PayloadError(detail, path=_path_at(text, stop=error.pos)) from None
    plain = body.isascii() and len(body) <= limits.text and not _ODD_ESCAPE.search(body)
    _inspect(data, [], None if plain else limits)
    return data


def _measure(body: bytes, limits: Limits) -> None:
    """PayloadTooLarge if it has too many bytes or values or is nested too deep, told from the bytes outside of its strings."""
    if len(body) > limits.body:
        raise PayloadTooLarge(f"{len(body)} bytes, at most {limits.body} are taken")
    # Without pairs of backslashes, a backslash before a quote escapes it; without those, every quote opens or closes a string.
    bare = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    outside = b"".join(bare.split(b'"')[::2])
    if outside.count(b",") >= limits.values:
        raise PayloadTooLarge(f"more than {limits.values} values")
    if _deeper(outside, limits.depth):
        raise PayloadTooLarge(f"nested more than {limits.depth} deep", path=_path_at(_decode(body), depth=limits.depth))


def _deeper(outside: bytes, limit: int) -> bool:
    """Whether brackets stand more than ``limit`` deep: each pass takes away the innermost pairs."""
    brackets = outside.translate(_BRACKETS, _NO_BRACKET)
    if brackets.count(b"(") <= limit:
        return False
    for _ in range(limit):
        fewer = brackets.replace(b"()", b"")
        if fewer == brackets:
            break
        brackets = fewer
    return brackets.count(b"(") > (limit if b"()" not in brackets else 0)


def convert(data: Any, kind: type[T]) -> T:
    """``data`` as ``kind``; PayloadError that says which value is of the wrong type."""
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        raise _fault(data, str(error)) from None


def spell(path: Iterable[str | int]) -> str:
    """``alerts[3].labels.node``; a key that is no plain word stands in brackets and quotes, cut to 64 characters."""
    parts = []
    for part in path:
        if isinstance(part, int):
            parts.append(f"[{part}]")
        elif _PLAIN_KEY.fullmatch(part):
            parts.append(f".{part}")
        else:
            parts.append(f"[{json.dumps(part[:64])}]")
    return "".join(parts).removeprefix(".")


def _decode(body: bytes) -> str:
    """Bytes that are not UTF-8 become lone surrogates, so that they are found where they stand."""
    return body.decode("utf-8", "surrogateescape")


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) == len(pairs):
        return members
    seen: set[str] = set()
    twice = _Twice(members)
    twice.key = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value] # add gives None
    return twice


def _integer(digits: str) -> int | float:
    """Whole numbers beyond 64 bits lose their last digits, as they do in most readers of JSON."""
    if len(digits) > _LONGEST:
        return float(digits)
    number = int(digits)
    return number if -_LARGEST <= number < _LARGEST else float(number)


def _inspect(value: Any, path: list[str | int], limits: Limits | None) -> None:
    """Refuse what a JSON reader lets through: see the module's first words. Without ``limits`` the texts are known to be fine."""
    kind = type(value)
    if kind is str:
        _inspect_text(value, path, limits)
    elif kind is list:
        for index, item in enumerate(value):
            _inspect(item, [*path, index], limits)
    elif isinstance(value, dict):
        _inspect_members(value, path, limits)
    elif kind is _NoNumber:
        raise PayloadError(f"not JSON: {value} is no number there", path=spell(path))
    elif kind is float and not math.isfinite(value):
        raise PayloadError("the number is out of range", path=spell(path))


def _inspect_members(members: dict[str, Any], path: list[str | int], limits: Limits | None) -> None:
    if isinstance(members, _Twice):
        raise PayloadError("the key occurs twice", path=spell([*path, members.key]))
    path.append("")
    for key, member in members.items():
        path[-1] = key
        if limits is not None:
            _inspect_text(key, path, limits)
        if limits is not None or type(member) is not str:
            _inspect(member, path, limits)
    path.pop()


def _inspect_text(text: str, path: list[str | int], limits: Limits | None) -> None:
    if limits is None:
        return
    if len(text) > limits.text // 4 and len(text.encode("utf-8", "surrogatepass")) > limits.text:
        raise PayloadTooLarge(f"text of more than {limits.text} bytes", path=spell(path))
    if "\0" in text:
        raise PayloadError("the text holds a NUL character, which cannot be stored", path=spell(path))
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PayloadError("the text is not valid UTF-8 or holds a lone surrogate", path=spell(path)) from None


def _path_at(text: str, *, stop: int | None = None, depth: int | None = None) -> str:
    """The path of what stands at position ``stop``, or of the first list or object deeper than ``depth``."""
    path: list[str | int] = []
    latest = ""
    for token in _TOKEN.finditer(text, 0, len(text) if stop is None else stop):
        match token[0]:
            case "{" | "[" if len(path) == depth:
                break
            case "{":
                path.append("")
            case "[":
                path.append(0)
            case "}" | "]":
                del path[-1:]
            case ",":
                path[-1:] = [part + 1 if isinstance(part, int) else "" for part in path[-1:]]
            case ":":
                path[-1:] = [part if isinstance(part, int) else latest for part in path[-1:]]
            case _:
                latest = token["text"]
    return spell(part for part in path if part != "")


def _fault(data: Any, message: str) -> PayloadError:
    """A fault in the words of msgspec, as ours, with the path as far as it goes."""
    found = _WHERE.fullmatch(message)
    what, where = (found["what"], found["path"] or "") if found else (message, "")
    path: list[str | int] = [int(index) if index else name for index, name in _STEP.findall(where)]
    if missing := _MISSING.fullmatch(what):
        return PayloadError("is required", path=spell([*path, missing[1]]))
    if where.endswith("[...]"):  # msgspec does not say which key
        path.append(_first_no_text(data, path))
    what = _TYPE.sub(lambda word: _TYPES.get(word[1], word[1]), what)
    return PayloadError(what[:1].lower() + what[1:], path=spell(path))


def _first_no_text(data: Any, path: list[str | int]) -> str:
    for step in path:
        data = data[step]
    return next((key for key, value in data.items() if not isinstance(value, str)), "?")
