"""Files that a playbook's steps name, such as the template of a Job: read beside it, and kept with its text in the journal.

In: a name as the step has it, and where the playbook comes from. Out: the file's text. Refused, in words that follow the name: a path
that is absolute or leads out of the playbook's folder, by ``..`` or by a link, and what is not there. A run that goes on later, after a
reload or a restart, finds the text that it began with behind that of its playbook.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol

from remediator.document import dump_yaml, load_text
from remediator.errors import DocumentError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from remediator.document import Document
    from remediator.playbook.check import ActionInfo

__all__ = ["Beside", "Kept", "Source", "bundled", "named_files", "unbundled"]

_KIND = "Attachment"
MAX_SIZE = 64 * 1024
"""Characters of one such file."""


class Source(Protocol):
    """Where a playbook's files are."""

    def path(self, name: str) -> str:
        """The file's path, for people."""
        ...

    def text(self, name: str) -> str:
        """Its text. Raises ValueError with words that follow the name, or DocumentError for what is wrong inside of it."""
        ...


class Beside:
    """The folder of the playbook's own file, and below it."""

    def __init__(self, playbook: str) -> None:
        self._folder = Path(playbook).parent

    def path(self, name: str) -> str:
        """See Source."""
        return str(self._folder / name)

    def text(self, name: str) -> str:
        """See Source."""
        file = self.find(name)
        if not file.is_file():
            raise ValueError(f"is {'no file' if file.exists() else 'not there'}: {file}")
        text = load_text(file)
        if len(text) > MAX_SIZE:
            raise DocumentError([Problem(str(file), 1, 1, f"{len(text)} characters; a file that a step names has at most {MAX_SIZE}")])
        return text

    def find(self, name: str) -> Path:
        """The path, whether there is something or not. Raises ValueError."""
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or not name.isprintable() or "\\" in name:
            raise ValueError("is no path within the playbook's folder")
        file = self._folder / name
        if not file.resolve().is_relative_to(self._folder.resolve()):
            raise ValueError("leads out of the playbook's folder by a link")
        return file


class Kept:
    """What the journal kept with a playbook's text."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts

    def path(self, name: str) -> str:
        """See Source."""
        return name

    def text(self, name: str) -> str:
        """See Source."""
        if name not in self._texts:
            raise ValueError("was not kept with the playbook's text")
        return self._texts[name]


def bundled(text: str, files: Mapping[str, str]) -> str:
    """The playbook's text with its files behind it, as further documents."""
    attached = [dump_yaml({"kind": _KIND, "name": name, "text": files[name]}) for name in sorted(files)]
    return "\n---\n".join((text.rstrip("\n"), *attached)) if attached else text


def unbundled(documents: Sequence[Document]) -> tuple[Sequence[Document], Kept]:
    """The playbook's own document (all that are no files) and the files that were kept with it."""
    files = {each.data["name"]: each.data["text"] for each in documents if _is_file(each.data)}
    return [each for each in documents if not _is_file(each.data)], Kept(files)


def _is_file(data: Any) -> bool:
    return isinstance(data, dict) and data.get("kind") == _KIND and {"name", "text"} <= data.keys()


def named_files(document: Document, actions: Mapping[str, ActionInfo]) -> Iterator[Path]:
    """The files that the steps of a playbook's document name, found or not, whatever else is wrong with it."""
    for step in _steps(document.data):
        action = actions.get(str(step.get("action")))
        for key in action.files if action is not None else ():
            try:
                yield Beside(document.path).find(str(step.get(key))).resolve()
            except ValueError:
                continue


def _steps(data: Any) -> Iterator[dict[str, Any]]:
    ladder = data.get("ladder") if isinstance(data, dict) else None
    for rung in ladder if isinstance(ladder, list) else ():
        steps = rung.get("steps") if isinstance(rung, dict) else None
        for step in steps if isinstance(steps, list) else ():
            yield from (body for body in step.values() if isinstance(body, dict)) if isinstance(step, dict) else ()
