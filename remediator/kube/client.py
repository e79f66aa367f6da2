"""The calls that the product makes to the Kubernetes API.

In: kinds, names, selectors, bodies as dicts. Out: dicts, or partial records (``remediator.kube.records``) decoded from the raw bytes.
Raised: only errors of ``remediator.kube.errors``, and UsageError for calls that make no sense (a namespaced object without its namespace).
Every call has a deadline, reads are retried within it, writes are sent once, with field manager ``remediator``, strict field validation
and ``Audit-ID`` = ``request_id``, so that the API server's audit log names the same call as our journal.

kubernetes-asyncio is imported when a Kube connects, not when this module is: it costs half a second.
"""

# ruff: noqa: ASYNC109 - a ``timeout`` here is one deadline over retries and pages, which the caller's asyncio.timeout would turn into a bare TimeoutError
from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar, overload

import msgspec

from remediator import __version__
from remediator.clock import SystemClock
from remediator.errors import UsageError
from remediator.kube import execute, kinds, wire
from remediator.kube.errors import CallFailed, Forbidden, Gone, Invalid, Malformed, NotFound, Timeout
from remediator.kube.records import ResourceRule
from remediator.kube.wire import JsonPatch, PatchType

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path
    from types import TracebackType

    from remediator.clock import Clock
    from remediator.kube.connection import Connection, Request
    from remediator.kube.execute import Executed
    from remediator.kube.kinds import Kind

__all__ = ["FIELD_MANAGER", "Kube", "Listing", "PatchType"]

T = TypeVar("T")
X = TypeVar("X")
FIELD_MANAGER: Final = "remediator"
USER_AGENT: Final = f"remediator/{__version__}"
PAGE: Final = 500
"""Objects a page of a list."""
_SLICE: Final = 50
"""Objects decoded before the event loop gets its turn."""
_RELISTS: Final = 3
"""How often a list starts over because its continue token expired."""
_DEFAULT: Final = timedelta(seconds=10)
_EVICTION: Final = timedelta(seconds=30)
"""The API server itself retries the budget's update 20 times with 500 ms between before it answers (registry/core/pod, eviction.go)."""
_REVIEWS: Final = "/apis/authorization.k8s.io/v1"
_READY: Final = timedelta(seconds=3)


class Listing(msgspec.Struct, Generic[T], frozen=True):
    """The answer to a list: ``resource_version`` is the moment that it shows, where a watch can go on."""

    items: list[T]
    resource_version: str


class _Verdict(msgspec.Struct):
    allowed: bool


class _Review(msgspec.Struct):
    status: _Verdict


class _Told(msgspec.Struct, rename="camel"):
    incomplete: bool
    resource_rules: list[ResourceRule] | None


class _Rules(msgspec.Struct):
    status: _Told


class _Resource(msgspec.Struct):
    name: str


class _Served(msgspec.Struct):
    resources: list[_Resource]


