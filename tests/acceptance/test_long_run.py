"""Storms and weeks of incidents in short form; ``make bench ARGS="storm soak"`` has the long ones."""

from __future__ import annotations

import time

import pytest

from benchmarks import storm
from benchmarks.load import ALERTS
from benchmarks.soak import FILES, MEMORY, OPEN, SOCKETS, soak

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]


def test_two_storms_from_two_peers_lose_nothing_and_leave_nothing_behind():
    """2,000 alerts twice from each of two peers; an alert of another playbook comes in the midst of each."""
    alerts, storms = 2_000, 2
    found = storm.measure(100, alerts, storms)
    assert found["refused"] == 0, "webhooks answered otherwise than 200"
    assert found["decisions"] == (2 * alerts + ALERTS) * storms, "lost, or decided twice"
    assert found["ahead"] <= storm.AHEAD, "the quiet playbook's alerts waited for the storm"
    assert found["failed"] == 0, "/-/healthy or the page did not answer"
    assert found["settled"][-1] <= found["settled"][0] + 15, "MB after the storms"
    assert found["peak"] < storm.MEMORY_MB


def test_nothing_grows_from_incident_to_incident(tmp_path):
    """Some incidents; what there is after the last of them is what there was when pools and caches were filled."""
    until = time.monotonic() + 45  # how many incidents it takes does not matter, that there are a few does
    found = soak(tmp_path, lambda done: done < 8 or (time.monotonic() < until and done < 40))
    assert not any(found.states[state.value] for state in OPEN)
    assert sum(found.states.values()) >= len(found.looks)
    half = len(found.looks) // 2
    warm, rest = found.looks[half - 1], found.looks[half:]
    for look in rest:
        assert look.threads <= warm.threads + 2, "pools of threads fill up to their bound and no further"
        assert look.tasks <= warm.tasks + 2
        assert look.files <= warm.files + FILES
        assert look.sockets <= warm.sockets + SOCKETS
        assert look.memory <= warm.memory + MEMORY
        assert look.wal <= max(warm.wal * 1.5, 6)
