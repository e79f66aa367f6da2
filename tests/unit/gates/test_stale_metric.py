from __future__ import annotations

import pytest
from pydantic import ValidationError

from remediator.cluster.model import Symptom
from remediator.gates import Fact, Unread, gates
from remediator.gates.stale_metric import Settings
from remediator.model import TriggerKind, evolve
from remediator.reasons import Reason

QUERY = 'up{node="${target.name}"} == 0'


@pytest.fixture
def asked(case):
    return evolve(case, settings={"still_true": Settings.model_validate(QUERY)})


def test_it_is_still_true_and_says_what_it_saw(judge, asked, snapshot):
    assert judge("stale_metric", asked, snapshot(symptom=Symptom(query="q", values=(0.5, 3)))).detail == "q gives 0.5, 3"


def test_an_expression_that_gives_nothing_is_a_symptom_that_is_gone(judge, asked, snapshot):
    verdict = judge("stale_metric", asked, snapshot(symptom=Symptom(query="q")))
    assert (verdict.reason, verdict.detail) == (Reason.NOT_FIRING, "q gives nothing any more")


def test_old_data_prove_nothing(judge, asked, snapshot):
    verdict = judge("stale_metric", asked, snapshot(symptom=Symptom(query="q", values=(1,), stale="the newest sample is 9m old")))
    assert (verdict.reason, verdict.detail) == (Reason.STALE_METRIC, "the newest sample is 9m old")


def test_nothing_is_asked_for_a_person_nor_without_an_expression(judge, asked, case, snapshot):
    gate, blind = gates()["stale_metric"](), snapshot(symptom=Unread(detail="no"))
    for free in (evolve(asked, trigger=TriggerKind.MANUAL), case):
        assert gate.needs(free) == frozenset()
        assert judge("stale_metric", free, blind).allowed
    assert gate.needs(asked) == {Fact.STILL_TRUE}
    assert judge("stale_metric", asked, blind).reason is Reason.UNREADABLE


@pytest.mark.parametrize(("text", "complaint"), [('up{node="${alert.labels.node}"}', "alert"), (" ", "empty"), (3, "string")])
def test_an_expression_that_cannot_be_is_refused_when_the_playbook_is_loaded(text, complaint):
    with pytest.raises(ValidationError, match=complaint):
        Settings.model_validate(text)


def test_it_is_written_back_as_it_was_read():
    assert Settings.model_validate(QUERY).model_dump() == QUERY
