"""One alert as Alertmanager keeps it, with its fingerprint and its JSON.

In come labels, annotations and times; out come fingerprints as Alertmanager computes them and the shapes of its API and webhook.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ZERO_TIME", "Alert", "fingerprint", "go_time"]

ZERO_TIME = "0001-01-01T00:00:00Z"
_OFFSET, _PRIME = 14695981039346656037, 1099511628211


def fingerprint(labels: Mapping[str, str]) -> str:
    """FNV-1a, 64 bit, over sorted names and values with 0xff after each (prometheus/common ``labelsToSignature``)."""
    value = _OFFSET
    for name in sorted(labels):
        for part in (name, labels[name]):
            for byte in (*part.encode(), 0xFF):
                value = ((value ^ byte) * _PRIME) & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def go_time(moment: datetime) -> str:
    """RFC 3339 as Go writes it: a fraction only where there is one, without trailing zeros."""
    text = moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f").rstrip("0").rstrip(".")
    return f"{text}Z"


@dataclass(frozen=True)
class Alert:
    """One alert. It is resolved when its end has come."""

    labels: dict[str, str]
    annotations: dict[str, str]
    starts_at: datetime
    ends_at: datetime
    updated_at: datetime
    generator_url: str = ""
    timeout: bool = False
    """Whether the end is only assumed, because the sender named none."""

    @property
    def fingerprint(self) -> str:
        """Its key."""
        return fingerprint(self.labels)

    def resolved(self, now: datetime) -> bool:
        """Whether it is over."""
        return self.ends_at <= now

    def merged_into(self, old: Alert) -> Alert:
        """What is kept when an alert that is still open comes again: the earlier start, a given end over an assumed one."""
        end = old.ends_at if self.timeout and not old.timeout and old.ends_at > self.ends_at else self.ends_at
        return replace(self, starts_at=min(self.starts_at, old.starts_at), ends_at=end)

    def webhook(self, now: datetime) -> dict[str, Any]:
        """As an element of the webhook's ``alerts``."""
        resolved = self.resolved(now)
        return {
            "status": "resolved" if resolved else "firing",
            "labels": self.labels,
            "annotations": self.annotations,
            "startsAt": go_time(self.starts_at),
            "endsAt": go_time(self.ends_at) if resolved else ZERO_TIME,
            "generatorURL": self.generator_url,
            "fingerprint": self.fingerprint,
        }

    def api(self, receivers: list[str], silenced_by: list[str]) -> dict[str, Any]:
        """As an element of ``GET /api/v2/alerts``."""
        state = "suppressed" if silenced_by else "active"
        return {
            "annotations": self.annotations,
            "endsAt": _milliseconds(self.ends_at),
            "fingerprint": self.fingerprint,
            "receivers": [{"name": name} for name in receivers],
            "startsAt": _milliseconds(self.starts_at),
            "status": {"inhibitedBy": [], "mutedBy": [], "silencedBy": silenced_by, "state": state},
            "updatedAt": _milliseconds(self.updated_at),
            **({"generatorURL": self.generator_url} if self.generator_url else {}),
            "labels": self.labels,
        }


def _milliseconds(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
