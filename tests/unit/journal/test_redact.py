"""What the redactor takes out, what it leaves alone, and that its fast paths see what the slow one sees."""

from __future__ import annotations

import base64
import time
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from remediator.journal import Redactor
from remediator.journal.redact import _HINTS, _KEYS, MARK, _scan_for, secrets_of
from remediator.model import Alert, AlertStatus, Delivery, Pause, Target, encode, from_json

TOKEN = 'a/"Tok\\en"+1 &value'
REDACTOR = Redactor([TOKEN, " spaced-secret\n", "", "abc"])

SECRET_KEYS = [
    "authorization",
    "Authorization",
    "Proxy-Authorization",
    "token",
    "X-Auth-Token",
    "webhook_token",
    "accessToken",
    "authtoken",
    "DB_PASSWORD",
    "password",
    "db-password-2",
    "passwd",
    "passphrase",
    "secret",
    "client_secret",
    "clientSecret",
    "api_key",
    "apiKey",
    "APIKey",
    "api-key",
    "apikey",
    "aws_secret_access_key",
    "privateKey",
    "tls.private.key",
    "credentials",
    "set-cookie",
    "jwt",
    "token_value",
    "password_hash",
    "AuthorizationHeader",
    "tokenBase64",
]
PLAIN_KEYS = [
    "node-token-count",
    "token_count",
    "token_file",
    "webhook_token_file",
    "secretName",
    "secret_name",
    "secretKeyRef",
    "groupKey",
    "group_key",
    "key",
    "public_key",
    "keyboard",
    "monkey",
    "pod-template-hash",
    "author",
    "authorization_mode",
    "passing",
    "bypass",
    "tokenizer",
    "compass",
    "secretary",
    "value",
    "",
    "2",
]


@pytest.mark.parametrize("key", SECRET_KEYS)
def test_keys_that_name_a_secret(key):
    assert REDACTOR.data({key: "x1"}) == {key: MARK}
    assert REDACTOR.data([{"deep": {key: ["x1", 5, None, True]}}]) == [{"deep": {key: [MARK, MARK, None, True]}}]


@pytest.mark.parametrize("key", PLAIN_KEYS)
def test_keys_that_do_not(key):
    data = {key: "x1", "n": 5}
    assert REDACTOR.data(data) is data


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (f"it is {TOKEN}!", f"it is {MARK}!"),
        (f"?t={quote(TOKEN, safe='')}&x", f"?t={MARK}&x"),
        (base64.b64encode(TOKEN.encode()).decode(), MARK + "=="),
        ("spaced-secret", MARK),
        ("abc", "abc"),
        ("Authorization: Bearer abc.def", f"Authorization: {MARK}"),
        ("curl -H 'Authorization: Basic dXNlcjpwYXNz' x", f"curl -H 'Authorization: {MARK}' x"),
        ("sent bearer sk-12345678 to it", f"sent bearer {MARK} to it"),
        ("the bearer authentication failed", "the bearer authentication failed"),
        ("http://anna:pa55@host/x", f"http://anna:{MARK}@host/x"),
        ("postgresql://u:p%40ss@db:5432/x?y=1", f"postgresql://u:{MARK}@db:5432/x?y=1"),
        ("http://host:8080/@x", "http://host:8080/@x"),
        ("mail anna@host", "mail anna@host"),
        ("password=hunter2", f"password={MARK}"),
        ("password: hunter2, then", f"password: {MARK}, then"),
        ("PGPASSWORD=hunter2 psql", f"PGPASSWORD={MARK} psql"),
        ('{"token": "abc123"}', f'{{"token": "{MARK}"}}'),
        ('{\\"token\\":\\"abc123\\"}', f'{{\\"token\\":\\"{MARK}\\"}}'),
        ('up{token="abc"}', f'up{{token="{MARK}"}}'),
        ("https://h/?api_key=1234&x=2", f"https://h/?api_key={MARK}&x=2"),
        ("no token: none was given", "no token: none was given"),
        ("secret: not found", "secret: not found"),
        ("node-token-count = 5", "node-token-count = 5"),
        ("tokens=5", "tokens=5"),
        ("see eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln now", f"see {MARK} now"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIB\n-----END RSA PRIVATE KEY----- after", f"{MARK} after"),
        ("-----BEGIN PRIVATE KEY-----\nMIIB", MARK),
        ("-----BEGIN CERTIFICATE-----\nMIIB", "-----BEGIN CERTIFICATE-----\nMIIB"),
        ("Node latency on node-3 is 23.4 ms (key figure)", "Node latency on node-3 is 23.4 ms (key figure)"),
    ],
)
def test_texts(text, clean):
    assert REDACTOR.text(text) == clean
    assert REDACTOR.text(clean) == clean


