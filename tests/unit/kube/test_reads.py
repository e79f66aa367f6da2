from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.errors import KubeError, UsageError
from remediator.kube import kinds
from remediator.kube.errors import (
    CallFailed,
    Forbidden,
    Gone,
    Invalid,
    Malformed,
    NotFound,
    Timeout,
    TooManyRequests,
    Unavailable,
    Unreachable,
)
from remediator.kube.records import Pod

IMPOSSIBLE = ["", ".", "..", "a/b", "../nodes", "a%2fb", "a b", "a?b", "a#b", "a\\b", "a;b", "-a", "ä", "a\n", "x" * 254, "\udc80"]


def test_importing_the_door_does_not_import_what_is_behind_it():
    code = "import sys, remediator.kube; print([m for m in ('kubernetes_asyncio', 'aiohttp', 'structlog', 'tenacity') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_of_the_library_only_what_is_used_is_loaded_and_the_rest_is_there_on_demand():
    code = """
import sys, remediator.kube.connection
print(sum(name.startswith("kubernetes_asyncio.") for name in sys.modules) < 30)
import kubernetes_asyncio
from kubernetes_asyncio.client import ApiClient, CoreV1Api, V1Pod
from remediator.kube.library import ApiClient as ours
print(ApiClient is ours, V1Pod(kind="Pod").kind, CoreV1Api.__name__, kubernetes_asyncio.watch.Watch.__name__)
print(kubernetes_asyncio.client.models.V1Pod is V1Pod, hasattr(kubernetes_asyncio.client, "V9Pod"))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == ["True", "True Pod CoreV1Api Watch", "True False"]


async def test_get_returns_the_object(api, kube, pod):
    api.json(pod("a"))
    assert (await kube.get(kinds.POD, "a", "default"))["metadata"]["uid"] == "uid-a"
    (seen,) = api.seen
    assert (seen.method, seen.path) == ("GET", "/api/v1/namespaces/default/pods/a")
    assert seen.headers["User-Agent"].startswith("remediator/")
    assert "Authorization" not in seen.headers


async def test_get_decodes_into_a_record(api, kube, pod):
    api.json(pod("a", nodeName="node-3"))
    found = await kube.get(kinds.POD, "a", "default", decode=Pod)
    assert (found.name, found.node_name, found.ready) == ("a", "node-3", False)


@pytest.mark.parametrize("name", IMPOSSIBLE)
async def test_a_name_that_no_object_can_have_is_not_found_and_never_sent(api, kube, name):
    with pytest.raises(NotFound):
        await kube.get(kinds.NODE, name)
    assert api.seen == []


@pytest.mark.parametrize("namespace", IMPOSSIBLE[1:])
async def test_the_same_holds_for_namespaces(api, kube, namespace):
    with pytest.raises(NotFound):
        await kube.get(kinds.POD, "a", namespace)
    with pytest.raises(NotFound):
        await kube.list(kinds.POD, namespace)
    assert api.seen == []


async def test_a_namespaced_object_needs_its_namespace(api, kube):
    with pytest.raises(UsageError, match="needs a namespace"):
        await kube.get(kinds.POD, "a")
    assert api.seen == []


async def test_list_follows_the_pages_and_names_the_kinds(api, kube, pod):
    api.json({"metadata": {"resourceVersion": "7", "continue": "t1"}, "items": [{"metadata": {"name": "a"}}]})
    api.json({"metadata": {"resourceVersion": "7", "continue": "t2"}, "items": [{"metadata": {"name": "b"}}]})
    api.json({"metadata": {"resourceVersion": "7", "continue": ""}, "items": None})
    found = await kube.list(kinds.DAEMONSET, "kube-system", labels="k8s-app=cilium", fields="metadata.name!=x")
    assert [thing["metadata"]["name"] for thing in found.items] == ["a", "b"]
    assert {(thing["kind"], thing["apiVersion"]) for thing in found.items} == {("DaemonSet", "apps/v1")}
    assert found.resource_version == "7"
    assert [seen.query.get("continue") for seen in api.seen] == [None, "t1", "t2"]
    selectors = {"labelSelector": "k8s-app=cilium", "fieldSelector": "metadata.name!=x", "limit": "500"}
    assert all(selectors.items() <= seen.query.items() for seen in api.seen)
    assert {seen.path for seen in api.seen} == {"/apis/apps/v1/namespaces/kube-system/daemonsets"}


async def test_list_stops_at_the_limit(api, kube):
    api.json({"metadata": {"continue": "t1"}, "items": [{"metadata": {"name": "a"}}, {"metadata": {"name": "b"}}]})
    found = await kube.list(kinds.NODE, limit_total=2)
    assert len(found.items) == 2
    assert [seen.query["limit"] for seen in api.seen] == ["2"]


async def test_list_starts_over_when_the_continue_token_expired(api, kube):
    api.json({"metadata": {"resourceVersion": "7", "continue": "t1"}, "items": [{"metadata": {"name": "gone"}}]})
    api.status(410, "Expired", "The provided continue parameter is too old")
    api.json({"metadata": {"resourceVersion": "9"}, "items": [{"metadata": {"name": "a"}}]})
    found = await kube.list(kinds.NODE)
    assert [thing["metadata"]["name"] for thing in found.items] == ["a"]
    assert [seen.query.get("continue") for seen in api.seen] == [None, "t1", None]


async def test_list_does_not_start_over_for_ever(api, kube):
    for _ in range(4):
        api.json({"metadata": {"continue": "t1"}, "items": []})
        api.status(410, "Expired")
    with pytest.raises(Gone):
        await kube.list(kinds.NODE)
    assert len(api.seen) == 8


@pytest.mark.parametrize("fault", ["500", "html", "cut", "half", "429", "504"])
async def test_a_read_is_tried_again_after_a_passing_fault(api, kube, clock, pod, fault):
    match fault:
        case "500":
            api.status(500, "InternalError", "etcdserver: leader changed")
        case "html":
            api.text("<html>no healthy upstream</html>", 503)
        case "cut":
            api.cut()
        case "half":
            api.half()
        case "429":
            api.status(429, "TooManyRequests", Retry_After="7")
        case _:
            api.text("", 504)
    api.json(pod("a"))
    kube = kube if fault != "429" else await _patient(kube)
    assert (await kube.get(kinds.POD, "a", "default"))["kind"] == "Pod"
    assert len(api.seen) == 2
    assert len(clock.slept) == 1
    if fault == "429":
        assert clock.slept[0] >= 7


async def _patient(kube):
    kube._timeout = timedelta(seconds=20)
    return kube


async def test_waits_grow_and_end(api, kube, clock):
    for _ in range(10):
        api.status(500)
    with pytest.raises(Unavailable):
        await kube.get(kinds.NODE, "a", timeout=timedelta(minutes=1))
    assert len(api.seen) == 6
    assert all(0 <= slept <= 3 for slept in clock.slept)


async def test_a_read_does_not_wait_beyond_its_deadline(api, kube, clock):
    api.status(429, "TooManyRequests", "slow down", Retry_After="600")
    with pytest.raises(TooManyRequests) as caught:
        await kube.get(kinds.NODE, "a")
    assert caught.value.retry_after == 600
    assert caught.value.retryable
    assert (len(api.seen), clock.slept) == (1, [])


@pytest.mark.parametrize(
    ("status", "error"), [(400, Invalid), (403, Forbidden), (404, NotFound), (410, Gone), (415, Invalid), (422, Invalid)]
)
async def test_a_read_that_cannot_succeed_is_not_repeated(api, kube, status, error):
    api.status(status, "", "no")
    with pytest.raises(error) as caught:
        await kube.get(kinds.NODE, "a")
    assert (len(api.seen), caught.value.status, caught.value.retryable) == (1, status, False)
    assert isinstance(caught.value, KubeError)


async def test_a_log_is_asked_for_once(api, kube, clock):
    api.status(500, "InternalError", "dial tcp 10.0.10.13:10250: connect: connection refused")
    with pytest.raises(CallFailed, match="connection refused"):
        await kube.logs("cilium-x", "kube-system", "cilium-agent", lines=10, limit=1000)
    assert [seen.path for seen in api.seen] == ["/api/v1/namespaces/kube-system/pods/cilium-x/log"]


@pytest.mark.parametrize("after", [None, b'{"kind":'])
async def test_no_answer_ends_at_the_deadline(api, kube, after):
    api.hang(after=after)
    began = time.monotonic()
    with pytest.raises(Timeout) as caught:
        await kube.get(kinds.NODE, "a", timeout=timedelta(milliseconds=200))
    assert 0.15 < time.monotonic() - began < 3
    assert not caught.value.maybe_applied
    assert isinstance(caught.value.__cause__, TimeoutError)


async def test_a_list_has_one_deadline_over_all_pages(api, kube):
    async def endless(request):
        del request
        return await _page()

    api.forever = endless
    with pytest.raises(Timeout):
        await kube.list(kinds.NODE, timeout=timedelta(milliseconds=200))
    assert len(api.seen) > 1


async def _page():
    from aiohttp import web

    return web.json_response({"metadata": {"continue": "on"}, "items": []})


async def test_a_server_that_is_not_there_is_unreachable(connect, unused_tcp_port):
    kube = await connect(server=f"http://127.0.0.1:{unused_tcp_port}")
    with pytest.raises(Unreachable) as caught:
        await kube.get(kinds.NODE, "a")
    assert caught.value.retryable
    assert caught.value.__cause__ is not None
    assert not await kube.ready()


@pytest.mark.parametrize("body", ["<html>please log in</html>", '{"metadata": ', "[]", "", b"\xff\xfe"])
async def test_a_2xx_that_is_no_api_answer_is_malformed(api, kube, body):
    api.text(body)
    with pytest.raises(Malformed) as caught:
        await kube.get(kinds.NODE, "a")
    assert caught.value.__cause__ is not None
    api.text(body)
    with pytest.raises(Malformed):
        await kube.list(kinds.NODE)


async def test_an_object_that_does_not_fit_the_record_is_malformed(api, kube, pod):
    api.json({"metadata": {}, "items": [pod("a", nodeName=7)]})
    with pytest.raises(Malformed, match="nodeName"):
        await kube.list(kinds.POD, decode=Pod)


async def test_a_redirect_is_an_error_that_names_where_to(api, kube):
    api.text("", 302, Location=api.url + "/login?token=secret")
    with pytest.raises(Malformed, match="/login") as caught:
        await kube.get(kinds.NODE, "a")
    assert "secret" not in str(caught.value)
    assert len(api.seen) == 1


async def test_an_error_whose_body_breaks_off_is_told_by_its_status(api, kube):
    api.hang(after=b'{"kind": "Sta', status=403)
    with pytest.raises(Forbidden):
        await kube.get(kinds.NODE, "a", timeout=timedelta(milliseconds=200))


async def test_a_long_foreign_body_is_cut(api, kube):
    api.text("<html>" + "x" * 1_000_000, 400)
    with pytest.raises(CallFailed) as caught:
        await kube.get(kinds.NODE, "a")
    assert len(caught.value.message) == 256


async def test_proxies_and_netrc_of_the_environment_are_not_used(api, connect, monkeypatch, tmp_path, unused_tcp_port, pod):
    dead = f"http://127.0.0.1:{unused_tcp_port}"
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, dead)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login robot password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    api.json(pod("a"))
    kube = await connect()
    await kube.get(kinds.POD, "a", "default")
    assert "Authorization" not in api.seen[0].headers


async def test_version_and_readiness(api, kube):
    api.json({"gitVersion": "v1.36.3"})
    api.text("ok", kind="text/plain")
    api.status(401)
    assert await kube.version() == "v1.36.3"
    assert await kube.ready()
    assert not await kube.ready()
    assert [seen.path for seen in api.seen] == ["/version", "/readyz", "/readyz"]


async def test_kinds_of_a_group_that_is_not_served_are_none(api, kube):
    api.json({"resources": [{"name": "httproutes"}, {"name": "httproutes/status"}]})
    api.status(404)
    assert "httproutes" in await kube.served("gateway.networking.k8s.io", "v1")
    assert await kube.served("cilium.io", "v2") == frozenset()
    assert [seen.path for seen in api.seen] == ["/apis/gateway.networking.k8s.io/v1", "/apis/cilium.io/v2"]


async def test_calls_are_counted(api, kube, pod):
    from remediator.telemetry import METRICS

    def count(verb: str, code: str) -> float:
        return METRICS.registry.get_sample_value("remediator_kube_requests_total", {"verb": verb, "code": code}) or 0

    before = {pair: count(*pair) for pair in [("get", "200"), ("get", "500"), ("list", "403"), ("get", "timeout")]}
    api.status(500)
    api.json(pod("a"))
    api.status(403)
    api.hang()
    await kube.get(kinds.POD, "a", "default")
    with pytest.raises(Forbidden):
        await kube.list(kinds.POD)
    with pytest.raises(Timeout):
        await kube.get(kinds.POD, "a", "default", timeout=timedelta(milliseconds=50))
    assert {pair: count(*pair) - was for pair, was in before.items()} == dict.fromkeys(before, 1)


def test_kinds_are_found_as_people_write_them():
    assert kinds.by_name("node") is kinds.by_name("Nodes") is kinds.NODE
    with pytest.raises(UsageError, match="did you mean DaemonSet"):
        kinds.by_name("DeamonSet")
    with pytest.raises(UsageError, match="known are"):
        kinds.by_name("zzz")


@given(st.text(max_size=20) | st.text("ab.:-_/?#%\\;{}@", max_size=8))
def test_a_possible_name_stays_one_segment_of_the_path(name):
    if kinds.possible_name(name):
        path = kinds.NODE.path(name=name)
        assert urlsplit("http://h" + path).path == path == f"/api/v1/nodes/{name}"


@pytest.mark.parametrize("name", ["node-3", "ip-10-0-0-1.eu-west-1.compute.internal", "system:node:a", "A_b", "x" * 253])
def test_names_that_objects_have_are_possible(name):
    assert kinds.possible_name(name)


def test_paths():
    assert kinds.NODE.path(name="a") == "/api/v1/nodes/a"
    assert kinds.POD.path() == "/api/v1/pods"
    assert kinds.POD.path("kube-system", "a", "eviction") == "/api/v1/namespaces/kube-system/pods/a/eviction"
    assert kinds.CILIUM_NODE.path(name="a") == "/apis/cilium.io/v2/ciliumnodes/a"
    assert {kind.api_version for kind in kinds.known()} >= {"v1", "apps/v1", "cilium.io/v2"}
    assert len({kind.kind for kind in kinds.known()}) == len(kinds.known())


def test_messages_are_valid_json_free_text():
    error = NotFound('nodes "a" not found', call="GET /api/v1/nodes/a", status=404)
    assert str(error) == 'GET /api/v1/nodes/a: 404 NotFound: nodes "a" not found'
    assert json.dumps(str(error))
