from __future__ import annotations

import asyncio
import math
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.clock import ManualClock
from remediator.errors import MonitoringError
from remediator.monitoring import Prometheus
from remediator.monitoring.answers import read_samples
from remediator.monitoring.errors import PrometheusRefused, PrometheusStale, PrometheusUnreachable, PrometheusUnusable
from remediator.monitoring.prometheus import is_selector
from remediator.telemetry import METRICS

NOW = datetime(2026, 1, 5, 10, tzinfo=UTC)


@pytest.fixture
async def make(fake):
    made = []

    def make(url=None, **more):
        settings = {"timeout": timedelta(seconds=5), "max_age": timedelta(minutes=2), "clock": ManualClock(NOW), **more}
        made.append(Prometheus(url or fake.url, **settings))
        return made[-1]

    yield make
    for one in made:
        await one.close()


@pytest.fixture
def prometheus(make):
    return make()


def test_importing_the_doors_does_not_import_what_is_behind_them():
    behind = ("requests", "aiohttp", "prometheus_api_client", "structlog")
    code = f"import sys, remediator.monitoring; print([n for n in {behind} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


async def test_a_vector_becomes_samples(fake, prometheus):
    fake.vector(({"__name__": "up", "job": "a"}, "1"), ({"job": "b"}, "0.25"), ({"job": "c"}, "+Inf"))
    samples = await prometheus.query('up{job=~"a|b"}')
    assert [(s.labels, s.value) for s in samples] == [({"__name__": "up", "job": "a"}, 1), ({"job": "b"}, 0.25), ({"job": "c"}, math.inf)]
    assert samples[0].at == NOW
    (seen,) = fake.seen
    assert seen.path == "/api/v1/query"
    assert seen.query["query"] == 'up{job=~"a|b"}'
    assert float(seen.query["timeout"]) == 5
    assert seen.headers["User-Agent"].startswith("remediator/")
    assert "Authorization" not in seen.headers


async def test_a_scalar_becomes_one_sample(fake, prometheus):
    fake.json({"status": "success", "data": {"resultType": "scalar", "result": [1767607200, "7"]}})
    (sample,) = await prometheus.query("7")
    assert (sample.labels, sample.value, sample.at) == ({}, 7, NOW)


async def test_nothing_found_is_an_empty_list(fake, make):
    fake.vector()
    assert await make(fake.url + "/prefix/").query("up") == []
    assert fake.seen[0].path == "/prefix/api/v1/query"