def test_kubernetes_objects():
    secret = {"kind": "Secret", "metadata": {"name": "x"}, "data": {"a": "b"}, "stringData": {"c": {"d": 1}}}
    assert REDACTOR.data(secret) == {
        "kind": "Secret",
        "metadata": {"name": "x"},
        "data": {"a": MARK},
        "stringData": {"c": {"d": MARK}},
    }
    pod = {"env": [{"name": "DB_PASSWORD", "value": "x"}, {"name": "MODE", "value": "y"}], "imagePullSecrets": [{"name": "r"}]}
    assert REDACTOR.data(pod) == {
        "env": [{"name": "DB_PASSWORD", "value": MARK}, {"name": "MODE", "value": "y"}],
        "imagePullSecrets": [{"name": "r"}],
    }
    reference = {"valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}, "automountServiceAccountToken": False}
    assert REDACTOR.data(reference) is reference


def test_what_logs_bring_along():
    target = Target(kind="Node", name="node-1")
    assert REDACTOR.data(target) is target
    assert REDACTOR.data(Target(kind="Node", name="password=x1")) == {
        "kind": "Node",
        "name": f"password={MARK}",
        "namespace": "",
        "uid": "",
    }
    problem = ValueError("password=x1")
    assert REDACTOR.data({"error": problem, "n": 1.5}) == {"error": f"password={MARK}", "n": 1.5}
    harmless = ValueError("x")
    assert REDACTOR.data(harmless) is harmless
    assert REDACTOR.data(b"password=x1") == f"password={MARK}"
    assert REDACTOR.data((b"x", ("a", TOKEN))) == (b"x", ("a", MARK))
    assert REDACTOR.data({TOKEN: 1}) == {MARK: 1}


words = st.sampled_from(
    [
        *SECRET_KEYS,
        *PLAIN_KEYS,
        *_HINTS,
        *_KEYS,
        TOKEN,
        "Bearer 12345678",
        "password=x9",
        "x@y://a:b@c",
        "node-3",
        "Ärger",
        "\\",
        '"',
        "eyJ",
    ]
)
texts = st.lists(words, max_size=3).map(" ".join) | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
maps = st.dictionaries(words | texts, texts, max_size=3)


@st.composite
def deliveries(draw):
    alerts = [
        Alert(
            name=draw(texts),
            fingerprint=draw(texts),
            starts_at="2026-01-05T10:00:00Z",
            status=AlertStatus.FIRING,
            labels=draw(maps),
            annotations=draw(maps),
            generator_url=draw(texts),
        )
        for _ in range(draw(st.integers(0, 2)))
    ]
    return Delivery(
        id="d",
        received_at="2026-01-05T10:00:00Z",
        receiver=draw(texts),
        group_key=draw(texts),
        status="firing",
        truncated=0,
        alerts=tuple(alerts),
        external_url=draw(texts),
        notification_reason=draw(texts),
        sender=draw(texts),
        extra=draw(st.dictionaries(texts, texts | maps, max_size=2)),
    )


@given(deliveries())
def test_the_fast_path_agrees_with_the_slow_one(delivery):
    delivery = from_json(encode(delivery), Delivery)
    slow = REDACTOR.data(from_json(encode(delivery), dict))
    clean, data = REDACTOR.encoded(delivery)
    assert from_json(data, dict) == slow
    assert from_json(encode(clean), dict) == slow


@given(st.dictionaries(texts, texts | st.text() | st.none() | st.integers() | st.floats(allow_nan=False) | maps, max_size=5))
@example({"event": "decided", "detail": f"at {TOKEN}"})
@example({"password": "x"})
@example({"detail": "password=x\ud800"})
@example({"error": b"password=x"})
def test_what_is_logged_is_cleaned_as_all_else(event):
    assert REDACTOR.event(event) == REDACTOR.data(event)


@given(st.text(), st.lists(st.text(min_size=1), min_size=1, max_size=5))
def test_the_scan_finds_what_python_finds(text, found):
    try:
        "".join([text, *found]).encode()
    except UnicodeEncodeError:
        return
    scan = _scan_for(found)
    assert scan(text) == any(word in text for word in found)
    assert scan(f"{text}{found[0]}{text}")


@pytest.mark.parametrize("others", [0, 3, 100])
@pytest.mark.parametrize("secret", ["Zw3Rt6Yp", "zw3rt6yp", "ÄÖÜßé-Ж", 'a"b\\c/d', "İIÄi"])
def test_a_known_value_is_found_however_many_there_are_and_however_it_is_written(secret, others):
    redactor = Redactor([secret, *(f"Other-{number:03d}-Qx" for number in range(others))])
    for beside in ("", " Größe"):
        noun, text = redactor.encoded(Pause(id="p", by="x", reason=f"said {secret} there{beside}", at=datetime(2026, 1, 5, tzinfo=UTC)))
        assert noun.reason == f"said <redacted> there{beside}"
        assert from_json(text, Pause) == noun
    clean = Pause(id="p", by="x", reason="nothing here", at=datetime(2026, 1, 5, tzinfo=UTC))
    assert redactor.encoded(clean)[0] is clean


@given(maps)
def test_nothing_known_is_left_and_nothing_changes_twice(labels):
    once = REDACTOR.data(labels)
    assert not any(TOKEN in text for pair in once.items() for text in pair)
    assert REDACTOR.data(once) == once


@pytest.mark.parametrize("unit", ["a", "eyJ", "bearer ", "://a:", "token=", "password: ", "-----BEGIN PRIVATE KEY-----", "x@", '"key":'])
def test_hostile_texts_take_no_time(unit):
    text = unit * (2 * 65536 // len(unit))
    began = time.perf_counter()
    REDACTOR.text(text)
    assert time.perf_counter() - began < 2


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("postgresql://u:p%40ss@db/x", ["p@ss"]),
        ("https://hooks.example/services/T012345/B98765/q8Zr2Lw0Xk5Vt7Bn9s", ["q8Zr2Lw0Xk5Vt7Bn9s"]),
        ("https://hooks.example/up?token=q8Zr2Lw0Xk5Vt7Bn9s&to=on-call-channel-team", ["q8Zr2Lw0Xk5Vt7Bn9s"]),
        ("tgram://1234567890abcdefgh/chat", ["1234567890abcdefgh"]),
        ("https://hooks-2026.example.test/path-without-digits", []),
        ("https://hooks.example/services/qBZrMLwYXkoVtqBnOsaKpWzh", ["qBZrMLwYXkoVtqBnOsaKpWzh"]),
        ("https://hooks.example/RemediatorWebhookReceiver/OnCallNetworkTeam/ALERTMANAGERWEBHOOK", []),
        ("# a comment", []),
        ("http://[", []),
    ],
)
def test_what_of_a_url_is_a_secret_by_itself(url, found):
    assert secrets_of(url) == found
    assert set(secrets_of(url, tokens=False)) <= set(found)
