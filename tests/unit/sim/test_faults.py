"""Faults and the request log, seen from a client."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import aiohttp
import pytest

from remediator.clock import ManualClock
from remediator.sim import Simulation

POD = "/api/v1/namespaces/kube-system/pods"


class TestErrors:
    async def test_by_verb_path_and_count(self, sim, session):
        fault = sim.cluster.fail(verb="get", path="/nodes/node-2$", status=503, count=2, reason="ServiceUnavailable")
        answers = []
        for path in ("/api/v1/nodes/node-2", "/api/v1/nodes/node-1", "/api/v1/nodes/node-2", "/api/v1/nodes/node-2"):
            async with session.get(sim.url + path) as answer:
                answers.append((answer.status, (await answer.json())["kind"]))
        assert answers == [(503, "Status"), (200, "Node"), (503, "Status"), (200, "Node")]
        assert (fault.hits, fault.spent) == (2, True)

    async def test_a_list_is_not_a_get_and_a_watch_is_neither(self, sim, session):
        sim.cluster.fail(verb="list", path="nodes", status=500, count=None)
        async with session.get(f"{sim.url}/api/v1/nodes") as answer:
            assert answer.status == 500
        async with session.get(f"{sim.url}/api/v1/nodes/node-1") as answer:
            assert answer.status == 200
        async with session.get(f"{sim.url}/api/v1/nodes?watch=1&timeoutSeconds=600") as answer:
            assert answer.status == 200
        sim.cluster.faults.clear()
        async with session.get(f"{sim.url}/api/v1/nodes") as answer:
            assert answer.status == 200

    async def test_retry_after(self, sim, session):
        sim.cluster.fail(status=429, retry_after=7)
        async with session.get(f"{sim.url}/api/v1/nodes") as answer:
            body = await answer.json()
            assert (answer.headers["Retry-After"], body["reason"], body["details"]) == ("7", "TooManyRequests", {"retryAfterSeconds": 7})

    async def test_a_load_balancer_that_speaks_html(self, sim, session):
        sim.cluster.fail(status=503, text="<html>no</html>")
        async with session.get(f"{sim.url}/api/v1/nodes") as answer:
            assert (answer.status, answer.content_type, await answer.text()) == (503, "text/html", "<html>no</html>")

    async def test_of_the_monitoring_too(self, sim, session):
        sim.cluster.fail(path="^/prometheus", status=503)
        sim.cluster.fail(path="^/alertmanager", status=500)
        async with session.get(f"{sim.prometheus_url}/api/v1/query?query=up") as answer:
            assert (answer.status, (await answer.json())["status"]) == (503, "error")
        async with session.get(f"{sim.alertmanager_url}/api/v2/alerts") as answer:
            assert answer.status == 500


class TestConnections:
    async def test_dropped_before_the_request_took_effect(self, sim, session):
        sim.cluster.drop(verb="patch")
        before = sim.cluster.state_hash()
        with pytest.raises(aiohttp.ClientError):
            await session.patch(f"{sim.url}/api/v1/nodes/node-1", json={"spec": {"unschedulable": True}}, headers=_merge())
        assert sim.cluster.state_hash() == before
        assert sim.cluster.writes() == []

    async def test_dropped_after_it_took_effect(self, sim, session):
        sim.cluster.drop(verb="patch", when="after")
        with pytest.raises(aiohttp.ClientError):
            await session.patch(f"{sim.url}/api/v1/nodes/node-1", json={"spec": {"unschedulable": True}}, headers=_merge())
        assert sim.cluster.get("Node", "node-1")["spec"]["unschedulable"] is True
        assert [w.status for w in sim.cluster.writes()] == [200]

    async def test_a_slow_reply_waits_on_the_simulated_clock(self, sim, session, clock, until):
        fault = sim.cluster.slow(timedelta(seconds=30), path="nodes/node-1")
        request = asyncio.create_task(session.get(f"{sim.url}/api/v1/nodes/node-1"))
        await until(lambda: fault.hits)
        async with session.get(f"{sim.url}/api/v1/nodes/node-2") as other:
            assert other.status == 200
        assert not request.done()
        clock.advance(timedelta(seconds=31))
        async with await asyncio.wait_for(request, 10) as answer:
            assert answer.status == 200

    async def test_a_slow_reply_may_come_after_the_effect(self, sim, session, clock, until):
        fault = sim.cluster.slow(timedelta(seconds=30), verb="patch", when="after")
        patch = session.patch(f"{sim.url}/api/v1/nodes/node-1", json={"spec": {"unschedulable": True}}, headers=_merge())
        request = asyncio.create_task(asyncio.wait_for(patch, 0.2))
        await until(lambda: fault.hits and sim.cluster.writes())
        assert sim.cluster.get("Node", "node-1")["spec"]["unschedulable"] is True
        with pytest.raises(TimeoutError):
            await request

    async def test_a_client_that_gives_up_before_its_turn_changed_nothing(self, sim, session, clock, until):
        fault = sim.cluster.slow(timedelta(seconds=30), verb="patch")
        patch = session.patch(f"{sim.url}/api/v1/nodes/node-1", json={"spec": {"unschedulable": True}}, headers=_merge())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(patch, 0.2)
        assert fault.hits == 1
        await sim.run_for(timedelta(seconds=60))
        assert "unschedulable" not in sim.cluster.get("Node", "node-1")["spec"]

    async def test_watches_are_cut_and_expired(self, sim, session):
        async with session.get(f"{sim.url}/api/v1/nodes?watch=1&resourceVersion={sim.cluster.store.version}") as watch:
            assert sim.cluster.expire_watches("Pod") == 0
            assert sim.cluster.expire_watches("Node") == 1
            line = await asyncio.wait_for(watch.content.readline(), 10)
            assert b'"code":410' in line
            assert b'"type":"ERROR"' in line
        async with session.get(f"{sim.url}/api/v1/nodes?watch=1&resourceVersion={sim.cluster.store.version}") as watch:
            assert sim.cluster.drop_watches() == 1
            with pytest.raises(aiohttp.ClientError):
                await asyncio.wait_for(watch.content.readline(), 10)

    async def test_a_client_that_leaves_ends_its_watch(self, sim, session, until):
        async with session.get(f"{sim.url}/api/v1/nodes?watch=1"):
            assert len(sim.cluster.watches) == 1
        await until(lambda: not len(sim.cluster.watches))

    async def test_stopping_ends_open_watches(self, session):
        sim = Simulation(clock=ManualClock())
        await sim.start()
        async with session.get(f"{sim.url}/api/v1/nodes?watch=1&resourceVersion={sim.cluster.store.version}") as watch:
            await sim.stop()
            assert await asyncio.wait_for(watch.content.read(), 10) == b""
        await sim.stop()


class TestHistory:
    async def test_a_version_beyond_the_log_is_expired_for_watches_and_pages(self, clock, session):
        async with Simulation(clock=clock, cilium=False, history=5) as sim:
            async with session.get(f"{sim.url}/api/v1/nodes?limit=2") as answer:
                meta = (await answer.json())["metadata"]
            for number in range(8):
                body = {"metadata": {"labels": {"n": str(number)}}}
                async with session.patch(f"{sim.url}/api/v1/nodes/node-1", json=body, headers=_merge()) as answer:
                    assert answer.status == 200
            async with session.get(f"{sim.url}/api/v1/nodes?limit=2&continue={meta['continue']}") as answer:
                body = await answer.json()
                assert (answer.status, body["reason"]) == (410, "Expired")
                assert body["message"].startswith("The provided continue parameter is too old to display a consistent list result.")
            async with session.get(f"{sim.url}/api/v1/nodes?watch=1&resourceVersion={meta['resourceVersion']}") as answer:
                assert answer.status == 200
                assert b'"reason":"Expired"' in await answer.content.readline()


class TestBudgets:
    async def test_one_that_never_yields(self, sim, session):
        pod = next(p for p in sim.cluster.objects("Pod", "apps"))["metadata"]["name"]
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
        url = f"{sim.url}/api/v1/namespaces/apps/pods/{pod}/eviction"
        sim.cluster.hold_budget("whoami", "apps")
        for _ in range(3):
            async with session.post(url, json=body) as answer:
                assert answer.status == 429
                assert (await answer.json())["details"]["causes"][0]["reason"] == "DisruptionBudget"
        sim.cluster.release_budget("whoami", "apps")
        async with session.post(url, json=body) as answer:
            assert answer.status == 201


class TestRequestLog:
    async def test_what_was_asked_by_whom_and_how_it_was_answered(self, sim, session):
        headers = {"User-Agent": "remediator/1", "Audit-ID": "abc", **_merge()}
        url = f"{sim.url}/api/v1/nodes/node-1"
        async with session.patch(url, json={"spec": {"unschedulable": True}}, headers=headers, params={"dryRun": "All"}) as answer:
            assert answer.status == 200
        async with session.patch(url, json={"spec": {"unschedulable": True}}, headers=headers) as answer:
            assert answer.status == 200
        async with session.delete(f"{sim.url}{POD}/none") as answer:
            assert answer.status == 404
        first, second, third = sim.cluster.request_log
        assert (first.verb, first.resource, first.name, first.dry_run, first.status, first.writes) == (
            "patch",
            "nodes",
            "node-1",
            True,
            200,
            False,
        )
        assert (first.user_agent, first.audit_id, first.body) == ("remediator/1", "abc", {"spec": {"unschedulable": True}})
        assert (second.dry_run, second.writes, second.seq) == (False, True, 2)
        assert (third.verb, third.namespace, third.status, third.writes) == ("delete", "kube-system", 404, False)
        assert sim.cluster.writes() == [second]
        sim.cluster.request_log.clear()
        assert len(sim.cluster.request_log) == 0

    async def test_a_faulty_answer_is_in_it_too(self, sim, session):
        sim.cluster.fail(status=500)
        async with session.get(f"{sim.url}/api/v1/nodes"):
            pass
        (entry,) = sim.cluster.request_log
        assert (entry.verb, entry.status, entry.resource) == ("list", 500, "nodes")

    async def test_the_monitoring_has_its_own_service(self, sim, session):
        async with session.get(f"{sim.prometheus_url}/-/ready"):
            pass
        async with session.get(f"{sim.alertmanager_url}/api/v2/alerts"):
            pass
        assert [e.service for e in sim.cluster.request_log] == ["prometheus", "alertmanager"]


async def test_a_token_is_asked_for_if_there_is_one(clock, session):
    async with Simulation(clock=clock, token="sesame") as sim:
        async with session.get(f"{sim.url}/api/v1/nodes") as answer:
            body = await answer.json()
            assert (answer.status, body["reason"], body["code"]) == (401, "Unauthorized", 401)
        async with session.get(f"{sim.url}/api/v1/nodes", headers={"Authorization": "Bearer sesame"}) as answer:
            assert answer.status == 200
        async with session.get(f"{sim.prometheus_url}/api/v1/query?query=up") as answer:
            assert answer.status == 200


def _merge():
    return {"Content-Type": "application/merge-patch+json"}
