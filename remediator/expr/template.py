"""Text with ``${...}`` in it, every expression checked when the template is compiled."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from remediator.errors import ExpressionError, Unreadable
from remediator.expr.expression import STRING_LITERAL, Expression

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from remediator.expr.expression import Variables

__all__ = ["Template"]

_LONGEST = 16 * 1024


class Template:
    """Text with ``${expression}`` in it; ``$${`` stands for a plain ``${``."""

    def __init__(self, source: str, parts: tuple[str | Expression, ...]) -> None:
        self.source = source
        self._parts = parts

    @classmethod
    def compile(cls, text: str, *, variables: Variables) -> Template:
        """Check every expression in ``text``. Raises ExpressionError with the column within ``text``."""
        if len(text) > _LONGEST:
            raise ExpressionError(f"a text with expressions has at most {_LONGEST} characters")
        parts: list[str | Expression] = []
        for start, piece, is_expression in _pieces(text):
            if not is_expression:
                parts.append(piece)
                continue
            try:
                expression = Expression.compile(piece, variables=variables)
            except ExpressionError as error:
                error.column += start
                raise
            parts.append(expression)
        for part in parts:
            if len(parts) > 1 and isinstance(part, Expression) and part.type not in _TEXTUAL:
                raise ExpressionError(f"{part.source} is a {part.type}, which cannot stand inside of a text")
        return cls(text, tuple(parts))

    @property
    def constant(self) -> str | None:
        """The text, where nothing in it varies."""
        return "".join(map(str, self._parts)) if not self.expressions else None

    @property
    def only(self) -> Expression | None:
        """The expression, where the template is nothing but that."""
        return self._parts[0] if len(self._parts) == 1 and isinstance(self._parts[0], Expression) else None

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """What stands in the ``${...}``."""
        return tuple(part for part in self._parts if isinstance(part, Expression))

    @property
    def names(self) -> frozenset[str]:
        """The declared variables that it may read."""
        return frozenset(name for expression in self.expressions for name in expression.names)

    def render(self, values: Mapping[str, Any]) -> Any:
        """The text with the values in it; a template that is only ``${...}`` keeps the type of the value.

        Raises Unreadable if a value is missing, or if one that stands inside of a text holds quotes, braces, backslashes or control
        characters: it could then change the meaning of a query or a selector around it.
        """
        if self.only is not None:
            return self.only.evaluate(values)
        return "".join(part if isinstance(part, str) else _inline(part, part.evaluate(values)) for part in self._parts)

    def text(self, values: Mapping[str, Any]) -> str:
        """As ``render``, and always a string. Raises Unreadable where the value is a list, a mapping or null."""
        value = self.render(values)
        return value if isinstance(value, str) else _as_text(self.source, value)

    def __repr__(self) -> str:
        return f"Template({self.source!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Template) and self.source == other.source

    def __hash__(self) -> int:
        return hash(self.source)


_TEXTUAL = frozenset({"string", "int", "uint", "double", "bool", "dyn"})
_UNSAFE = re.compile(r"[\"'`\\{}\x00-\x1f\x7f]")


def _inline(expression: Expression, value: Any) -> str:
    text = _as_text(expression.source, value)
    if _UNSAFE.search(text):
        raise Unreadable("template", f"the value of {expression.source}, {text!r}, holds characters that could change the text around it")
    return text


def _as_text(source: str, value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    raise Unreadable("template", f"the value of {source} is a {type(value).__name__}, which cannot stand inside of a text")


def _pieces(text: str) -> Iterator[tuple[int, str, bool]]:
    """Offset, text and whether it is an expression, of each piece. Raises ExpressionError for a ``${`` that nothing closes."""
    plain, begin, index = "", 0, 0
    while (at := text.find("${", index)) >= 0:
        if at > index and text[at - 1] == "$":
            plain, index = plain + text[index : at - 1] + "${", at + 2
            continue
        if plain := plain + text[index:at]:
            yield begin, plain, False
        end = _closing(text, at + 2)
        yield at + 2, text[at + 2 : end], True
        plain, begin, index = "", end + 1, end + 1
    if (plain := plain + text[index:]) or not text:
        yield begin, plain, False


def _closing(text: str, index: int) -> int:
    """Where the ``}`` stands that closes a ``${``, minding braces and string literals in between."""
    start, depth = index, 0
    while index < len(text):
        if literal := STRING_LITERAL.match(text, index):
            index = literal.end()
            continue
        if text[index] == "}" and depth == 0:
            return index
        depth += {"{": 1, "}": -1}.get(text[index], 0)
        index += 1
    raise ExpressionError("${ is never closed; write $${ for a plain ${", column=start - 1)
