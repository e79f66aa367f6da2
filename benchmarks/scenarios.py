"""Every incident of the simulated cluster, dealt with by the daemon and its shipped playbooks, and by a policy that restarts, then drains.

Each is played on a clock that leaps, so times are those of the simulated clock and do not depend on the machine. What was wrong to do is
said by the truth of each scenario, which nobody who plays sees. What the daemon did not do as it should is told on stderr.
"""

from __future__ import annotations

import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.naive import Naive
from benchmarks.table import Row
from remediator.sim import all_scenarios
from remediator.testing import START, Daemons, perform, rehearse

if TYPE_CHECKING:
    from collections.abc import Callable

    from remediator.sim import Scenario
    from remediator.testing import Hands, Performance, Score

__all__ = ["play", "rows"]

AIM_HEALED = 95
EVERY = 1
"""Of the incidents, every first, second, ..."""


def rows() -> list[Row]:
    ours, theirs = ([play(scenario, hands).score for scenario in all_scenarios()[::EVERY]] for hands in (Daemons, Naive))
    return [
        Row(name="incidents", measured=len(ours), unit="", note=f"{sum(score.healable for score in ours)} can be healed"),
        _row("wrong disruptive actions", _wrong, ours, theirs, aim=0),
        _row("incidents with a wrong action", _with_one, ours, theirs, aim=0),
        _row("healed of healable, and nothing wrong done", _healed, ours, theirs, unit="%", aim=AIM_HEALED, at_least=True),
        _row("time to heal, median", _median, ours, theirs, unit="s"),
        _row("time to heal, p95", _longest, ours, theirs, unit="s"),
        _row("calls of the API server", _calls, ours, theirs),
        Row(name="runs recorded as healed that were not", measured=sum(len(score.claims) for score in ours), unit="", aim=0),
    ]


def _row(what: str, of: Callable[[list[Score]], float], ours: list[Score], theirs: list[Score], *, unit: str = "", **more: Any) -> Row:
    return Row(name=what, measured=of(ours), unit=unit, beside=Naive.name, compared=of(theirs), **more)


def play(scenario: Scenario, hands: type[Hands]) -> Performance:
    """One performance; what was wrong goes to stderr."""
    with tempfile.TemporaryDirectory(prefix="scenario-") as folder:
        performance = rehearse(lambda clock: perform(scenario, hands, clock, Path(folder)), start=START)
    score = performance.score
    if hands is Daemons and (score.wrong or score.claims or (score.healable and not score.healed)):
        print(performance.told(), file=sys.stderr)
    return performance


def _wrong(scores: list[Score]) -> int:
    return sum(len(score.wrong) for score in scores)


def _with_one(scores: list[Score]) -> int:
    return sum(bool(score.wrong) for score in scores)


def _healed(scores: list[Score]) -> float:
    """Per cent of those that can be healed; healed by something wrong does not count."""
    healable = [score for score in scores if score.healable]
    return 100 * sum(score.healed and not score.wrong for score in healable) / len(healable)


def _median(scores: list[Score]) -> float:
    return _time(scores, 0.5)


def _longest(scores: list[Score]) -> float:
    return _time(scores, 0.95)


def _time(scores: list[Score], part: float) -> float:
    """Seconds of the simulated clock that this part did not exceed, of those that can be healed and were, by nothing wrong."""
    times = sorted(s.healed_after for s in scores if s.healable and s.healed_after is not None and not s.wrong)
    return times[min(len(times) - 1, int(len(times) * part))] / timedelta(seconds=1)


def _calls(scores: list[Score]) -> int:
    return sum(score.calls for score in scores)
