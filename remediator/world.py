"""What the stages work with: the doors, the clock and the settings in force. One per daemon; the daemon builds it."""

from __future__ import annotations

from collections.abc import Callable  # noqa: TC003 - a dataclass field's type
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from remediator.beginnings import Beginnings
from remediator.feed import Feed
from remediator.signals import Signals

if TYPE_CHECKING:
    from remediator.actions import Cilium
    from remediator.clock import Clock
    from remediator.engine import Engine
    from remediator.gates import Limits
    from remediator.journal import Journal, Redactor
    from remediator.kube import Kube
    from remediator.model import Mode
    from remediator.monitoring import Alertmanager, Prometheus
    from remediator.playbook import Library, Playbook

__all__ = ["World"]


@dataclass(kw_only=True)
class World:
    """Doors may be None where the settings name no such system; whatever needs them then refuses."""

    clock: Clock
    journal: Journal
    kube: Kube
    prometheus: Prometheus | None
    alertmanager: Alertmanager | None
    redact: Redactor
    cilium: Cilium
    limits: Limits
    dry_run: bool
    mode_of: Callable[[Playbook], Mode]
    """The mode in force for a playbook: settings ``modes`` over the file, under the ceiling ``mode``."""
    library: Library
    """Swapped whole on reload; a run keeps the revision that it began with."""
    load_revision: Callable[[str], Playbook]
    """Reads back the text of a playbook that the journal kept."""
    feed: Feed = field(default_factory=Feed)
    signals: Signals = field(default_factory=Signals)
    beginnings: Beginnings = field(default_factory=Beginnings)
    engine: Engine | None = None
    """Set by the daemon before anything runs."""
