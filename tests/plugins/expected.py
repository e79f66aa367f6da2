"""In CI a real part is expected: REMEDIATOR_EXPECT=alertmanager,postgres,... turns a skip of a test with that marker into a failure."""

from __future__ import annotations

import os

import pytest

EXPECTED = frozenset(filter(None, os.environ.get("REMEDIATOR_EXPECT", "").split(",")))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    marks = {mark.name for mark in item.iter_markers()} & EXPECTED
    if report.skipped and marks and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = (
            f"{item.nodeid}: {', '.join(sorted(marks))} was expected here, but the test skipped: {call.excinfo and call.excinfo.value}"
        )
    return report
