"""Turns: nothing is lost, nobody waits for more than a turn of each other queue, alerts of one fingerprint never pass one another."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator import turns
from remediator.turns import QUANTUM, Turns

QUEUES = ("", "loud", "quiet", "third")


def whole(share):
    return [(share.delivery, place) for place in share.places]


def drained(waits, most=QUANTUM):
    """Everything that is handed out, share by share, when all goes well."""
    found = []
    while waits.waits:
        for share in waits.take(most):
            found.append(share)
            waits.done(share)
    return found


def test_who_comes_late_and_alone_waits_for_one_turn_of_the_other():
    waits = Turns()
    for number in range(1_000):
        waits.add(f"loud-{number:04}", [(f"{number}-{index}", "loud") for index in range(10)])
    waits.add("quiet", [("q", "quiet")])
    shares = waits.take(2 * QUANTUM)
    before = next(number for number, share in enumerate(shares) if share.delivery == "quiet")
    assert sum(len(share.places) for share in shares[:before]) == QUANTUM


def test_a_large_delivery_is_handed_out_in_portions_and_others_come_between():
    waits = Turns()
    waits.add("large", [(str(index), "loud") for index in range(3 * QUANTUM)])
    waits.add("small", [("s", "quiet")])
    found = drained(waits)
    assert [share.delivery for share in found] == ["large", "small", "large", "large"]
    assert [(share.first, share.last) for share in found if share.delivery == "large"] == [(True, False), (False, False), (False, True)]
    assert len(waits) == waits.alerts == 0


def test_a_delivery_of_several_queues_ends_with_the_last_of_its_portions():
    waits = Turns()
    waits.add("mixed", [("1", "loud"), ("2", "quiet"), ("3", "loud")])
    one, other = waits.take(10)
    assert (one.places, one.last, other.places, other.last) == ((0, 2), False, (1,), True)
    waits.done(one)
    waits.put_back([other])
    assert "mixed" in waits
    (again,) = waits.take(10)
    assert (again.places, again.last) == ((1,), True)
    waits.done(again)
    assert "mixed" not in waits


def test_a_delivery_without_alerts_has_its_turn_too():
    waits = Turns()
    waits.add("empty", [])
    (share,) = drained(waits)
    assert (share.places, share.first, share.last) == ((), True, True)
    assert len(waits) == 0


def test_the_same_fingerprint_stays_in_its_queue_while_it_waits():
    """The playbooks were loaded anew in between, so its alerts are another one's now."""
    waits = Turns()
    waits.add("busy", [(str(index), "loud") for index in range(10 * QUANTUM)])
    waits.add("fires", [("x", "loud")])
    waits.add("ends", [("x", "quiet")])
    order = [share.delivery for share in drained(waits) if share.delivery != "busy"]
    assert order == ["fires", "ends"]
    waits.add("fires again", [("x", "quiet")])
    assert waits.take(1)[0].queue == "quiet"


def test_what_is_dropped_is_not_handed_out_any_more():
    waits = Turns()
    waits.add("bad", [(str(index), "loud") for index in range(2 * QUANTUM)])
    waits.add("good", [("0", "loud")])
    (share,) = waits.take(1)
    waits.drop("bad")
    waits.done(share)
    assert [share.delivery for share in drained(waits)] == ["good"]
    assert (len(waits), waits.alerts, waits._queue_of) == (0, 0, {})


alerts = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(QUEUES)), max_size=12)
events = st.lists(
    st.one_of(
        st.tuples(st.just("add"), alerts),
        st.tuples(st.just("take"), st.integers(1, 20), st.integers(0, 20)),
        st.tuples(st.just("drop"), st.integers(0, 30)),
    ),
    max_size=60,
)


@given(events, st.integers(1, 5))
def test_nothing_is_lost_and_no_fingerprint_passes_itself(happens, quantum):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(turns, "QUANTUM", quantum)
        waits, came, dropped, through = Turns(), {}, set(), []

        def handle(shares, through_with):
            for share in shares[:through_with]:
                assert [came[share.delivery][place][0] for place in share.places] == list(share.fingerprints)
                through.extend((share.delivery, place) for place in share.places)
                waits.done(share)
            waits.put_back(shares[through_with:])

        for what, *how in happens:
            if what == "add":
                came[f"{len(came):03}"] = how[0]
                waits.add(f"{len(came) - 1:03}", how[0])
            elif what == "take":
                handle(waits.take(how[0]), how[1])
            elif f"{how[0]:03}" in waits:
                dropped.add(f"{how[0]:03}")
                waits.drop(f"{how[0]:03}")
        while waits.waits:
            shares = waits.take(7)
            handle(shares, len(shares))
        expected = {(delivery, place) for delivery, some in came.items() for place in range(len(some))}
        assert not [key for key, often in Counter(through).items() if often > 1], "twice"
        assert {key for key in expected - set(through) if key[0] not in dropped} == set(), "lost"
        order = defaultdict(list)
        for delivery, place in through:
            order[came[delivery][place][0]].append((delivery, place))
        assert all(found == sorted(found) for found in order.values()), "passed itself"
        assert (len(waits), waits.alerts, waits._queue_of, waits._sizes) == (0, 0, {}, {})


@given(st.lists(st.tuples(st.sampled_from(QUEUES), st.integers(1, 12)), min_size=1, max_size=60), st.integers(1, 5), st.integers(1, 30))
def test_between_two_turns_of_a_queue_each_other_one_has_one_at_most(deliveries, quantum, most):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(turns, "QUANTUM", quantum)
        waits = Turns()
        for number, (queue, size) in enumerate(deliveries):
            waits.add(str(number), [(f"{number}-{index}", queue) for index in range(size)])
        left = Counter(queue for queue, size in deliveries for _ in range(size))
        since = {queue: Counter() for queue in left}
        for share in drained(waits, most):
            left[share.queue] -= len(share.places)
            since[share.queue].clear()
            for other, passed in since.items():
                if other != share.queue and left[other]:
                    passed[share.queue] += len(share.places)
                    assert passed[share.queue] <= quantum, f"{other!r} waits for more than a turn of {share.queue!r}"
        assert not +left
