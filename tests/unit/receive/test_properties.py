"""What holds for every body, not only for those that somebody thought of."""

from __future__ import annotations

import json
import string
from datetime import UTC, datetime, timedelta, timezone
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remediator import receive
from remediator.errors import PayloadError
from remediator.model import Delivery, encode, from_json
from remediator.receive import Limits, parse_delivery

AT = datetime(2026, 1, 5, tzinfo=UTC)
LIMITS = Limits(labels=5, alerts=4, depth=16, text=2_000, values=500)

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
names = st.sampled_from(["alertname", "node", "severity", "été", ":", '"', "\\", "a b"]) | texts
labels = st.dictionaries(names, texts, max_size=5)
zones = st.sampled_from([UTC, timezone(timedelta(hours=2)), timezone(timedelta(hours=-7, minutes=-30))])
times = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=zones)  # noqa: DTZ001 - hypothesis wants naive bounds
scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | texts
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=5)
strange = st.sampled_from(["panelURL", "silenceURL", "values"])


@st.composite
def alerts(draw):
    alert = {
        "status": draw(st.sampled_from(["firing", "resolved"])),
        "labels": draw(labels),
        "annotations": draw(labels),
        "startsAt": draw(times).isoformat(),
        "endsAt": draw(st.just("0001-01-01T00:00:00Z") | times.map(datetime.isoformat)),
        "generatorURL": draw(texts),
        "fingerprint": draw(st.uuids()).hex[:16],
    }
    for name in draw(st.sets(st.sampled_from(["annotations", "endsAt", "generatorURL", "fingerprint"]), max_size=1)):
        del alert[name]
    return alert | draw(st.dictionaries(strange, values, max_size=1))


@st.composite
def payloads(draw):
    payload = {
        "receiver": draw(texts),
        "status": draw(st.sampled_from(["firing", "resolved"])),
        "alerts": draw(st.lists(alerts(), max_size=4, unique_by=lambda a: json.dumps(a["labels"], sort_keys=True))),
        "groupLabels": draw(labels),
        "commonLabels": draw(labels),
        "commonAnnotations": draw(labels),
        "externalURL": draw(texts),
        "version": "4",
        "groupKey": draw(texts),
        "truncatedAlerts": draw(st.integers(0, 2**63 - 1)),
    }
    payload |= draw(st.dictionaries(st.just("notification_reason"), texts, max_size=1))
    for name in draw(st.sets(st.sampled_from(["receiver", "groupLabels", "commonLabels", "groupKey"]), max_size=1)):
        del payload[name]
    return payload | draw(st.dictionaries(strange, values, max_size=1))


def written(payload, draw) -> bytes:
    """One of the ways in which a JSON writer may put it."""
    style = draw(st.sampled_from([{}, {"indent": 1}, {"separators": (",", ":")}, {"separators": (" ,", " : ")}]))
    return json.dumps(payload, ensure_ascii=draw(st.booleans()), **style).encode()


def read(body: bytes) -> Delivery:
    return parse_delivery(body, id="d1", at=AT, sender="", limits=LIMITS)


@given(st.data(), payloads())
@settings(deadline=None)
def test_nothing_of_a_payload_is_lost_or_altered(data, payload):
    delivery = read(written(payload, data.draw))
    assert (delivery.receiver, delivery.group_key) == (payload.get("receiver", ""), payload.get("groupKey", ""))
    assert (delivery.truncated, delivery.external_url) == (payload["truncatedAlerts"], payload["externalURL"])
    assert delivery.notification_reason == payload.get("notification_reason", "")
    for name in ("panelURL", "silenceURL", "values"):
        assert delivery.extra.get(name) == payload.get(name)
    for index, (alert, sent) in enumerate(zip(delivery.alerts, payload["alerts"], strict=True)):
        assert (alert.labels, alert.annotations) == (sent["labels"], sent.get("annotations", {}))
        assert alert.starts_at == datetime.fromisoformat(sent["startsAt"])
        assert alert.fingerprint == sent.get("fingerprint", receive.fingerprint(sent["labels"]))
        unknown = {name: sent[name] for name in ("panelURL", "silenceURL", "values") if name in sent}
        assert delivery.extra.get("alerts", {}).get(str(index), {}) == unknown
    assert from_json(encode(delivery), Delivery) == delivery


@st.composite
def damaged(draw):
    """A payload with some pieces replaced, doubled or cut."""
    body = written(draw(payloads()), draw)
    pieces = st.sampled_from(
        [b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b"\\u0000", b"\\ud800", b"\xff", b"1", b"null", b"NaN", b'"a":"b",']
    )
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(body)))
        end = draw(st.integers(start, min(len(body), start + 30)))
        middle = draw(pieces | st.just(body[start:end] * 2) | st.binary(max_size=4))
        body = body[:start] + middle + body[end:]
    return body


@given(damaged() | st.binary(max_size=200) | st.text(string.printable).map(str.encode))
@settings(deadline=None, max_examples=150)
def test_every_body_is_read_whole_or_refused_with_a_payload_error(body):
    try:
        delivery = read(body)
    except PayloadError as error:
        refusal = error
    else:
        assert from_json(encode(delivery), Delivery) == delivery
        return
    assert refusal.detail
    assert refusal.status in (400, 413)


few_escapes = st.sampled_from([0, 1, 3, receive._MANY_ESCAPES])
"""So many are looked at one by one; of a body with more, all at once."""


@given(damaged(), few_escapes)
@settings(deadline=None, max_examples=150)
def test_what_the_fast_way_takes_the_strict_way_takes_alike(body, few):
    with patch.object(receive, "_MANY_ESCAPES", few):
        fast = receive._fast(body, LIMITS)
    if fast is not None:
        assert receive._strict(body, LIMITS) == (fast, {})


@given(st.lists(st.text('\\"\0/ué', max_size=6), max_size=6), few_escapes)
@settings(deadline=None)
def test_the_quotes_around_texts_are_counted_and_a_nul_is_seen(spoken, few):
    with patch.object(receive, "_MANY_ESCAPES", few):
        counted = receive._quotes(json.dumps(spoken).encode())
    nul = any("\0" in text for text in spoken)
    assert counted == (-1 if nul else 2 * len(spoken))


@given(payloads(), st.data())
@settings(deadline=None)
def test_a_doubled_key_is_never_read(payload, data):
    holders = [payload, *payload["alerts"], *[alert["labels"] for alert in payload["alerts"] if alert["labels"]]]
    holder = data.draw(st.sampled_from(holders))
    key = data.draw(st.sampled_from(sorted(holder)))
    text = json.dumps(payload)
    holder["its second place"] = holder[key]
    doubled = json.dumps(payload).replace('"its second place"', json.dumps(key))
    assert doubled != text
    with pytest.raises(PayloadError, match="occurs twice"):
        read(doubled.encode())
