"""One CEL expression, checked when it is compiled.

cel-expr-python returns a missing key or a division by zero as a value of type ERROR, and that value is truthy; so the type of every result
is looked at. Variables are declared one by one (``target.name``), not as maps, so that a name that nobody declared is refused at load.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal

from cel_expr_python import cel
from cel_expr_python.ext import ext_optional

from remediator.errors import ExpressionError, Unreadable

__all__ = ["STRING_LITERAL", "TYPES", "Expression", "Undeclared", "Variables"]

Variables = Mapping[str, str]
"""Dotted names and their types, each one of TYPES."""
Want = Literal["bool", "string", "any"]

TYPES: Mapping[str, Any] = {
    "string": cel.Type.STRING,
    "int": cel.Type.INT,
    "double": cel.Type.DOUBLE,
    "bool": cel.Type.BOOL,
    "dyn": cel.Type.DYN,
    "map(string, string)": cel.Type.Map(cel.Type.STRING, cel.Type.STRING),
    "list(string)": cel.Type.List(cel.Type.STRING),
    "list(dyn)": cel.Type.List(cel.Type.DYN),
}
_WANTED = {"bool": cel.Type.BOOL, "string": cel.Type.STRING}
_MAX_SOURCE = 4096

_POSITION = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")
_OVERLOAD = re.compile(r"found no matching overload for '(.+?)' applied to '(.+?)'")
_UNDECLARED = re.compile(r"undeclared reference to '([^']*)'")
STRING_LITERAL = re.compile(
    r'''[rR]?("""(?:\\.|[^\\])*?"""|\'\'\'(?:\\.|[^\\])*?\'\'\'|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')''',
    re.DOTALL,
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\s*\.\s*[A-Za-z_][A-Za-z0-9_]*)*")


class Undeclared(ExpressionError):  # noqa: N818 - a finding, named as such
    """An expression names something that is not declared; ``name`` says what."""

    def __init__(self, name: str, *, column: int) -> None:
        super().__init__(f'undeclared name "{name}"', column=column)
        self.name = name


class Expression:
    """One compiled CEL expression."""

    def __init__(self, source: str, program: Any, variables: Variables, want: Want) -> None:
        self.source = source
        self.want = want
        self.names = frozenset(_named(source) & variables.keys())
        """The declared variables that it may read."""
        self._program = program

    @classmethod
    def compile(cls, source: str, *, variables: Variables, want: Want = "any") -> Expression:
        """Check names and types. Raises ExpressionError (Undeclared for unknown names) with the column within ``source``."""
        if not source.strip():
            raise ExpressionError("the expression is empty")
        if len(source) > _MAX_SOURCE or not _printable(source):
            raise ExpressionError(f"an expression has at most {_MAX_SOURCE} printable characters")
        try:
            program = _environment(tuple(sorted(variables.items()))).compile(source)
        except RuntimeError as error:
            raise _refusal(source, str(error)) from error
        expression = cls(source, program, variables, want)
        wanted = _WANTED.get(want)
        if wanted is not None and program.return_type() not in (wanted, cel.Type.DYN):
            raise ExpressionError(f"must give a {want}, but gives {expression.type}")
        return expression

    @property
    def type(self) -> str:
        """The type that the checker found: ``bool``, ``map(string, string)``, ``dyn`` where only evaluation can tell."""
        name: str = self._program.return_type().name()
        return name.lower().replace("<", "(").replace(">", ")")

    def evaluate(self, values: Mapping[str, Any]) -> Any:
        """The value, as plain data. ``values`` nests: ``{"target": {"name": ...}}``.

        Raises Unreadable if something that the expression needs is missing, or the result is not of the wanted type.
        """
        given = {name: _plain(value) for name in self.names if (value := _find(values, name)) is not _ABSENT}
        try:
            result = self._program.eval(data=given)
            kind = result.type()
            value = result.plain_value()
        except (RuntimeError, TypeError) as error:  # the library's two ways to say that it cannot
            raise Unreadable("expression", f"{self.source}: {error}") from error
        if kind in (cel.Type.ERROR, cel.Type.UNKNOWN):
            raise Unreadable("expression", f"{self.source}: {_reason(str(value))}")
        wanted = _WANTED.get(self.want)
        if wanted is not None and kind != wanted:
            raise Unreadable("expression", f"{self.source}: gave {kind.name().lower()}, not {self.want}")
        return value

    def __repr__(self) -> str:
        return f"Expression({self.source!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expression) and (self.source, self.want) == (other.source, other.want)

    def __hash__(self) -> int:
        return hash((self.source, self.want))


_ABSENT = object()


def _find(values: Mapping[str, Any], name: str) -> Any:
    here: Any = values
    for part in name.split("."):
        if not isinstance(here, Mapping) or part not in here:
            return _ABSENT
        here = here[part]
    return here


def _plain(value: Any) -> Any:
    """What CEL takes. A string is cut at a NUL by the library and a surrogate crashes it, so both are refused here."""
    if isinstance(value, str):
        if "\0" in value or (not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value)):
            raise Unreadable("expression", f"{value!r} holds characters that no name has")
        return str(value)
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _printable(source: str) -> bool:
    return all(char.isprintable() or char in "\n\t" for char in source)


def _named(source: str) -> set[str]:
    """Every dotted name in ``source`` outside of string literals, and each of its beginnings."""
    found: set[str] = set()
    for match in _NAME.finditer(STRING_LITERAL.sub('""', source)):
        parts = [part.strip() for part in match[0].split(".")]
        found.update(".".join(parts[: n + 1]) for n in range(len(parts)))
    return found


@lru_cache(maxsize=256)
def _environment(variables: tuple[tuple[str, str], ...]) -> Any:
    declared = {name: TYPES[kind] for name, kind in variables}
    return cel.NewEnv(variables=declared, extensions=[ext_optional.ExtOptional()])


def _refusal(source: str, message: str) -> ExpressionError:
    """The library's first complaint, with the column counted over the whole source."""
    found = _POSITION.search(message)
    if found is None:
        return ExpressionError(_reason(message))
    lines = source.split("\n")
    row, column = int(found[1]), int(found[2])
    offset = sum(len(line) + 1 for line in lines[: row - 1]) + column - 1
    if undeclared := _UNDECLARED.search(found[3]):
        start = source.rfind(undeclared[1].partition(".")[0], 0, offset + len(undeclared[1]))
        return Undeclared(undeclared[1], column=max(start, 0) + 1)
    return ExpressionError(_reason(found[3]), column=min(offset, len(source)) + 1)


def _reason(message: str) -> str:
    """The library's words without its status codes, its lists of tokens and its names of operators."""
    text = re.sub(r"^[A-Z_]+: ", "", re.sub(r" \[[A-Z_]+\]$", "", message.strip()))
    if overload := _OVERLOAD.search(text):
        return f"{overload[1].replace('_', '') if overload[1].startswith('_') else overload[1].strip('_')} does not take {overload[2]}"
    text = re.sub(r" expecting (\{.*\}|'.*')", "", text).replace("mismatched input '<EOF>'", "unexpected end of the expression")
    return text[:1].lower() + text[1:].replace("(in container '')", "").replace("mismatched input", "unexpected").strip()
