"""Runs the tests of many files, several at once, and reports them in the order of the files.

In: files that were read, how many processes. Out: a Result a test. Each test has a simulated cluster, a daemon and a folder of its own.
"""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from remediator.errors import UsageError
from remediator.testing.expect import differences, snapshot
from remediator.testing.leaping import rehearse
from remediator.testing.read import read_file
from remediator.testing.rehearsal import rehearsal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import timedelta

    from remediator.testing.read import TestFile

__all__ = ["Result", "run_one", "run_tests"]


@dataclass(frozen=True)
class Result:
    """How one test went."""

    file: str
    line: int
    index: int
    """In its file."""
    name: str
    seconds: float
    """Real ones."""
    lasted: timedelta | None = None
    """On the simulated clock; None if it could not begin."""
    wrong: tuple[str, ...] = ()
    story: tuple[str, ...] = ()
    seen: dict[str, Any] | None = None
    """A ``then`` that says what was seen."""

    @property
    def passed(self) -> bool:
        """Whether all was as expected."""
        return not self.wrong


def run_tests(files: Sequence[TestFile], *, jobs: int) -> Iterator[Result]:
    """Run all tests of all files; results come in order, each as soon as it and those before it are there."""
    tests = [(file, index) for file in files for index in file.chosen]
    if min(jobs, len(tests)) < 2:
        yield from (run_one(file, index) for file, index in tests)
        return
    with ProcessPoolExecutor(min(jobs, len(tests)), mp_context=get_context("spawn")) as pool:
        yield from pool.map(_elsewhere, [str(file.path) for file, _ in tests], [index for _, index in tests])


def _elsewhere(path: str, index: int) -> Result:
    """In another process, which reads the file for itself: compiled expressions cannot be sent."""
    return run_one(read_file(Path(path)), index)


def run_one(file: TestFile, index: int) -> Result:
    """Run one test of a file."""
    case, began = file.cases.tests[index], time.monotonic()
    place: dict[str, Any] = {"file": str(file.path), "line": file.line(index), "index": index, "name": case.name}
    with TemporaryDirectory(prefix="remediator-test-") as folder:
        try:
            seen = rehearse(
                lambda clock: rehearsal(case, playbooks=file.playbooks, objects=file.objects[index], clock=clock, folder=Path(folder)),
                start=case.at,
            )
        except UsageError as error:
            return Result(**place, seconds=time.monotonic() - began, wrong=(f"given: {error}",))
    wrong = tuple(differences(case, seen))
    seconds = time.monotonic() - began
    return Result(**place, seconds=seconds, lasted=seen.lasted, wrong=wrong, story=tuple(seen.story), seen=snapshot(seen))
