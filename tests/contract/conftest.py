"""The same tests on the simulated cluster and on a real control plane; they speak plain HTTP, so that they judge both alike."""

from __future__ import annotations

import asyncio
import itertools
import json
import ssl
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from remediator.clock import FastClock
from remediator.sim import Simulation, Timing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"
_RATE = 4
_PATIENCE = 30.0
_numbers = itertools.count(1)
_run = f"{int(time.time() * 1000):x}"


@dataclass
class Answer:
    """What came back."""

    status: int
    body: Any
    headers: Any

    @property
    def reason(self) -> str:
        return self.body.get("reason", "")

    @property
    def message(self) -> str:
        return self.body.get("message", "")

    @property
    def names(self) -> list[str]:
        return [item["metadata"]["name"] for item in self.body["items"]]

    @property
    def version(self) -> str:
        return self.body["metadata"]["resourceVersion"]


class Api:
    """A Kubernetes API server, whoever plays it."""

    merge, strategic, json_patch, apply = MERGE, STRATEGIC, JSON_PATCH, APPLY

    def __init__(self, session: aiohttp.ClientSession, url: str, *, simulated: bool) -> None:
        self.session = session
        self.url = url
        self.simulated = simulated

    async def __call__(
        self, method: str, path: str, body: Any = None, kind: str = "application/json", accept: str = "application/json", **query: Any
    ) -> Answer:
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        headers = {"Accept": accept, "User-Agent": "contract/1.0", **({"Content-Type": kind} if data is not None else {})}
        params = {key: str(value) for key, value in query.items()}
        async with self.session.request(method, self.url + path, data=data, headers=headers, params=params) as answer:
            text = await answer.text()
            try:
                content = json.loads(text)
            except ValueError:
                content = text
            return Answer(answer.status, content, answer.headers)

    async def get(self, path: str, **query: Any) -> Answer:
        return await self("GET", path, **query)

    async def post(self, path: str, body: Any, **query: Any) -> Answer:
        return await self("POST", path, body, **query)

    async def put(self, path: str, body: Any, **query: Any) -> Answer:
        return await self("PUT", path, body, **query)

    async def delete(self, path: str, body: Any = None, **query: Any) -> Answer:
        return await self("DELETE", path, body, **query)

    async def patch(self, path: str, body: Any, kind: str = MERGE, **query: Any) -> Answer:
        return await self("PATCH", path, body, kind, **query)

    async def until(self, look: Callable[[], Awaitable[Any]], what: str = "") -> Any:
        """The first true answer of ``look``; fails when patience ends."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            found = await look()
            if found:
                return found
            assert time.monotonic() < deadline, f"{what or 'it'} did not happen within {_PATIENCE:g} s"
            await asyncio.sleep(0.05)

    async def furnish(self, namespace: str) -> str:
        """Create a namespace and wait until it has what every namespace has. Answers its path."""
        made = await self.post("/api/v1/namespaces", {"metadata": {"name": namespace}})
        assert made.status == 201, made.body
        path = f"/api/v1/namespaces/{namespace}"

        async def furnished() -> bool:
            found = [await self.get(f"{path}/{thing}") for thing in ("serviceaccounts/default", "configmaps/kube-root-ca.crt")]
            return all(answer.status == 200 for answer in found)

        await self.until(furnished, "the default service account")
        return path

    async def gone(self, path: str) -> None:
        """Wait until there is nothing at ``path``."""

        async def look() -> bool:
            return (await self.get(path)).status == 404

        await self.until(look, f"the end of {path}")

    async def watch(self, path: str, **query: Any) -> list[dict[str, Any]]:
        """All events until the server ends the watch; ``timeoutSeconds`` counts on the server's own clock."""
        params = {"watch": "1", **{key: str(value) for key, value in query.items()}}
        async with self.session.get(self.url + path, params=params) as answer:
            assert answer.status == 200
            return [json.loads(line) async for line in answer.content]


def pytest_itemcollected(item: pytest.Item) -> None:
    """What a file says of its tests on the real control plane, where each waits for controllers; on the simulated one they are quick."""
    mark = getattr(getattr(item, "module", None), "ON_THE_REAL_ONE", None)
    if mark is not None and item.get_closest_marker("controlplane") is not None:
        item.add_marker(mark)


def pod(name: str, node: str = "", labels: dict[str, str] | None = None, **meta: Any) -> dict[str, Any]:
    spec: dict[str, Any] = {"containers": [{"name": "c", "image": "example.test/c:1"}], "terminationGracePeriodSeconds": 5}
    if node:
        spec["nodeName"] = node
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels or {}, **meta}, "spec": spec}


@pytest.fixture
async def simulation() -> AsyncIterator[Simulation]:
    """As bare as the real one starts: five nodes and no Cilium; its pods come and go as fast as kwok's."""
    timing = Timing(pod_start=timedelta(milliseconds=200), pod_stop=timedelta(milliseconds=200))
    async with Simulation(clock=FastClock(_RATE), timing=timing, cilium=False) as sim:
        yield sim


@dataclass(frozen=True)
class Server:
    """Where an API server is, and how it wants to be spoken to."""

    url: str
    token: str = ""
    ca: str = ""


def _real(plane: Any) -> Server:
    config = json.loads(plane.kubeconfig.read_text())
    return Server(plane.server, config["users"][0]["user"]["token"], config["clusters"][0]["cluster"]["certificate-authority"])


@pytest.fixture
async def connect() -> AsyncIterator[Callable[[Any], Awaitable[Api]]]:
    """Speaks to a URL, or to a control plane."""
    async with AsyncExitStack() as stack:

        async def connect(to: Any) -> Api:
            server = Server(to) if isinstance(to, str) else _real(to)
            connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=server.ca) if server.ca else False)
            headers = {"Authorization": f"Bearer {server.token}"} if server.token else {}
            session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector, headers=headers))
            return Api(session, server.url, simulated=not server.ca)

        yield connect


@pytest.fixture(params=["sim", pytest.param("real", marks=pytest.mark.controlplane)])
def server(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue("simulation").url if request.param == "sim" else request.getfixturevalue("control_plane")


@pytest.fixture
async def api(server: Any, connect: Callable[[Any], Awaitable[Api]]) -> Api:
    return await connect(server)


@pytest.fixture
def namespace_name() -> str:
    return f"contract-{_run}-{next(_numbers)}"


@pytest.fixture
async def space(api: Api, namespace_name: str) -> AsyncIterator[str]:
    """The path of a namespace of the test's own, furnished and empty but for its furniture."""
    path = await api.furnish(namespace_name)
    yield path
    await api.delete(path)


@pytest.fixture
def make_pod() -> Callable[..., dict[str, Any]]:
    return pod


@pytest.fixture
async def running(api: Api, space: str) -> Callable[..., Awaitable[dict[str, Any]]]:
    """Creates a pod on a node and waits until it is Ready."""

    async def run(name: str, labels: dict[str, str] | None = None, node: str = "node-4", **meta: Any) -> dict[str, Any]:
        made = await api.post(f"{space}/pods", pod(name, node, labels, **meta))
        assert made.status == 201, made.body

        async def ready() -> dict[str, Any] | None:
            found = (await api.get(f"{space}/pods/{name}")).body
            conditions = {c["type"]: c["status"] for c in found.get("status", {}).get("conditions", ())}
            return found if conditions.get("Ready") == "True" else None

        return await api.until(ready, f"pod {name} ready")

    return run
