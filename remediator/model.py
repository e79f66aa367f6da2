"""The nouns of the program, frozen. They are what stages pass, what the journal keeps and what the API shows.

One shape for all three: ``to_json`` of a noun is its row and its answer. Times are aware and in UTC, ids are ULIDs (they sort by time).
"""

from __future__ import annotations

import os
import threading
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from remediator.ids import new_id
from remediator.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "PLAN",
    "PREVIEW",
    "Alert",
    "AlertStatus",
    "Answer",
    "Approval",
    "ApprovalState",
    "Begun",
    "Change",
    "ChangeState",
    "Decision",
    "DecisionKind",
    "Delivery",
    "Done",
    "Entry",
    "Episode",
    "Evidence",
    "Exported",
    "Mode",
    "Outline",
    "Page",
    "Pause",
    "Resource",
    "Run",
    "RunState",
    "Step",
    "StepState",
    "Target",
    "Trigger",
    "TriggerKind",
    "Verdict",
    "Verification",
    "encode",
    "evolve",
    "from_json",
    "new_id",
    "to_json",
    "to_milliseconds",
]

T = TypeVar("T")


class Noun(msgspec.Struct, frozen=True, kw_only=True):
    """A frozen record; ``evolve(noun, field=...)`` gives a changed copy. Unknown keys in stored JSON are ignored."""


N = TypeVar("N", bound=Noun)


class Mode(StrEnum):
    """How far a playbook may go by itself, in rising order."""

    OBSERVE = "observe"
    SUGGEST = "suggest"
    AUTO = "auto"

    @property
    def rank(self) -> int:
        """0, 1, 2: so that a ceiling is ``min(..., key=rank)``."""
        return list(Mode).index(self)


class AlertStatus(StrEnum):
    """Of one alert, never of its group."""

    FIRING = "firing"
    RESOLVED = "resolved"


class Alert(Noun, frozen=True, kw_only=True):
    """One alert of a delivery, as Alertmanager's payload v4 has it (``template/template.go``)."""

    name: str
    fingerprint: str
    starts_at: datetime
    ends_at: datetime | None = None
    status: AlertStatus
    labels: dict[str, str]
    annotations: dict[str, str] = {}
    generator_url: str = ""

    @property
    def episode(self) -> tuple[str, datetime]:
        """The key of one firing of one alert: fingerprint and startsAt.

        Cut to milliseconds, because Alertmanager's API prints no more than that while its webhook does (go-openapi/strfmt).
        """
        return self.fingerprint, to_milliseconds(self.starts_at)


class Delivery(Noun, frozen=True, kw_only=True):
    """One webhook call, as it was stored before it was answered."""

    id: str
    received_at: datetime
    receiver: str
    group_key: str
    status: str
    truncated: int
    """How many alerts Alertmanager cut off (``truncatedAlerts``); above 0 the number of targets is unknown."""
    alerts: tuple[Alert, ...]
    external_url: str = ""
    notification_reason: str = ""
    sender: str = ""
    """The peer's address, to tell Alertmanager's replicas apart."""
    trace: str = ""
    """The ``traceparent`` that it came with."""
    extra: dict[str, Any] = {}
    """Fields of the payload that this version does not know: kept, never refused."""
    decided_at: datetime | None = None


class Episode(Noun, frozen=True, kw_only=True):
    """One firing of one alert: fingerprint + startsAt. A later firing of the same alert is another episode."""

    fingerprint: str
    starts_at: datetime
    name: str
    labels: dict[str, str]
    first_seen: datetime
    last_seen: datetime
    resolved_at: datetime | None = None
    deliveries: int = 1
    decision: DecisionKind
    reason: Reason | None = None
    detail: str = ""
    playbook: str | None = None
    target: Target | None = None
    run: str | None = None
    """The run that the episode led to; while it is set, further firing deliveries are duplicates."""
    dry_run: bool = False
    """Whether that run was a dry one. Then it stands in no live run's way."""


class Begun(Noun, frozen=True, kw_only=True):
    """As much of an episode as says when it began and what it is about; reads the JSON of episodes and alerts alike."""

    fingerprint: str
    starts_at: datetime
    labels: dict[str, str]


class Target(Noun, frozen=True, kw_only=True):
    """One Kubernetes object that exists, by kind, name and uid."""

    kind: str
    name: str
    namespace: str = ""
    uid: str = ""

    @property
    def key(self) -> str:
        """``Node/node-3`` or ``Pod/kube-system/cilium-x``: how people name it; locks and cooldowns use it."""
        return "/".join(part for part in (self.kind, self.namespace, self.name) if part)

    @property
    def named(self) -> dict[str, str]:
        """What expressions may say of it; ``label`` is what alerts and metrics call such an object, ``deployment`` for a Deployment."""
        return {"kind": self.kind, "label": self.kind.lower(), "name": self.name, "namespace": self.namespace, "uid": self.uid}


