"""How many episodes are in memory, and of which only the journal can tell."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from remediator.episodes import Episodes
from remediator.model import DecisionKind, Episode, evolve
from remediator.reasons import Reason

BEGIN = datetime(2026, 1, 5, 10, tzinfo=UTC)


def episode(number, **fields):
    """One that began so many seconds after the others."""
    at = BEGIN + timedelta(seconds=number)
    known = {"name": "A", "labels": {"node": "n"}, "first_seen": at, "last_seen": at, "decision": DecisionKind.UNMATCHED, **fields}
    return Episode(fingerprint=f"f{number}", starts_at=at, **known)


def key(one):
    return one.fingerprint, one.starts_at


def test_a_storm_that_goes_on_firing_leaves_no_more_than_the_bound_in_memory():
    fires = [episode(number) for number in range(50)]
    known = Episodes(fires, most=10)
    assert len(known) == 10
    assert [known.get(key(one)) is not None for one in fires] == [False] * 40 + [True] * 10


def test_those_that_ended_and_those_that_fire_share_the_bound():
    known = Episodes(most=10)
    for number in range(20):
        known.put(episode(number))
        known.put(episode(number, resolved_at=BEGIN))
    assert len(known) == 10


def test_as_long_as_all_are_in_memory_the_journal_is_asked_for_none():
    fires = [episode(number) for number in range(10)]
    known = Episodes(fires, most=10)
    assert known.unknown([key(fires[3]), ("new", BEGIN)]) == []


def test_once_some_fell_out_only_the_journal_knows_of_those_that_are_not_here():
    fires = [episode(number) for number in range(11)]
    known = Episodes(fires, most=10)
    asked = [key(fires[0]), key(fires[5]), ("new", BEGIN), key(fires[0])]
    assert known.unknown(asked) == [key(fires[0]), ("new", BEGIN)]


def test_nor_where_the_journal_had_more_from_the_beginning():
    known = Episodes([episode(1)])
    known.more_on_disk()
    assert known.unknown([key(episode(1)), key(episode(2))]) == [key(episode(2))]


def test_what_is_about_to_be_decided_on_again_falls_out_last():
    fires = [episode(number) for number in range(10)]
    known = Episodes(fires, most=10)
    known.unknown([key(fires[0])])
    known.put(episode(10))
    assert known.get(key(fires[0])) is not None
    assert known.get(key(fires[1])) is None


def test_what_waits_for_the_end_of_maintenance_is_known_for_waiting_wherever_the_rest_of_it_is():
    held = episode(0, decision=DecisionKind.HELD, reason=Reason.MAINTENANCE)
    known = Episodes([held, *(episode(number) for number in range(1, 20))], most=10)
    assert known.get(key(held)) is None
    assert known.held() == (key(held),)
    known.put(evolve(held, resolved_at=BEGIN))
    assert known.held() == ()
