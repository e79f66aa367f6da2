"""Data on stdout in the form that ``-o`` asks for: ``table``, ``wide``, ``json``, ``yaml`` or ``name``.

JSON and YAML have the shape of the HTTP API. ``name`` prints what other commands take as argument, one a line.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar

import click

from remediator.cli.exits import say
from remediator.cli.text import safe, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from remediator.model import Page

__all__ = ["Column", "Form", "formatted", "now", "put_data", "put_list", "put_page", "to_text", "to_yaml"]

T = TypeVar("T")
Form = Literal["table", "wide", "json", "yaml", "name"]
_FORMS: tuple[Form, ...] = ("table", "wide", "json", "yaml", "name")
# JSON already escapes C0; a terminal also acts on these. All lie in the basic plane, so one \uXXXX each.
_ACTS = "[\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"


class Column(NamedTuple, Generic[T]):
    """One column of a table; ``wide`` columns show only with ``-o wide``."""

    header: str
    value: Callable[[T], str]
    wide: bool = False


def formatted(callback: Any) -> Any:
    """Decorate a command that prints data: it takes ``-o`` and gets ``form``."""
    option = click.option(
        "-o", "--output", "form", type=click.Choice(_FORMS), default="table", show_default=True, help="Form of the output."
    )
    return option(callback)


def now() -> datetime:
    """The time that ages count to."""
    return datetime.now(UTC)


def put_data(form: Form, data: Any, text: Callable[[bool], str], names: Callable[[], Iterable[str]]) -> None:
    """Print one thing. ``text`` gets whether it may be wide and ends with a newline; what it takes from outside it made safe."""
    match form:
        case "json":
            click.echo(to_text(data))
        case "yaml":
            click.echo(to_yaml(data), nl=False)
        case "name":
            click.echo("".join(safe(name) + "\n" for name in names()), nl=False)
        case "table" | "wide":
            click.echo(text(form == "wide"), nl=False)


def put_list(form: Form, data: Any, rows: Sequence[T], columns: Sequence[Column[T]], name: Callable[[T], str], what: str) -> None:
    """Print a list. For an empty one the table is a sentence on stderr, as kubectl has it."""
    if not rows and form in ("table", "wide"):
        say(f"No {what} found.")
        return

    def text(wide: bool) -> str:
        shown = [column for column in columns if wide or not column.wide]
        return table([column.header for column in shown], ([column.value(row) for column in shown] for row in rows))

    put_data(form, data, text, lambda: map(name, rows))


def put_page(form: Form, page: Page[T], columns: Sequence[Column[T]], name: Callable[[T], str], what: str) -> None:
    """Print one page of a list; says on stderr how to get the next."""
    put_list(form, page, page.items, columns, name, what)
    if page.next is not None and form != "json":
        say(f"There are more {what}; go on with --cursor {safe(page.next)}")


def to_text(data: Any, *, indent: int | None = 2) -> str:
    """JSON of nouns or plain data, readable, and harmless on a terminal."""
    import json
    import re

    text = json.dumps(_plain(data), indent=indent, ensure_ascii=False)
    return re.sub(_ACTS, lambda found: f"\\u{ord(found[0]):04x}", text)


def to_yaml(data: Any) -> str:
    """YAML of nouns or plain data; control characters come out as escapes."""
    from remediator.document import dump_yaml

    return dump_yaml(_plain(data))


def _plain(data: Any) -> Any:
    """Nouns as dicts; plain text and numbers do not pay for the nouns' module."""
    if isinstance(data, dict) and all(isinstance(value, str | int | None) for value in data.values()):
        return data
    from remediator.model import to_json

    return to_json(data)
