"""A budget over pods whose owner has no scale: the API server gives it no numbers, so its own words are the ones to tell."""

from __future__ import annotations

from remediator.drain.budgets import numbers, structural
from remediator.kube.records import Condition
from remediator.model import evolve


def test_the_cause_is_told_instead_of_numbers_about_nothing(budget):
    empty = budget(allowed=0, healthy=0, desired=0, expected=0, observed=0)
    why = "clones.differential.test does not implement the scale subresource"
    failed = Condition(type="DisruptionAllowed", status="False", reason="SyncFailed", message=why)
    told = evolve(empty, status=evolve(empty.status, conditions=(failed,)))
    assert numbers(told) == f"maxUnavailable 1, allows nothing since its pods cannot be counted: {why}"
    assert "0 of 0 healthy" in numbers(empty)


def test_it_is_waited_for_since_the_next_count_may_work(budget):
    assert not structural(budget(allowed=0, healthy=0, desired=0, expected=0, observed=0))