class Verdict(Noun, frozen=True, kw_only=True):
    """What one gate said. ``reason`` is set if and only if it refused."""

    gate: str
    allowed: bool
    reason: Reason | None = None
    detail: str = ""
    at: datetime


class DecisionKind(StrEnum):
    """What was decided on one alert of one delivery."""

    RUN = "run"
    REFUSED = "refused"
    UNMATCHED = "unmatched"
    DUPLICATE = "duplicate"
    RESOLVED = "resolved"
    HELD = "held"


class Decision(Noun, frozen=True, kw_only=True):
    """One per alert per delivery, and one per manual trigger (then ``delivery`` and ``alert`` may be absent)."""

    id: str
    delivery: str | None = None
    at: datetime
    alert: Alert | None = None
    playbook: str | None = None
    target: Target | None = None
    decision: DecisionKind
    reason: Reason | None = None
    detail: str = ""
    gates: tuple[Verdict, ...] = ()
    run: str | None = None
    evidence: tuple[Evidence, ...] = ()
    """What the gates looked at that a person has to see as well: whom the pairs blame (``attribution``)."""
    dry_run: bool = False
    """Whether it was decided about a dry run."""


class TriggerKind(StrEnum):
    """Which of the three ways in a run came by."""

    ALERT = "alert"
    MANUAL = "manual"
    TEST = "test"


class Trigger(Noun, frozen=True, kw_only=True):
    """Who or what asked for a run, and why."""

    kind: TriggerKind
    by: str = ""
    reason: str = ""


class RunState(StrEnum):
    """Open: the first four. The others are ends."""

    AWAITING_APPROVAL = "awaiting_approval"
    RUNNING = "running"
    VERIFYING = "verifying"
    UNDOING = "undoing"
    HEALED = "healed"
    NOT_HEALED = "not_healed"
    DONE = "done"
    PREDICTED = "predicted"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    UNKNOWN = "unknown"

    @property
    def open(self) -> bool:
        """Whether the run still goes on."""
        return self in _OPEN


_OPEN = frozenset({RunState.AWAITING_APPROVAL, RunState.RUNNING, RunState.VERIFYING, RunState.UNDOING})


class StepState(StrEnum):
    """Where one step of a run stands."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    SKIPPED = "skipped"
    FAILED = "failed"
    UNDONE = "undone"
    UNKNOWN = "unknown"


class ChangeState(StrEnum):
    """What became of one mutating call."""

    INTENDED = "intended"
    """On disk before the call; if it still says so after a restart, the call may or may not have been sent."""
    APPLIED = "applied"
    ABSENT = "absent"
    """The call provably had no effect: refused by the API, or looked for after a crash and not found."""
    UNDONE = "undone"
    KEPT = "kept"
    """Applied, and meant to stay or not undoable (a replaced pod)."""
    FOREIGN = "foreign"
    """Somebody else touched it since, so it is theirs."""
    UNKNOWN = "unknown"
    """Nobody can say whether the call took effect."""


class Resource(Target, frozen=True, kw_only=True):
    """The object that a mutating call addresses; often another one than the run's target (a pod on the target node)."""


class Change(Noun, frozen=True, kw_only=True):
    """One mutating call: its intent before, its outcome after. ``before`` and ``after`` hold only what it altered."""

    id: str
    run: str
    step: str
    action: str
    verb: str
    """create, patch, delete, evict."""
    resource: Resource
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    undoes: str = ""
    """The id of the change that this one puts back."""
    undoable: bool = True
    """Whether there is something to put back once it took effect; a replaced pod has nothing."""
    request_id: str = ""
    """Sent as ``Audit-ID``, so that the API server's audit log names the same call."""
    state: ChangeState
    reason: Reason | None = None
    """Why it has not been put back, where that was refused; ``detail`` says what was seen."""
    detail: str = ""
    dry_run: bool = False
    at: datetime
    ended_at: datetime | None = None

    @property
    def left_behind(self) -> bool:
        """Whether the cluster differs because of it and nobody put it back."""
        return self.state in (ChangeState.INTENDED, ChangeState.APPLIED, ChangeState.UNKNOWN) and not self.dry_run


class Evidence(Noun, frozen=True, kw_only=True):
    """Something that a step or a gate saw: a query's result, an object. Bounded in size and redacted before it is stored."""

    name: str
    at: datetime
    data: Any = None


