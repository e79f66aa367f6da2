"""``test``: playbook tests on the simulated cluster and clock. Touches no cluster and asks no daemon."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from remediator.cli.exits import Exit, say
from remediator.cli.frame import command
from remediator.cli.output import formatted, put_data
from remediator.cli.text import safe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from remediator.cli.output import Form
    from remediator.errors import Problem
    from remediator.testing.read import TestFile
    from remediator.testing.suite import Result

__all__ = ["test"]


@command(
    name="test",
    examples=[
        "remediator test",
        "remediator test playbooks/tests/node-latency.yaml",
        "remediator test playbooks/ --junit report.xml",
        "remediator test my.test.yaml --snapshot",
    ],
)
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--junit", "report", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help="Write a report as JUnit XML.")
@click.option("--snapshot", "snapshots", is_flag=True, help="Write what was seen into the files, to be reviewed.")
@click.option("--name", "part", metavar="TEXT", default="", help="Only tests whose name holds this.")
@click.option("--jobs", metavar="N", type=click.IntRange(1, 64), help="Processes at once; as many as there are processors if absent.")
@formatted
def test(form: Form, paths: tuple[Path, ...], report: Path | None, snapshots: bool, part: str, jobs: int | None) -> int:
    """Run playbook tests on the simulated cluster.

    PATH is a file, or a folder with *.test.yaml or folders named tests in it; without PATH the folder playbooks. Nothing outside of this
    process is touched. Exits with 1 if a test fails or a file cannot be read. See docs/testing-playbooks.md.
    """
    files, problems = _read(paths or (Path("playbooks"),))
    if part:
        files = [narrowed for file in files if (narrowed := _narrow(file, part)) is not None]
    results = _run(form, files, jobs or os.cpu_count() or 1, snapshots=snapshots)
    if snapshots:
        problems = [*problems, *_write(files, results)]
    if report is not None:
        _report(report, results, problems)
    data = {
        "ok": not problems and all(one.passed or snapshots for one in results),
        "results": [_plain(one) for one in results],
        "problems": [{"path": p.path, "line": p.line, "column": p.column, "message": p.message} for p in problems],
    }
    told = "".join(safe(str(problem)) + "\n" for problem in problems)
    put_data(form, data, lambda _: told, lambda: [f"{one.file}: {one.name}" for one in results])
    failed = sum(not one.passed for one in results)
    say(_summary(len(results), failed, len(problems), snapshots=snapshots))
    if not results and not problems:
        return Exit.USAGE
    return Exit.FINE if data["ok"] else Exit.PROBLEMS


def _summary(tests: int, failed: int, problems: int, *, snapshots: bool) -> str:
    if not tests and not problems:
        return "No test has such a name."
    counts = f"1 test, {failed} failed" if tests == 1 else f"{tests} tests, {failed} failed"
    if snapshots:
        counts = f"{tests} {'test' if tests == 1 else 'tests'} written down; look at the difference before you keep it"
    return counts + (f", {problems} {'problem' if problems == 1 else 'problems'} in files." if problems else ".")


def _read(paths: Sequence[Path]) -> tuple[list[TestFile], list[Problem]]:
    from remediator.errors import DocumentError
    from remediator.testing.read import read_file, test_files

    files: list[TestFile] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            found = test_files(path)
        except DocumentError as error:
            problems += error.problems
            continue
        for file in found:
            try:
                files.append(read_file(file))
            except DocumentError as error:
                problems += error.problems
    return files, problems


def _narrow(file: TestFile, part: str) -> TestFile | None:
    from dataclasses import replace

    chosen = tuple(index for index, case in enumerate(file.cases.tests) if part.lower() in case.name.lower())
    return replace(file, chosen=chosen) if chosen else None


def _run(form: Form, files: Sequence[TestFile], jobs: int, *, snapshots: bool) -> list[Result]:
    """Every result; for a person each is told as soon as it is there."""
    from remediator.testing.suite import run_tests

    results: list[Result] = []
    for one in run_tests(files, jobs=jobs):
        results.append(one)
        if form in ("table", "wide"):
            click.echo(safe(_line(one, snapshots=snapshots)))
            if not one.passed and not snapshots:
                for line in _explained(one):
                    click.echo(safe(line))
    return results


def _line(one: Result, *, snapshots: bool) -> str:
    verdict = "seen" if snapshots else "ok  " if one.passed else "FAIL"
    return f"{verdict}  {one.file}:{one.line}  {one.name}  ({one.seconds:.1f}s)"


def _explained(one: Result) -> list[str]:
    lines = [f"      {line}" for difference in one.wrong for line in difference.split("\n")]
    if one.story:
        lines += ["      what happened:", *(f"      | {line}" for line in one.story)]
    return lines


def _write(files: Sequence[TestFile], results: Sequence[Result]) -> list[Problem]:
    """Put what was seen into the files; the problems of those that cannot take it."""
    from remediator.document import load_text
    from remediator.errors import DocumentError
    from remediator.testing.splice import spliced

    problems: list[Problem] = []
    for file in files:
        of_file = {one.index: one.seen for one in results if one.file == str(file.path) and one.seen is not None}
        try:
            text = load_text(file.path)
            new = spliced(file, text, of_file)
        except DocumentError as error:
            problems += error.problems
            continue
        if new != text:
            file.path.write_text(new, encoding="utf-8")
    missing = [one for one in results if one.seen is None]
    return problems + [_unplayed(one) for one in missing]


def _unplayed(one: Result) -> Problem:
    from remediator.errors import Problem

    return Problem(one.file, one.line, 1, "; ".join(one.wrong))


def _report(path: Path, results: Sequence[Result], problems: Sequence[Problem]) -> None:
    from remediator.errors import UsageError
    from remediator.testing.junit import junit

    try:
        path.write_text(junit(results, problems), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}") from error


def _plain(one: Result) -> dict[str, Any]:
    return {
        "file": one.file,
        "line": one.line,
        "name": one.name,
        "passed": one.passed,
        "seconds": round(one.seconds, 3),
        "differences": list(one.wrong),
        "story": list(one.story),
        "seen": one.seen,
    }
