"""The settings file: what comes in is YAML, the environment and flags; what goes out is one frozen Settings.

Refused, all at once and with positions: unknown keys (with a suggestion), durations and sizes without a unit, a server without a token that
others can reach. Secrets stand in files of their own; here are only their paths. A scalar ``section.key`` may be given as the environment
variable ``REMEDIATOR_SECTION_KEY``; a flag wins over the environment, the environment over the file.
"""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING, Any, Protocol

from remediator.document import draft7, suggest
from remediator.settings.load import load_settings, settings_of, variables
from remediator.settings.model import (
    API_VERSION,
    LEAST_RETENTION,
    PLACES,
    URGENT,
    Breaker,
    Event,
    Grafana,
    Notify,
    Settings,
    Share,
    Slack,
    Storm,
)
from remediator.settings.shipped import SHIPPED, shipped

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from remediator.document import Loc
    from remediator.model import Mode

__all__ = [
    "API_VERSION",
    "LEAST_RETENTION",
    "PLACES",
    "SHIPPED",
    "URGENT",
    "Breaker",
    "Event",
    "Grafana",
    "Notify",
    "Settings",
    "Share",
    "Slack",
    "Storm",
    "effective_mode",
    "idle_names",
    "load_settings",
    "settings_of",
    "settings_schema",
    "shipped",
    "variables",
]


class HasMode(Protocol):
    """A playbook, as far as its mode goes."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def mode(self) -> Mode:
        """What its file says."""
        ...


def effective_mode(settings: Settings, playbook: HasMode) -> Mode:
    """The mode in force: of ``modes`` the exact name, else the longest glob that fits, else the playbook's own; never above ``mode``."""
    fitting = sorted((glob for glob in settings.modes if fnmatch.fnmatchcase(playbook.name, glob)), key=len)
    chosen = settings.modes.get(playbook.name) or (settings.modes[fitting[-1]] if fitting else playbook.mode)
    return min(chosen, settings.mode, key=lambda mode: mode.rank)


def idle_names(settings: Settings, names: Collection[str]) -> list[tuple[Loc, str]]:
    """Where the settings name playbooks, by name or glob, and none of ``names`` fits; each with what is wrong there.

    Most likely a typing mistake; in ``modes`` one that lets a playbook act by itself that was meant to ask.
    """
    idle = [(at, glob) for at, glob in _globs(settings) if glob != "*" and not any(fnmatch.fnmatchcase(name, glob) for name in names)]
    return [(at, f'no playbook is named "{glob}"{suggest(glob, names)}') for at, glob in idle]


def _globs(settings: Settings) -> Iterator[tuple[Loc, str]]:
    for glob in settings.modes:
        yield ("modes", glob), glob
    for index, route in enumerate(settings.notify):
        for place, glob in enumerate(route.playbooks):
            yield ("notify", index, "playbooks", place), glob


def settings_schema() -> dict[str, Any]:
    """JSON Schema (draft 7) of the settings file, for editors."""
    return draft7(Settings, title="remediator settings")
