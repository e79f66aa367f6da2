"""Rehearsals: the real daemon in this process, on a simulated cluster, on a clock that leaps; and a judge of what it did there."""

from __future__ import annotations

from remediator.testing.judge import Deed, Place, Score, deeds, judge
from remediator.testing.leaping import LeapingClock, rehearse
from remediator.testing.play import START, Daemons, Hands, Performance, perform

__all__ = ["START", "Daemons", "Deed", "Hands", "LeapingClock", "Performance", "Place", "Score", "deeds", "judge", "perform", "rehearse"]
