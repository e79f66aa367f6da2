from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.errors import MonitoringError
from remediator.monitoring import Alertmanager
from remediator.monitoring.answers import read_alerts, read_configuration
from remediator.monitoring.errors import AlertmanagerRefused, AlertmanagerUnreachable, AlertmanagerUnusable
from remediator.telemetry import METRICS

ALERT = {
    "fingerprint": "0123456789abcdef",
    "startsAt": "2026-01-05T10:00:00.123+02:00",
    "endsAt": "2026-01-05T11:00:00Z",
    "updatedAt": "2026-01-05T10:00:01Z",
    "labels": {"alertname": "CiliumAgentDown", "node": "node-3"},
    "annotations": {"summary": "x"},
    "receivers": [{"name": "remediator"}],
    "status": {"state": "active", "silencedBy": [], "inhibitedBy": [], "mutedBy": []},
    "generatorURL": "http://x",
    "later": {"field": 1},
}


@pytest.fixture
async def make(fake):
    made = []

    def make(url=None, **more):
        made.append(Alertmanager(url or fake.url, **{"timeout": timedelta(seconds=5), **more}))
        return made[-1]

    yield make
    for one in made:
        await one.close()


async def test_active_alerts_muted_ones_included(fake, make):
    silenced = {**ALERT, "status": {"state": "suppressed", "silencedBy": ["s1"], "inhibitedBy": ["f2"]}}
    fake.json([ALERT, silenced])
    plain, muted = await make().active()
    assert (plain.fingerprint, plain.labels["node"], plain.muted) == ("0123456789abcdef", "node-3", False)
    assert plain.starts_at == datetime(2026, 1, 5, 8, 0, 0, 123000, tzinfo=UTC)
    assert plain.starts_at.tzinfo is UTC
    assert (muted.silenced_by, muted.inhibited_by, muted.muted) == (("s1",), ("f2",), True)
    (seen,) = fake.seen
    assert seen.path == "/api/v2/alerts"
    assert dict(seen.query) == {"active": "true", "silenced": "true", "inhibited": "true", "unprocessed": "true"}
    assert seen.headers["User-Agent"].startswith("remediator/")


async def test_the_configuration_as_it_is_shown(fake, make):
    fake.json({"cluster": {"status": "ready"}, "config": {"original": "route:\n  receiver: x\n"}, "uptime": "2026-01-05T10:00:00Z"})
    assert await make(fake.url + "/prefix").configuration() == "route:\n  receiver: x\n"
    assert fake.seen[0].path == "/prefix/api/v2/status"


@pytest.mark.parametrize("body", ["", "null", "[]", "{}", '{"config": null}', '{"config": {"original": 1}}', "<html>", b"\xff"])
async def test_another_answer_is_no_configuration(fake, make, body):
    fake.text(body)
    with pytest.raises(AlertmanagerUnusable):
        await make().configuration()


async def test_none_is_none(fake, make):
    fake.json([])
    assert await make(fake.url + "/prefix/").active() == []
    assert fake.seen[0].path == "/prefix/api/v2/alerts"


@pytest.mark.parametrize("status", [{}, {"silencedBy": None, "inhibitedBy": None}, None])
async def test_missing_and_null_lists_are_empty(fake, make, status):
    alert = {**ALERT, "status": status} if status is not None else {key: value for key, value in ALERT.items() if key != "status"}
    fake.json([alert])
    (found,) = await make().active()
    assert not found.muted


@pytest.mark.parametrize("lost", ["fingerprint", "startsAt", "labels"])
async def test_an_alert_without_its_key_is_unusable(fake, make, lost):
    fake.json([{key: value for key, value in ALERT.items() if key != lost}])
    with pytest.raises(AlertmanagerUnusable, match=lost):
        await make().active()


@pytest.mark.parametrize(
    "body", ["", "null", "{}", "<html>", "[1]", b"\xff", '[{"fingerprint": "a", "startsAt": "2026-01-05T10:00:00", "labels": {}}]']
)
async def test_other_answers_are_unusable(fake, make, body):
    fake.text(body)
    with pytest.raises(AlertmanagerUnusable):
        await make().active()


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, AlertmanagerRefused),
        (401, AlertmanagerRefused),
        (404, AlertmanagerRefused),
        (302, AlertmanagerUnreachable),
        (429, AlertmanagerUnreachable),
        (500, AlertmanagerUnreachable),
        (503, AlertmanagerUnreachable),
    ],
)
async def test_what_a_status_means(fake, make, status, error):
    fake.text("<html>" + "x" * 10_000, status, **({"Location": "/login"} if status == 302 else {}))
    with pytest.raises(error, match=str(status)) as caught:
        await make().active()
    assert isinstance(caught.value, MonitoringError)
    assert len(str(caught.value)) < 350
    assert len(fake.seen) == 1


@pytest.mark.parametrize("manner", ["hang", "drip"])
async def test_no_answer_in_time_is_unreachable(fake, make, manner):
    fake.manner(manner)
    with pytest.raises(AlertmanagerUnreachable, match=r"within 0\.2 s") as caught:
        await make(timeout=timedelta(milliseconds=200)).active()
    assert caught.value.__cause__ is not None


async def test_a_broken_connection_is_unreachable(fake, make):
    fake.json([])
    alertmanager = make()
    await alertmanager.active()
    fake.manner("cut")
    with pytest.raises(AlertmanagerUnreachable):
        await alertmanager.active()


async def test_nobody_there_is_unreachable(make, unused_tcp_port):
    with pytest.raises(AlertmanagerUnreachable):
        await make(f"http://127.0.0.1:{unused_tcp_port}").active()


async def test_a_missing_ca_file_is_an_error_of_ours(make, tmp_path):
    with pytest.raises(AlertmanagerUnreachable):
        await make("https://127.0.0.1:1", ca_file=tmp_path / "none.pem").active()


async def test_the_token_is_read_for_every_call(fake, make, tmp_path, monkeypatch, unused_tcp_port):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{unused_tcp_port}")
    file = tmp_path / "token"
    fake.json([])
    alertmanager = make(token_file=file)
    for token in ("t1", "t2"):
        file.write_text(token + "\n")
        await alertmanager.active()
    assert [seen.headers["Authorization"] for seen in fake.seen] == ["Bearer t1", "Bearer t2"]
    file.unlink()
    with pytest.raises(MonitoringError, match="token file"):
        await alertmanager.active()


async def test_it_can_be_closed_and_used_again(fake, make):
    fake.json([])
    alertmanager = make()
    await alertmanager.close()
    await alertmanager.active()
    await alertmanager.close()
    assert await alertmanager.active() == []


async def test_results_are_counted(fake, make):
    def count(result):
        return METRICS.registry.get_sample_value("remediator_alertmanager_queries_total", {"result": result}) or 0

    before = {result: count(result) for result in ("ok", "refused", "unreachable", "unusable")}
    alertmanager = make()
    fake.json([])
    await alertmanager.active()
    for status in (400, 500, 200):
        fake.text("", status)
        with pytest.raises(MonitoringError):
            await alertmanager.active()
    assert {result: count(result) - was for result, was in before.items()} == dict.fromkeys(before, 1)


@given(st.binary(max_size=300) | st.text().map(str.encode))
def test_any_body_is_a_list_or_unusable(body):
    try:
        assert isinstance(read_alerts(body), list)
    except AlertmanagerUnusable as error:
        assert len(str(error)) < 350  # noqa: PT017 - either outcome is right
    try:
        assert isinstance(read_configuration(body), str)
    except AlertmanagerUnusable as error:
        assert len(str(error)) < 350  # noqa: PT017 - either outcome is right
