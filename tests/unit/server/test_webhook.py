"""The webhook answers 200 once the delivery is kept, and says what is wrong otherwise; whatever is sent, the daemon goes on."""

from __future__ import annotations

import asyncio
import gzip
import json

import pytest

from remediator.errors import JournalUnavailable
from remediator.telemetry import METRICS

LIMIT = 4 * 1024 * 1024
HEAD = "POST /api/v1/alerts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer hook-secret\r\n"


def counted(metric, *labels: str) -> float:
    names = dict(zip(metric._labelnames, labels, strict=True))
    return METRICS.registry.get_sample_value(f"{metric._name}_total", names)


async def test_an_accepted_delivery_is_answered_with_its_id(api, service, payload):
    response = await api.post_alerts(payload)
    ((_, delivery),) = service.calls
    assert response.status == 200
    assert await response.json() == {"delivery": delivery.id, "alerts": 2}
    assert delivery.sender == "127.0.0.1"


async def test_the_answer_waits_for_the_delivery_to_be_kept(api, service, payload):
    service.gate.clear()
    request = asyncio.create_task(api.post_alerts(payload))
    done, _ = await asyncio.wait([request], timeout=0.2)
    assert not done
    assert service.calls
    service.gate.set()
    assert (await request).status == 200


async def test_alerts_are_counted_by_their_own_status(api, payload):
    before = [counted(METRICS.alerts_received, status) for status in ("firing", "resolved")]
    truncated = counted(METRICS.alerts_truncated)
    requests = counted(METRICS.webhook_requests, "200")
    await api.post_alerts(payload | {"truncatedAlerts": 3})
    assert [counted(METRICS.alerts_received, status) for status in ("firing", "resolved")] == [number + 1 for number in before]
    assert counted(METRICS.alerts_truncated) == truncated + 3
    assert counted(METRICS.webhook_requests, "200") == requests + 1


@pytest.mark.parametrize("token", [None, "wrong"])
async def test_without_its_token_nothing_is_read(api, service, payload, token):
    before = counted(METRICS.webhook_requests, "401")
    response = await api.post_alerts(payload, token=token)
    await api.problem_in(response, 401)
    assert response.headers["WWW-Authenticate"].startswith("Bearer")
    assert not service.calls
    assert counted(METRICS.webhook_requests, "401") == before + 1


@pytest.mark.parametrize("token", ["read", "write"])
async def test_other_tokens_do_not_open_it(api, service, payload, token):
    response = await api.post_alerts(payload, token=token)
    await api.problem_in(response, 403)
    assert not service.calls


def nested(depth: int) -> bytes:
    return b'{"version": "4", "x": ' + b"[" * depth + b"]" * depth + b"}"


def with_labels(count: int) -> bytes:
    labels = {f"label_{number}": "x" for number in range(count)}
    return json.dumps({"version": "4", "alerts": [{"status": "firing", "startsAt": "2026-01-05T10:00:00Z", "labels": labels}]}).encode()


