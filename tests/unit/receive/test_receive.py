"""The body of a webhook call becomes a Delivery whole, or a PayloadError that names the path of the fault."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from remediator.errors import PayloadError, PayloadTooLarge
from remediator.model import AlertStatus
from remediator.receive import Limits, fingerprint

RECORDED = Path(__file__).parent / "payloads" / "alertmanager-0.25.json"


def test_a_recorded_message_of_alertmanager_is_read_whole(receiver):
    delivery = receiver.read(RECORDED.read_bytes())
    firing, resolved = delivery.alerts
    assert (delivery.id, delivery.received_at, delivery.sender) == ("d1", receiver.at, "10.0.0.7")
    assert (delivery.receiver, delivery.status, delivery.truncated) == ("remediator", "firing", 0)
    assert delivery.group_key == '{}:{alertname="CiliumAgentDown"}'
    assert delivery.external_url == "http://alertmanager:9093"
    assert firing.starts_at == datetime(2026, 1, 5, 10, 0, 0, 999999, tzinfo=UTC)  # sent with .9999999: cut, not rounded
    assert (firing.name, firing.status, firing.ends_at) == ("CiliumAgentDown", AlertStatus.FIRING, None)
    assert resolved.status is AlertStatus.RESOLVED
    assert resolved.starts_at == datetime(2026, 1, 5, 8, 0, 0, 123456, tzinfo=UTC)
    assert resolved.starts_at.tzinfo is UTC
    assert resolved.ends_at == datetime(2026, 11, 23, 20, 45, 42, 429415, tzinfo=UTC)
    assert resolved.labels["note"] == 'é\u2028 <&> "q" \\ 😀'
    assert resolved.generator_url == "http://prometheus:9090/graph?a=1&b=2"


def test_our_fingerprint_is_alertmanagers(receiver):
    for alert in receiver.read(RECORDED.read_bytes()).alerts:
        assert fingerprint(alert.labels) == alert.fingerprint
    assert fingerprint({}) == "cbf29ce484222325"


def test_only_what_is_used_is_needed(receiver):
    bare = {"version": "4", "alerts": [{"status": "firing", "labels": {"a": "b"}, "startsAt": "2026-01-05T10:00:00Z"}]}
    delivery = receiver.read(bare)
    (alert,) = delivery.alerts
    assert (alert.name, alert.annotations, alert.ends_at) == ("", {}, None)
    assert alert.fingerprint == fingerprint({"a": "b"})
    assert (delivery.truncated, delivery.receiver, delivery.notification_reason, delivery.extra) == (0, "", "", {})


def test_null_stands_for_an_empty_map_as_go_writes_it(receiver):
    delivery = receiver.read(receiver.payload(receiver.alert(annotations=None), groupLabels=None))
    assert delivery.alerts[0].annotations == {}
    assert delivery.extra == {}


def test_a_group_may_be_empty(receiver):
    assert receiver.read(receiver.payload()).alerts == ()


def test_notification_reason_and_truncation_are_kept(receiver):
    delivery = receiver.read(receiver.payload(notification_reason="repeat interval elapsed", truncatedAlerts=7))
    assert (delivery.notification_reason, delivery.truncated) == ("repeat interval elapsed", 7)


def test_unknown_fields_are_kept_and_common_labels_are_not(receiver):
    payload = receiver.payload(receiver.alert(), receiver.alert(panel={"id": 3}), routeLabels={"team": "net"}, n=10**30, null=None)
    assert receiver.read(payload).extra == {
        "groupLabels": {"alertname": "CiliumAgentDown"},
        "routeLabels": {"team": "net"},
        "n": 1e30,
        "null": None,
        "alerts": {"1": {"panel": {"id": 3}}},
    }


def test_what_was_read_can_be_written(receiver):
    from remediator.model import Delivery, encode, from_json

    delivery = receiver.read(receiver.payload(receiver.alert(x=[1, 2.5, None]), y=-(2**63), z=2**64))
    assert from_json(encode(delivery), Delivery) == delivery


@pytest.mark.parametrize("number", [-(2**63), 1 - 2**63, -(10**18) - 1, -(10**18), 10**18 + 1, 2**63 - 1])
def test_a_whole_number_of_64_bits_keeps_its_last_digits(receiver, number):
    found = receiver.read(receiver.payload(receiver.alert(), n=number)).extra["n"]
    assert (found, type(found)) == (number, int)


@pytest.mark.parametrize("number", [-(2**63) - 1, 2**63, -(10**19), 10**40])
def test_a_larger_one_is_what_a_float_can_hold_of_it(receiver, number):
    found = receiver.read(receiver.payload(receiver.alert(), n=number)).extra["n"]
    assert (found, type(found)) == (float(number), float)


@pytest.mark.parametrize("year", ["2999", "9999"])
def test_a_start_in_the_far_future_is_fine(receiver, year):
    delivery = receiver.read(receiver.payload(receiver.alert(startsAt=f"{year}-12-31T23:59:59Z")))
    assert delivery.alerts[0].starts_at.year == int(year)


WRONG_FIELDS = {
    "version": 4,
    "receiver": 1,
    "status": [],
    "groupKey": {},
    "externalURL": 1.5,
    "truncatedAlerts": "1",
    "groupLabels": [],
    "commonLabels": "x",
    "commonAnnotations": 0,
    "notification_reason": 1,
    "alerts": {},
}


@pytest.mark.parametrize(("field", "value"), WRONG_FIELDS.items())
def test_a_field_of_the_wrong_type_is_named(receiver, field, value):
    with pytest.raises(PayloadError) as caught:
        receiver.read(receiver.payload(**{field: value}))
    assert caught.value.path == field


WRONG_IN_ALERT = [
    ("status", "pending", "alerts[1].status"),
    ("status", None, "alerts[1].status"),
    ("status", ..., "alerts[1].status"),
    ("labels", ..., "alerts[1].labels"),
    ("labels", None, "alerts[1].labels"),
    ("labels", {"a": "b", "n": 1}, "alerts[1].labels.n"),
    ("labels", {"a b": None}, 'alerts[1].labels["a b"]'),
    ("annotations", {"n": ["x"]}, "alerts[1].annotations.n"),
    ("startsAt", ..., "alerts[1].startsAt"),
    ("startsAt", "yesterday", "alerts[1].startsAt"),
    ("startsAt", 1767607200, "alerts[1].startsAt"),
    ("startsAt", "2026-01-05T10:00:00", "alerts[1].startsAt"),
    ("startsAt", "2026-02-30T10:00:00Z", "alerts[1].startsAt"),
    ("startsAt", "2026-01-05 10:00:00Z", "alerts[1].startsAt"),
    ("startsAt", "2026-W01-1T10:00:00Z", "alerts[1].startsAt"),
    ("startsAt", "2026-01-05T24:00:00Z", "alerts[1].startsAt"),
    ("startsAt", "\uff12026-01-05T10:00:00Z", "alerts[1].startsAt"),
    ("startsAt", "", "alerts[1].startsAt"),
    ("startsAt", "0001-01-01T00:00:00Z", "alerts[1].startsAt"),
    ("startsAt", "9999-12-31T23:59:59-05:00", "alerts[1].startsAt"),
    ("endsAt", "2026-01-05T10:00:00", "alerts[1].endsAt"),
    ("endsAt", "9999-12-31T23:59:59-05:00", "alerts[1].endsAt"),
    ("generatorURL", 5, "alerts[1].generatorURL"),
    ("fingerprint", "no spaces", "alerts[1].fingerprint"),
    ("fingerprint", "a" * 65, "alerts[1].fingerprint"),
    ("fingerprint", 12, "alerts[1].fingerprint"),
]


@pytest.mark.parametrize(("field", "value", "path"), WRONG_IN_ALERT)
def test_a_fault_in_an_alert_is_named_by_its_path(receiver, field, value, path):
    with pytest.raises(PayloadError) as caught:
        receiver.read(receiver.payload(receiver.alert(), receiver.alert(**{field: value})))
    assert caught.value.path == path
    assert str(caught.value).startswith(f"{path}: ")


def test_the_words_say_what_was_expected(receiver):
    with pytest.raises(PayloadError, match=r"^receiver: expected a string, got a whole number$"):
        receiver.read(receiver.payload(receiver=1))
    with pytest.raises(PayloadError, match=r"^alerts\[0\]\.startsAt: is required$"):
        receiver.read(receiver.payload(receiver.alert(startsAt=...)))
    with pytest.raises(PayloadError, match=r"not a time: .*with its time zone$"):
        receiver.read(receiver.payload(receiver.alert(startsAt="2026-01-05T10:00:00")))
    with pytest.raises(PayloadError, match=r'^version: expected "4"'):
        receiver.read(receiver.payload(version="3"))


def test_negative_truncation_is_refused(receiver):
    with pytest.raises(PayloadError) as caught:
        receiver.read(receiver.payload(truncatedAlerts=-1))
    assert caught.value.path == "truncatedAlerts"


def test_no_alert_may_hide_another(receiver):
    twins = [receiver.alert(), receiver.alert()]
    assert len(receiver.read(receiver.payload(*twins)).alerts) == 2
    later = receiver.alert(startsAt="2026-01-05T11:00:00Z", labels={"node": "b"})
    assert len(receiver.read(receiver.payload(receiver.alert(), later)).alerts) == 2
    with pytest.raises(PayloadError) as caught:
        receiver.read(receiver.payload(receiver.alert(), receiver.alert(labels={"node": "b"})))
    assert caught.value.path == "alerts[1].fingerprint"


TEXT = '{"version": "4", "alerts": [{"status": "firing", "labels": {"node": %s}, "startsAt": "2026-01-05T10:00:00Z"}]}'
FAULTY_JSON = [
    (b"", ""),
    (b"remediator", ""),
    (b"null", ""),
    (b"[]", ""),
    (b"\xff\xfe{}", ""),
    (b"\xef\xbb\xbf{}", ""),
    (b'{"version": "4", "version": "4"}', "version"),
    (b'{"version": "4"} {}', ""),
    (b'{"version": "4", "x": {"y": [0, NaN]}}', "x.y[1]"),
    (b'{"version": "4", "x": -Infinity}', "x"),
    (b'{"version": "4", "x": 1e999}', "x"),
    (b'{"version": "4", "x": ' + b"9" * 5000 + b"}", "x"),
    (b'{"version": "4", "alerts": [{"labels": {"a": "b", "c": tru', "alerts[0].labels.c"),
    (b'{"version": "4", "alerts": [{}, {"labels": {"a', "alerts[1].labels"),
    ((TEXT % '"a", "node": "b"').encode(), "alerts[0].labels.node"),
    ((TEXT % '"a\\ud800"').encode(), "alerts[0].labels.node"),
    ((TEXT % '"\\udc00\\ud800"').encode(), "alerts[0].labels.node"),
    ((TEXT % '"a\\u0000"').encode(), "alerts[0].labels.node"),
    ((TEXT % '"\x01"').encode(), "alerts[0].labels.node"),
    ((TEXT % '"a"').encode().replace(b'"a"', b'"\xff"'), "alerts[0].labels.node"),
    ((TEXT % '"a"').encode().replace(b'"a"', b'"\xed\xa0\x80"'), "alerts[0].labels.node"),
    ((TEXT % '"a", "\\ud800": "b"').encode(), 'alerts[0].labels["\\ud800"]'),
]


@pytest.mark.parametrize(("body", "path"), FAULTY_JSON)
def test_json_that_is_none_is_refused_where_it_breaks(receiver, body, path):
    with pytest.raises(PayloadError) as caught:
        receiver.read(body)
    assert caught.value.path == path
    assert caught.value.status == 400


@pytest.mark.parametrize("field", ["version", "receiver", "truncatedAlerts", "groupLabels", "alerts"])
def test_a_key_that_occurs_twice_is_refused_even_if_another_is_missing(receiver, field):
    payload = receiver.payload(receiver.alert(), externalURL=...)
    text = json.dumps(payload)[:-1] + f", {json.dumps(field)}: {json.dumps(payload[field])}}}"
    with pytest.raises(PayloadError, match="occurs twice") as caught:
        receiver.read(text.encode())
    assert caught.value.path == field


class TestLimits:
    def test_on_bytes(self, receiver):
        body = json.dumps(receiver.payload(receiver.alert())).encode()
        assert receiver.read(body, Limits(body=len(body)))
        with pytest.raises(PayloadTooLarge, match="at most"):
            receiver.read(body, Limits(body=len(body) - 1))

    def test_on_labels(self, receiver):
        labels = {f"label_{number}": "x" for number in range(10_000)}
        with pytest.raises(PayloadTooLarge) as caught:
            receiver.read(receiver.payload(receiver.alert(), receiver.alert(labels=labels)))
        assert caught.value.path == "alerts[1].labels"
        assert "10000 labels, at most 200" in str(caught.value)
        assert receiver.read(receiver.payload(receiver.alert(labels=labels)), Limits(labels=10_000))

    def test_on_annotations(self, receiver):
        with pytest.raises(PayloadTooLarge) as caught:
            receiver.read(receiver.payload(receiver.alert(annotations={str(n): "" for n in range(201)})))
        assert caught.value.path == "alerts[0].annotations"

    def test_on_alerts(self, receiver):
        alerts = [receiver.alert()] * 3
        assert len(receiver.read(receiver.payload(*alerts), Limits(alerts=3)).alerts) == 3
        with pytest.raises(PayloadTooLarge) as caught:
            receiver.read(receiver.payload(*alerts), Limits(alerts=2))
        assert caught.value.path == "alerts"

    @pytest.mark.parametrize("text", ["x" * 65537, "é" * 32769, "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16") * 16385])
    def test_on_the_bytes_of_a_text(self, receiver, text):
        longest = text[: 65536 // len(text[0].encode())]
        assert receiver.read(receiver.payload(receiver.alert(annotations={"text": longest})))
        with pytest.raises(PayloadTooLarge) as caught:
            receiver.read(receiver.payload(receiver.alert(annotations={"text": text})))
        assert caught.value.path == "alerts[0].annotations.text"

    def test_on_values(self, receiver):
        with pytest.raises(PayloadTooLarge, match="more than 1000 values"):
            receiver.read(receiver.payload(x=[0] * 1001), Limits(values=1000))
        assert receiver.read(receiver.payload(x="," * 1001), Limits(values=1000))

    @pytest.mark.parametrize("left", ["[", '{"a":', '[{"a":'])
    @pytest.mark.parametrize("depth", [1_000, 400_000])
    def test_on_depth_whether_closed_or_not(self, receiver, left, depth):
        right = {"[": "]", "{": "}"}
        closing = "".join(right[char] for char in reversed(left) if char in right)
        for end in ("0" + closing * depth + "}", ""):
            with pytest.raises(PayloadTooLarge, match="nested more than 32 deep") as caught:
                receiver.read(f'{{"version": "4", "x": {left * depth}{end}'.encode())
            assert caught.value.path.startswith("x")

    def test_depth_counts_lists_and_objects_outside_of_text(self, receiver):
        def nested(depth: int) -> str:
            return '{"version": "4", "alerts": [], "x": ' + "[" * (depth - 1) + "]" * (depth - 1) + ', "y": "[[[[\\"[[[["}'

        assert receiver.read(nested(8).encode(), Limits(depth=8))
        with pytest.raises(PayloadTooLarge):
            receiver.read(nested(9).encode(), Limits(depth=8))

    def test_a_long_key_does_not_make_a_long_path(self, receiver):
        with pytest.raises(PayloadError) as caught:
            receiver.read(receiver.payload(receiver.alert(labels={"k" * 60_000: 1})))
        assert len(caught.value.path) < 100
