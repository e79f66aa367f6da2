"""Ids: unique whoever asks, sorting by time, and in the form that others can read."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from ulid import ULID

from remediator.ids import _after, beginning, new_id, short_id

AT = datetime(2026, 1, 5, 10, 0, 0, 123_456, tzinfo=UTC)


def test_an_id_is_a_ulid_of_its_time():
    read = ULID.from_str(new_id(AT).upper())
    assert read.datetime == AT.replace(microsecond=123_000)


def test_later_ones_sort_later():
    ids = [new_id(AT + timedelta(milliseconds=n)) for n in range(3000)]
    assert ids == sorted(ids)


def test_a_time_divides_earlier_ids_from_later_ones():
    assert new_id(AT - timedelta(milliseconds=1)) < beginning(AT) < new_id(AT)


def test_those_of_one_millisecond_sort_in_the_order_of_their_making():
    ids = [new_id(AT) for _ in range(3000)]
    assert ids == sorted(ids)
    assert {ULID.from_str(one.upper()).datetime for one in ids} == {AT.replace(microsecond=123_000)}


def test_the_digit_after_the_highest_carries():
    assert _after("0" * 14 + "az") == "0" * 14 + "b0"
    assert len(_after("z" * 16)) == 16, "fresh ones"


def test_threads_that_ask_at_once_get_no_two_equal_ones():
    with ThreadPoolExecutor(8) as pool:
        ids = [i for part in pool.map(lambda _: [new_id(AT) for _ in range(2000)], range(8)) for i in part]
    assert len(set(ids)) == 16_000
    assert len({short_id() for _ in range(3000)}) == 3000


def test_a_forked_process_does_not_repeat_its_parent():
    new_id(AT)
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, new_id(AT).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 100).decode() != new_id(AT)
    os.close(read)
    os.close(write)
