"""The Kubernetes API over HTTP: discovery, reads, watches, writes, eviction.

In comes an aiohttp request below ``/api``, ``/apis`` or one of the health and version paths; out comes the answer of the real server's
shape. Refusals are Status bodies. What faults do to a request was decided before it gets here (see ``door``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from remediator.sim import status
from remediator.sim.calls import Call, parse_body, parse_call, parse_options
from remediator.sim.deletion import Deletion
from remediator.sim.discovery import discover
from remediator.sim.disruption import evict
from remediator.sim.execute import execute
from remediator.sim.logs import container_log
from remediator.sim.objects import dig, encode, key_of
from remediator.sim.reading import ListOptions, list_page
from remediator.sim.rendering import list_bytes, object_bytes, wants
from remediator.sim.status import ApiError
from remediator.sim.watching import Watch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from remediator.sim.calls import Logged
    from remediator.sim.cluster import Cluster
    from remediator.sim.objects import Obj
    from remediator.sim.registry import Options

__all__ = ["KubeApi", "error_response"]

_HEALTH = ("/readyz", "/livez", "/healthz")
_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubject"
_RULES = {"resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}], "nonResourceRules": [], "incomplete": False}
"""Who asks may do everything."""


def error_response(error: ApiError) -> web.Response:
    """The answer that a refusal becomes."""
    headers = {"Retry-After": str(error.retry_after)} if error.retry_after is not None else None
    if error.text is not None:
        return web.Response(status=error.code, text=error.text, headers=headers)
    return web.Response(status=error.code, body=encode(error.body()), content_type="application/json", headers=headers)


class KubeApi:
    """Answers requests on one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    async def handle(self, request: web.Request, raw: bytes, entry: Logged) -> web.StreamResponse:
        """One request whose body was read already; fills in what ``entry`` does not know yet."""
        try:
            return await self._answer(request, raw, entry)
        except ApiError as error:
            return error_response(error)

    def peek(self, request: web.Request) -> Call | None:
        """What a request is about, None if its path says nothing that is served."""
        path = request.path.rstrip("/")
        if not path.startswith(("/api/", "/apis/")) or path.count("/") < 3:
            return None
        try:
            return parse_call(request.method, path, request.query, self.cluster.kinds)
        except ApiError:
            return None

    async def _answer(self, request: web.Request, raw: bytes, entry: Logged) -> web.StreamResponse:
        path = request.path.rstrip("/")
        if path.startswith(_HEALTH):
            return web.Response(text="ok")
        document = discover(path, self.cluster.kinds, request.host) if request.method in ("GET", "HEAD") else None
        if document is not None:
            return _json(document)
        if path in (f"{_REVIEWS}accessreviews", f"{_REVIEWS}rulesreviews") and request.method == "POST":
            return _json(_reviewed(path, parse_body("POST", request.content_type, raw) or {}), 201)
        if not path.startswith(("/api/", "/apis/")):
            raise status.no_such_resource(in_group=False)
        call = parse_call(request.method, path, request.query, self.cluster.kinds)
        if call.verb == "watch" or call.subresource == "exec":
            return await self._stream(call, request)
        if call.verb in ("get", "list"):
            return self._read(call, request)
        return self._write(call, request, raw, entry)

    # --- reads -------------------------------------------------------------------------------------------------------

    def _read(self, call: Call, request: web.Request) -> web.Response:
        form, now = wants(request.headers.get("Accept", "")), self.cluster.clock.now()
        if call.subresource == "log":
            return web.Response(text=container_log(self.cluster, call, request.query))
        if call.verb == "get":
            obj = self.cluster.read(call.resource, call.name, call.namespace)
            return _body(object_bytes(call.resource, obj, form, now))
        page = list_page(self.cluster.store, call.resource, call.namespace, ListOptions.of(request.query))
        return _body(list_bytes(call.resource, page, self.cluster.store.table(call.resource), form, now))

    async def _stream(self, call: Call, request: web.Request) -> web.StreamResponse:
        return await (execute(self.cluster, call, request) if call.subresource == "exec" else self._watch(call, request))

    async def _watch(self, call: Call, request: web.Request) -> web.StreamResponse:
        ListOptions.of(request.query)
        form = wants(request.headers.get("Accept", ""))
        watch = Watch(self.cluster.store, self.cluster.clock, call.resource, call.namespace, request.query, form)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        closed = self.cluster.watches.opened(watch)
        try:
            async for line in watch.lines():
                if line:
                    await response.write(line)
            await response.write_eof()
        except ConnectionResetError:
            if request.transport is not None:
                request.transport.abort()
        finally:
            closed()
        return response

    # --- writes ------------------------------------------------------------------------------------------------------

    def _write(self, call: Call, request: web.Request, raw: bytes, entry: Logged) -> web.Response:
        entry.body = raw.decode(errors="replace") or None
        body = entry.body = (
            parse_body(request.method, request.content_type if raw else "", raw) if raw or request.method != "PATCH" else None
        )
        user_agent = request.headers.get("User-Agent", "")
        options = parse_options(call.verb, request.query, user_agent, body, request.content_type)
        entry.dry_run = options.dry_run
        code, answer = self._written(call, body, request, options)
        form = wants(request.headers.get("Accept", ""))
        return _body(object_bytes(call.resource, answer, form, self.cluster.clock.now()), code)

    def _written(self, call: Call, body: Any, request: web.Request, options: Options) -> tuple[int, Obj]:
        registry, resource = self.cluster.registry, call.resource
        if call.verb == "create":
            return 201, self._create(call, body, options)
        if call.verb == "update":
            return registry.update(resource, call.namespace, call.name, body, options, call.subresource)
        if call.verb == "patch":
            return registry.patch(resource, call.namespace, call.name, request.content_type, body, options, call.subresource)
        deletion = _deletion(body, request.query)
        if call.verb == "delete":
            return 200, registry.delete(resource, call.namespace, call.name, deletion, options)
        return 200, self._delete_all(call, request.query, deletion, options)

    def _create(self, call: Call, body: Any, options: Options) -> Obj:
        if call.subresource == "eviction":
            return self._evict(call, body, dry_run=options.dry_run)
        if call.subresource == "binding":
            return self._bind(call, body)
        return self.cluster.registry.create(call.resource, call.namespace, body, options)

    def _delete_all(self, call: Call, query: Mapping[str, str], deletion: Deletion, options: Options) -> Obj:
        page = list_page(self.cluster.store, call.resource, call.namespace, ListOptions.of(query))
        for obj in page.items:
            namespace, name = key_of(obj)
            self.cluster.registry.delete(call.resource, namespace, name, deletion, options)
        meta = {"resourceVersion": page.version}
        bare = ("kind", "apiVersion") if not call.resource.custom else ()
        items = [{k: v for k, v in obj.items() if k not in bare} for obj in page.items]
        return {"kind": f"{call.resource.kind}List", "apiVersion": call.resource.api_version(), "metadata": meta, "items": items}

    def _evict(self, call: Call, body: Any, *, dry_run: bool) -> Obj:
        eviction = body if isinstance(body, dict) else {}
        kind, version = eviction.get("kind", "Eviction"), eviction.get("apiVersion", "policy/v1")
        if kind != "Eviction" or version not in ("policy/v1", "policy/v1beta1"):
            raise status.bad_request(
                f'{kind} in version "{version.rpartition("/")[2]}" cannot be handled as a Eviction: '
                f'no kind "{kind}" is registered for version "{version}" in this server'
            )
        self.cluster.registry.check_namespace(call.resource, call.namespace, call.name)
        asked = dig(eviction, "deleteOptions.dryRun") or []
        stuck = frozenset(self.cluster.stuck_budgets)
        return evict(self.cluster.store, call.namespace, call.name, eviction, dry_run=dry_run or asked == ["All"], stuck=stuck)

    def _bind(self, call: Call, body: Any) -> Obj:
        pod = self.cluster.read(call.resource, call.name, call.namespace)
        if dig(pod, "spec.nodeName"):
            raise status.conflict(call.resource, call.name, f"pod {call.name} is already assigned to node {pod['spec']['nodeName']}")
        self.cluster.bind(pod, str(dig(body, "target.name") or ""))
        return {**status.success(), "code": 201}


def _deletion(body: Any, query: Mapping[str, str]) -> Deletion:
    options: Obj = {**body} if isinstance(body, dict) else {}
    asked = query.get("gracePeriodSeconds", "")
    if asked and "gracePeriodSeconds" not in options:
        options["gracePeriodSeconds"] = int(asked) if asked.removeprefix("-").isdigit() else asked
    if "propagationPolicy" in query:
        options.setdefault("propagationPolicy", query["propagationPolicy"])
    return Deletion.of(options)


def _reviewed(path: str, review: Obj) -> Obj:
    """The answer to a question about the rights of who asks."""
    if path == f"{_REVIEWS}accessreviews":
        return {**review, "status": {"allowed": True}}
    if not (review.get("spec") or {}).get("namespace"):
        raise status.bad_request("no namespace on request")
    return {**review, "status": _RULES}


def _json(data: Obj, code: int = 200) -> web.Response:
    return _body(encode(data), code)


def _body(data: bytes, code: int = 200) -> web.Response:
    return web.Response(status=code, body=data, content_type="application/json")
