"""Each shipped playbook has tests of its own: it heals, it refuses, it acts in vain. That they pass is shown in tests/acceptance."""

from __future__ import annotations

from functools import cache

import pytest

from remediator.actions import actions
from remediator.gates import gates
from remediator.model import DecisionKind, RunState
from remediator.playbook import load_library, shipped
from remediator.reasons import Reason
from remediator.testing.read import read_file, test_files

NOT_YET: set[str] = set()
"""Playbooks whose tests are still to be written; a name goes when they come."""
TESTED = {file.stem: file for file in test_files(shipped() / "tests")}


@cache
def cases(name):
    return read_file(TESTED[name]).cases.tests


@cache
def library():
    return load_library([shipped()], actions=actions(), gates=gates())


def heals(then):
    return any(run.state in (RunState.HEALED, RunState.DONE) for run in then.runs or ())


def refuses(then):
    """Before anything is done: by a gate, or by the first step."""
    refused = any(one.decision in (DecisionKind.REFUSED, DecisionKind.HELD) for one in then.decisions or ())
    return then.calls == () and (refused or any(run.state is RunState.FAILED for run in then.runs or ()))


def in_vain(then):
    """Something was done, or asked, that did not help; and what it ended with is said."""
    ended = any(run.state in (RunState.NOT_HEALED, RunState.FAILED, RunState.EXPIRED) and run.reason for run in then.runs or ())
    return ended or any(one.reason is Reason.UNREADABLE for one in then.decisions or ()) or _without_evidence(then)


def _without_evidence(then):
    return any("failed" in map(str, (run.steps or {}).values()) for run in then.runs or ())


def test_every_playbook_has_a_file_of_tests():
    names = {playbook.name for playbook in library().playbooks}
    assert names - TESTED.keys() <= NOT_YET
    assert TESTED.keys() <= names, "a file of tests is named after its playbook"
    assert not NOT_YET & TESTED.keys(), "these have tests now; take their names away"


@pytest.mark.parametrize("name", TESTED)
def test_three_of_the_named_sorts(name):
    thens = [case.then for case in cases(name)]
    assert len(thens) >= 3
    assert all(then is not None and then.calls is not None and then.changes_left is not None for then in thens)
    assert [sort.__name__ for sort in (heals, refuses, in_vain) if not any(map(sort, thens))] == []
