"""What the HTTP side asks of the daemon: the Service protocol, and the nouns of its requests and answers.

The server knows nothing else of the daemon, so it is tested against a small stand-in. Requests come validated in their types; whether
they make sense (a playbook of that name, a run in that state) is the service's to say, by UsageError.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import msgspec

from remediator.attribution import Table
from remediator.breaker import Backlog, Standing
from remediator.demotion import Demotion
from remediator.model import Answer, ApprovalState, DecisionKind, Evidence, Mode, Noun, Pause, Target, Verdict
from remediator.promotion import Record
from remediator.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Mapping

    from remediator.actions import Action
    from remediator.bgp.coverage import Report
    from remediator.breaker import Reset
    from remediator.effect import Effect
    from remediator.feed import Feed
    from remediator.gates import Gate
    from remediator.journal import Journal, Pruned
    from remediator.model import Approval, Decision, Page, Run
    from remediator.playbook import Library, Playbook
    from remediator.receive import Kept
    from remediator.recurrence import Recurrence

__all__ = [
    "BreakerRequest",
    "ClusterView",
    "Intervention",
    "ManualRequest",
    "MatchReport",
    "MatchRequest",
    "NearMiss",
    "NodeView",
    "Pairs",
    "PauseRequest",
    "PruneRequest",
    "ReloadReport",
    "Series",
    "Service",
    "Status",
    "Waiting",
    "waiting_of",
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
    evidence: tuple[Evidence, ...] = ()
    """Whom the pairs blame, where the playbook asks for the culprit."""
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


class PruneRequest(Noun, frozen=True, kw_only=True):
    """``POST /api/v1/journal/prune``: what may go; ``seconds`` of age, or what the settings keep, and never the last ``keep`` entries."""

    seconds: Annotated[float, msgspec.Meta(ge=0, le=TEN_YEARS)] | None = None
    keep: Annotated[int, msgspec.Meta(ge=0)] = 0
    by: str = ""


class ReloadReport(Noun, frozen=True, kw_only=True):
    """How the last load of the playbooks went. If ``ok`` is false, the old ones stay in force; at start, those of the good files are.

    ``problems`` are also names in the settings that fit none of the playbooks in force; they refuse nothing.
    """

    ok: bool
    problems: tuple[str, ...] = ()
    playbooks: int = 0
    at: datetime


class Waiting(Noun, frozen=True, kw_only=True):
    """A run that waits for people: what is asked, until when, and who said what so far."""

    run: str
    playbook: str
    target: str
    question: str
    step: str = ""
    """The step that asks; empty where the whole run waits for its beginning."""
    asked_at: datetime
    expires_at: datetime
    missing: int
    """How many more people must say yes."""
    answers: tuple[Answer, ...] = ()


def waiting_of(runs: Iterable[Run]) -> tuple[Waiting, ...]:
    """Those of ``runs`` that wait, the one that expires first in front."""
    found = [_waiting(run, run.approvals[-1]) for run in runs if run.approvals and run.approvals[-1].state is ApprovalState.WAITING]
    return tuple(sorted(found, key=lambda one: (one.expires_at, one.run)))


def _waiting(run: Run, asked: Approval) -> Waiting:
    return Waiting(
        run=run.id,
        playbook=run.playbook,
        target=run.target.key,
        question=asked.question,
        step=run.steps[asked.step].name if asked.step is not None else "",
        asked_at=asked.asked_at,
        expires_at=asked.expires_at,
        missing=asked.missing,
        answers=asked.answers,
    )


class Unavailable(Noun, frozen=True, kw_only=True):
    """A playbook that cannot work: the rights that the daemon's account lacks, and the kinds that the cluster does not serve, in words."""

    playbook: str
    missing: str
    absent: str = ""


class Status(Noun, frozen=True, kw_only=True):
    """The daemon at a glance; of the doors it says in words how they stand.

    ``waiting`` and ``records`` are read from the journal and empty while that cannot be read.
    """

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
    """Deliveries on disk that wait for their decisions."""
    undecided_since: Moment | None = None
    """When the oldest of them came."""
    open_runs: int
    journal: str
    kubernetes: str
    prometheus: str
    alertmanager: str
    cilium: str = ""
    """The versions that the agents run, and what is not as expected of them; or why they are not known."""
    leader: bool
    breaker: Standing | None = None
    """As it stood when the daemon last looked, which it does twice a minute; None where the journal could not be read."""
    waiting: tuple[Waiting, ...] = ()
    demoted: tuple[Demotion, ...] = ()
    """Playbooks that may not act by themselves any more, because they failed."""
    unavailable: tuple[Unavailable, ...] = ()
    """Playbooks that the gate missing_right refuses, as it stood when the daemon last looked."""
    records: tuple[Record, ...] = ()
    """Of every playbook that ran lately: what was predicted and suggested, what people did, and what came of it."""


