"""What the HTTP side asks of the daemon: the Service protocol, and the nouns of its requests and answers.

The server knows nothing else of the daemon, so it is tested against a small stand-in. Requests come validated in their types; whether
they make sense (a playbook of that name, a run in that state) is the service's to say, by UsageError.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import msgspec

from remediator.breaker import Backlog
from remediator.model import DecisionKind, Mode, Noun, Pause, Target, Verdict
from remediator.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from remediator.actions import Action
    from remediator.bgp.coverage import Report
    from remediator.breaker import Reset, Standing
    from remediator.feed import Feed
    from remediator.gates import Gate
    from remediator.journal import Journal
    from remediator.model import Decision, Delivery, Page, Run
    from remediator.playbook import Library
    from remediator.recurrence import Recurrence

__all__ = [
    "BreakerRequest",
    "Intervention",
    "ManualRequest",
    "MatchReport",
    "MatchRequest",
    "NearMiss",
    "PauseRequest",
    "ReloadReport",
    "Service",
    "Status",
]

Moment = Annotated[datetime, msgspec.Meta(tz=True)]
TEN_YEARS = 10 * 365 * 86400.0


class ManualRequest(Noun, frozen=True, kw_only=True):
    """``POST /api/v1/runs``: somebody wants a playbook to run on a target, through the same gates as an alert."""

    playbook: str
    target: str
    """``Kind/[namespace/]name``"""
    parameters: dict[str, str] = {}  # noqa: RUF012 - msgspec copies defaults
    labels: dict[str, str] = {}  # noqa: RUF012 - as above
    alert: dict[str, Any] | None = None
    """One alert in the form of Alertmanager's payload, to be taken as the run's alert."""
    dry_run: bool = False
    by: str = ""
    """Who asks; the server fills in the peer's address where it is empty."""
    reason: str = ""


class Intervention(Noun, frozen=True, kw_only=True):
    """``POST /api/v1/runs/{id}/cancel`` and the like: who and why."""

    by: str = ""
    reason: str = ""


class MatchRequest(Noun, frozen=True, kw_only=True):
    """``POST /api/v1/match``: which playbook would take an alert with these labels, at this time."""

    labels: dict[str, str]
    at: Moment | None = None


class NearMiss(Noun, frozen=True, kw_only=True):
    """A playbook that does not take the alert, and how far off it is."""

    playbook: str
    matched: int
    of: int
    failed: tuple[str, ...]
    """The matchers that did not fit, each with the label's actual value."""


class MatchReport(Noun, frozen=True, kw_only=True):
    """What would be decided on an alert now. Nothing is recorded and nothing changes."""

    labels: dict[str, str]
    playbook: str | None = None
    target: Target | None = None
    decision: DecisionKind
    reason: Reason | None = None
    detail: str = ""
    gates: tuple[Verdict, ...] = ()
    nearest: tuple[NearMiss, ...] = ()


class PauseRequest(Noun, frozen=True, kw_only=True):
    """``PUT /api/v1/pause``: for everything, one playbook or one target; for ``seconds`` or until it is ended."""

    playbook: str | None = None
    target: str | None = None
    reason: Annotated[str, msgspec.Meta(min_length=1)]
    by: str = ""
    seconds: Annotated[float, msgspec.Meta(gt=0, le=TEN_YEARS)] | None = None


class BreakerRequest(Noun, frozen=True, kw_only=True):
    """``POST /api/v1/breaker/reset``: who closes it, why it is safe, and what becomes of the episodes of that time."""

    backlog: Backlog
    reason: str = ""
    by: str = ""


class ReloadReport(Noun, frozen=True, kw_only=True):
    """How the last load of the playbooks went. If ``ok`` is false, the old ones stay in force."""

    ok: bool
    problems: tuple[str, ...] = ()
    playbooks: int = 0
    at: datetime


class Status(Noun, frozen=True, kw_only=True):
    """The daemon at a glance. The last four but one say in words how the doors stand."""

    version: str
    mode: Mode
    dry_run: bool
    paused: tuple[Pause, ...] = ()
    started_at: datetime
    ready: bool
    ready_detail: str
    playbooks: int
    last_reload: ReloadReport
    undecided: int
    open_runs: int
    journal: str
    kubernetes: str
    prometheus: str
    alertmanager: str
    leader: bool


class Service(Protocol):
    """The daemon as the server sees it. Every method may also raise JournalUnavailable."""

    journal: Journal
    feed: Feed
    """Where the daemon says what changed; the streams listen to it."""

    @property
    def library(self) -> Library:
        """The playbooks in force."""
        ...

    @property
    def actions(self) -> Mapping[str, type[Action[Any]]]:
        """Every action, by name."""
        ...

    @property
    def gates(self) -> Mapping[str, type[Gate]]:
        """Every gate, by name."""
        ...

    async def receive(self, body: bytes, *, sender: str) -> Delivery:
        """The delivery in ``body``, returned only after it was committed. Raises PayloadError, or JournalUnavailable with nothing kept."""
        ...

    async def trigger(self, request: ManualRequest) -> Decision:
        """``run`` with the run's id, or a refusal with its gates. Raises UsageError for an unknown playbook, target or parameter."""
        ...

    async def match(self, request: MatchRequest) -> MatchReport:
        """What would be decided. Raises Unreadable if the cluster cannot be asked."""
        ...

    async def cancel(self, run: str, *, by: str, reason: str) -> Run:
        """The run, asked to stop. Raises UsageError if it has ended."""
        ...

    async def undo(self, run: str, *, by: str, reason: str) -> Run:
        """The run, undoing what it changed. Raises UsageError if its state does not allow it."""
        ...

    async def pause(self, request: PauseRequest) -> Pause:
        """The pause, in force. Raises UsageError for an unknown playbook or a malformed target."""
        ...

    async def resume(self, *, playbook: str | None, target: str | None, by: str) -> int:
        """How many pauses of exactly this scope were ended."""
        ...

    async def breaker(self) -> Standing:
        """How the breaker stands."""
        ...

    async def reset_breaker(self, request: BreakerRequest) -> Reset:
        """The reset, on record. Raises UsageError if the breaker is closed."""
        ...

    async def reload(self) -> ReloadReport:
        """Load the playbooks anew; on any problem the old ones stay in force."""
        ...

    async def why(self, ref: str) -> Noun:
        """The Story of an alert, delivery, run, decision or target (``remediator.story``), from the journal alone."""
        ...

    async def recurrence(self, *, since: datetime | None = None, at_least: int = 2) -> Page[Recurrence]:
        """What was restarted ``at_least`` so often since then; without ``since`` within the last 7 days."""
        ...

    async def bgp(self) -> Report:
        """Who announces what, as it is now. Raises KubeError, Unreadable."""
        ...

    def status(self) -> Status:
        """See Status; answers at once, from memory."""
        ...

    def ready(self) -> tuple[bool, str]:
        """Whether work is taken, and why not, or as what (leader, standby); from memory."""
        ...
