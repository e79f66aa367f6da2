"""What Prometheus and Alertmanager answer, as our nouns.

In: the bytes of their JSON. Out: Samples, ActiveAlerts. Refused (Unusable): anything that a decision could misread: ranges, strings,
histograms, NaN, answers with warnings (Thanos and remote reads say so when they are partial). Unknown fields are skipped.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from remediator.model import Noun, from_json
from remediator.monitoring.errors import AlertmanagerUnusable, PrometheusUnusable, cut

__all__ = [
    "ActiveAlert",
    "Match",
    "NaN",
    "Sample",
    "Silence",
    "read_alerts",
    "read_complaint",
    "read_configuration",
    "read_points",
    "read_samples",
    "read_silence_id",
    "read_silences",
]

NaN = Literal["refuse", "drop", "keep"]


class Sample(Noun, frozen=True, kw_only=True):
    """One series of an instant query: its labels, its value, and the moment it was evaluated at."""

    labels: dict[str, str]
    value: float
    at: datetime


class ActiveAlert(Noun, frozen=True, kw_only=True):
    """One alert that Alertmanager holds as firing, muted or not.

    ``fingerprint`` is that of the webhook. ``starts_at`` is the webhook's cut to milliseconds: so the API writes times (seen with 0.25).
    """

    fingerprint: str
    starts_at: datetime
    labels: dict[str, str]
    silenced_by: tuple[str, ...] = ()
    """Ids of the silences that mute it."""
    inhibited_by: tuple[str, ...] = ()
    """Fingerprints of the alerts that inhibit it."""

    @property
    def muted(self) -> bool:
        """Nobody would be told of it."""
        return bool(self.silenced_by or self.inhibited_by)


class Match(Noun, frozen=True, kw_only=True, rename="camel"):
    """One matcher of a silence, as its API has it."""

    name: str
    value: str
    is_regex: bool = False
    is_equal: bool = True


class Silence(Noun, frozen=True, kw_only=True):
    """One silence, also one that is over."""

    id: str
    matchers: tuple[Match, ...]
    starts_at: datetime
    ends_at: datetime
    created_by: str
    comment: str
    over: bool


class _Data(msgspec.Struct):
    result_type: str = msgspec.field(name="resultType")
    result: msgspec.Raw


class _Answer(msgspec.Struct):
    status: str
    data: _Data | None = None
    warnings: list[str] | None = None


class _Complaint(msgspec.Struct):
    error: str = ""


class _Series(msgspec.Struct):
    metric: dict[str, str] = {}
    value: tuple[float, str] | None = None


class _Range(msgspec.Struct):
    values: list[tuple[float, str]] = []


class _AlertStatus(msgspec.Struct):
    silenced_by: tuple[str, ...] | None = msgspec.field(default=None, name="silencedBy")
    inhibited_by: tuple[str, ...] | None = msgspec.field(default=None, name="inhibitedBy")


class _Alert(msgspec.Struct):
    fingerprint: str
    starts_at: datetime = msgspec.field(name="startsAt")
    labels: dict[str, str]
    status: _AlertStatus = msgspec.field(default_factory=_AlertStatus)


class _State(msgspec.Struct):
    state: str


class _Silence(msgspec.Struct, rename="camel"):
    id: str
    matchers: tuple[Match, ...]
    starts_at: datetime
    ends_at: datetime
    created_by: str
    comment: str
    status: _State


class _Made(msgspec.Struct):
    id: str = msgspec.field(name="silenceID")


class _Written(msgspec.Struct):
    original: str


class _Status(msgspec.Struct):
    config: _Written


def read_samples(body: bytes, *, nan: NaN = "refuse") -> list[Sample]:
    """The samples of an answer to ``/api/v1/query``; a scalar is one without labels. ``nan``: what to do with a value that is none."""
    answer: _Answer = _decode(body, _Answer)
    if answer.status != "success" or answer.data is None:
        raise PrometheusUnusable(f"not a result: status {cut(answer.status)}")
    if answer.warnings:
        raise PrometheusUnusable(f"the result may be partial: {cut('; '.join(answer.warnings))}")
    samples = [_sample(series) for series in _series(answer.data)]
    return _numbers(samples, nan)


def read_points(body: bytes) -> list[tuple[datetime, float]]:
    """The first series of an answer to ``/api/v1/query_range``, for a drawing; nothing may be decided by it."""
    answer: _Answer = _decode(body, _Answer)
    if answer.status != "success" or answer.data is None or answer.data.result_type != "matrix":
        raise PrometheusUnusable("not the result of a range query")
    ranges: list[_Range] = _decode(answer.data.result, list[_Range])
    points = [(datetime.fromtimestamp(at, UTC), float(value)) for at, value in (ranges[0].values if ranges else ())]
    return [(at, value) for at, value in points if math.isfinite(value)]


def read_complaint(body: bytes) -> str:
    """What Prometheus says is wrong with the query, or the body itself where it is not Prometheus that speaks."""
    try:
        told = from_json(body, _Complaint).error
    except (msgspec.MsgspecError, UnicodeDecodeError):
        told = ""
    return cut(told or body[:1024].decode("utf-8", "replace")) or "no further word"


def read_alerts(body: bytes) -> list[ActiveAlert]:
    """The alerts of an answer to ``/api/v2/alerts``."""
    try:
        found = from_json(body, list[_Alert])
        return [_active(alert) for alert in found]
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise AlertmanagerUnusable(f"not an answer of its API v2: {cut(str(error))}") from error


def read_silences(body: bytes) -> list[Silence]:
    """The silences of an answer to ``/api/v2/silences``."""
    try:
        found = from_json(body, list[_Silence])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise AlertmanagerUnusable(f"not an answer of its API v2: {cut(str(error))}") from error
    return [
        Silence(
            id=one.id,
            matchers=one.matchers,
            starts_at=one.starts_at,
            ends_at=one.ends_at,
            created_by=one.created_by,
            comment=one.comment,
            over=one.status.state == "expired",
        )
        for one in found
    ]


def read_silence_id(body: bytes) -> str:
    """The id of a silence that was just made."""
    try:
        return from_json(body, _Made).id
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise AlertmanagerUnusable(f"not an answer of its API v2: {cut(str(error))}") from error


def read_configuration(body: bytes) -> str:
    """The configuration in an answer to ``/api/v2/status``: YAML, written anew by Alertmanager, with secrets as ``<secret>``."""
    try:
        return from_json(body, _Status).config.original
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise AlertmanagerUnusable(f"not an answer of its API v2: {cut(str(error))}") from error


def _active(alert: _Alert) -> ActiveAlert:
    if alert.starts_at.tzinfo is None:
        raise AlertmanagerUnusable(f"startsAt of {cut(alert.fingerprint)} names no time zone")
    return ActiveAlert(
        fingerprint=alert.fingerprint,
        starts_at=alert.starts_at.astimezone(UTC),
        labels=alert.labels,
        silenced_by=alert.status.silenced_by or (),
        inhibited_by=alert.status.inhibited_by or (),
    )


def _decode(body: bytes | msgspec.Raw, kind: Any) -> Any:
    try:
        return from_json(body, kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise PrometheusUnusable(f"not an answer of its query API: {cut(str(error))}") from error


def _series(data: _Data) -> list[_Series]:
    match data.result_type:
        case "vector":
            found: list[_Series] = _decode(data.result, list[_Series])
            return found
        case "scalar":
            return [_Series(value=_decode(data.result, tuple[float, str]))]
        case other:
            raise PrometheusUnusable(f"the query gives a {cut(other)}; write one that gives an instant vector or a scalar")


def _sample(series: _Series) -> Sample:
    if series.value is None:
        raise PrometheusUnusable("the query gives histograms; write one that gives numbers")
    at, value = series.value
    try:
        return Sample(labels=series.metric, value=float(value), at=datetime.fromtimestamp(at, UTC))
    except (ValueError, OverflowError, OSError) as error:
        raise PrometheusUnusable(f"not a number at a time: {cut(str(series.value))}") from error


def _numbers(samples: list[Sample], nan: NaN) -> list[Sample]:
    none = [sample for sample in samples if math.isnan(sample.value)]
    if not none or nan == "keep":
        return samples
    if nan == "drop":
        return [sample for sample in samples if not math.isnan(sample.value)]
    raise PrometheusUnusable(f"no number (NaN) for {len(none)} of {len(samples)} series, first {cut(str(none[0].labels))}")
