"""What pydantic has to say about a YAML document, as Problems for people.

In: a Document, a ValidationError and the model that it is about. Out: one Problem a fault, ``path:line:col: where: message``, with a
suggestion for names that nobody knows. Parts that pydantic adds to a location (tags of unions) are dropped: the document has no such key.
"""

from __future__ import annotations

import difflib
import re
import types
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, RootModel
from pydantic_core import PydanticCustomError

from remediator.errors import Problem
from remediator.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

    from remediator.document import Document

__all__ = ["Loc", "describe", "fault", "located_problems", "problems_of", "suggest", "told"]

Loc = tuple[str | int, ...]
"""A way into a document: keys and list indexes."""

_SHOWN = 60
_FEW = 12


def suggest(name: str, known: Iterable[str]) -> str:
    """``; did you mean "x"?`` if one of ``known`` is near, else the known names if they are few, else nothing."""
    names = sorted(set(known))
    by_lower = {n.lower(): n for n in names}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    if near:
        return f'; did you mean "{by_lower[near[0]]}"?'
    return f"; known are {', '.join(names)}" if 0 < len(names) <= _FEW else ""


def where(loc: Loc) -> str:
    """``ladder[0].steps[1].restart.timeout``"""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


_KINDS = ((int, "the number {}"), (float, "the number {}"), (list, "a list"), (tuple, "a list"), (dict, "a mapping"))


def describe(value: Any) -> str:
    """What a value is, in a word or two, cut to a bounded length."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"' if len(value) <= _SHOWN else f'"{value[:_SHOWN]}..."'
    words = next((words for kind, words in _KINDS if isinstance(value, kind)), f"a {type(value).__name__}")
    return words.format(value)


def problems_of(document: Document, error: ValidationError, *, model: Any = None, at: Loc = ()) -> list[Problem]:
    """One Problem for each fault that ``error`` reports, in the order of the document.

    ``at`` is where in the document the validated part stands; ``model`` is what it was validated as, for suggestions.
    """
    found = {problem for _, problem in located_problems(document, error, model=model, at=at)}
    return sorted(found, key=lambda p: (p.line, p.column, p.message))


def located_problems(
    document: Document, error: ValidationError, *, model: Any = None, at: Loc = (), also: Iterable[str] = ()
) -> list[tuple[Loc, Problem]]:
    """As ``problems_of``, each with pydantic's own location. ``also`` are keys that the outermost mapping takes besides the model's."""
    details = [detail for detail in error.errors(include_url=False) if not _consequence(detail)]
    return [(detail["loc"], _problem(document, detail, model, at, also)) for detail in details]


def _consequence(detail: ErrorDetails) -> bool:
    """Pydantic calls a list too short when its items are wrong; that is no second fault."""
    return detail["type"] == "too_short" and len(detail["input"]) >= detail["ctx"]["min_length"]


def fault(message: str, *, key: str | None = None, offset: int | None = None) -> PydanticCustomError:
    """For a validator to raise: ``key`` names the part of a mapping that is at fault, ``offset`` the character of a string (from 0)."""
    return PydanticCustomError("fault", "{message}", {"message": message, "key": key, "offset": offset})


def _problem(document: Document, detail: ErrorDetails, model: Any, at: Loc, also: Iterable[str]) -> Problem:
    loc = at + _in_document(document, at, detail, model)
    kind = detail["type"]
    context = detail.get("ctx") or {}
    if context.get("key") is not None:
        loc = (*loc, context["key"])
    if kind in ("missing", "extra_forbidden") and loc:
        parent, name = loc[:-1], str(loc[-1])
        known = _known(model, detail["loc"][:-1]) | (set() if detail["loc"][:-1] else set(also))
        text = f'"{name}" is missing' if kind == "missing" else f'unknown key "{name}"{suggest(name, known)}'
        return Problem(document.path, *document.position(loc), told(parent, text))
    return document.problem(loc, _message(detail, context), offset=context.get("offset"))


def told(loc: Loc, message: str) -> str:
    """The message with the place before it, on one line whatever the document holds."""
    text = f"{where(loc)}: {message}" if loc else message
    return text if text.isprintable() else "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _in_document(document: Document, at: Loc, detail: ErrorDetails, model: Any) -> Loc:
    """``loc`` without the parts that are neither in the document nor a field of the model (union tags, ``[key]``)."""
    kept: Loc = ()
    parts = detail["loc"]
    for index, part in enumerate(parts):
        if document.has((*at, *kept, part)) or part in _known(model, parts[:index]) or (detail["type"] == "missing" and part == parts[-1]):
            kept = (*kept, part)
    return kept


_EXPECTED = {
    "string_type": "must be a string",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "set_type": "must be a list",
    "dict_type": "must be a mapping",
    "mapping_type": "must be a mapping",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "path_type": "must be a path",
}
_BOUNDS = {
    "greater_than": ("gt", "must be more than"),
    "greater_than_equal": ("ge", "must be at least"),
    "less_than": ("lt", "must be less than"),
    "less_than_equal": ("le", "must be at most"),
}


def _message(detail: ErrorDetails, context: Mapping[str, Any]) -> str:
    kind, value = detail["type"], detail["input"]
    if kind in _EXPECTED:
        return f"{_EXPECTED[kind]}, not {describe(value)}"
    if kind in ("literal_error", "enum"):
        return _choice(value, re.findall(r"'([^']*)'", str(context["expected"])))
    if kind in _BOUNDS:
        return f"{_BOUNDS[kind][1]} {_amount(context[_BOUNDS[kind][0]])}"
    if kind in ("too_short", "string_too_short", "too_long", "string_too_long"):
        return _length(kind, context)
    if kind in ("value_error", "assertion_error", "fault"):
        return str(context.get("message", context.get("error")))
    return detail["msg"][:1].lower() + detail["msg"][1:]


def _choice(value: Any, names: list[str]) -> str:
    near = suggest(value, names) if isinstance(value, str) else ""
    return f"{describe(value)} is not one of {', '.join(names)}" + (near if "did you mean" in near else "")


def _length(kind: str, context: Mapping[str, Any]) -> str:
    unit = "characters" if kind.startswith("string") else "items"
    if kind.endswith("too_long"):
        return f"must have at most {context['max_length']} {unit}"
    return "must not be empty" if context["min_length"] == 1 else f"must have at least {context['min_length']} {unit}"


def _amount(bound: Any) -> str:
    return format_duration(bound) if isinstance(bound, timedelta) else str(bound)


def _known(model: Any, loc: Loc) -> set[str]:
    """The keys that ``model`` takes at ``loc``."""
    found = _options(model)
    for part in loc:
        found = [option for one in found for option in _below(one, part)]
    return {field.alias or name for one in found if _is_model(one) for name, field in one.model_fields.items()}


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _options(kind: Any) -> list[Any]:
    """What a type may stand for, with unions, annotations and root models opened."""
    origin = get_origin(kind)
    if origin is Annotated:
        return _options(get_args(kind)[0])
    if origin in (Union, types.UnionType):
        return [option for one in get_args(kind) for option in _options(one)]
    if _is_model(kind) and issubclass(kind, RootModel):
        return _options(kind.model_fields["root"].annotation)
    return [kind]


def _below(kind: Any, part: str | int) -> list[Any]:
    if _is_model(kind):
        fields = [field.annotation for name, field in kind.model_fields.items() if part in (name, field.alias)]
        return [option for one in fields for option in _options(one)] or [kind]
    arguments = [one for one in get_args(kind) if one is not Ellipsis]
    return _options(arguments[-1]) if arguments else [kind]
