"""An Alertmanager: keeps alerts and silences, groups alerts by receiver, and posts them as webhook payload version 4.

In come alerts; out go HTTP posts with a bearer token. As the real one: first after ``group_wait``, then every ``group_interval`` if
anything changed, again after ``repeat_interval``; 5xx and broken connections are tried again until the next interval, 4xx never. All
waiting is on the simulated clock.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import aiohttp
import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from remediator.clock import Clock
    from remediator.sim.alerting.alert import Alert
    from remediator.sim.alerting.silences import Matcher, Silence

__all__ = ["Alertmanager", "Notification", "Receiver"]

_RESOLVE_TIMEOUT = timedelta(minutes=5)
_FIRST_RETRY, _LONGEST_RETRY = timedelta(milliseconds=500), timedelta(minutes=1)
_DEADLINE = aiohttp.ClientTimeout(total=30)
_OK, _REFUSED, _BROKEN = 200, 400, 500
_log = structlog.get_logger()


@dataclass(frozen=True)
class Receiver:
    """Where alerts are posted, and when. Each receiver gets every alert that its matchers fit."""

    url: str
    token: str = ""
    name: str = "remediator"
    group_by: tuple[str, ...] = ("alertname",)
    group_wait: timedelta = timedelta(seconds=10)
    group_interval: timedelta = timedelta(seconds=30)
    repeat_interval: timedelta = timedelta(hours=4)
    send_resolved: bool = True
    max_alerts: int = 0
    """0: no limit; otherwise the payload is cut and says so in ``truncatedAlerts``."""
    matchers: tuple[Matcher, ...] = ()


@dataclass(frozen=True)
class Notification:
    """One post, for tests and the request log."""

    at: datetime
    receiver: str
    payload: dict[str, Any]
    status: int
    """0 if nothing came back."""


@dataclass
class _Group:
    receiver: Receiver
    labels: dict[str, str]
    members: dict[str, Alert] = field(default_factory=dict)
    told_firing: frozenset[str] = frozenset()
    told_resolved: frozenset[str] = frozenset()
    told_at: datetime | None = None

    @property
    def key(self) -> str:
        inner = ", ".join(f"{k}={json.dumps(v)}" for k, v in sorted(self.labels.items()))
        return f"{{}}:{{{inner}}}"


class Alertmanager:
    """The state of one Alertmanager and its dispatcher."""

    def __init__(self, clock: Clock, after: Callable[..., None], *, external_url: str = "http://alertmanager.invalid") -> None:
        self.clock = clock
        self.external_url = external_url
        self.receivers: list[Receiver] = []
        self.silences: dict[str, Silence] = {}
        self.alerts: dict[str, Alert] = {}
        self.sent: list[Notification] = []
        self._after = after
        self._groups: dict[tuple[str, tuple[tuple[str, str], ...]], _Group] = {}
        self._posts: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None

    async def stop(self) -> None:
        """Post nothing more."""
        posts = [*self._posts]
        for post in posts:
            post.cancel()
        await asyncio.gather(*posts, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
            self._session = None

    # --- alerts ------------------------------------------------------------------------------------------------------

    def receive(self, alerts: Iterable[Alert]) -> None:
        """Take alerts in, as ``POST /api/v2/alerts`` does."""
        now = self.clock.now()
        for alert in alerts:
            old = self.alerts.get(alert.fingerprint)
            kept = alert.merged_into(old) if old is not None and not old.resolved(now) else alert
            if old is None and kept.resolved(now):
                continue
            self.alerts[kept.fingerprint] = kept
            for receiver in self.receivers:
                if all(m.fits(kept.labels) for m in receiver.matchers):
                    self._group(receiver, kept)

    def open_alerts(self) -> list[Alert]:
        """Those that are not over, by labels."""
        now = self.clock.now()
        return sorted((a for a in self.alerts.values() if not a.resolved(now)), key=lambda a: sorted(a.labels.items()))

    def silenced_by(self, alert: Alert) -> list[str]:
        """The ids of active silences that fit."""
        now = self.clock.now()
        return sorted(s.id for s in self.silences.values() if s.state(now) == "active" and s.fits(alert.labels))

    def receivers_of(self, alert: Alert) -> list[str]:
        """The names of the receivers that get it."""
        return [r.name for r in self.receivers if all(m.fits(alert.labels) for m in r.matchers)]

    def silence(self, silence: Silence) -> str:
        """Add or replace a silence; returns its id."""
        self.silences[silence.id] = silence
        return silence.id

    # --- groups ------------------------------------------------------------------------------------------------------

    def add_receiver(self, receiver: Receiver) -> None:
        """Post to one more receiver, beginning with the alerts that are open now."""
        self.receivers.append(receiver)
        for alert in self.open_alerts():
            if all(m.fits(alert.labels) for m in receiver.matchers):
                self._group(receiver, alert)

    def _group(self, receiver: Receiver, alert: Alert) -> None:
        labels = {name: alert.labels[name] for name in receiver.group_by if name in alert.labels}
        if receiver.group_by == ("...",):
            labels = alert.labels
        key = f"{receiver.name} {receiver.url}", tuple(sorted(labels.items()))
        group = self._groups.get(key)
        if group is None:
            if alert.resolved(self.clock.now()):
                return
            group = self._groups[key] = _Group(receiver, labels)
            self._after(receiver.group_wait, self._flush, key)
        group.members[alert.fingerprint] = alert

    def _flush(self, key: tuple[str, tuple[tuple[str, str], ...]]) -> None:
        group = self._groups.get(key)
        if group is None:
            return
        if not group.members:
            del self._groups[key]
            return
        now = self.clock.now()
        wanted = [a for a in group.members.values() if not self.silenced_by(a)]
        firing = frozenset(a.fingerprint for a in wanted if not a.resolved(now))
        resolved = frozenset(a.fingerprint for a in wanted if a.resolved(now))
        if wanted and self._worth_telling(group, firing, resolved, now):
            shown = [a for a in wanted if group.receiver.send_resolved or not a.resolved(now)]
            task = asyncio.get_running_loop().create_task(self._notify(group, shown, firing, resolved))
            self._posts.add(task)
            task.add_done_callback(self._posts.discard)
        elif not firing:
            self._drop_resolved(group, resolved)
        self._after(group.receiver.group_interval, self._flush, key)

    def _worth_telling(self, group: _Group, firing: frozenset[str], resolved: frozenset[str], now: datetime) -> bool:
        """Alertmanager's DedupStage."""
        if group.told_at is None:
            return bool(firing)
        if not firing <= group.told_firing:
            return True
        if not firing:
            return bool(group.told_firing) and group.receiver.send_resolved
        if group.receiver.send_resolved and not resolved <= group.told_resolved:
            return True
        return now - group.told_at >= group.receiver.repeat_interval

    async def _notify(self, group: _Group, alerts: list[Alert], firing: frozenset[str], resolved: frozenset[str]) -> None:
        payload = self.payload(group.receiver, group.labels, group.key, alerts)
        deadline = self.clock.now() + group.receiver.group_interval
        pause = _FIRST_RETRY
        while True:
            status = await self._post(group.receiver, payload)
            self.sent.append(Notification(self.clock.now(), group.receiver.name, payload, status))
            if _OK <= status < _REFUSED:
                group.told_firing, group.told_resolved, group.told_at = firing, resolved, self.clock.now()
                self._drop_resolved(group, resolved)
                return
            if _REFUSED <= status < _BROKEN or self.clock.now() + pause >= deadline:
                _log.warning("notification_lost", receiver=group.receiver.name, status=status)
                return
            await self.clock.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_RETRY)

    def _drop_resolved(self, group: _Group, resolved: frozenset[str]) -> None:
        now = self.clock.now()
        for name in resolved:
            member = group.members.get(name)
            if member is not None and member.resolved(now):
                del group.members[name]

    def payload(self, receiver: Receiver, labels: dict[str, str], key: str, alerts: list[Alert]) -> dict[str, Any]:
        """The webhook body, version 4."""
        now = self.clock.now()
        ordered = sorted(alerts, key=lambda a: (a.labels.get("job", ""), a.labels.get("instance", ""), sorted(a.labels.items())))
        shown = ordered[: receiver.max_alerts] if receiver.max_alerts else ordered
        status: Literal["firing", "resolved"] = "firing" if any(not a.resolved(now) for a in ordered) else "resolved"
        return {
            "receiver": receiver.name,
            "status": status,
            "alerts": [a.webhook(now) for a in shown],
            "groupLabels": labels,
            "commonLabels": _common([a.labels for a in ordered]),
            "commonAnnotations": _common([a.annotations for a in ordered]),
            "externalURL": self.external_url,
            "version": "4",
            "groupKey": key,
            "truncatedAlerts": len(ordered) - len(shown),
        }

    async def _post(self, receiver: Receiver, payload: dict[str, Any]) -> int:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=_DEADLINE)
        headers = {"User-Agent": "Alertmanager/simulated"}
        if receiver.token:
            headers["Authorization"] = f"Bearer {receiver.token}"
        try:
            async with self._session.post(receiver.url, json=payload, headers=headers) as answer:
                await answer.read()
                return answer.status
        except (aiohttp.ClientError, TimeoutError, OSError):
            return 0


def _common(maps: list[dict[str, str]]) -> dict[str, str]:
    first, *others = maps
    return {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}


def new_silence_id() -> str:
    """A random id."""
    return str(uuid.uuid4())


def assumed_end(now: datetime) -> datetime:
    """When an alert ends whose sender named no end."""
    return now + _RESOLVE_TIMEOUT
