"""Which tests there are of a playbook, by name, for people who look at it. They run in ``remediator test``, not here.

In: where a playbook was read from. Out: the files of tests in its folder that name it, and their tests. A file that cannot be read as one
is left out: ``remediator check`` says what is wrong with it.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from remediator.document import read_documents
from remediator.errors import DocumentError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Tested", "known_tests"]


class Tested(NamedTuple):
    """One file of tests."""

    file: str
    tests: tuple[str, ...]


def known_tests(source: str) -> tuple[Tested, ...]:
    """The tests of the playbook in the file ``source``; none if there is no such file."""
    playbook = Path(source)
    found = []
    for file in sorted({*playbook.parent.glob("*.test.yaml"), *playbook.parent.glob("tests/*.yaml")}):
        try:
            stat = file.stat()
            names = _names(file, playbook.resolve(), (stat.st_mtime_ns, stat.st_size))
        except OSError:
            continue
        if names:
            found.append(Tested(str(file), names))
    return tuple(found)


@lru_cache(maxsize=256)
def _names(file: Path, playbook: Path, _: tuple[int, int]) -> tuple[str, ...]:
    """Kept for as long as the file stays as it is, since a page asks whenever something changes anywhere."""
    text = file.read_text(encoding="utf-8", errors="replace")
    if playbook.name not in text:
        return ()
    try:
        documents = read_documents(str(file), text)
    except DocumentError:
        return ()
    return tuple(name for one in documents for name in _of(one.data, file.parent, playbook))


def _of(data: Any, folder: Path, playbook: Path) -> Iterator[str]:
    if not isinstance(data, dict) or data.get("kind") != "PlaybookTest":
        return
    about, tests = data.get("playbooks"), data.get("tests")
    if isinstance(about, list) and playbook in [(folder / str(path)).resolve() for path in about] and isinstance(tests, list):
        yield from (str(test["name"]) for test in tests if isinstance(test, dict) and "name" in test)
