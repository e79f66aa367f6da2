from __future__ import annotations

from datetime import timedelta

import pytest
from pydantic import ValidationError

from remediator.gates.recurrence import Settings
from remediator.model import Done, RunState, evolve
from remediator.reasons import Reason

AGENT = "cilium.restart_agent"


@pytest.fixture
def restarting(case):
    return evolve(case, actions=("kube.get", AGENT))


@pytest.fixture
def done(now):
    """Restarts of the agent, so many hours ago each; fields by keyword."""

    def make(*hours, **fields):
        one = Done(action=AGENT, target="Node/node-3", at=now, run="r", playbook="agent", state=RunState.HEALED)
        return tuple(evolve(one, at=now - timedelta(hours=ago), **fields) for ago in hours)

    return make


def test_the_third_within_seven_days_is_refused(judge, restarting, snapshot, done):
    assert judge("recurrence", restarting, snapshot(restarts=done(1))).allowed
    verdict = judge("recurrence", restarting, snapshot(restarts=done(1, 24 * 6)))
    assert verdict.reason is Reason.ATTEMPTS_EXHAUSTED
    assert verdict.detail.startswith("a restart hides a fault here: cilium.restart_agent was done 2 times within 7d (")
    assert verdict.detail.count("healed") == 2, "it says how each ended"


@pytest.mark.parametrize("hours", [(24 * 7, 24 * 7 + 1, 24 * 7 + 2)])
def test_what_is_older_does_not_count(judge, restarting, snapshot, done, hours):
    assert judge("recurrence", restarting, snapshot(restarts=done(*hours))).allowed


def test_whichever_playbook_did_it(judge, restarting, snapshot, done):
    restarts = (*done(1, playbook="restart-agent", run="a"), *done(2, playbook="node-latency", run="b"))
    assert not judge("recurrence", restarting, snapshot(restarts=restarts)).allowed


def test_only_the_same_action_counts(judge, case, restarting, snapshot, done):
    other = done(1, 2, 3, action="cilium.restart_envoy")
    assert judge("recurrence", restarting, snapshot(restarts=other)).allowed
    assert not judge("recurrence", evolve(case, actions=("cilium.restart_envoy",)), snapshot(restarts=other)).allowed
    assert judge("recurrence", case, snapshot(restarts=done(1, 2, 3))).allowed, "nothing is to be restarted now"


def test_a_playbook_may_set_number_and_window(judge, restarting, snapshot, done):
    asked = evolve(restarting, settings={"recurrence": Settings.model_validate({"stop_at": 5, "within": "1d"})})
    assert judge("recurrence", asked, snapshot(restarts=done(1, 2, 3, 25, 26))).allowed
    assert not judge("recurrence", asked, snapshot(restarts=done(1, 2, 3, 23))).allowed


def test_a_dry_run_is_refused_as_a_live_one_would_be(judge, restarting, snapshot, done):
    assert not judge("recurrence", evolve(restarting, dry_run=True), snapshot(restarts=done(1, 2))).allowed


@pytest.mark.parametrize("wrong", [{"stop_at": 1}, {"within": "8d"}, {"within": "0s"}, {"max": 3}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValidationError):
        Settings.model_validate(wrong)
