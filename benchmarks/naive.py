"""A policy to compare with, as a cron job or a script behind a webhook would have it: always restart the agent, then drain.

For every alert that names a node: delete the node's agent pod, wait five minutes, and if the alert still fires cordon the node and evict
what is on it. No gate, no look at anything else, no proof, no undo; once for each episode. What a person asks for is done at once.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, ClassVar, Self

import aiohttp
from aiohttp import web

from remediator.testing import Hands

__all__ = ["Naive"]

WAIT = timedelta(minutes=5)
RETRY, TRIES = timedelta(seconds=10), 60
AGENTS = "/api/v1/namespaces/kube-system/pods?labelSelector=k8s-app%3Dcilium&fieldSelector=spec.nodeName%3D"
MERGE = {"Content-Type": "application/merge-patch+json"}


class Naive(Hands):
    """The policy at work."""

    name: ClassVar[str] = "restart, then drain"

    async def __aenter__(self) -> Self:
        self._seen: set[tuple[str, str]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        async with AsyncExitStack() as stack:
            self._session = await stack.enter_async_context(aiohttp.ClientSession(self.simulation.url))
            app = web.Application()
            app.router.add_post("/", self._alerts)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self._port = runner.addresses[0][1]
            stack.push_async_callback(self._end)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def webhook(self) -> tuple[str, str]:
        return f"http://127.0.0.1:{self._port}/", ""

    async def ask(self) -> None:
        truth = self.scenario.truth
        node = truth.target.partition("/")[2]
        self._begin(self._restart(node) if truth.playbook == "restart-agent" else self._drain(node))

    async def busy(self) -> bool:
        return bool(self._tasks)

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _alerts(self, request: web.Request) -> web.Response:
        for alert in (await request.json())["alerts"]:
            episode = alert["fingerprint"], alert["startsAt"]
            labels = alert["labels"]
            node = labels.get("target_node") or labels.get("node")
            if alert["status"] == "firing" and node and episode not in self._seen:
                self._seen.add(episode)
                self._begin(self._handle(alert["fingerprint"], node))
        return web.Response()

    async def _handle(self, fingerprint: str, node: str) -> None:
        await self._restart(node)
        await self.clock.sleep(WAIT)
        _, active = await self._call("GET", "/alertmanager/api/v2/alerts")
        if any(alert["fingerprint"] == fingerprint for alert in active):
            await self._drain(node)

    async def _restart(self, node: str) -> None:
        _, found = await self._call("GET", AGENTS + node)
        for pod in found.get("items", ()):
            await self._call("DELETE", f"/api/v1/namespaces/kube-system/pods/{pod['metadata']['name']}")

    async def _drain(self, node: str) -> None:
        await self._call("PATCH", f"/api/v1/nodes/{node}", {"spec": {"unschedulable": True}}, MERGE)
        for _ in range(TRIES):
            _, found = await self._call("GET", f"/api/v1/pods?fieldSelector=spec.nodeName%3D{node}")
            left = [pod for pod in found.get("items", ()) if not _stays(pod)]
            if not left:
                return
            for pod in left:
                await self._evict(pod["metadata"]["namespace"], pod["metadata"]["name"])
            await self.clock.sleep(RETRY)

    async def _evict(self, namespace: str, name: str) -> None:
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace}}
        await self._call("POST", f"/api/v1/namespaces/{namespace}/pods/{name}/eviction", body)

    async def _call(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        async with self._session.request(method, path, json=body, headers=headers) as answer:
            return answer.status, await answer.json(content_type=None)


def _stays(pod: dict[str, Any]) -> bool:
    """Daemons, and what is on its way out already."""
    owners = pod["metadata"].get("ownerReferences") or ()
    return "deletionTimestamp" in pod["metadata"] or any(owner["kind"] == "DaemonSet" for owner in owners)
