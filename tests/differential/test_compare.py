"""The comparison sees every kind of difference, and a listed one explains no more than it says."""

from __future__ import annotations

from dataclasses import replace

import pytest
from differential.compare import Case, Difference, compare, explain
from differential.generate import generate
from differential.outcome import Outcome

STATE = generate(5)
BASE = Outcome(
    drained=False,
    fates={"db-0": {"left": 2}, "other-1": {"gone": 1}},
    refusals=frozenset({("pdb", "db-0")}),
    cordoned=True,
    seconds=15.0,
    calls=21,
)


def found(ours):
    return [str(f) for f in compare(Case(STATE, BASE, ours))]


def test_the_same_is_no_finding_however_long_it_took():
    assert found(replace(BASE, seconds=1.0, calls=3, said="other words")) == []


@pytest.mark.parametrize(
    ("planted", "seen"),
    [
        ({"drained": True}, ["drained: kubectl False, ours True"]),
        ({"in_time": False}, ["in_time: kubectl True, ours False"]),
        ({"cordoned": False}, ["cordoned: kubectl True, ours False"]),
        ({"fates": {"db-0": {"left": 2}, "other-1": {"left": 1}}}, ["fate of other-1: kubectl 1 gone, ours 1 left"]),
        ({"fates": {"db-0": {"gone": 1, "left": 1}, "other-1": {"gone": 1}}}, ["fate of db-0: kubectl 2 left, ours 1 gone, 1 left"]),
        ({"fates": {"db-0": {"left": 2}, "other-1": {"going": 1}}}, ["fate of other-1: kubectl 1 gone, ours 1 going"]),
        ({"fates": {"db-0": {"left": 2}}}, ["fate of other-1: kubectl 1 gone, ours none"]),
        ({"refusals": frozenset()}, ["refusals: kubectl pdb, ours nothing"]),
        ({"refusals": frozenset({("deadline", "db-0")})}, ["refusals: kubectl pdb, ours deadline"]),
        (
            {"refusals": frozenset({("pdb", "other-1")})},
            ["refusals of db-0: kubectl pdb, ours nothing", "refusals of other-1: kubectl nothing, ours pdb"],
        ),
    ],
)
def test_a_planted_difference_is_found(planted, seen):
    assert found(replace(BASE, **planted)) == seen


def test_what_is_listed_is_explained_and_what_is_not_is_not():
    listed = Difference(
        name="schedulable", kubectl="stays cordoned", ours="is put back", why="...", explains=lambda _, f: f.about == "cordoned"
    )
    case = Case(STATE, BASE, replace(BASE, cordoned=False, drained=True))
    told = {finding.about: difference for finding, difference in explain(case, [listed])}
    assert told == {"drained": None, "cordoned": listed}