class NodeView(Noun, frozen=True, kw_only=True):
    """One node: what disturbs it, whoever caused that, and which open runs work on it."""

    name: str
    zone: str = ""
    control_plane: bool = False
    troubles: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()


class Pairs(Noun, frozen=True, kw_only=True):
    """What nodes measure towards one another, and who would be blamed for it."""

    table: Table
    node: str | None = None
    """Who is blamed."""
    words: str = ""


class ClusterView(Noun, frozen=True, kw_only=True):
    """``GET /api/v1/cluster``: the nodes now, how much of the disturbance budget is used, and the pairs that can be read."""

    nodes: tuple[NodeView, ...]
    disturbed: int
    most: int
    """So many nodes may be disturbed at once."""
    pairs: tuple[Pairs, ...] = ()
    unread: tuple[str, ...] = ()
    """What could not be read, in words."""
    at: datetime


class Series(Noun, frozen=True, kw_only=True):
    """``GET /api/v1/runs/{id}/series``: how what the verification compares went.

    Empty if it compares no metric.
    """

    query: str = ""
    operator: str = ""
    limit: float | None = None
    points: tuple[tuple[datetime, float], ...] = ()
    detail: str = ""
    """Why there is nothing, where something went wrong."""


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

    def receive(self, body: bytes, *, sender: str) -> Awaitable[Kept]:
        """Commit the delivery in ``body``; what is told of it. Raises PayloadError, or JournalUnavailable: not kept, or not yet."""
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

    async def approve(self, run: str, *, by: str, reason: str, named: bool) -> Run:
        """The run with a yes, going on if that was the last one it needed. Raises UsageError if it does not wait for this person's.

        ``named``: whether a person gave a name.
        """
        ...

    async def invited(self, text: str) -> Run | None:
        """The run whose question the link with this text is about; None if it is no link of ours. Raises UsageError if it is over."""
        ...

    async def answer_invited(self, text: str, *, by: str, reason: str, yes: bool) -> Run:
        """Answer that question and no other. Raises UsageError if it does not wait any more."""
        ...

    async def reject(self, run: str, *, by: str, reason: str) -> Run:
        """The run with a no. Raises UsageError if it does not wait for an approval."""
        ...

    async def reinstate(self, playbook: str, *, by: str, reason: str) -> Demotion:
        """The demotion that was lifted. Raises UsageError if the playbook is not demoted."""
        ...

    def mode_of(self, playbook: Playbook) -> dict[str, Any]:
        """``mode_in_force``, and ``demoted`` where it may not act by itself since it failed."""
        ...

    async def record(self, playbook: Playbook) -> Record:
        """What it predicted and suggested lately, what people did, and what came of it."""
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

    async def prune(self, request: PruneRequest) -> Pruned:
        """Take old records away. Raises UsageError for ages that the gates still look back to, JournalError for a broken chain."""
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

    async def effect(self, *, since: datetime | None = None, playbook: str | None = None) -> Page[Effect]:
        """What came of live runs that started since then; without ``since`` within the last 30 days."""
        ...

    async def bgp(self) -> Report:
        """Who announces what, as it is now. Raises KubeError, Unreadable."""
        ...

    async def cluster(self) -> ClusterView:
        """The nodes as they are now. Raises KubeError, Unreadable."""
        ...

    async def series(self, run: Run) -> Series:
        """The verifying metric of a run."""
        ...

    def status(self) -> Status:
        """See Status; answers at once, from memory, without what is in the journal."""
        ...

    async def full_status(self, *, with_records: bool = True) -> Status:
        """The same with what is in the journal, if that can be read; how playbooks did (``with_records``) takes thousands of runs."""
        ...

    def ready(self) -> tuple[bool, str]:
        """Whether work is taken, and why not, or as what (leader, standby); from memory."""
        ...