ALERT = '{"version": "4", "alerts": [{"status": "firing", "labels": {"a": %s}, "startsAt": "%s"}]}'
BAD = {
    "not JSON": (b"alertname=CiliumAgentDown", 400, ""),
    "nothing": (b"", 400, ""),
    "wrong version": (b'{"version": "3", "alerts": []}', 400, "version"),
    "wrong type": (b'{"version": "4", "alerts": {}}', 400, "alerts"),
    "wrong type inside": ((ALERT % (1, "2026-01-05T10:00:00Z")).encode(), 400, "alerts[0].labels.a"),
    "naive time": ((ALERT % ('"b"', "2026-01-05T10:00:00")).encode(), 400, "alerts[0].startsAt"),
    "NaN": (b'{"version": "4", "alerts": [], "truncatedAlerts": NaN}', 400, "truncatedAlerts"),
    "duplicate keys": (b'{"version": "4", "alerts": [], "alerts": []}', 400, "alerts"),
    "invalid UTF-8": ((ALERT % ('"b"', "2026-01-05T10:00:00Z")).encode().replace(b'"b"', b'"\xff"'), 400, "alerts[0].labels.a"),
    "surrogates": ((ALERT % ('"\\ud800"', "2026-01-05T10:00:00Z")).encode(), 400, "alerts[0].labels.a"),
    "10,000 labels": (with_labels(10_000), 413, "alerts[0].labels"),
    "nested 1,000 deep": (nested(1_000), 413, "x" + "[0]" * 31),
    "5 MB": (b" " * 5_000_000, 413, ""),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_input_is_named_and_nothing_is_kept(api, service, payload, name):
    body, status, path = BAD[name]
    before = counted(METRICS.webhook_requests, str(status))
    problem = await api.problem_in(await api.post_alerts(body), status)
    assert problem["path"] == path
    assert problem["detail"].startswith(f"{path}: " if path else "")
    assert not service.calls
    assert counted(METRICS.webhook_requests, str(status)) == before + 1
    assert (await api.post_alerts(payload)).status == 200


async def test_the_largest_body_is_taken_and_one_byte_more_is_not(serve, service, payload):
    body = json.dumps(payload).encode()
    api = await serve(service, max_body=len(body))
    assert (await api.post_alerts(body)).status == 200
    assert (await api.post_alerts(body + b" ")).status == 413


async def test_a_body_that_says_it_is_too_long_is_refused_unread(api):
    async with api.raw() as (reader, writer):
        writer.write(f"{HEAD}Content-Length: {LIMIT + 1}\r\n\r\n".encode())
        assert b"413" in await reader.readline()


async def test_a_body_without_end_is_cut_off_at_the_limit(serve, service):
    api = await serve(service, max_body=100_000)
    sent = 0
    async with api.raw() as (reader, writer):
        writer.write(f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode())
        answer = asyncio.create_task(reader.readline())
        while not answer.done() and sent < 100 * 100_000:
            writer.write(b"400\r\n" + b" " * 1024 + b"\r\n")
            await writer.drain()
            sent += 1024
            await asyncio.sleep(0)
        assert b"413" in await answer
    assert sent < 50 * 100_000
    assert not service.calls


async def test_a_compressed_body_counts_by_what_it_holds(serve, service, payload):
    api = await serve(service, max_body=100_000)
    packed = {"Content-Encoding": "gzip"}
    assert (await api.post_alerts(gzip.compress(json.dumps(payload).encode()), headers=packed)).status == 200
    await api.problem_in(await api.post_alerts(gzip.compress(b" " * 20_000_000), headers=packed), 413)
    assert len(service.calls) == 1


async def test_a_body_that_does_not_come_gets_a_503_since_that_is_sent_again(serve, service):
    api = await serve(service, body_seconds=0.05)
    async with api.raw() as (reader, writer):
        writer.write(f'{HEAD}Content-Length: 100\r\n\r\n{{"version"'.encode())
        head = await reader.readuntil(b"\r\n\r\n")
    assert b" 503 " in head
    assert b"Retry-After: " in head
    assert not service.calls


async def test_a_slow_body_is_cut_off_as_soon_as_it_passes_the_limit(serve, service):
    api = await serve(service, max_body=1_000)
    async with api.raw() as (reader, writer):
        writer.write(f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode())
        answer = asyncio.create_task(reader.readline())
        for _ in range(11):
            assert not answer.done()
            writer.write(b"64\r\n" + b" " * 100 + b"\r\n")
            await writer.drain()
            await asyncio.wait([answer], timeout=0.02)
        assert b"413" in await asyncio.wait_for(answer, 5)


async def test_a_sender_that_goes_away_in_the_middle_leaves_nothing(api, service, payload):
    async with api.raw() as (_, writer):
        writer.write(f'{HEAD}Content-Length: 100\r\n\r\n{{"version"'.encode())
        await writer.drain()
    assert (await api.post_alerts(payload)).status == 200
    assert len(service.calls) == 1


async def test_a_journal_that_cannot_keep_it_means_503_and_try_again(api, service, payload):
    service.fails = JournalUnavailable("cannot reach postgresql://remediator:hunter2@db/remediator")
    response = await api.post_alerts(payload)
    problem = await api.problem_in(response, 503)
    assert int(response.headers["Retry-After"]) > 0
    assert "hunter2" not in str(problem)
    service.fails = None
    assert (await api.post_alerts(payload)).status == 200


async def test_an_error_that_nobody_foresaw_is_a_500_without_its_words(api, service, payload, capsys):
    service.fails = RuntimeError("password is hunter2")
    response = await api.post_alerts(payload, headers={"X-Request-ID": "abc-1"})
    problem = await api.problem_in(response, 500)
    assert "hunter2" not in await response.text()
    assert "Traceback" not in await response.text()
    assert problem["request_id"] == "abc-1"
    logged = "".join(capsys.readouterr())
    assert "request failed" in logged
    assert "abc-1" in logged


async def test_a_connection_that_failed_elsewhere_is_not_taken_for_the_clients(api, service, payload):
    service.fails = ConnectionRefusedError("the database")
    await api.problem_in(await api.post_alerts(payload), 500)


async def test_an_odd_query_does_not_cost_an_alert(api, payload):
    response = await api("POST", "/api/v1/alerts?source=am-0", token="hook", data=json.dumps(payload).encode())
    assert response.status == 200


async def test_many_at_once_are_all_answered(api, service, payload):
    answers = await asyncio.gather(*[api.post_alerts(payload) for _ in range(50)])
    ids = {(await answer.json())["delivery"] for answer in answers}
    assert len(ids) == 50 == len(service.calls)
