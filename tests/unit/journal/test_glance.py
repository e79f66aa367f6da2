"""The quick look at rows: what the journal writes fits at a glance, and no column can say something else without being seen."""

from __future__ import annotations

import pytest

from remediator.journal import glance
from remediator.journal.audit import BOOKS
from remediator.journal.redact import canonical
from remediator.journal.rows import change_row, decision_row, delivery_row, episode_row, key, run_row, step_id, step_row
from remediator.model import Change, ChangeState, DecisionKind, StepState, Target, encode, evolve

LONG = "x" * 300


def rows_of(make):
    """By book, rows as the journal writes them."""
    target = Target(kind="Pod", namespace="kube-system", name="cilium-x")
    decision = make.decision(delivery="d", playbook=LONG, target=target, run="r", decision=DecisionKind.RUN)
    change = make.change("r", state=ChangeState.APPLIED)
    return {
        "delivery": [delivery_row(one, encode(one).decode()) for one in (make.delivery(), make.delivery(0.00001))],
        "episode": [
            episode_row(one, text(one)) for one in (make.episode(), make.episode(name=LONG, fingerprint=LONG, resolved_at=make.time(1)))
        ],
        "decision": [decision_row(one, text(one)) for one in (decision, make.decision(alert=None))],
        "change": [change_row(one, text(one)) for one in (change, evolve(change, dry_run=True), evolve(change, state=ChangeState.KEPT))],
    }


def text(noun):
    return canonical(noun).decode()


def altered(row):
    """The row with each of its columns but the record saying something else."""
    for place, value in enumerate(row[:-1]):
        others = (not value,) if isinstance(value, bool) else ("other", None if value is not None else "2026-01-05T10:00:00.000000Z")
        for other in others:
            yield place, (*row[:place], other, *row[place + 1 :])


@pytest.mark.parametrize("kind", ["delivery", "episode", "decision", "change"])
def test_rows_fit_and_altered_ones_do_not(make, kind):
    (book,) = (book for book in BOOKS if book.kind == kind)
    apart = list(book.table.columns).index(book.closing[1]) if book.closing else None
    for row in rows_of(make)[kind]:
        assert book.fits(row), "it would be looked at closely each time"
        for place, other in altered(row):
            assert book.fits(other) == (place == apart), (place, other)


def test_every_state_of_a_change_is_left_behind_as_the_model_has_it(make):
    for state in ChangeState:
        change: Change = make.change("r", state=state)
        assert glance.change_fits(change_row(change, text(change)))


def run_of(make):
    """Rows of a run and of its steps, its last entry, and the step entry after it."""
    first, second = make.step(0, state=StepState.SUCCEEDED), make.step(1)
    run = make.run(id="r1", steps=(first, second), ended_at=make.time(1), playbook=LONG)
    later = evolve(second, state=StepState.RUNNING)
    steps = [step_row("r1", one, text(one)) for one in (first, later)]
    return run_row(run, text(evolve(run, steps=()))), steps, text(run), {step_id("r1", 1): text(later)}


def test_a_run_fits_with_its_steps_and_nothing_else_does(make):
    row, steps, told, later = run_of(make)
    assert row[1] == key(LONG)
    assert glance.run_fits(row, steps, told, later)
    assert not glance.run_fits(row, steps, told, {}), "an entry on a step came after"
    assert not glance.run_fits(row, steps[:1], told, later)
    assert not glance.run_fits(row, [*steps, ("r1/2", "r1", 2, steps[1][-1])], told, later)
    assert not glance.run_fits((*row[:-1], row[-1].replace("node-3", "node-4")), steps, told, later)
    assert not glance.run_fits((*row[:-1], told), steps, told, later), "the row has no steps of its own"
    for _, other in altered(row):
        assert not glance.run_fits(other, steps, told, later), other
    for _, other in altered(steps[0]):
        assert not glance.run_fits(row, [other, steps[1]], told, later), other
    spoilt = (*steps[0][:-1], steps[0][-1].replace("succeeded", "failed"))
    assert not glance.run_fits(row, [spoilt, steps[1]], told, later)


def test_steps_that_are_moved_into_a_record_of_the_run_show(make):
    """The row keeps its steps, and the same words elsewhere in it lose theirs."""
    row, steps, told, _ = run_of(make)
    inside = told[told.index('"steps":') + len('"steps":') : -1].partition(',"target"')[0]
    forged = told.replace('"parameters":{"timeout":"30s"}', f'"parameters":{{"steps":{inside}}}', 1)
    moved = forged.replace(f'"steps":{inside}', '"steps":[]', 1)
    assert moved != forged
    assert not glance.run_fits((*row[:-1], moved), steps, forged, {})
