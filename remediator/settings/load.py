"""From a file, the environment and flags to Settings, with every problem where it stands."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pydantic import ValidationError

from remediator.document import Document, Loc, load_text, located_problems, read_documents
from remediator.errors import DocumentError, Problem
from remediator.settings.model import API_VERSION, Section, Settings, Share

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic import BaseModel

__all__ = ["load_settings", "settings_of", "variables"]

PREFIX = "REMEDIATOR_"
_FILE_ONLY = frozenset(
    {"addresses", "api_version", "kind", "maintenance", "modes", "notify", "playbooks", "read_groups", "tags", "tokens", "write_groups"}
)
_EMPTY = f"apiVersion: {API_VERSION}\nkind: Settings\n"


def variables() -> dict[str, Loc]:
    """Every environment variable that stands for a setting, and which. Others with the prefix are left alone: Kubernetes sets some."""
    return {PREFIX + "_".join(map(str, loc)).upper(): loc for loc, _ in _scalars(Settings, ())}


def _scalars(model: type[BaseModel], at: Loc) -> Iterator[tuple[Loc, Any]]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section) and kind is not Share:
            yield from _scalars(kind, (*at, name))
        elif name not in _FILE_ONLY:
            yield (*at, name), kind


def load_settings(path: Path | None, env: Mapping[str, str] = os.environ, flags: Mapping[str, str] | None = None) -> Settings:
    """Read the file at ``path``; None means an empty one. ``flags`` name settings as ``server.listen`` and win over everything.

    Relative paths in the file are relative to its folder, others to the current one. Raises DocumentError with every problem.
    """
    document = _document(path) if path is not None else read_documents("settings", _EMPTY)[0]
    outside = {loc: (f"${name}", env[name]) for name, loc in variables().items() if env.get(name)}
    for name, text in (flags or {}).items():
        outside[tuple(name.split("."))] = (f"--{name.rpartition('.')[2].replace('_', '-')}", text)
    return settings_of(document, base=path.parent if path is not None else Path(), outside=outside)


def _document(path: Path) -> Document:
    documents = read_documents(str(path), load_text(path))
    if len(documents) != 1:
        raise DocumentError([Problem(str(path), 1, 1, f"settings are one document; this file holds {len(documents)}")])
    return documents[0]


def settings_of(document: Document, *, base: Path, outside: Mapping[Loc, tuple[str, str]] | None = None) -> Settings:
    """Check one document. ``outside`` is what stands instead of settings in it: where from, and the text. Raises DocumentError."""
    outside = outside or {}
    if not isinstance(document.data, dict):
        raise DocumentError([document.problem((), "settings must be a mapping")])
    needed = (("apiVersion", API_VERSION), ("kind", "Settings"))
    problems = [document.problem((), f'"{key}" is missing; write {key}: {value}') for key, value in needed if key not in document.data]
    data = {"server": {}, **document.data}
    kinds = dict(_scalars(Settings, ()))
    for loc, (_, text) in outside.items():
        data = _with(data, loc, _typed(kinds.get(loc), text))
    try:
        settings = Settings.model_validate(data, context={"base": base})
    except ValidationError as error:
        found = located_problems(document, error, model=Settings)
        problems += [Problem(outside[loc][0], 1, 1, problem.message) if loc in outside else problem for loc, problem in found]
        raise DocumentError(sorted(problems, key=lambda problem: (problem.path, problem.line, problem.column))) from error
    if problems:
        raise DocumentError(problems)
    return _resolved(settings, Path() if ("store", "url") in outside else base)


def _with(data: Any, loc: Loc, value: Any) -> Any:
    if not loc:
        return value
    inner = data if isinstance(data, dict) else {}
    return {**inner, loc[0]: _with(inner.get(loc[0]), loc[1:], value)}


def _typed(kind: Any, text: str) -> Any:
    """Text from outside as YAML would have it: numbers, booleans, and paths relative to the current folder."""
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    if _holds(kind, Path):
        return text if text.startswith("~") else str(Path(text).absolute())
    return int(text) if kind in (int, Share) and re.fullmatch(r"[0-9]{1,9}", text) else text


def _holds(kind: Any, wanted: type) -> bool:
    return kind is wanted or any(_holds(part, wanted) for part in get_args(kind))


def _resolved(settings: Settings, base: Path) -> Settings:
    """A relative SQLite path is relative to the file, too."""
    found = re.fullmatch(r"sqlite:///([^/].*)", settings.store.url)
    if found is None:
        return settings
    url = f"sqlite:///{(base / found[1]).absolute()}"
    return settings.model_copy(update={"store": settings.store.model_copy(update={"url": url})})