async def test_infos_and_unknown_fields_do_no_harm(fake, prometheus):
    fake.json(
        {"status": "success", "infos": ["metric might not be a counter"], "data": {"resultType": "vector", "result": [], "stats": {}}}
    )
    assert await prometheus.query("rate(up[1m])") == []


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"status": "success", "data": {"resultType": "matrix", "result": []}}, "matrix"),
        ({"status": "success", "data": {"resultType": "string", "result": [1, "1"]}}, "string"),
        ({"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}, "histogram": [1, {}]}]}}, "histograms"),
        ({"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}, "value": [1, "one"]}]}}, "not a number"),
        ({"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}, "value": [1e300, "1"]}]}}, "not a number"),
        ({"status": "success", "warnings": ["store-2 did not answer"], "data": {"resultType": "vector", "result": []}}, "store-2"),
        ({"status": "error", "error": "x", "data": {"resultType": "vector", "result": []}}, "status error"),
        ({"status": "success", "data": {"resultType": "vector", "result": {}}}, "not an answer"),
        ({"data": {"resultType": "vector", "result": []}}, "not an answer"),
        ({"status": "success", "data": None}, "does not answer"),
        ({}, "does not answer"),
        ([], "does not answer"),
    ],
)
async def test_what_a_decision_could_misread_is_unusable(fake, prometheus, answer, words):
    fake.json(answer)
    with pytest.raises(PrometheusUnusable, match=words):
        await prometheus.query("x")


@pytest.mark.parametrize("body", ["", "<html>log in</html>", '{"status": "suc', b"\xff"])
async def test_a_200_that_is_not_json_is_unusable(fake, prometheus, body):
    fake.text(body)
    with pytest.raises(PrometheusUnusable, match="does not answer like"):
        await prometheus.query("x")


async def test_nan_is_refused_dropped_or_kept(fake, prometheus):
    fake.vector(({"n": "a"}, "NaN"), ({"n": "b"}, "1"))
    with pytest.raises(PrometheusUnusable, match=r"1 of 2 series, first \{'n': 'a'\}"):
        await prometheus.query("x")
    assert [s.labels["n"] for s in await prometheus.query("x", nan="drop")] == ["b"]
    assert [math.isnan(s.value) for s in await prometheus.query("x", nan="keep")] == [True, False]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, PrometheusRefused),
        (401, PrometheusRefused),
        (404, PrometheusRefused),
        (422, PrometheusRefused),
        (429, PrometheusUnreachable),
        (500, PrometheusUnreachable),
        (503, PrometheusUnreachable),
    ],
)
async def test_what_a_status_means_and_that_nothing_is_tried_again(fake, prometheus, status, error):
    fake.json({"status": "error", "errorType": "bad_data", "error": "parse error at char 3"}, status)
    with pytest.raises(error, match=f"{status} from .*: parse error at char 3") as caught:
        await prometheus.query("x +")
    assert isinstance(caught.value, MonitoringError)
    assert caught.value.__cause__ is not None
    assert len(fake.seen) == 1


async def test_a_foreign_error_page_is_cut(fake, prometheus):
    fake.text("<html>" + "x" * 100_000, 502)
    with pytest.raises(PrometheusUnreachable) as caught:
        await prometheus.query("x")
    assert len(str(caught.value)) < 350


async def test_a_redirect_is_not_followed(fake, prometheus):
    fake.text("", 302, Location="/login")
    with pytest.raises(PrometheusUnreachable, match="redirects"):
        await prometheus.query("x")
    assert len(fake.seen) == 1


async def test_a_broken_connection_is_unreachable_and_not_tried_again(fake, prometheus):
    fake.manner("cut")
    with pytest.raises(PrometheusUnreachable):
        await prometheus.query("x")
    assert len(fake.seen) == 1


async def test_nobody_there_is_unreachable(make, unused_tcp_port):
    with pytest.raises(PrometheusUnreachable):
        await make(f"http://127.0.0.1:{unused_tcp_port}").query("x")


@pytest.mark.parametrize("manner", ["hang", "drip"])
async def test_no_answer_in_time_is_unreachable_and_the_loop_goes_on(fake, make, manner):
    fake.manner(manner)
    began = time.monotonic()
    with pytest.raises(PrometheusUnreachable, match=r"within 0\.2 s"):
        await make(timeout=timedelta(milliseconds=200)).query("x")
    assert time.monotonic() - began < 3


async def test_calls_that_hang_do_not_starve_others_and_are_bounded(fake, make):
    patient = make(timeout=timedelta(seconds=20))
    fake.manner("hang")
    hanging = [asyncio.create_task(patient.query("x")) for _ in range(32)]
    async with asyncio.timeout(10):
        while fake.waiting < 32:  # noqa: ASYNC110 - waits for real threads
            await asyncio.sleep(0.01)
    fake.vector()
    with pytest.raises(PrometheusUnreachable, match="32 calls have not come back"):
        await patient.query("x")
    assert await asyncio.to_thread(int, "1") == 1
    assert await make().query("x") == []
    for task in hanging:
        task.cancel()
    await asyncio.gather(*hanging, return_exceptions=True)
    fake.held.set()
    async with asyncio.timeout(10):
        while patient._threads.busy:  # noqa: ASYNC110 - waits for real threads
            await asyncio.sleep(0.01)
    assert await patient.query("x") == []


async def test_threads_do_not_keep_the_process_alive(fake, make):
    fake.manner("drip")
    with pytest.raises(PrometheusUnreachable):
        await make(timeout=timedelta(milliseconds=100)).query("x")
    left = [thread for thread in threading.enumerate() if thread.name == "prometheus"]
    assert left
    assert all(thread.daemon for thread in left)


async def test_a_connection_is_kept_for_the_next_call(fake, prometheus):
    fake.vector()
    await prometheus.query("x")
    await prometheus.query("x")
    first, second = (seen.transport for seen in fake.seen)
    assert first is second


async def test_the_token_is_read_for_every_call_and_never_told(fake, make, tmp_path, monkeypatch):
    file = tmp_path / "token"
    file.write_text("t1\n")
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login robot password wrong\n")
    monkeypatch.setenv("NETRC", str(netrc))
    prometheus = make(token_file=file)
    fake.vector()
    await prometheus.query("x")
    file.write_text("t2")
    await prometheus.query("x")
    assert [seen.headers["Authorization"] for seen in fake.seen] == ["Bearer t1", "Bearer t2"]
    for content in ("", "t1 t2", "t\nu"):
        file.write_text(content)
        with pytest.raises(MonitoringError, match="token file") as caught:
            await prometheus.query("x")
        assert "t1" not in str(caught.value)
    file.unlink()
    with pytest.raises(MonitoringError, match="cannot be read"):
        await prometheus.query("x")
    assert len(fake.seen) == 2


async def test_proxies_of_the_environment_are_not_used(fake, prometheus, monkeypatch, unused_tcp_port):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{unused_tcp_port}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    fake.vector()
    assert await prometheus.query("x") == []


async def test_a_missing_ca_file_is_an_error_of_ours(make, tmp_path):
    with pytest.raises(PrometheusUnreachable, match="CA"):
        await make("https://127.0.0.1:1", ca_file=tmp_path / "none.pem").query("x")


async def test_results_are_counted(fake, prometheus):
    def count(result):
        return METRICS.registry.get_sample_value("remediator_prometheus_queries_total", {"result": result}) or 0

    before = {result: count(result) for result in ("ok", "refused", "unreachable", "unusable", "stale")}
    _lives(fake, age=None)
    await prometheus.query("x")
    with pytest.raises(PrometheusStale):
        await prometheus.require_fresh("x")
    fake.by_query = None
    for status, error in ((400, PrometheusRefused), (500, PrometheusUnreachable), (200, PrometheusUnusable)):
        fake.text("", status)
        with pytest.raises(error):
            await prometheus.query("x")
    after = {result: count(result) - was for result, was in before.items()}
    assert after == {"ok": 3, "refused": 1, "unreachable": 1, "unusable": 1, "stale": 1}


# freshness


async def test_the_age_is_that_of_the_newest_sample_on_the_servers_clock(fake, prometheus):
    at = NOW.timestamp() + 1000
    fake.vector(({"i": "a"}, str(at - 300)), ({"i": "b"}, str(at - 15.5)), at=at)
    assert await prometheus.age('up{job="x"}') == timedelta(seconds=15.5)
    assert fake.seen[0].query["query"] == 'timestamp(up{job="x"})'


async def test_no_sample_has_no_age(fake, prometheus):
    fake.vector()
    assert await prometheus.age("up") is None


@pytest.mark.parametrize(
    "query", ["rate(up[5m])", "up[5m]", "up > 0", "up offset 5m", "sum(up)", "1", "", "{", 'up{a="}', "up) or (x", "time()"]
)
async def test_only_a_selector_has_an_age(fake, prometheus, query):
    with pytest.raises(PrometheusRefused):
        await prometheus.age(query)
    assert fake.seen == []


def _lives(fake, *, at=NOW, age=10.0):
    """A Prometheus at the moment ``at`` whose newest samples are ``age`` seconds old."""
    stamp = at.timestamp()

    def answer(query):
        if query == "time()":
            return {"resultType": "scalar", "result": [stamp, str(stamp)]}
        result = [] if age is None else [{"metric": {}, "value": [stamp, str(stamp - age)]}]
        return {"resultType": "vector", "result": result}

    fake.by_query = answer


async def test_fresh_is_fresh(fake, prometheus):
    _lives(fake, age=120)
    await prometheus.require_fresh()
    await prometheus.require_fresh("a", '{job="b"}')
    asked = [seen.query["query"] for seen in fake.seen]
    assert asked == ["time()", "timestamp(up)", "time()", "timestamp(a)", 'timestamp({job="b"})']


async def test_a_server_that_does_not_tell_the_time_is_unusable(fake, prometheus):
    fake.vector()
    with pytest.raises(PrometheusUnusable, match="what time"):
        await prometheus.require_fresh()


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"age": 121}, "newest sample is 2m1s old of a; at most 2m is allowed"),
        ({"age": None}, "there is no sample of a"),
        ({"at": NOW - timedelta(minutes=3)}, "a moment 3m from now"),
        ({"at": NOW + timedelta(minutes=3)}, "a moment 3m from now"),
    ],
)
async def test_stale_is_refused(fake, prometheus, state, words):
    _lives(fake, **state)
    with pytest.raises(PrometheusStale, match=words):
        await prometheus.require_fresh("a")


NAMES = st.from_regex(r"[a-zA-Z_:][a-zA-Z0-9_:]*", fullmatch=True)
TEXT = st.text(st.characters(exclude_characters='"\\', codec="utf-8"))


@given(name=NAMES, matchers=st.lists(st.tuples(NAMES, st.sampled_from(["=", "!=", "=~", "!~"]), TEXT)))
def test_selectors_are_recognised(name, matchers):
    inside = ", ".join(f'{label}{op}"{value}"' for label, op, value in matchers)
    assert is_selector(f"{name}{{{inside}}}")
    assert is_selector(f" {{{inside}}} ")
    assert is_selector(name)
    for wrong in (f"sum({name})", f"{name}{{{inside}}}[5m]", f"{name} + {name}", f"-{name}", f"{name}{{{inside}}} offset 1m"):
        assert not is_selector(wrong)


@given(st.binary(max_size=300) | st.text().map(str.encode))
def test_any_body_is_an_answer_or_unusable(body):
    try:
        assert isinstance(read_samples(body), list)
    except PrometheusUnusable as error:
        assert len(str(error)) < 350  # noqa: PT017 - either outcome is right
