"""Kubernetes Events about what remediator does, on the objects that it is about, for whoever asks ``kubectl describe``.

In: what stages say happened, in passing. Out: Events (events.k8s.io/v1), written in the background; what happens again to the same object
is counted in a series. They are a courtesy: nothing waits for one, one that cannot be written is counted and dropped, and so is what is too
much. A dry run writes none, since it writes nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections import OrderedDict, deque
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any, Final

import structlog

from remediator.errors import KubeError, NotLeading, UsageError
from remediator.kube import kinds
from remediator.kube.errors import NotFound
from remediator.model import RunState
from remediator.reasons import event_reason
from remediator.telemetry import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from remediator.clock import Clock
    from remediator.kube import Kube
    from remediator.model import Change, Decision, Run, Target

__all__ = ["CONTROLLER", "Events"]

log = structlog.get_logger(__name__)
CONTROLLER: Final = "remediator.dev/remediator"
_WAITING: Final = 200
"""Events that wait to be written at once; further ones are dropped."""
_KNOWN: Final = 1000
"""Events that are remembered, so that the same is counted and not written again."""
_SAME: Final = timedelta(minutes=30)
"""So long after the last time is it the same that happens again; the API server keeps an Event for an hour."""
_AGAIN: Final = timedelta(minutes=5)
"""Between two writes of one series, at least."""
_BURST: Final = 100
_PER_SECOND: Final = 1
"""Writes, beyond a burst."""
_SPARE: Final = 25
"""Of the burst, for beginnings and ends of runs: a drain of a hundred pods must not use up all."""
_BAD: Final = frozenset({RunState.NOT_HEALED, RunState.FAILED, RunState.UNKNOWN, RunState.EXPIRED})
_LONGEST: Final = 1000
"""Characters of a note; the API takes 1024 bytes."""


@dataclass(kw_only=True)
class _Happening:
    """One Event: what it is about, and how often and when it happened."""

    regarding: Target
    reason: str
    action: str
    note: str
    warning: bool
    first: datetime
    last: datetime
    related: Target | None = None
    count: int = 1
    name: str = ""
    """Once it is written."""
    written_at: datetime | None = None
    queued: bool = False


class Events:
    """``began``, ``acted``, ``ended`` and ``refused`` return at once; ``write`` is a task of the daemon's. Without a ``kube`` it is off."""

    def __init__(self, kube: Kube | None = None, clock: Clock | None = None, redact: Callable[[str], str] = str) -> None:
        self._kube = kube
        self._clock = clock
        self._redact = redact
        self._known: OrderedDict[tuple[str, ...], _Happening] = OrderedDict()
        self._waiting: deque[_Happening] = deque()
        self._arrived = asyncio.Event()
        self._tokens = float(_BURST)
        self._counted_at: datetime | None = None
        self._instance = socket.gethostname()[:128]

    def began(self, run: Run) -> None:
        """A run begins, or asks people before it does."""
        waits = " and waits for people" if run.state is RunState.AWAITING_APPROVAL else ""
        why = f"alert {run.alert.name}" if run.alert is not None else f"{run.trigger.by}: {run.trigger.reason}"
        if not run.dry_run:
            self._say(run.target, "RunStarted", run.playbook, f"{run.playbook}: run {run.id} began{waits} ({why})", run=run.id)

    def acted(self, run: Run, change: Change) -> None:
        """A call took effect."""
        if change.dry_run:
            return
        reason, words = ("PutBack", "put back") if change.undoes else ("Acted", f"{change.verb} by {change.action}")
        related = run.target if change.resource.key != run.target.key else None
        note = f"{run.playbook}: run {run.id}, {words}"
        self._say(change.resource, reason, change.action, note, run=f"{run.id} {change.verb}", related=related, spare=_SPARE)

    def ended(self, run: Run) -> None:
        """A run ended; the reason is that of the run, or how it ended where there is none."""
        if run.dry_run:
            return
        reason = event_reason(run.reason) if run.reason is not None else "Run" + run.state.value.capitalize()
        words = run.state.value.replace("_", " ")
        note = f"{run.playbook}: run {run.id} {words}" + (f": {run.detail}" if run.detail else "")
        self._say(run.target, reason, run.playbook, note, run=run.id, warning=run.state in _BAD)

    def refused(self, decision: Decision) -> None:
        """Gates refused an alert; what refuses the same target again for the same reason is counted."""
        if decision.target is None or decision.reason is None or decision.dry_run or decision.delivery is None:
            return
        playbook = decision.playbook or ""
        name = decision.alert.name if decision.alert is not None else ""
        note = f"{playbook}: refused for alert {name}: {decision.detail}"
        self._say(decision.target, event_reason(decision.reason), playbook, note, warning=True, spare=_SPARE)

    async def write(self) -> None:
        """Until it is cancelled."""
        while True:
            while not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
            await self.write_one()

    async def write_one(self) -> None:
        """The one that has waited longest; however that ends."""
        happening = self._waiting.popleft()
        happening.queued = False
        try:
            await self._write(happening)
        except (KubeError, NotLeading, UsageError) as error:
            METRICS.events.labels("failed").inc()
            log.warning("an Event could not be written", about=happening.regarding.key, reason=happening.reason, error=str(error))
        except Exception:  # the last boundary: a fault of ours here must not reach what it tells of
            METRICS.events.labels("failed").inc()
            log.exception("an Event was not written by a fault of this program")
        else:
            METRICS.events.labels("written").inc()

    def _say(
        self,
        about: Target,
        reason: str,
        action: str,
        note: str,
        *,
        run: str = "",
        warning: bool = False,
        related: Target | None = None,
        spare: int = 0,
    ) -> None:
        if self._kube is None or self._clock is None:
            return
        now = self._clock.now()
        key = (about.key, about.uid, reason, action, run)
        known = self._known.get(key)
        if known is not None and now - known.last < _SAME:
            known.count, known.last = known.count + 1, now
            due = known.written_at is not None and now - known.written_at >= _AGAIN
        else:
            text = " ".join(self._redact(note).split())
            known = _Happening(
                regarding=about, related=related, reason=reason, action=action, note=text, warning=warning, first=now, last=now
            )
            due = True
            self._known[key] = known
        self._known.move_to_end(key)
        if len(self._known) > _KNOWN:
            self._known.popitem(last=False)
        if due and not known.queued:
            self._queue(known, now, spare)

    def _queue(self, happening: _Happening, now: datetime, spare: int) -> None:
        passed = (now - self._counted_at).total_seconds() if self._counted_at is not None else 0.0
        self._tokens = min(_BURST, self._tokens + max(0.0, passed) * _PER_SECOND)
        self._counted_at = now
        if self._tokens < 1 + spare or len(self._waiting) >= _WAITING:
            METRICS.events.labels("dropped").inc()
            return
        self._tokens -= 1
        happening.queued = True
        self._waiting.append(happening)
        self._arrived.set()

    async def _write(self, happening: _Happening) -> None:
        assert self._kube is not None  # noqa: S101 - nothing is queued without it
        happening.written_at = happening.last
        namespace = happening.regarding.namespace or "default"  # where Events about what lives in no namespace are
        if happening.name:
            series = {"series": {"count": happening.count, "lastObservedTime": _micro(happening.last)}}
            try:
                await self._kube.patch(kinds.EVENT, happening.name, series, namespace, type="merge")
            except NotFound:
                happening.name = ""  # the API server has forgotten it
            else:
                return
        body = self._body(happening)
        happening.name = body["metadata"]["name"]
        await self._kube.create(kinds.EVENT, {**body, "metadata": {**body["metadata"], "namespace": namespace}}, namespace)

    def _body(self, happening: _Happening) -> dict[str, Any]:
        about = happening.regarding
        mark = f"{about.uid} {happening.reason} {happening.action} {happening.note} {happening.last.isoformat()}"
        digest = hashlib.sha256(mark.encode()).hexdigest()[:16]
        more: dict[str, Any] = {"related": _reference(happening.related)} if happening.related is not None else {}
        if happening.count > 1:
            more["series"] = {"count": happening.count, "lastObservedTime": _micro(happening.last)}
        return {
            "metadata": {"name": f"{about.name[:200]}.{digest}"},
            "eventTime": _micro(happening.first),
            "reportingController": CONTROLLER,
            "reportingInstance": self._instance,
            "action": happening.action[:128],
            "reason": happening.reason[:128],
            "type": "Warning" if happening.warning else "Normal",
            "note": happening.note.encode()[:_LONGEST].decode("utf-8", "ignore"),
            "regarding": _reference(about),
            **more,
        }


def _reference(thing: Target) -> dict[str, str]:
    found = {"kind": thing.kind, "name": thing.name, "namespace": thing.namespace, "uid": thing.uid}
    return {"apiVersion": kinds.by_name(thing.kind).api_version, **{key: value for key, value in found.items() if value}}


def _micro(moment: datetime) -> str:
    """As Kubernetes' MicroTime wants it: six digits, no more and no less."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
