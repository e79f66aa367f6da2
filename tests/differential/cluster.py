"""The hands of the test: a plain client for an API server, real or simulated, that neither kubectl nor remediator has anything to do with.

In come paths and bodies; out come answers as dicts. An answer that was not wanted fails the test with its text.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

__all__ = ["PODS", "Cluster", "budgets", "connected", "pods", "until"]

MERGE, STRATEGIC, JSON = (f"application/{kind}+json" for kind in ("merge-patch", "strategic-merge-patch", "json-patch"))
PODS = "/api/v1/pods"
_LOOK = 0.2


def pods(namespace: str) -> str:
    """The path of its pods."""
    return f"/api/v1/namespaces/{namespace}/pods"


def budgets(namespace: str) -> str:
    """The path of its PodDisruptionBudgets."""
    return f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets"


@asynccontextmanager
async def connected(cluster: Cluster) -> AsyncIterator[Cluster]:
    """It, closed at the end."""
    try:
        yield cluster
    finally:
        await cluster.close()


async def until(what: str, look: Callable[[], Awaitable[Any]], *, seconds: float = 60) -> Any:
    """The first truthy result of ``look``."""
    deadline = time.monotonic() + seconds
    while not (found := await look()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        await asyncio.sleep(_LOOK)
    return found


class Cluster:
    """One API server."""

    def __init__(self, url: str, *, token: str = "", ca: str = "") -> None:
        self.url = url
        self.simulated = not ca
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=ca) if ca else False)
        headers = {"User-Agent": "differential", **({"Authorization": f"Bearer {token}"} if token else {})}
        self._session = aiohttp.ClientSession(connector=connector, headers=headers, timeout=aiohttp.ClientTimeout(60))

    @classmethod
    def of(cls, plane: Any) -> Cluster:
        """The real one, as its admin."""
        config = json.loads(plane.kubeconfig.read_text())
        return cls(plane.server, token=config["users"][0]["user"]["token"], ca=config["clusters"][0]["cluster"]["certificate-authority"])

    async def close(self) -> None:
        """Let go of the connections."""
        await self._session.close()

    async def get(self, path: str, **query: str) -> dict[str, Any]:
        """The object, or the list."""
        return await self._call("GET", path, query=query)

    async def items(self, path: str, **query: str) -> list[dict[str, Any]]:
        """What a list holds."""
        return list((await self.get(path, **query))["items"])

    async def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """POST; what is there already is left as it is."""
        return await self._call("POST", path, body, also=(409,))

    async def patch(self, path: str, body: Any, kind: str = MERGE) -> dict[str, Any]:
        """PATCH of what is there; what is not is left alone."""
        return await self._call("PATCH", path, body, kind=kind, also=(404,))

    async def delete(self, path: str, **options: Any) -> dict[str, Any]:
        """DELETE; what has gone already is fine too."""
        return await self._call("DELETE", path, options or None, also=(404, 409))

    async def _call(
        self, method: str, path: str, body: Any = None, *, kind: str = "application/json", query: Any = None, also: tuple[int, ...] = ()
    ) -> dict[str, Any]:
        data = json.dumps(body).encode() if body is not None else None
        headers = {"Content-Type": kind} if data is not None else {}
        async with self._session.request(method, self.url + path, data=data, headers=headers, params=query or {}) as answer:
            text = await answer.text()
            assert answer.status < 300 or answer.status in also, f"{method} {path}: {answer.status} {text}"
            return dict(json.loads(text))
