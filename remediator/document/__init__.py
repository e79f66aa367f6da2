"""The only door to YAML: text in, plain data with positions out; plain data in, text out.

What is read is YAML 1.2's core schema: ``on``, ``NO`` and ``12:30`` are strings, ``0755`` is the number 755, there are no dates and no
merge keys. Refused, each with line and column: syntax errors, tabs as indentation, characters that YAML forbids, invalid UTF-8, two equal
keys in one mapping, keys that are not strings, unknown tags, and whatever is too big, too deep or grows too much through aliases.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from remediator.document.dump import dump_yaml
from remediator.document.explain import Loc, describe, fault, located_problems, problems_of, suggest, told
from remediator.document.reader import Node, Reader
from remediator.document.schema import draft7
from remediator.errors import DocumentError, Problem

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "MAX_SIZE",
    "Document",
    "Loc",
    "describe",
    "draft7",
    "dump_yaml",
    "fault",
    "load_text",
    "located_problems",
    "problems_of",
    "read_documents",
    "suggest",
    "told",
]

MAX_SIZE = 1024 * 1024
"""Bytes of a file and characters of a text: a ConfigMap holds no more."""

_FORBIDDEN = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Document:
    """One YAML document: its plain data, its own source text, and the position of everything in it."""

    def __init__(self, path: str, data: Any, text: str, root: Node, file: str) -> None:
        self.path = path
        self.data = data
        self.text = text
        self._root = root
        self._file = file

    def has(self, loc: Loc) -> bool:
        """Whether the document holds something at ``loc``."""
        return self._walk(loc)[1] == len(loc)

    def position(self, loc: Loc) -> tuple[int, int]:
        """Line and column, from 1, of the key or list item that ``loc`` leads to, or of its nearest ancestor that exists."""
        node, depth = self._walk(loc)
        if depth == 0:
            return node.line, node.column
        parent, _ = self._walk(loc[: depth - 1])
        return parent.keys.get(loc[depth - 1], (node.line, node.column))

    def value_position(self, loc: Loc, offset: int = 0) -> tuple[int, int]:
        """Line and column of the character ``offset`` (from 0) of the string at ``loc``.

        Exact for strings without escapes, whatever their style; within a string with escapes it may point a little too far left.
        """
        node, depth = self._walk(loc)
        return self.position(loc) if depth < len(loc) else _inside(node, self._file, offset)

    def problem(self, loc: Loc, message: str, *, offset: int | None = None) -> Problem:
        """A Problem at ``position(loc)``, or at a character of the string there; its message names ``loc`` too."""
        place = self.position(loc) if offset is None else self.value_position(loc, offset)
        return Problem(self.path, *place, told(loc, message))

    def _walk(self, loc: Loc) -> tuple[Node, int]:
        node = self._root
        for depth, part in enumerate(loc):
            if part not in node.parts:
                return node, depth
            node = node.parts[part]
        return node, len(loc)


def _inside(node: Node, file: str, offset: int) -> tuple[int, int]:
    """Follow the folding of a scalar: each line break of the source counts as the one character that it becomes."""
    row, column, rest = node.line, node.column, offset
    for row, column, line in _rows(node, [line.rstrip("\r") for line in file[node.start : node.end].split("\n")]):
        if rest <= len(line):
            return row, column + rest
        rest -= len(line) + 1
    return row, column


def _rows(node: Node, lines: list[str]) -> list[tuple[int, int, str]]:
    """Line, column and text of each line of a scalar's content."""
    later = [(node.line + n, line) for n, line in enumerate(lines) if n]
    if node.style in ("|", ">"):
        indent = next((len(line) - len(line.lstrip(" ")) for _, line in later if line.strip()), 0)
        return [(row, indent + 1, line[indent:]) for row, line in later]
    quote = 1 if node.style else 0
    first = (node.line, node.column + quote, lines[0][quote:])
    return [first, *((row, len(line) - len(line.lstrip()) + 1, line.strip()) for row, line in later)]


def read_documents(path: str, text: str) -> list[Document]:
    """Every document of ``text`` that holds anything; ``path`` only names it in problems. Raises DocumentError with all problems."""
    text = text.removeprefix("\ufeff")
    if len(text) > MAX_SIZE:
        raise DocumentError([Problem(path, 1, 1, f"{len(text)} characters; no more than {MAX_SIZE} are read")])
    if found := _FORBIDDEN.search(text):
        raise DocumentError([Problem(path, *_line_column(text, found.start()), f"character U+{ord(found[0]):04X} is not allowed in YAML")])
    reader = Reader(path, text)
    parts = reader.documents()
    if reader.problems:
        raise DocumentError(reader.problems)
    ends = [*(part.start for part in parts[1:]), len(text)]
    documents = (Document(path, part.data, text[part.start : end], part.node, text) for part, end in zip(parts, ends, strict=False))
    return [document for document in documents if document.data is not None]


def load_text(path: Path) -> str:
    """The file's text. Raises DocumentError if it cannot be read, is too big, or is not UTF-8 (with the place of the first wrong byte)."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_SIZE + 1)
    except OSError as error:
        raise DocumentError([Problem(str(path), 1, 1, f"cannot be read: {error.strerror or error}")]) from error
    if len(raw) > MAX_SIZE:
        raise DocumentError([Problem(str(path), 1, 1, f"larger than {MAX_SIZE} bytes")])
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode()
        problem = Problem(str(path), *_line_column(before, len(before)), f"byte 0x{raw[error.start]:02x} is not UTF-8")
        raise DocumentError([problem]) from error


def _line_column(text: str, index: int) -> tuple[int, int]:
    line_start = text.rfind("\n", 0, index) + 1
    return text.count("\n", 0, index) + 1, index - line_start + 1