PLAN = "plan"
"""The name of the evidence that says beforehand what a step will do, as a list of lines."""
PREVIEW = "preview"
"""The same for a step that nobody allowed yet: what it would do, as things stood when people were asked."""


class Step(Noun, frozen=True, kw_only=True):
    """One step of one rung of a run."""

    name: str
    action: str
    rung: int
    attempt: int = 1
    """Which attempt of its rung it belongs to; each has steps of its own."""
    index: int
    """Position in the whole run, over all rungs and their attempts, from 0."""
    parameters: dict[str, Any] = {}
    """Of its action, filled in for this run."""
    state: StepState
    started_at: datetime | None = None
    ended_at: datetime | None = None
    attempts: int = 0
    """How often it was entered: more than once only after a crash."""
    outcome: str = ""
    detail: str = ""
    """While it runs: how it stands, if its action tells."""
    detail_at: datetime | None = None
    """When its action told so."""
    changes: tuple[Change, ...] = ()
    evidence: tuple[Evidence, ...] = ()


class Verification(Noun, frozen=True, kw_only=True):
    """How the proof that the symptom is gone stands. ``deadline`` survives a restart; the hold begins anew after one."""

    started_at: datetime
    deadline: datetime
    hold_seconds: float
    held_since: datetime | None = None
    healed: bool | None = None
    """None while it is open."""
    reason: Reason | None = None
    """What it came to: ``healed``, ``still_firing``, ``relapsed`` or ``deadline``; None while it is open."""
    checks: int = 0
    relapses: int = 0
    """How often it held and stopped holding again before the hold time was over."""
    last: str = ""
    """What the last look saw, in words."""
    ended_at: datetime | None = None


class ApprovalState(StrEnum):
    """How a question to people stands."""

    WAITING = "waiting"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    """Nobody needs to answer any more: the alert resolved, or the run was cancelled."""


class Answer(Noun, frozen=True, kw_only=True):
    """What one person said to a question, and why."""

    by: str
    at: datetime
    approved: bool
    reason: str = ""

    @property
    def person(self) -> str:
        """Who that is, so that one person counts once: ``Anna@laptop`` and ``anna@bastion`` are the same."""
        return self.by.strip().casefold().partition("@")[0]


class Approval(Noun, frozen=True, kw_only=True):
    """A question to people: may this run begin, or go on?"""

    step: int | None = None
    """The index of the step that asks in mid-run; None where the whole run waits for its beginning."""
    question: str = ""
    people: int = 1
    """How many different people must say yes."""
    asked_at: datetime
    expires_at: datetime
    state: ApprovalState = ApprovalState.WAITING
    answers: tuple[Answer, ...] = ()
    ended_at: datetime | None = None

    @property
    def missing(self) -> int:
        """How many more people must say yes."""
        return max(0, self.people - len({answer.person for answer in self.answers if answer.approved}))


class Outline(Noun, frozen=True, kw_only=True):
    """As much of a run as says whether it counts for others; reads the JSON of whole runs, at a fraction of the cost."""

    id: str
    playbook: str
    dry_run: bool = False
    target: Target
    state: RunState
    reason: Reason | None = None
    started_at: datetime
    ended_at: datetime | None = None
    deadline: datetime
    """Not in force while the run waits for people; their yes moves it on by the time that they took."""
    disruptive: bool = True
    """Whether any of its steps may disturb traffic or workloads."""
    approvals: tuple[Approval, ...] = ()
    """Every question to people, in the order of time; only the last can still wait."""
    order: int = 0
    """The number of the log's entry with which it began, by a decision or by people's yes: what begins later has a larger one, whatever
    the clock says. 0: it did not begin, or in an earlier release."""

    @property
    def unapproved(self) -> bool:
        """Whether it waited for people before its beginning and got no yes, so far or ever: nothing of it was begun."""
        return any(asked.step is None and asked.state is not ApprovalState.APPROVED for asked in self.approvals)

    @property
    def begun_at(self) -> datetime:
        """When it began: with the decision, or when people said yes."""
        return next((asked.ended_at for asked in self.approvals if asked.step is None and asked.ended_at), self.started_at)


