"""Scenarios: what can go wrong in the simulated cluster, one file each, with the truth about it.

In comes a name, out comes a ``Scenario``; unknown names are refused with UsageError. A new scenario is a new module here with a
``SCENARIO``, or one more of the ``SCENARIOS`` of a module that has several of one kind.
"""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from remediator.errors import UsageError
from remediator.sim.scenarios.base import ANYTHING, Act, May, MustNot, Scenario, Truth

__all__ = ["ANYTHING", "Act", "May", "MustNot", "Scenario", "Truth", "all_scenarios", "scenario"]

_DEFAULT = "agent-down"


@cache
def all_scenarios() -> tuple[Scenario, ...]:
    """Every scenario, the default one first, the others by name."""
    modules = [import_module(f"{__name__}.{m.name}") for m in iter_modules(__path__) if m.name != "base"]
    found: list[Scenario] = [s for module in modules for s in getattr(module, "SCENARIOS", None) or (module.SCENARIO,)]
    return tuple(sorted(found, key=lambda s: (s.name != _DEFAULT, s.name)))


def scenario(name: str, *, demo: bool = False) -> Scenario:
    """The scenario of that name. ``demo``: only if there is something to see for a person. Raises UsageError with a suggestion."""
    found = {s.name: s for s in all_scenarios() if s.demo or not demo}
    if name in found:
        return found[name]
    close = get_close_matches(name, found, 1)
    hint = f"; did you mean {close[0]}?" if close else f"; there are {', '.join(found)}"
    raise UsageError(f"there is no scenario {name!r}{hint}")
