"""Finds and reads playbook test files.

In: files and folders. Out: test files, read and checked, each with its document for positions. Refused with every problem at once
(DocumentError): wrong shape, unknown playbooks and gates, a playbook that itself cannot be loaded, objects that are no manifests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from remediator.actions import actions
from remediator.document import Document, load_text, problems_of, read_documents, suggest
from remediator.errors import DocumentError, Problem
from remediator.gates import gates
from remediator.playbook import files_of, load_library
from remediator.playbook.library import is_test
from remediator.testing.cases import CaseFile, named_playbooks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from remediator.document import Loc
    from remediator.testing.cases import Case

__all__ = ["TestFile", "check_tests", "read_file", "test_files"]

_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class TestFile:
    """One file of tests."""

    __test__ = False

    path: Path
    document: Document
    cases: CaseFile
    playbooks: tuple[Path, ...]
    """Absolute or relative to the current folder."""
    objects: tuple[tuple[dict[str, Any], ...], ...]
    """Of each test, the manifests that are given."""
    chosen: tuple[int, ...]
    """The indexes of the tests that are to run."""

    def line(self, index: int) -> int:
        """Where the test of that index begins."""
        return self.document.position(("tests", index))[0]


def test_files(path: Path) -> list[Path]:
    """``path`` itself, or all tests in a folder: ``*.test.yaml`` anywhere, and what lies right in a folder named ``tests``.

    Raises DocumentError if there are none.
    """
    if path.exists() and not path.is_dir():
        return [path]
    found = list(_below(path)) if path.is_dir() else []
    if not found:
        why = "the folder holds no tests: no *.test.yaml, and no folder tests with *.yaml" if path.is_dir() else "no such file or folder"
        raise DocumentError([Problem(str(path), 1, 1, why)])
    return found


test_files.__test__ = False  # type: ignore[attr-defined] # pytest takes it for a test by its name


def _below(folder: Path) -> Iterator[Path]:
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    for entry in entries:
        if not entry.is_dir() and entry.suffix in _SUFFIXES and (folder.name == "tests" or is_test(entry)):
            yield entry
    for entry in entries:
        if entry.is_dir():
            yield from _below(entry)


def check_tests(paths: Iterable[Path]) -> list[Problem]:
    """Every problem of every test file in ``paths``; other files are left to others."""
    problems: list[Problem] = []
    for path in paths:
        for file in _below(path) if path.is_dir() else [path]:
            try:
                if path.is_dir() or _says_so(file):
                    read_file(file)
            except DocumentError as error:
                problems += error.problems
    return list(dict.fromkeys(problems))


def _says_so(file: Path) -> bool:
    try:
        documents = read_documents(str(file), load_text(file))
    except DocumentError:  # whoever checks playbooks says so
        return False
    return any(isinstance(document.data, dict) and document.data.get("kind") == "PlaybookTest" for document in documents)


def read_file(path: Path) -> TestFile:
    """Read and check one file. Raises DocumentError with every problem of it and of the playbooks that it names."""
    documents = read_documents(str(path), load_text(path))
    if len(documents) != 1:
        raise DocumentError([Problem(str(path), 1, 1, f"tests are one document; this file holds {len(documents)}")])
    document = documents[0]
    if not isinstance(document.data, dict) or document.data.get("kind") != "PlaybookTest":
        raise DocumentError([document.problem(("kind",), "is no file of tests; it begins with kind: PlaybookTest")])
    try:
        cases = CaseFile.model_validate(document.data)
    except ValidationError as error:
        raise DocumentError(problems_of(document, error, model=CaseFile)) from error
    playbooks = tuple(path.parent / name for name in cases.playbooks)
    problems = list(_playbook_problems(document, cases, playbooks))
    objects = tuple(tuple(_objects(document, path, index, case, problems)) for index, case in enumerate(cases.tests))
    if problems:
        raise DocumentError(problems)
    return TestFile(path, document, cases, playbooks, objects, tuple(range(len(cases.tests))))


def _playbook_problems(document: Document, cases: CaseFile, paths: Iterable[Path]) -> Iterator[Problem]:
    missing = [index for index, path in enumerate(paths) if not path.exists()]
    for index in missing:
        yield document.problem(("playbooks", index), f"there is no {cases.playbooks[index]} beside this file")
    if missing:
        return
    try:
        library = load_library(paths, actions=actions(), gates=gates())
    except DocumentError as error:
        yield from error.problems
        return
    known = [playbook.name for playbook in library.playbooks]
    for index, case in enumerate(cases.tests):
        for loc, name in named_playbooks(case):
            if name not in known:
                yield document.problem(("tests", index, *loc), f'no playbook named "{name}" is loaded{suggest(name, known)}')


def _objects(document: Document, path: Path, index: int, case: Case, problems: list[Problem]) -> Iterator[dict[str, Any]]:
    for number, one in enumerate(case.given.objects):
        loc: Loc = ("tests", index, "given", "objects", number)
        if isinstance(one, dict):
            found = [(document, loc, one)]
        else:
            try:
                found = [
                    (each, (), each.data) for file in files_of(path.parent / one) for each in read_documents(str(file), load_text(file))
                ]
            except DocumentError as error:
                problems += error.problems
                continue
        for where, at, data in found:
            if _is_manifest(data):
                yield data
            else:
                problems.append(where.problem(at, "is no object: it needs apiVersion, kind and metadata with a name"))


def _is_manifest(data: Any) -> bool:
    return (
        isinstance(data, dict)
        and all(isinstance(data.get(key), str) for key in ("apiVersion", "kind"))
        and isinstance(data.get("metadata"), dict)
        and isinstance(data["metadata"].get("name"), str)
    )
