"""What a failed trial prints is enough to play it again; and each kind of strike is in it."""

from __future__ import annotations

from jepsen.nemesis import KINDS, LEADER, schedule


def test_the_same_seed_strikes_the_same():
    assert schedule(17, 600) == schedule(17, 600) != schedule(18, 600)


def test_every_kind_comes_before_one_comes_again():
    strikes = schedule(17, 600)
    assert len(strikes) > 80
    size = len(KINDS)
    for first in range(0, len(strikes) - size + 1, size):
        assert {strike.kind for strike in strikes[first : first + size]} == set(KINDS)
    assert {strike.replica for strike in strikes} == {LEADER, 0, 1, 2}
    assert all(KINDS[strike.kind][0] <= strike.lasts <= KINDS[strike.kind][1] for strike in strikes)
    assert [strike.at for strike in strikes] == sorted(strike.at for strike in strikes)
