"""Writes what was seen into a test file, as its ``then``, and leaves every other line as it is.

In: a file that was read, and a ``then`` for some of its tests. Out: the new text. Conditions on the cluster and what must never be called
are a person's thoughts, not something that was seen, so they are kept. Comments within a ``then`` go. Refused with DocumentError where the
lines cannot be told apart: a test in braces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remediator.document import dump_yaml, read_documents
from remediator.errors import DocumentError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from remediator.testing.read import TestFile

__all__ = ["spliced"]

_KEPT = ("never", "cluster")


def spliced(file: TestFile, text: str, seen: Mapping[int, dict[str, Any]]) -> str:
    """``text``, the file's own, with ``seen`` (index of a test -> its new ``then``) in it. Raises DocumentError."""
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    wanted = [dict(test) for test in file.document.data["tests"]]
    for index in sorted(seen, reverse=True):
        then = {**seen[index], **{key: value for key, value in (wanted[index].get("then") or {}).items() if key in _KEPT}}
        wanted[index]["then"] = then
        _put(file, lines, index, then)
    result = "".join(lines)
    _same(file, result, wanted)
    return result


def _put(file: TestFile, lines: list[str], index: int, then: dict[str, Any]) -> None:
    document = file.document
    _, column = document.position(("tests", index, "name"))
    block = _block(then, column - 1)
    if document.has(("tests", index, "then")):
        row, at = document.position(("tests", index, "then"))
        head = lines[row - 1][: at - 1]
        lines[row - 1 : _end(lines, row, at - 1)] = [head + block[0].lstrip(" "), *block[1:]]
    else:
        first = document.position(("tests", index))[0]
        end = _end(lines, first, column - 1, inclusive=True)
        lines[end:end] = block


def _block(then: dict[str, Any], indent: int) -> list[str]:
    text = dump_yaml({"then": then})
    return [f"{' ' * indent}{line}" if line.strip() else line for line in text.splitlines(keepends=True)]


def _end(lines: list[str], row: int, indent: int, *, inclusive: bool = False) -> int:
    """The index after the last line that belongs to what begins in ``row`` (from 1): those indented deeper (``inclusive``: or as deep)."""
    end = row
    for number in range(row, len(lines)):
        line = lines[number]
        deep = len(line) - len(line.lstrip(" "))
        if not line.strip():
            continue
        if deep < indent or (deep == indent and not inclusive):
            break
        if not line.lstrip().startswith("#"):
            end = number + 1
    return end


def _same(file: TestFile, text: str, wanted: list[dict[str, Any]]) -> None:
    """Nothing but what was to change did."""
    try:
        data = read_documents(str(file.path), text)[0].data
    except DocumentError:
        data = None
    if data != {**file.document.data, "tests": wanted}:
        why = "cannot be written into this file: write tests with one key a line, not in braces"
        raise DocumentError([file.document.problem(("tests",), why)])
