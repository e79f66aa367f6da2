"""Receive: the body of a webhook call in, a Delivery out, or a PayloadError that names the path of the fault. Pure: no clock, no disk.

The body is Alertmanager's payload v4, from 0.25 to today. Needed are ``version`` ("4"), ``alerts`` and of each alert ``status``, ``labels``
and ``startsAt``; everything else may be missing. Fields that are not known here are kept in ``Delivery.extra`` and never refused; those
of alert 3 under ``extra["alerts"]["3"]``. ``groupLabels`` is kept in ``extra`` too. ``commonLabels`` and ``commonAnnotations`` are checked
and dropped: nothing may be decided on them, and they follow from the alerts.

Two ways lead to the same Delivery. The fast one lets msgspec decode into structs whose fields are all required and then counts quotes: if
the body has no more strings than the structs account for, then no key occurs twice and none is unknown. Whatever does not fit goes the
strict way (``remediator.payload``), which tells unknown from wrong and knows the path of a fault. A property test holds the two equal.

Decisions: an alert without ``alertname`` is kept with the name "". ``endsAt`` is None where Alertmanager sends the zero time. ``startsAt``
must be a real time, since it is half of an episode's key. A ``fingerprint`` is the sender's own key, by which it is asked about the alert
later, so it is kept as sent; only a missing one is computed, as Alertmanager does. Two alerts of one delivery with the same fingerprint
and ``startsAt`` but different labels are refused, because one would hide the other.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Self

import msgspec

from remediator.errors import PayloadError, PayloadTooLarge
from remediator.model import Alert, AlertStatus, Delivery
from remediator.payload import Limits, convert, spell, strict

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Kept", "Limits", "fingerprint", "parse_delivery"]


class Kept(NamedTuple):
    """A delivery that is on disk, as far as its sender and the counters ask: it need not be in memory any more."""

    id: str
    received_at: datetime
    firing: int
    """Alerts; so are ``resolved``, and ``truncated``, which the sender left out."""
    resolved: int
    truncated: int

    @classmethod
    def of(cls, delivery: Delivery) -> Self:
        """What is told of this one."""
        resolved = [alert.status for alert in delivery.alerts].count(AlertStatus.RESOLVED)
        return cls(delivery.id, delivery.received_at, len(delivery.alerts) - resolved, resolved, delivery.truncated)

    @property
    def alerts(self) -> int:
        """How many came with it."""
        return self.firing + self.resolved


class _Alert(msgspec.Struct, rename="camel", gc=False):
    """One alert on the wire (``template/template.go`` of Alertmanager)."""

    status: AlertStatus
    labels: dict[str, str]
    annotations: dict[str, str]
    starts_at: str
    ends_at: str
    generator_url: str = msgspec.field(name="generatorURL")
    fingerprint: str


class _Payload(msgspec.Struct, rename="camel", kw_only=True):
    """The whole message (``notify/webhook/webhook.go``); only ``notification_reason`` came later and may be missing."""

    version: str
    receiver: str
    status: str
    alerts: list[_Alert]
    group_labels: dict[str, str]
    common_labels: dict[str, str]
    common_annotations: dict[str, str]
    group_key: str
    truncated_alerts: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    external_url: str = msgspec.field(name="externalURL")
    notification_reason: str | None = msgspec.field(name="notification_reason", default=None)


_ZERO_TIME = "0001-01-01T00:00:00Z"
_OPTIONAL: dict[str, Any] = {
    "receiver": "",
    "status": "",
    "groupKey": "",
    "externalURL": "",
    "truncatedAlerts": 0,
    "groupLabels": {},
    "commonLabels": {},
    "commonAnnotations": {},
}
_OPTIONAL_OF_ALERT: dict[str, Any] = {"annotations": {}, "endsAt": _ZERO_TIME, "generatorURL": "", "fingerprint": ""}
_FIELDS = frozenset(_Payload.__struct_encode_fields__)
_FIELDS_OF_ALERT = frozenset(_Alert.__struct_encode_fields__)
_STRINGS = 10 + 5
"""Keys that every payload has, and those of their values that are strings."""
_STRINGS_OF_ALERT = 7 + 5
_MANY_ESCAPES = 1000
_DECODER = msgspec.json.Decoder(_Payload)
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)", re.ASCII)
_FINGERPRINT = re.compile(r"[0-9A-Za-z._:-]{1,64}", re.ASCII)
_FINGERPRINTS = re.compile(rf"(?:{_FINGERPRINT.pattern},)*{_FINGERPRINT.pattern}", re.ASCII)
_DEFAULT = Limits()


def parse_delivery(body: bytes, *, id: str, at: datetime, sender: str = "", limits: Limits = _DEFAULT) -> Delivery:  # noqa: A002 - the noun's own field
    """The delivery that ``body`` holds, under ``id``, received ``at`` (aware, UTC) from ``sender``.

    Raises PayloadError, or PayloadTooLarge beyond ``limits``. A body of 10 alerts (5 KB) takes some tens of microseconds; a hostile one of
    4 MiB may take a good part of a second, so callers parse large bodies off the event loop.
    """
    extra: dict[str, Any] = {}
    payload = _fast(body, limits)
    if payload is None:
        payload, extra = _strict(body, limits)
    if payload.group_labels:
        extra["groupLabels"] = payload.group_labels
    alerts = _plain_alerts(payload.alerts, limits) or tuple([_alert(wire, index, limits) for index, wire in enumerate(payload.alerts)])
    _refuse_clash(alerts)
    return Delivery(
        id=id,
        received_at=at,
        receiver=payload.receiver,
        group_key=payload.group_key,
        status=payload.status,
        truncated=payload.truncated_alerts,
        alerts=alerts,
        external_url=payload.external_url,
        notification_reason=payload.notification_reason or "",
        sender=sender,
        extra=extra,
    )


def fingerprint(labels: dict[str, str]) -> str:
    """Alertmanager's fingerprint of a label set: 64-bit FNV-1a, 16 hex digits (``model/signature.go`` of prometheus/common)."""
    total = 0xCBF29CE484222325
    for name in sorted(labels):
        for byte in b"%b\xff%b\xff" % (name.encode(), labels[name].encode()):
            total = (total ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{total:016x}"


def _fast(body: bytes, limits: Limits) -> _Payload | None:
    """The payload if it is one beyond doubt: known fields only, each once, no text that might be too long or hold a NUL."""
    if len(body) > limits.body:
        return None
    try:
        payload = _DECODER.decode(body)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors; the strict way finds the words
        return None
    if payload.version != "4" or len(payload.alerts) > limits.alerts or 2 * _strings(payload) != _quotes(body):
        return None
    return payload if len(body) <= limits.text or _short(payload, limits.text // 4) else None


def _quotes(body: bytes) -> int:
    """How many quotes open or close a string in ``body``, which is JSON; -1 if a string holds a NUL."""
    quotes = body.count(b'"')
    # A body has few escapes, and looking at each is quicker than any search for two bytes in all of it.
    at = body.find(b"\\")
    for _ in range(_MANY_ESCAPES):
        if at < 0:
            return quotes
        if body.startswith(b'"', at + 1):
            quotes -= 1
        elif body.startswith(b"u0000", at + 1):
            return -1
        at = body.find(b"\\", at + 2)  # the byte after a backslash is no backslash of its own
    if b"\\u0000" in body:
        return -1
    body = body.replace(b"\\\\", b"")  # what is left before a quote escapes it
    return body.count(b'"') - body.count(b'\\"')


def _strings(payload: _Payload) -> int:
    """How many strings, keys included, a body must have to be read as ``payload``: every field but one of them is there."""
    members = len(payload.group_labels) + len(payload.common_labels) + len(payload.common_annotations)
    for alert in payload.alerts:
        members += len(alert.labels) + len(alert.annotations)
    reason = 0 if payload.notification_reason is None else 2
    return _STRINGS + reason + _STRINGS_OF_ALERT * len(payload.alerts) + 2 * members


def _short(payload: _Payload, limit: int) -> bool:
    """Whether every text has at most ``limit`` characters (so at most four times as many bytes)."""
    texts = [payload.receiver, payload.status, payload.group_key, payload.external_url, payload.notification_reason or ""]
    maps = [payload.group_labels, payload.common_labels, payload.common_annotations]
    for alert in payload.alerts:
        texts += (alert.generator_url, alert.fingerprint, alert.starts_at, alert.ends_at)
        maps += (alert.labels, alert.annotations)
    for pairs in maps:
        texts += pairs.keys()
        texts += pairs.values()
    return max(map(len, texts)) <= limit


def _strict(body: bytes, limits: Limits) -> tuple[_Payload, dict[str, Any]]:
    """The payload and its unknown fields; PayloadError with the path of the first fault."""
    data = strict(body, limits)
    if not isinstance(data, dict):
        raise PayloadError("expected an object, Alertmanager's payload version 4")
    if data.get("version") != "4":
        raise PayloadError('expected "4", the version of payload that this program reads', path="version")
    known, extra = _split(data, _FIELDS, _OPTIONAL)
    alerts = known.get("alerts")
    if isinstance(alerts, list):
        if len(alerts) > limits.alerts:
            raise PayloadTooLarge(f"{len(alerts)} alerts, at most {limits.alerts} are taken", path="alerts")
        pairs = [_split(item, _FIELDS_OF_ALERT, _OPTIONAL_OF_ALERT) for item in alerts]
        known["alerts"] = [pair[0] for pair in pairs]
        of_alerts = {str(index): pair[1] for index, pair in enumerate(pairs) if pair[1]}
        if of_alerts:
            extra["alerts"] = of_alerts
    return convert(known, _Payload), extra


def _split(data: Any, fields: frozenset[str], optional: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Known fields, with defaults where one is missing or null, and the unknown ones."""
    if not isinstance(data, dict):
        return data, {}
    known = {key: value for key, value in data.items() if key in fields}
    known.update({key: value for key, value in optional.items() if known.get(key) is None})
    return known, {key: value for key, value in data.items() if key not in fields}


def _plain_alerts(wires: Sequence[_Alert], limits: Limits) -> tuple[Alert, ...]:
    """All of them if nothing is wrong or missing in any; else none, and each is looked at by itself to find the words."""
    if not _FINGERPRINTS.fullmatch(",".join([wire.fingerprint for wire in wires])):
        return ()
    if max(map(len, [wire.labels for wire in wires] + [wire.annotations for wire in wires])) > limits.labels:
        return ()
    try:
        alerts = [
            Alert(
                name=wire.labels.get("alertname", ""),
                fingerprint=wire.fingerprint,
                starts_at=_beginning(wire.starts_at),
                ends_at=_moment(wire.ends_at),
                status=wire.status,
                labels=wire.labels,
                annotations=wire.annotations,
                generator_url=wire.generator_url,
            )
            for wire in wires
        ]
    except (ValueError, OverflowError):
        return ()
    return tuple(alerts)


def _alert(wire: _Alert, index: int, limits: Limits) -> Alert:
    if len(wire.labels) > limits.labels or len(wire.annotations) > limits.labels:
        which = "labels" if len(wire.labels) > limits.labels else "annotations"
        count = len(getattr(wire, which))
        raise PayloadTooLarge(f"{count} {which}, at most {limits.labels} are taken", path=spell(["alerts", index, which]))
    key = wire.fingerprint or fingerprint(wire.labels)
    if not _FINGERPRINT.fullmatch(key):
        raise PayloadError("expected hexadecimal digits, at most 64", path=spell(["alerts", index, "fingerprint"]))
    starts_at = _time(wire.starts_at, index, "startsAt")
    if starts_at is None:
        raise PayloadError("the zero time; an episode needs its beginning", path=spell(["alerts", index, "startsAt"]))
    return Alert(
        name=wire.labels.get("alertname", ""),
        fingerprint=key,
        starts_at=starts_at,
        ends_at=_time(wire.ends_at, index, "endsAt"),
        status=wire.status,
        labels=wire.labels,
        annotations=wire.annotations,
        generator_url=wire.generator_url,
    )


def _time(text: str, index: int, field: str) -> datetime | None:
    try:
        return _moment(text)
    except (ValueError, OverflowError) as error:
        raise PayloadError(f"not a time: {error}", path=spell(["alerts", index, field])) from None


@lru_cache(maxsize=1024)
def _moment(text: str) -> datetime | None:
    """An RFC 3339 time in UTC, cut to microseconds, or None for Go's zero time. Alerts of a group often share theirs, hence the cache.

    It is cut and not rounded, as Alertmanager's API cuts its times: rounding up would make the two disagree on the millisecond.
    """
    if not _RFC3339.fullmatch(text):
        raise ValueError('write it as "2026-01-05T10:00:00Z", with its time zone')
    moment = datetime.fromisoformat(text)
    return None if moment.year == 1 else moment.astimezone(UTC)


@lru_cache(maxsize=1024)
def _beginning(text: str) -> datetime:
    """As ``_moment``, for a time that must not be the zero time."""
    moment = _moment(text)
    if moment is None:
        raise ValueError("the zero time")
    return moment


def _refuse_clash(alerts: Sequence[Alert]) -> None:
    """No alert may hide another one of the same delivery by having its key."""
    if len({alert.fingerprint for alert in alerts}) == len(alerts):
        return
    first: dict[tuple[str, datetime], int] = {}
    for index, alert in enumerate(alerts):
        other = first.setdefault(alert.episode, index)
        if alerts[other].labels != alert.labels:
            detail = f"the same as that of alerts[{other}], though the labels differ"
            raise PayloadError(detail, path=spell(["alerts", index, "fingerprint"]))
