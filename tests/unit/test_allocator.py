"""Memory is given back where the C library can do it, and nothing happens where it cannot."""

from __future__ import annotations

import ctypes
import platform

import pytest

from remediator import allocator


@pytest.fixture(autouse=True)
def not_asked_yet():
    allocator._trim.cache_clear()
    yield
    allocator._trim.cache_clear()


def test_glibc_is_told():
    assert allocator.give_back() is (platform.libc_ver()[0] == "glibc")


@pytest.mark.parametrize("error", [OSError, TypeError])
def test_a_system_whose_c_library_cannot_be_had_is_left_alone(monkeypatch, error):
    def none(_):
        raise error

    monkeypatch.setattr(ctypes, "CDLL", none)
    assert allocator.give_back() is False


def test_nor_is_one_that_does_not_know_the_call(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert allocator.give_back() is False
