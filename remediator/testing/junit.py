"""Results as JUnit XML, in the shape that CI systems read: testsuites, a testsuite a file, a testcase a test.

In: results, and problems of files that could not be read. Out: text. What XML cannot hold is replaced.
"""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from collections.abc import Sequence

    from remediator.errors import Problem
    from remediator.testing.suite import Result

__all__ = ["junit"]

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(results: Sequence[Result], problems: Sequence[Problem]) -> str:
    """The report. A file that cannot be read is a suite with one test that has an error."""
    counts = _counts(len(results), _failed(results), len({problem.path for problem in problems}))
    root = ET.Element("testsuites", {"name": "remediator test", **counts, "time": _seconds(results)})
    for path, of_file in groupby(results, key=lambda result: result.file):
        _suite(root, path, list(of_file))
    for path in dict.fromkeys(problem.path for problem in problems):
        suite = ET.SubElement(root, "testsuite", {"name": _clean(path), **_counts(0, 0, 1), "time": "0.000"})
        case = ET.SubElement(suite, "testcase", classname=_clean(path), name="can be read", file=_clean(path), time="0.000")
        told = "\n".join(str(problem) for problem in problems if problem.path == path)
        ET.SubElement(case, "error", message=_clean(told.split("\n")[0]), type="DocumentError").text = _clean(told)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _suite(root: ET.Element, path: str, results: Sequence[Result]) -> None:
    counts = _counts(len(results), _failed(results), 0)
    suite = ET.SubElement(root, "testsuite", {"name": _clean(path), **counts, "time": _seconds(results)})
    for one in results:
        case = ET.SubElement(suite, "testcase", classname=_clean(path), name=_clean(one.name), file=_clean(path), line=str(one.line))
        case.set("time", _seconds([one]))
        if not one.passed:
            failure = ET.SubElement(case, "failure", message=_clean(one.wrong[0].split("\n")[0]), type="Difference")
            failure.text = _clean("\n".join(one.wrong))
        if one.story:
            ET.SubElement(case, "system-out").text = _clean("\n".join(one.story))


def _counts(tests: int, failures: int, errors: int) -> dict[str, str]:
    return {"tests": str(tests + errors), "failures": str(failures), "errors": str(errors), "skipped": "0"}


def _failed(results: Sequence[Result]) -> int:
    return sum(not one.passed for one in results)


def _seconds(results: Sequence[Result]) -> str:
    return f"{sum(one.seconds for one in results):.3f}"


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)
