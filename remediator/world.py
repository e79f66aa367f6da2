"""What the stages work with: the doors, the clock and the settings in force. One per daemon; the daemon builds it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable  # noqa: TC003 - types of a dataclass's fields
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from remediator.beginnings import Beginnings
from remediator.cluster.leases import Leases
from remediator.demotion import Demotions
from remediator.events import Events
from remediator.feed import Feed
from remediator.model import Noun
from remediator.probing import Prober
from remediator.signals import Signals
from remediator.telling import Invitations, Teller
from remediator.tracing import Tracing

if TYPE_CHECKING:
    from remediator.actions import Cilium
    from remediator.clock import Clock
    from remediator.engine import Engine
    from remediator.gates import Limits
    from remediator.journal import Journal, Redactor
    from remediator.kube import Kube
    from remediator.kube.elector import Elector
    from remediator.model import Mode, Target
    from remediator.monitoring import Alertmanager, Prometheus
    from remediator.playbook import Library, Playbook
    from remediator.rights import Rights

__all__ = ["Asking", "World"]


class Asking(Noun, frozen=True, kw_only=True):
    """How people are asked (settings ``approval``), where a playbook or a step does not say otherwise."""

    expires: timedelta = timedelta(hours=4)
    """Nobody answered by then: the run ends."""
    people: int = 1
    """How many different people must say yes, at least."""


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
    """What file and settings say: settings ``modes`` over the file, under the ceiling ``mode``. ``mode`` is what is in force."""
    library: Library
    """Swapped whole on reload; a run keeps the revision that it began with."""
    load_revision: Callable[[str], Playbook]
    """Reads back the text of a playbook that the journal kept."""
    feed: Feed = field(default_factory=Feed)
    signals: Signals = field(default_factory=Signals)
    beginnings: Beginnings = field(default_factory=Beginnings)
    leases: Leases = field(default_factory=Leases)
    elector: Elector | None = None
    """Of several replicas on one store; None: this is the only one."""
    hand_over: Callable[[Target], Awaitable[bool]] | None = None
    """Of several replicas: begin to let another one lead, which may disturb what this one runs on. False: none can, or just did."""
    engine: Engine | None = None
    """Set by the daemon before anything runs."""
    asking: Asking = field(default_factory=Asking)
    demotions: Demotions = field(default_factory=Demotions)
    probe: Prober = field(default_factory=Prober)
    events: Events = field(default_factory=Events)
    tracing: Tracing = field(default_factory=Tracing)
    teller: Teller = field(default_factory=Teller)
    invitations: Invitations = field(default_factory=Invitations)
    rights: Rights | None = None
    """Who asks what our account may do; None: nobody does, and what it may not shows when it is tried."""

    patience: timedelta | None = None
    """Real time that one fact may take before a decision, where a busy machine must not decide; None: what alerts have."""
    agents: int = 0
    """Of Cilium, as they were last counted: how large the cluster is."""
    undoing: set[str] = field(default_factory=set)
    """Ended runs whose changes are being put back now; a restart takes those up again."""

    @property
    def may_act(self) -> bool:
        """Whether this process may change anything at this moment: it is the only one, or it leads, and nobody else began to act."""
        return not self.journal.deposed and (self.elector is None or self.elector.leads)

    def looks(self, playbook: Playbook) -> bool:
        """Whether the playbook only looks and tells, so that nobody need be asked; one that was demoted asks in any case."""
        return playbook.looks and self.demotions.of(playbook.name) is None

    def mode(self, playbook: Playbook) -> Mode:
        """The mode in force, also under what the playbook lost by failing."""
        return self.demotions.under(playbook.name, self.mode_of(playbook))
