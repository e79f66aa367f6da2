from __future__ import annotations

from datetime import timedelta

import pytest

from remediator.cluster.model import Lease
from remediator.gates import Fact, Unread, gates
from remediator.model import Target, evolve
from remediator.reasons import Reason


@pytest.fixture
def says(judge, case, snapshot, now):
    """says(minutes since it was renewed, ...); it lasts an hour."""

    def by(minutes, **fields):
        lease = Lease(holder="node-maintenance", renewed=now - timedelta(minutes=minutes), lasts=timedelta(hours=1))
        return judge("target_leased", case, snapshot(lease=evolve(lease, **fields)))

    return by


def test_somebody_else_holds_it(says):
    verdict = says(10)
    assert verdict.reason is Reason.TARGET_LEASED
    assert verdict.detail == "node-maintenance renewed it 2026-01-05T09:50:00.000Z, until 2026-01-05T10:50:00.000Z"


@pytest.mark.parametrize(("minutes", "allowed"), [(59, False), (60, False), (60.1, True), (-0.1, False), (-1, True)])
def test_it_is_valid_until_it_expires_and_not_if_it_comes_from_the_future(says, minutes, allowed):
    assert says(minutes).allowed is allowed


def test_ours_or_nobodys(says, judge, case, snapshot):
    assert says(10, holder="remediator").allowed
    assert says(10, holder="").allowed
    assert judge("target_leased", case, snapshot(lease=None)).detail == "nobody holds it"


@pytest.mark.parametrize("missing", ["renewed", "lasts"])
def test_a_lease_that_says_no_time_is_respected(says, missing):
    assert not says(10, **{missing: None}).allowed


def test_only_nodes_have_one_and_none_is_read_for_others(judge, case, snapshot):
    pod = evolve(case, target=Target(kind="Pod", namespace="x", name="y"))
    gate = gates()["target_leased"]()
    assert gate.needs(pod) == frozenset()
    assert gate.needs(case) == {Fact.LEASE}
    assert judge("target_leased", pod, snapshot(lease=Unread(detail="no"))).allowed


def test_what_cannot_be_read_refuses(judge, case, snapshot):
    assert judge("target_leased", case, snapshot(lease=Unread(detail="no"))).reason is Reason.UNREADABLE
