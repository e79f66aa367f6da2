from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.kube.errors import CallFailed, Gone, Invalid, TooManyRequests, Unavailable, cut, from_answer

STATUS = st.fixed_dictionaries(
    {"kind": st.just("Status")},
    optional={
        "reason": st.text(max_size=400),
        "message": st.text(max_size=2000),
        "details": st.none()
        | st.fixed_dictionaries(
            {},
            optional={
                "causes": st.none() | st.lists(st.fixed_dictionaries({"reason": st.text(), "message": st.text(max_size=600)})),
                "retryAfterSeconds": st.integers() | st.none(),
            },
        ),
    },
)


@given(body=st.binary() | STATUS.map(lambda s: json.dumps(s).encode()) | st.text().map(lambda s: s.encode()), status=st.integers(300, 999))
def test_any_body_makes_a_short_error(body, status):
    error = from_answer(body, status=status, call="GET /x", write=True, evict=True)
    assert isinstance(error, CallFailed)
    assert error.status == status
    assert len(error.message) <= 256
    assert all(len(text) <= 256 for cause in error.causes for text in cause)
    assert len(error.causes) <= 16
    assert "\n" not in str(error)
    assert error.message
    assert error.reason
    assert error.retry_after is None or error.retry_after >= 0
    assert not (error.maybe_applied and status < 500)


@given(st.text(max_size=1000))
def test_cut_keeps_one_line(text):
    assert len(cut(text)) <= 256
    assert len(cut(text).splitlines()) <= 1


@pytest.mark.parametrize(
    ("header", "told", "seconds"),
    [
        ("7", None, 7),
        (None, 10, 10),
        ("7", 10, 7),
        ("Wed, 21 Oct 2026 07:28:00 GMT", 10, 10),
        ("-1", None, None),
        ("nan", None, None),
        ("inf", None, None),
    ],
)
def test_how_long_the_server_asks_to_wait(header, told, seconds):
    body = json.dumps({"kind": "Status", "details": {"retryAfterSeconds": told}}).encode()
    assert from_answer(body, status=429, retry_after=header).retry_after == seconds


def test_a_status_is_read_and_html_is_quoted():
    causes = [{"reason": "DisruptionBudget", "message": "needs 2"}]
    body = json.dumps({"kind": "Status", "reason": "TooManyRequests", "message": "m", "details": {"causes": causes}}).encode()
    error = from_answer(body, status=429)
    assert isinstance(error, TooManyRequests)
    assert (error.reason, error.message, error.budget, error.cause("Other")) == ("TooManyRequests", "m", "needs 2", None)
    error = from_answer(b"<h1>No\n healthy upstream</h1>", status=503, phrase="Service Unavailable", call="GET /x")
    assert isinstance(error, Unavailable)
    assert str(error) == "GET /x: 503 ServiceUnavailable: <h1>No healthy upstream</h1>"


def test_json_that_is_no_status_is_quoted_too():
    error = from_answer(b'{"kind": "Node", "message": "x"}', status=418)
    assert isinstance(error, Invalid)
    assert error.message == '{"kind": "Node", "message": "x"}'


def test_expired_is_gone_whatever_the_code():
    assert isinstance(from_answer(b'{"kind": "Status", "reason": "Expired"}', status=500), Gone)


def test_a_long_message_keeps_its_beginning_and_its_end():
    short = cut('patch: Invalid value: "' + "x" * 1000 + '": strict decoding error: unknown field "spec.nonsense"')
    assert len(short) == 256
    assert short.startswith("patch: Invalid value")
    assert short.endswith('unknown field "spec.nonsense"')
