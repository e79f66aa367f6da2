"""The one door to everything that the simulation serves: the request log, faults and the token, before any handler runs.

In comes every HTTP request; out comes its handler's answer, unless a fault decides otherwise. Requests below ``/sim`` pass untouched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from remediator.sim.api import KubeApi, error_response
from remediator.sim.calls import Logged, is_true
from remediator.sim.status import ApiError

if TYPE_CHECKING:
    from remediator.sim.alerting.server import AlertmanagerApi
    from remediator.sim.cluster import Cluster
    from remediator.sim.faults import Fault
    from remediator.sim.prometheus.server import Prometheus

__all__ = ["Door"]

_METHODS = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


class Door:
    """Lets requests in."""

    def __init__(self, cluster: Cluster, prometheus: Prometheus, alertmanager: AlertmanagerApi, token: str | None) -> None:
        self.cluster = cluster
        self.kube = KubeApi(cluster)
        self.prometheus = prometheus
        self.alertmanager = alertmanager
        self.token = token

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One request."""
        entry = self._log(request)
        raw = await request.read()
        fault = self.cluster.faults.take(entry.verb, request.method, request.path_qs)
        if fault is not None and fault.delay:
            await self.cluster.clock.sleep(fault.delay)
        if fault is not None and fault.drop == "before":
            return _cut(request)
        if fault is not None and fault.status is not None:
            entry.status = fault.status
            return _faulty(fault, entry.service)
        response = await self._serve(request, raw, entry)
        entry.status = response.status
        if fault is not None and fault.hold:
            await self.cluster.clock.sleep(fault.hold)
        if fault is not None and fault.drop == "after":
            return _cut(request)
        return response

    async def _serve(self, request: web.Request, raw: bytes, entry: Logged) -> web.StreamResponse:
        if entry.service == "prometheus":
            return await self.prometheus.handle(request)
        if entry.service == "alertmanager":
            return self.alertmanager.handle(request, raw)
        if self.token is not None and request.headers.get("Authorization") != f"Bearer {self.token}":
            return error_response(ApiError(401, "Unauthorized", "Unauthorized"))
        return await self.kube.handle(request, raw, entry)

    def _log(self, request: web.Request) -> Logged:
        service = request.path.split("/")[1]
        verb = _METHODS.get(request.method, request.method.lower())
        if verb == "get" and is_true(request.query.get("watch")):
            verb = "watch"
        entry = Logged(
            seq=self.cluster.request_log.next_seq(),
            at=self.cluster.clock.now(),
            service=service if service in ("prometheus", "alertmanager") else "kubernetes",
            verb=verb,
            method=request.method,
            path=request.path,
            query=dict(request.query),
            user_agent=request.headers.get("User-Agent", ""),
            audit_id=request.headers.get("Audit-ID", ""),
            content_type=request.headers.get("Content-Type", ""),
            peer=_port(request),
        )
        if entry.service == "kubernetes":
            self._aim(entry, request)
        self.cluster.request_log.add(entry)
        return entry

    def _aim(self, entry: Logged, request: web.Request) -> None:
        """What the request is about, as far as its path says; so that faults can tell a list from a get."""
        call = self.kube.peek(request)
        if call is not None:
            entry.verb, entry.resource, entry.subresource = call.verb, call.resource.qualified, call.subresource
            entry.namespace, entry.name = call.namespace, call.name
        entry.dry_run = bool(request.query.get("dryRun"))


def _port(request: web.Request) -> int:
    """Of the other end; 0 if it is gone already."""
    name = request.transport.get_extra_info("peername") if request.transport is not None else None
    return int(name[1]) if name else 0


def _cut(request: web.Request) -> web.Response:
    """Close the connection; what is returned reaches nobody."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


def _faulty(fault: Fault, service: str) -> web.Response:
    code = fault.status or 500
    headers = {"Retry-After": str(fault.retry_after)} if fault.retry_after is not None else None
    if fault.text is not None:
        return web.Response(status=code, text=fault.text, content_type="text/html", headers=headers)
    if service == "prometheus":
        body = {"status": "error", "errorType": "internal", "error": fault.message}
        return web.json_response(body, status=code, headers=headers)
    if service == "alertmanager":
        return web.json_response({"code": code, "message": fault.message}, status=code, headers=headers)
    details = {"retryAfterSeconds": fault.retry_after} if fault.retry_after is not None else None
    return error_response(ApiError(code, fault.reason, fault.message, details, retry_after=fault.retry_after))