class Run(Outline, frozen=True, kw_only=True):
    """One playbook at work on one target, from the decision to its end."""

    revision: str
    """Of the playbook, as it was when the run began; the run keeps it whatever is reloaded meanwhile."""
    trigger: Trigger
    alert: Alert | None = None
    delivery: str | None = None
    trace: str = ""
    """The ``traceparent`` of the delivery or request that it came of; its spans belong to that trace."""
    parameters: dict[str, Any] = {}
    detail: str = ""
    rung: int = 0
    attempt: int = 1
    """Of that rung."""
    undoing_at: datetime | None = None
    """When it began to put back what it had changed, if it did so before its end."""
    gates: tuple[Verdict, ...] = ()
    """The last evaluation of every gate for this run."""
    evidence: tuple[Evidence, ...] = ()
    """As in the decision, of the last evaluation of the gates."""
    steps: tuple[Step, ...] = ()
    verification: Verification | None = None
    cancel: str = ""
    """Who asked to cancel it and why, while it is still to be heeded."""

    @property
    def approved(self) -> bool:
        """Whether people said yes to it."""
        return any(asked.state is ApprovalState.APPROVED for asked in self.approvals)


class Done(Noun, frozen=True, kw_only=True):
    """Something that a live run did to its target: a call that took effect, or may have; and how that run stands."""

    action: str
    target: str
    """Target.key of the run."""
    at: datetime
    run: str
    playbook: str
    state: RunState
    reason: Reason | None = None


class Pause(Noun, frozen=True, kw_only=True):
    """The kill switch: for everything (both None), one playbook or one target. Survives restarts."""

    id: str
    playbook: str | None = None
    target: str | None = None
    """``Kind/[namespace/]name``"""
    reason: str
    by: str
    at: datetime
    until: datetime | None = None

    def covers(self, *, playbook: str, target: str, now: datetime) -> bool:
        """Whether it holds for this playbook on this target at ``now``. One of a Namespace holds for all that is in it."""
        if self.until is not None and self.until <= now:
            return False
        _, namespace, name = (*target.split("/"), "")[:3]
        within = f"Namespace/{namespace}" if name else target
        return self.playbook in (None, playbook) and self.target in (None, target, within)


class Entry(Noun, frozen=True, kw_only=True):
    """One link of the append-only log. ``hash`` is SHA-256 over ``previous`` and everything else in it."""

    seq: int
    at: datetime
    kind: str
    """What happened: ``delivery``, ``decision``, ``run``, ``step``, ``change``, ``pause``, ..."""
    ref: str
    """The id of the record that it is about."""
    data: Any
    previous: str
    hash: str


class Exported(Entry, frozen=True, kw_only=True, omit_defaults=True):
    """A line of the journal's export: an entry, and the text of its record where the entry itself has its digest alone."""

    record: str | None = None
    playbook: str | None = None
    """Of a playbook's text: its name."""
    end: int | None = None
    """Of the last line: how many there are."""


class Page(Noun, Generic[T], frozen=True, kw_only=True):
    """One page of a list; ``next`` is the cursor for ``?cursor=``, None at the end."""

    items: tuple[T, ...]
    next: str | None = None


def to_milliseconds(moment: datetime) -> datetime:
    """``moment`` without what is finer than a millisecond."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def evolve(noun: N, /, **changes: Any) -> N:
    """A copy of ``noun`` with some fields changed."""
    return msgspec.structs.replace(noun, **changes)


def to_json(noun: Any) -> Any:
    """Plain dicts, lists, strings and numbers; times become RFC 3339."""
    return msgspec.to_builtins(noun)


encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode
"""JSON of a noun or of plain data, UTF-8."""


def from_json(data: Any, kind: type[T]) -> T:
    """The noun that ``data`` (bytes of JSON, or plain dicts and lists) describes; any thread may ask. Raises msgspec.ValidationError."""
    decoder: msgspec.json.Decoder[T] | None = _decoders.get(kind)
    if decoder is None:
        decoder = _learn(kind)
    if isinstance(data, bytes | str | msgspec.Raw):
        return decoder.decode(data)
    return msgspec.convert(data, kind)


_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}
_turn = threading.Lock()


def _learn(kind: Any) -> msgspec.json.Decoder[Any]:
    """One thread at a time: msgspec shows others what it knows of a type while it is still finding it out, which kills the process.

    (SIGSEGV with msgspec 0.22, ``StructInfo_Convert``: the types of the fields are NULL until each is known.)
    """
    with _turn:
        return _decoders.setdefault(kind, msgspec.json.Decoder(kind))


def _forget() -> None:
    """What a child process would share with its parent: a lock that another thread holds just now."""
    global _turn  # noqa: PLW0603 - one lock a process
    _turn = threading.Lock()


def _all_of(noun: type[Noun]) -> Iterator[type[Noun]]:
    for kind in noun.__subclasses__():
        yield kind
        yield from _all_of(kind)


os.register_at_fork(after_in_child=_forget)
for _noun in _all_of(Noun):  # before there are other threads: these are parts of what other modules decode
    _learn(_noun)
