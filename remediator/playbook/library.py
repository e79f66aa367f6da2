"""All playbooks in force: read from files and folders, checked one by one and against one another, swapped as a whole.

Beside files of one's own, a shipped playbook gives way to one of its name, also to one that cannot be read: it would do what was replaced.
A Library never changes. To reload, load another one; if that raises, the old one is still there.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from remediator.document import MAX_SIZE, Document, load_text, read_documents, suggest
from remediator.errors import DocumentError, Problem, UsageError
from remediator.playbook.alertrules import check_rules
from remediator.playbook.attached import named_files
from remediator.playbook.load import OTHER_KINDS, kind_of, playbook_of
from remediator.settings import idle_names, settings_of, shipped

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from remediator.playbook.check import ActionInfo, GateInfo
    from remediator.playbook.model import Playbook
    from remediator.settings import Settings

__all__ = ["Library", "check_paths", "files_of", "is_test", "load_library"]

_SUFFIXES = (".yaml", ".yml")
_NAMED = re.compile(r"""\bname["']?:\s*["']?([a-z0-9][-a-z0-9]*)""")
_NAMES = 1_000
"""Of alerts, for which it is remembered who may take them."""


@dataclass(frozen=True)
class Library:
    """Playbooks in the order in which an alert is offered to them: paths as given, files of a folder by name."""

    playbooks: tuple[Playbook, ...] = ()

    @classmethod
    def load(cls, paths: Iterable[Path], *, actions: Mapping[str, ActionInfo], gates: Mapping[str, GateInfo]) -> Library:
        """Read and check everything. Raises DocumentError with every problem of every file."""
        read = _read(paths, actions, gates)
        if read.problems:
            raise DocumentError(read.problems)
        return cls(tuple(playbook for playbook, _ in read.playbooks))

    @classmethod
    def load_rest(
        cls, paths: Iterable[Path], *, actions: Mapping[str, ActionInfo], gates: Mapping[str, GateInfo]
    ) -> tuple[Library, list[Problem]]:
        """The playbooks of those files that nothing is wrong with, and the problems of the others.

        Raises DocumentError with every problem if a path leads nowhere, or no playbook is left.
        """
        read = _read(paths, actions, gates)
        bad = {problem.path for problem in read.problems}
        rest = tuple(playbook for playbook, _ in read.playbooks if playbook.source not in bad)
        if read.problems and (not rest or not all(Path(path).is_file() for path in bad)):
            raise DocumentError(read.problems)
        return cls(rest), read.problems

    @property
    def revision(self) -> str:
        """Changes when any playbook does, or their order."""
        return hashlib.sha256("\n".join(f"{p.name} {p.revision}" for p in self.playbooks).encode()).hexdigest()[:12]

    @cached_property
    def _by_alert(self) -> dict[str, tuple[Playbook, ...]]:
        return {}

    def takers(self, alert: str) -> tuple[Playbook, ...]:
        """The playbooks that may take alerts of this name, in order; what else they want of an alert is not asked yet."""
        found = self._by_alert.get(alert)
        if found is None:
            named = {"alertname": alert}
            found = tuple(
                playbook
                for playbook in self.playbooks
                if playbook.when is not None and all(m.matches(named) for m in playbook.when.alerts if m.label == "alertname")
            )
            if len(self._by_alert) >= _NAMES:
                self._by_alert.clear()  # somebody makes names up
            self._by_alert[alert] = found
        return found

    def get(self, name: str) -> Playbook | None:
        """The playbook of that name, or None."""
        return next((playbook for playbook in self.playbooks if playbook.name == name), None)

    def by_name(self, name: str) -> Playbook:
        """The playbook of that name. Raises UsageError with a suggestion."""
        playbook = self.get(name)
        if playbook is None:
            raise UsageError(f'no playbook is named "{name}"{suggest(name, [p.name for p in self.playbooks])}')
        return playbook


def load_library(paths: Iterable[Path], *, actions: Mapping[str, ActionInfo], gates: Mapping[str, GateInfo]) -> Library:
    """See ``Library.load``."""
    return Library.load(paths, actions=actions, gates=gates)


def check_paths(
    paths: Iterable[Path], *, actions: Mapping[str, ActionInfo], gates: Mapping[str, GateInfo], rules: Iterable[Path] = ()
) -> list[Problem]:
    """Every problem of every playbook and settings document in ``paths``, and of alert rules beside them; for ``remediator check``."""
    read = _read(paths, actions, gates)
    idle = [] if read.problems else [problem for one in read.settings for problem in _idle(*one, read, actions, gates)]
    return read.problems + idle + check_rules(rules, read.playbooks, complete=not read.problems)


def files_of(path: Path) -> list[Path]:
    """``path`` itself, or all ``*.yaml`` and ``*.yml`` files under a folder. Raises DocumentError if there is nothing there.

    Hidden entries are left out: a mounted ConfigMap shows its files once by name and once more in ``..data``. So are tests: files named
    ``*.test.yaml``, and folders named ``tests``.
    """
    if not path.is_dir():
        if not path.exists():
            raise DocumentError([Problem(str(path), 1, 1, "no such file or folder")])
        return [path]
    entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    inner = [file for entry in entries if entry.is_dir() and entry.name != "tests" for file in files_of(entry)]
    return [entry for entry in entries if entry.suffix in _SUFFIXES and not entry.is_dir() and not is_test(entry)] + inner


def is_test(file: Path) -> bool:
    """Whether a file is one of playbook tests by its name."""
    return file.suffix in _SUFFIXES and file.stem.endswith(".test")


Found = list[tuple["Playbook", Document]]


class _Read(NamedTuple):
    playbooks: Found
    settings: list[tuple[Settings, Document]]
    problems: list[Problem]
    files: frozenset[Path]


def _read(paths: Iterable[Path], actions: Mapping[str, ActionInfo], gates: Mapping[str, GateInfo]) -> _Read:
    found: Found = []
    settings: list[tuple[Settings, Document]] = []
    problems: list[Problem] = []
    origins = {file: path for path, file in _files(paths, problems)}
    read = {file: _documents(file) for file in origins}
    named = {path for documents, _ in read.values() for document in documents for path in named_files(document, actions)}
    ours = {file for file, path in origins.items() if path == shipped()}
    claimed = {
        name
        for file, (documents, _) in read.items()
        if file not in ours and file.resolve() not in named
        for name in _names(file, documents)
    }
    for file, (documents, wrong) in read.items():
        if file.resolve() in named:
            continue  # its playbook says what is wrong with it
        problems += wrong
        for document in documents:
            try:
                kind = kind_of(document)
                if file in ours and _name(document) in claimed:
                    continue
                if kind == "Playbook":
                    found.append((playbook_of(document, actions=actions, gates=gates), document))
                elif kind == "Settings":
                    settings.append((settings_of(document, base=file.parent), document))
            except DocumentError as error:
                problems += error.problems
    problems += _together(found, {str(file) for file in ours})
    return _Read(found, settings, problems, frozenset(file.resolve() for file in read))


def _idle(
    settings: Settings, document: Document, read: _Read, actions: Mapping[str, ActionInfo], gates: Mapping[str, GateInfo]
) -> Iterator[Problem]:
    """Names in ``settings`` that fit none of the playbooks that they name, and none of those that were read beside them.

    Nothing is said where it is not known which playbooks there are: their folder is on another machine, or something is wrong in it.
    """
    names = {playbook.name for playbook, _ in read.playbooks}
    paths = settings.playbooks or (shipped(),)
    if all(path.exists() for path in paths) and not read.files.issuperset(file.resolve() for path in paths for file in files_of(path)):
        own = _read(paths, actions, gates)
        if own.problems:
            return
        names |= {playbook.name for playbook, _ in own.playbooks}
    for loc, message in idle_names(settings, names) if names else ():
        yield document.problem(loc, message)


def _files(paths: Iterable[Path], problems: list[Problem]) -> Iterator[tuple[Path, Path]]:
    """Each path that was given, with each file that it leads to."""
    for path in paths:
        try:
            yield from ((path, file) for file in files_of(path))
        except DocumentError as error:
            problems += error.problems


def _documents(file: Path) -> tuple[list[Document], list[Problem]]:
    try:
        documents = read_documents(str(file), load_text(file))
    except DocumentError as error:
        return [], list(error.problems)
    return documents, [] if documents else [Problem(str(file), 1, 1, "holds no document")]


def _names(file: Path, documents: list[Document]) -> set[str]:
    """What the playbooks in ``file`` are called; where one does not tell, all that stands there as a name, and the file's own."""
    found = [
        _name(document) for document in documents if not (isinstance(document.data, dict) and document.data.get("kind") in OTHER_KINDS)
    ]
    if documents and all(found):
        return set(found)
    try:
        with file.open("rb") as opened:
            text = opened.read(MAX_SIZE).decode(errors="replace")
    except OSError:
        text = ""
    return {*found, file.stem, *_NAMED.findall(text)} - {""}


def _name(document: Document) -> str:
    metadata = document.data.get("metadata") if isinstance(document.data, dict) else None
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return name if isinstance(name, str) else ""


def _together(found: Found, ours: Collection[str]) -> Iterator[Problem]:
    """What is wrong between playbooks: one name twice, and one that never gets an alert because an earlier one takes them all."""
    for index, (playbook, document) in enumerate(found):
        for earlier, first in found[:index]:
            where = f"{earlier.source}:{first.position(('metadata', 'name'))[0]}"
            if earlier.name == playbook.name:
                yield document.problem(("metadata", "name"), f'a second playbook named "{playbook.name}"; the first is at {where}')
            elif earlier.when and playbook.when and set(earlier.when.alerts) <= set(playbook.when.alerts):
                message = f'never gets an alert: "{earlier.name}" ({where}) comes first and takes every alert that fits these matchers'
                if (earlier.source in ours) is not (playbook.source in ours):
                    theirs = earlier if earlier.source in ours else playbook
                    message += f'; name yours "{theirs.name}" to put it in the place of the shipped one'
                yield document.problem(("when", "alerts"), message)
                break
