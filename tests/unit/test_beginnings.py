from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from remediator import beginnings
from remediator.beginnings import LOOK_BACK, Beginnings
from remediator.model import Alert, AlertStatus, Begun

NOW = datetime(2026, 1, 5, 10, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def alert(minutes, status=AlertStatus.FIRING, fingerprint="f", **labels):
    return Alert(name="Symptom", fingerprint=fingerprint, starts_at=NOW - MINUTE * minutes, status=status, labels=labels)


@pytest.fixture
def known():
    return Beginnings()


def test_in_order_of_time_each_once_whatever_is_repeated(known):
    alerts = [alert(1, node="node-3"), alert(5, node="node-4"), alert(1, node="node-3")]
    known.arrived(alerts, NOW)
    known.arrived(alerts, NOW)
    assert known.until(NOW) == ((NOW - 5 * MINUTE, "node-4"), (NOW - MINUTE, "node-3"))


def test_the_surest_label_says_what_an_alert_is_about(known):
    known.arrived(
        [alert(1, node="observer", target_node="node-3", pod="p"), alert(2, pod="p", instance=""), alert(3, fingerprint="x")], NOW
    )
    assert [subject for _, subject in known.until(NOW)] == ["x", "p", "node-3"]


def test_what_is_resolved_begins_nothing(known):
    known.arrived([alert(1, AlertStatus.RESOLVED, node="node-3")], NOW)
    assert known.until(NOW) == ()


def test_what_the_journal_has_from_before_and_what_comes_again_after_a_restart_are_one(known):
    known.arrived([alert(0.0015 / 60)], NOW)
    assert not known.complete
    known.recall([Begun(fingerprint="f", starts_at=NOW - timedelta(milliseconds=2), labels={})], NOW)
    assert known.complete
    assert known.until(NOW) == ((NOW - timedelta(milliseconds=2), "f"),)


def test_what_is_long_ago_is_forgotten_and_the_future_begins_now(known):
    known.arrived([alert(0, node="node-3"), alert(-30, node="node-4")], NOW)
    assert known.until(NOW) == ((NOW, "node-3"), (NOW, "node-4"))
    later = NOW + LOOK_BACK + MINUTE
    assert known.until(later) == ((NOW + 30 * MINUTE, "node-4"),)
    known.arrived([], later)
    assert len(known._sorted) == len(known._known) == 1


def test_a_flood_does_not_fill_the_memory(known, monkeypatch):
    monkeypatch.setattr(beginnings, "_MOST", 3)
    known.arrived([alert(n, node=f"node-{n}") for n in range(10)], NOW)
    assert [subject for _, subject in known.until(NOW)] == ["node-2", "node-1", "node-0"]
    assert len(known._known) == 3