class Kube:
    """The door to one cluster. Made by ``connect``; closed with ``close`` or as ``async with``."""

    def __init__(
        self, connection: Connection, timeout: timedelta, make: type[Request], may_write: Callable[[], bool] | None = None
    ) -> None:
        self._connection = connection
        self._timeout = timeout
        self._request = make
        self._may_write = may_write

    @classmethod
    async def connect(
        cls,
        *,
        kubeconfig: Path | None = None,
        context: str | None = None,
        server: str | None = None,
        timeout: timedelta = _DEFAULT,
        user_agent: str = USER_AGENT,
        clock: Clock | None = None,
    ) -> Kube:
        """Read how to reach the cluster; nothing is sent yet, so this works while the API server is down.

        ``server`` is a plain URL without authentication; else ``kubeconfig`` (and ``context``); else the pod's service account.
        ``clock`` paces retries only. Raises BadKubeconfig.
        """
        from remediator.kube import connection  # noqa: PLC0415 - kubernetes-asyncio and aiohttp cost half a second that --help must not pay

        opened = await connection.Connection.open(
            kubeconfig=kubeconfig,
            context=context,
            server=server,
            user_agent=user_agent,
            clock=clock or SystemClock(),
            seconds=timeout.total_seconds(),
        )
        return cls(opened, timeout, connection.Request)

    def guarded(self, may_write: Callable[[], bool]) -> Kube:
        """The same door, through which a write goes only if ``may_write`` says yes right before it is sent; else NotLeading.

        Dry runs and reads are not asked about, nor are commands in containers, which only read here.
        """
        return Kube(self._connection, self._timeout, self._request, may_write)

    @property
    def host(self) -> str:
        """Of the API server: a name or an address, without port."""
        return self._connection.host

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be told: the token now in use, if there is one."""
        _, _, token = (self._connection.token or "").partition(" ")
        return (token,) if token else ()

    async def close(self) -> None:
        """Give all connections back. Watches end with an error."""
        await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    @overload
    async def get(self, kind: Kind, name: str, namespace: str = "", *, timeout: timedelta | None = None) -> dict[str, Any]: ...
    @overload
    async def get(self, kind: Kind, name: str, namespace: str = "", *, decode: type[T], timeout: timedelta | None = None) -> T: ...
    async def get(
        self,
        kind: Kind,
        name: str,
        namespace: str = "",
        *,
        decode: Any = None,
        timeout: timedelta | None = None,
    ) -> Any:
        """One object, as a dict or as the record ``decode``. Raises NotFound, also for a name that no object can have."""
        path = wire.object_path(kind, namespace, name, NotFound)
        try:
            body = await self._connection.read(self._request("get", "GET", path), self._seconds(timeout))
        except NotFound:
            older = kind.before()
            if older is None:
                raise
            return await self.get(older, name, namespace, decode=decode, timeout=timeout)
        return wire.decode(body, decode or dict[str, Any], f"GET {path}")

    @overload
    async def list(
        self,
        kind: Kind,
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
        limit_total: int | None = None,
        timeout: timedelta | None = None,
    ) -> Listing[dict[str, Any]]: ...
    @overload
    async def list(
        self,
        kind: Kind,
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
        decode: type[T],
        limit_total: int | None = None,
        timeout: timedelta | None = None,
    ) -> Listing[T]: ...
    async def list(
        self,
        kind: Kind,
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
        decode: Any = None,
        limit_total: int | None = None,
        timeout: timedelta | None = None,
    ) -> Any:
        """All objects of a kind, in one namespace or everywhere, as one moment shows them; ``limit_total`` stops after that many.

        ``labels`` and ``fields`` are selectors as kubectl takes them. Take ``decode`` for lists that may be long: thousands of dicts cost
        five times the memory, and garbage collections that stall the event loop for a fifth of a second.
        The deadline over all pages is ``timeout``, else three times the default.
        """
        convert: Callable[[msgspec.Raw], Any] = msgspec.json.Decoder(decode).decode if decode else wire.as_dict(kind)
        return await self.collect(kind, convert, namespace, labels=labels, fields=fields, limit_total=limit_total, timeout=timeout)

    async def collect(
        self,
        kind: Kind,
        convert: Callable[[msgspec.Raw], X],
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
        limit_total: int | None = None,
        timeout: timedelta | None = None,
    ) -> Listing[X]:
        """As ``list``, with each object's JSON handed to ``convert``. A list whose continue token expires (410) starts over.

        A kind that this cluster does not serve in its newest version (404) is read in the older one.
        """
        try:
            return await self._collect(kind, convert, namespace, labels=labels, fields=fields, limit_total=limit_total, timeout=timeout)
        except NotFound:
            older = kind.before()
            if older is None:
                raise
        return await self._collect(older, convert, namespace, labels=labels, fields=fields, limit_total=limit_total, timeout=timeout)

    async def _collect(
        self,
        kind: Kind,
        convert: Callable[[msgspec.Raw], X],
        namespace: str,
        *,
        labels: str,
        fields: str,
        limit_total: int | None,
        timeout: timedelta | None,
    ) -> Listing[X]:
        deadline = wire.now() + self._seconds(timeout, default=3 * self._timeout)
        for left in reversed(range(_RELISTS + 1)):
            try:
                return await self._pages(kind, convert, namespace, wire.selectors(labels, fields), limit_total, deadline)
            except Gone:
                if not left:
                    raise
        raise AssertionError("not reached")  # pragma: no cover

    async def _pages(
        self,
        kind: Kind,
        convert: Callable[[msgspec.Raw], X],
        namespace: str,
        query: tuple[tuple[str, str], ...],
        limit_total: int | None,
        deadline: float,
    ) -> Listing[X]:
        items: list[X] = []
        path, token = wire.collection_path(kind, namespace), ""
        while True:
            size = PAGE if limit_total is None else min(PAGE, limit_total - len(items))
            page = await self._page(path, (*query, ("limit", str(size)), *((("continue", token),) if token else ())), deadline)
            await wire.convert(page.items or [], convert, items, path)
            token = page.metadata.token
            if not token or (limit_total is not None and len(items) >= limit_total):
                return Listing(items, page.metadata.resource_version)

    async def _page(self, path: str, query: tuple[tuple[str, str], ...], deadline: float) -> wire.Page:
        left = deadline - wire.now()
        if left <= 0:
            raise Timeout("the list was not complete within the deadline", call=f"GET {path}")
        body = await self._connection.read(self._request("list", "GET", path, query), left)
        try:
            return wire.PAGES.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Malformed(f"not a list: {error}", call=f"GET {path}") from error

    @asynccontextmanager
    async def watch(
        self,
        kind: Kind,
        namespace: str = "",
        *,
        resource_version: str,
        labels: str = "",
        fields: str = "",
        lasting: timedelta,
        silence: timedelta,
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The events since ``resource_version``, one JSON line each, bookmarks included; entered once the server has agreed.

        The server ends it after ``lasting``; ``silence`` without a byte counts as a dead connection. For most uses take a Reflector.
        """
        query = (
            *wire.selectors(labels, fields),
            ("watch", "1"),
            ("resourceVersion", resource_version),
            ("allowWatchBookmarks", "true"),
            ("timeoutSeconds", str(int(lasting.total_seconds()))),
        )
        request = self._request("watch", "GET", wire.collection_path(kind, namespace), query)
        async with self._connection.stream(request, seconds=self._seconds(None), silence=silence.total_seconds()) as lines:
            yield lines

    async def create(
        self, kind: Kind, body: dict[str, Any], namespace: str = "", *, dry_run: bool = False, request_id: str = ""
    ) -> dict[str, Any]:
        """Create an object; the answer is what was stored. Raises AlreadyExists."""
        if kind.namespaced and not namespace:
            raise UsageError(f"a {kind} needs a namespace")
        whole = {"apiVersion": kind.api_version, "kind": kind.kind, **body}
        return await self._write("create", "POST", wire.collection_path(kind, namespace), whole, dry_run=dry_run, request_id=request_id)

    async def patch(
        self,
        kind: Kind,
        name: str,
        patch: dict[str, Any] | JsonPatch,
        namespace: str = "",
        *,
        type: PatchType,  # noqa: A002 - kubectl's word for it
        dry_run: bool = False,
        request_id: str = "",
        subresource: str = "",
    ) -> dict[str, Any]:
        """Change an object; the answer is what it became.

        A JSON patch is a list and fails as Invalid (422) when its ``test`` does. Put uid or resourceVersion into every patch that depends
        on what was read. ``strategic`` is not for custom resources (415). ``apply`` takes ownership of the fields from others.
        """
        if isinstance(patch, list) != (type == "json"):
            raise UsageError(f"a {type} patch is a {'list' if type == 'json' else 'mapping'}")
        path = wire.object_path(kind, namespace, name, Invalid, subresource)
        extra = (("force", "true"),) if type == "apply" else ()
        content = ("Content-Type", wire.CONTENT_TYPES[type])
        return await self._write("patch", "PATCH", path, patch, extra, content, dry_run=dry_run, request_id=request_id)

    async def delete(
        self,
        kind: Kind,
        name: str,
        namespace: str = "",
        *,
        uid: str = "",
        grace: int | None = None,
        propagation: wire.Propagation | None = None,
        dry_run: bool = False,
        request_id: str = "",
    ) -> dict[str, Any]:
        """Delete one object; the answer is the object on its way out, or a Status. With ``uid`` only that very object: else Conflict.

        ``grace``: seconds for a pod to stop, None for the pod's own. 0 is refused: it drops the record of a pod that may still run.
        ``propagation``: what becomes of the objects that it owns, None for the kind's default (a Job's pods outlive it then).
        """
        path = wire.object_path(kind, namespace, name, Invalid)
        options = {"apiVersion": "v1", "kind": "DeleteOptions", **wire.delete_options(uid, grace, dry_run=dry_run)}
        options |= {"propagationPolicy": propagation} if propagation else {}
        return await self._write("delete", "DELETE", path, options, dry_run=dry_run, request_id=request_id)

    async def evict(
        self, name: str, namespace: str, *, uid: str = "", grace: int | None = None, dry_run: bool = False, request_id: str = ""
    ) -> None:
        """Ask for a pod to be evicted.

        Raises TooManyRequests with ``budget`` set if a budget forbids it now, SeveralBudgets, NotFound, Conflict (another uid).
        """
        path = wire.object_path(kinds.POD, namespace, name, Invalid, "eviction")
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": namespace},
            "deleteOptions": wire.delete_options(uid, grace, dry_run=dry_run),
        }
        seconds = max(_EVICTION, self._timeout)
        await self._write("evict", "POST", path, body, dry_run=dry_run, request_id=request_id, seconds=seconds.total_seconds())

    async def exec(
        self, name: str, namespace: str, container: str, argv: Sequence[str], *, timeout: timedelta, limit: int = execute.LIMIT
    ) -> Executed:
        """Run a command in a container, without a shell, and wait for its end; see ``Executed`` for what it tells.

        ``timeout``: real time for all of it; ``limit``: bytes of output that are kept. A command that ends with a code other than 0 is an
        answer and no error. Raises Forbidden without the right (get and create on pods/exec), NotFound, Unavailable where the kubelet
        does not answer, Timeout.
        """
        if not argv or not all(argv[:1]):
            raise UsageError("a command needs at least the name of a program")
        path = wire.object_path(kinds.POD, namespace, name, NotFound, "exec")
        request = self._request("exec", "GET", path, execute.query(container, argv))
        return await execute.run(self._connection, request, seconds=timeout.total_seconds(), limit=limit)

    async def logs(
        self, name: str, namespace: str, container: str, *, lines: int, limit: int, previous: bool = False, timeout: timedelta | None = None
    ) -> str:
        """The last ``lines`` that a container wrote, at most ``limit`` bytes, with times; ``previous``: of the one before its last restart.

        Raises NotFound, BadRequest where there is no such container or none before, Forbidden without the right (get on pods/log),
        Unavailable where the kubelet does not answer; it is asked once, since who asks keeps evidence and must not wait for a dead node.
        """
        path = wire.object_path(kinds.POD, namespace, name, NotFound, "log")
        query: tuple[tuple[str, str], ...] = (
            ("container", container),
            ("tailLines", str(lines)),
            ("limitBytes", str(limit)),
            ("timestamps", "true"),
        )
        query += (("previous", "true"),) if previous else ()
        request = self._request("log", "GET", path, query, headers=(("Accept", "text/plain, */*"),))
        return (await self._connection.read(request, self._seconds(timeout), tries=1))[:limit].decode("utf-8", "replace")

    async def may(self, verb: str, resource: str, namespace: str = "", *, subresource: str = "", group: str = "", name: str = "") -> bool:
        """Whether our own account has a right (SelfSubjectAccessReview, which everybody may ask); without a namespace in all of them.

        Without a ``name`` on all objects: a right on some names only counts for none then.
        """
        asked = {"verb": verb, "group": group, "resource": resource, "subresource": subresource, "namespace": namespace, "name": name}
        return bool((await self._review("SelfSubjectAccessReview", {"resourceAttributes": asked}, _Review)).status.allowed)

    async def rules(self, namespace: str) -> tuple[ResourceRule, ...] | None:
        """What our own account may do with objects in ``namespace``, which need not exist (SelfSubjectRulesReview, as ``may``).

        None where the API server cannot list all of it: an authorizer that is asked besides RBAC has no list, and it may forbid as well.
        """
        try:
            told = (await self._review("SelfSubjectRulesReview", {"namespace": namespace}, _Rules)).status
        except (Forbidden, NotFound):  # an account may lack system:basic-user, and the API may be switched off
            return None
        return None if told.incomplete else tuple(told.resource_rules or ())

    async def _review(self, kind: str, spec: dict[str, Any], answer: type[T]) -> T:
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec}
        request = self._request("review", "POST", f"{_REVIEWS}/{kind.lower()}s", body=body)
        found: T = wire.decode(await self._connection.read(request, self._seconds(None)), answer, str(request))
        return found

    async def served(self, group: str, version: str) -> frozenset[str]:
        """The plurals of the kinds that the server has in ``group``/``version`` (discovery); none where it has no such group."""
        path = f"/apis/{group}/{version}" if group else f"/api/{version}"
        try:
            body = await self._connection.read(self._request("get", "GET", path), self._seconds(None))
        except NotFound:
            return frozenset()
        return frozenset(one.name for one in wire.decode(body, _Served, f"GET {path}").resources)

    async def version(self) -> str:
        """The server's version, as ``v1.36.3``."""
        body = await self._connection.read(self._request("get", "GET", "/version"), self._seconds(None))
        told = wire.decode(body, dict[str, Any], "GET /version")
        return str(told.get("gitVersion", ""))

    async def ready(self, *, timeout: timedelta | None = None) -> bool:
        """Whether the server says that it is ready (``/readyz``) within ``timeout``, else 3 s. Never raises a KubeError."""
        seconds = self._seconds(timeout, default=min(_READY, self._timeout))
        try:
            await self._connection.read(self._request("get", "GET", "/readyz"), seconds)
        except CallFailed:
            return False
        return True

    async def _write(
        self,
        verb: str,
        method: str,
        path: str,
        body: Any,
        extra: tuple[tuple[str, str], ...] = (),
        content: tuple[str, str] = ("Content-Type", "application/json"),
        *,
        dry_run: bool,
        request_id: str,
        seconds: float | None = None,
    ) -> dict[str, Any]:
        query = (*extra, *((("dryRun", "All"),) if dry_run else ()))
        if method != "DELETE":
            query += (("fieldManager", FIELD_MANAGER), ("fieldValidation", "Strict"))
        headers = (content, *((("Audit-ID", request_id),) if request_id else ()))
        request = self._request(verb, method, path, query, body, headers)
        may_write = None if dry_run else self._may_write
        answer = await self._connection.write(request, seconds or self._seconds(None), may_write=may_write)
        told: dict[str, Any] = wire.decode(answer, dict[str, Any], str(request), write=True)
        return told

    def _seconds(self, timeout: timedelta | None, *, default: timedelta | None = None) -> float:
        return (timeout or default or self._timeout).total_seconds()
