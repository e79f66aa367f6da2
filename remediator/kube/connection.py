"""The wire to one API server: kubernetes-asyncio's ApiClient on aiohttp, with deadlines, retries of reads, and our errors.

In: a method, a path, a query, a body. Out: the bytes of a 2xx answer. Raised: errors of ``remediator.kube.errors`` and nothing else.
What kubernetes-asyncio and aiohttp would do by themselves and must not:

- wait forever: every call has a total deadline, every watch a limit on silence;
- honour HTTP(S)_PROXY and ~/.netrc of the environment: only the kubeconfig's ``proxy-url`` counts (``trust_env`` is off);
- repeat a DELETE when a kept-alive connection turns out dead, or follow a redirect (turning POST into GET): a middleware stops both.

Reads are retried while that may help and the deadline allows; writes never. The one exception is 401: it changed nothing, so the token is
read again and the call, read or write, is sent once more.

Whether a write may still be sent is asked when its connection stands, right before the request goes out: a handshake, a new token, or a
process that stood still may have taken long.
"""

from __future__ import annotations

import asyncio
import gc
import time
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlencode, urlsplit

import aiohttp
import tenacity

from remediator.errors import NotLeading
from remediator.kube import access, wire
from remediator.kube.errors import CallFailed, Malformed, Timeout, Unauthorized, Unreachable, cut, from_answer
from remediator.kube.library import ApiClient
from remediator.telemetry import METRICS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from remediator.clock import Clock

__all__ = ["Connection", "Request"]

_CONNECT: Final = 5.0
"""Seconds for a TCP and TLS handshake; less if the deadline is nearer."""
_SLACK: Final = 0.1
"""Seconds after the deadline at which a call is cut off whatever it does; before, aiohttp's own timer says what it was doing."""
_NO_ROUNDING: Final = 1e9
"""aiohttp rounds deadlines above this many seconds up to whole seconds."""
_TRIES: Final = 6
_LONGEST_ERROR_BODY: Final = 64 * 1024
_LONGEST_LINE: Final = 32 * 1024 * 1024
_REDIRECTS: Final = range(300, 400)
_SWITCHING: Final = 101
_CLOSE: Final = 0.5
"""Seconds that the other side of a websocket has to say goodbye."""
_BACK_OFF: Final = tenacity.wait_random_exponential(multiplier=0.2, max=3)

_MAY_WRITE: ContextVar[Callable[[], bool] | None] = ContextVar("may_write", default=None)
"""Who is asked before the write that is under way in this context goes out."""

# What was imported so far is some hundred thousand objects that are never garbage. Each full collection would walk them all, which
# stalls the event loop (benchmarks/listing.py); set aside once, here, they cost nothing any more.
gc.collect()
gc.freeze()


class Request(NamedTuple):
    """One call. ``verb`` is the API's own (get, list, watch, create, patch, delete, evict, exec, log, review) and labels the metrics."""

    verb: str
    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: Any = None
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def write(self) -> bool:
        """Whether it may change something. A command in a container may, though websockets begin with a GET; a review is a question."""
        return self.verb == "exec" or (self.method != "GET" and self.verb != "review")

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class Connection:
    """One per process: it owns the connection pool. ``clock`` paces retries."""

    def __init__(self, way: access.Access, *, user_agent: str, clock: Clock) -> None:
        self._access = way
        self._clock = clock
        self._api = ApiClient(configuration=way.configuration)
        self._api.user_agent = user_agent
        _replace_session(self._api)

    @property
    def token(self) -> str | None:
        """The value of the Authorization header now in use."""
        return self._access.token

    @classmethod
    async def open(
        cls, *, kubeconfig: Path | None, context: str | None, server: str | None, user_agent: str, clock: Clock, seconds: float
    ) -> Connection:
        """Reads the settings' way to the cluster (this may start an exec plugin) and sends nothing yet."""
        try:
            async with asyncio.timeout(seconds):
                way = await access.load(kubeconfig=kubeconfig, context=context, server=server)
        except TimeoutError as error:
            raise Timeout(f"the kubeconfig's credential plugin did not answer within {seconds:g} s") from error
        return cls(way, user_agent=user_agent, clock=clock)

    @property
    def host(self) -> str:
        """The API server's host, without scheme and port; an IPv6 address without brackets."""
        return urlsplit(str(self._api.configuration.host)).hostname or ""

    async def close(self) -> None:
        """Gives all connections back."""
        await self._api.close()

    async def read(self, request: Request, seconds: float, *, tries: int = _TRIES) -> bytes:
        """The body of the answer. Retried within ``seconds``, at least as late as Retry-After says."""
        deadline = wire.now() + seconds
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(_worth_another_try),
            wait=_pause,
            stop=tenacity.stop_any(tenacity.stop_after_attempt(tries), tenacity.stop_before_delay(seconds)),
            sleep=self._sleep,
            reraise=True,
        )
        body: bytes = await self._bounded(request, deadline, lambda: retrying(self._authorized, request, deadline))
        return body

    async def write(self, request: Request, seconds: float, *, may_write: Callable[[], bool] | None = None) -> bytes:
        """The body of the answer; sent once. Raises NotLeading, and sends nothing, if ``may_write`` says no at the last moment."""
        deadline = wire.now() + seconds
        asked = _MAY_WRITE.set(may_write)
        try:
            body: bytes = await self._bounded(request, deadline, lambda: self._authorized(request, deadline))
        finally:
            _MAY_WRITE.reset(asked)
        return body

    @asynccontextmanager
    async def stream(self, request: Request, *, seconds: float, silence: float) -> AsyncIterator[AsyncIterator[bytes]]:
        """The lines of an answer that goes on, from when it began (within ``seconds``). ``silence``: seconds without a byte that end it."""
        limits = aiohttp.ClientTimeout(total=None, sock_connect=min(_CONNECT, seconds), sock_read=silence)
        answer = await self._bounded(request, wire.now() + seconds, lambda: self._with_token(lambda: self._open(request, limits)))
        try:
            yield _lines(answer, request)
        finally:
            answer.close()

    @asynccontextmanager
    async def upgrade(
        self, request: Request, protocols: tuple[str, ...], deadline: float
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse[bool]]:
        """A websocket by one of ``protocols``, entered once the server agreed. What it raises inside becomes our errors, too.

        Whatever happens between here and ``deadline`` (of the loop's clock), it is over then.
        """
        try:
            async with asyncio.timeout_at(deadline):
                socket = await self._with_token(lambda: self._handshake(request, protocols))
                try:
                    with _our_errors(request):
                        yield socket
                finally:
                    await socket.close()
        except TimeoutError as error:
            raise Timeout("no answer within the deadline", call=str(request), maybe_applied=request.write) from error

    async def _handshake(self, request: Request, protocols: tuple[str, ...]) -> aiohttp.ClientWebSocketResponse[bool]:
        code = "unreachable"
        rest, headers, query = self._api.rest_client, dict(request.headers), list(request.query)
        await self._api.update_params_for_auth(headers, query, ["BearerToken"])
        try:
            with _our_errors(request):
                socket: aiohttp.ClientWebSocketResponse[bool] = await rest.pool_manager.ws_connect(
                    f"{self._api.configuration.host}{request.path}?{urlencode(query)}",
                    protocols=protocols,
                    headers={"User-Agent": str(self._api.user_agent), **headers},
                    timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSE),
                    proxy=rest.proxy,
                    proxy_headers=rest.proxy_headers,
                    server_hostname=rest.server_hostname,
                )
            code = "101"
        except CallFailed as error:
            code = str(error.status or code)
            raise
        else:
            return socket
        finally:
            METRICS.kube_requests.labels(request.verb, code).inc()

    async def _sleep(self, seconds: float) -> None:
        await self._clock.sleep(timedelta(seconds=seconds))

    async def _bounded(self, request: Request, deadline: float, call: Callable[[], Awaitable[Any]]) -> Any:
        try:
            async with asyncio.timeout_at(deadline + _SLACK):
                return await call()
        except TimeoutError as error:
            raise Timeout("no answer within the deadline", call=str(request), maybe_applied=request.write) from error

    async def _authorized(self, request: Request, deadline: float) -> bytes:
        async def once() -> bytes:
            left = max(deadline - wire.now(), 0.001)
            limits = aiohttp.ClientTimeout(total=left, sock_connect=min(_CONNECT, left), ceil_threshold=_NO_ROUNDING)
            began = time.perf_counter()
            try:
                async with await self._open(request, limits) as answer:
                    with _our_errors(request):
                        return await answer.read()
            finally:
                METRICS.kube_duration.labels(request.verb).observe(time.perf_counter() - began)

        body: bytes = await self._with_token(once)
        return body

    async def _with_token(self, call: Callable[[], Awaitable[Any]]) -> Any:
        used = self._access.token
        try:
            return await call()
        except Unauthorized:
            if not await self._access.renew(used):
                raise
        return await call()

    async def _open(self, request: Request, limits: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        """Send, and return the answer with its body still to be read if it is 2xx."""
        code = "unreachable"
        try:
            with _our_errors(request):
                answer = await self._send(request, limits)
                code = str(answer.status)
                if not answer.ok:
                    async with answer:
                        raise await _refusal(answer, request)
                return answer
        except Timeout:
            code = "timeout"
            raise
        finally:
            METRICS.kube_requests.labels(request.verb, code).inc()

    async def _send(self, request: Request, limits: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        answer: aiohttp.ClientResponse = await self._api.call_api(
            request.path,
            request.method,
            query_params=list(request.query),
            header_params={"Accept": "application/json", **dict(request.headers)},
            body=request.body,
            auth_settings=["BearerToken"],
            _preload_content=False,
            _request_timeout=limits,
        )
        return answer


def _replace_session(api: ApiClient) -> None:
    """Swap the library's session for one without ``trust_env``, cookies, redirects and resending; the connector with its TLS stays."""
    old = api.rest_client.pool_manager
    connector = old.connector
    old.detach()
    api.rest_client.pool_manager = aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        middlewares=(_once_and_here,),
        trace_configs=[_asking()],
        read_bufsize=2**18,
        trust_env=False,
    )


def _asking() -> aiohttp.TraceConfig:
    """Asks once more when the connection stands, new or kept."""

    async def ask(*_: object) -> None:
        may_write = _MAY_WRITE.get()
        if may_write is not None and not may_write():
            raise NotLeading("The call was not sent: this replica leads no more.")

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_start.append(ask)
    trace.on_connection_create_end.append(ask)
    trace.on_connection_reuseconn.append(ask)
    return trace


class _LostError(aiohttp.ClientError):
    """The connection broke after it stood. Of our own type, so that aiohttp does not send the request again."""


class _RedirectedError(aiohttp.ClientError):
    """The answer sends us elsewhere."""

    def __init__(self, status: int, origin: str) -> None:
        super().__init__(f"redirected to {origin}")
        self.status = status


class _NotUpgradedError(aiohttp.ClientError):
    """The answer to a websocket's handshake is an ordinary one. aiohttp itself would drop its body, which says why."""

    def __init__(self, answer: aiohttp.ClientResponse, body: bytes) -> None:
        super().__init__(f"{answer.status} instead of a websocket")
        self.answer = answer
        self.body = body


async def _once_and_here(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    try:
        answer = await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _LostError(str(error) or "connection lost") from error
    if answer.status in _REDIRECTS:
        answer.close()
        raise _RedirectedError(answer.status, cut(answer.headers.get("Location", "").partition("?")[0]))
    if request.headers.get("Upgrade") == "websocket" and answer.status != _SWITCHING:
        async with answer:
            raise _NotUpgradedError(answer, await _error_body(answer))
    return answer


class _our_errors:  # noqa: N801 - a context manager, used as a function
    """What aiohttp raises becomes what callers know."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._call = str(request)
        self._write = request.write

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, TimeoutError | aiohttp.ClientError):
            raise self._translate(error) from error

    def _translate(self, error: Exception) -> CallFailed:
        match error:
            case _RedirectedError():
                return Malformed(f"{error}; the settings should name the final address", call=self._call, status=error.status)
            case _NotUpgradedError():
                plain = Malformed(str(error), call=self._call, status=error.answer.status)
                return plain if error.answer.ok else _refused(error.answer, error.body, self._request)
            case aiohttp.ConnectionTimeoutError():
                return Timeout("no connection in time", call=self._call)
            case aiohttp.ClientConnectorError():
                return Unreachable(str(error), call=self._call)
            case TimeoutError():
                return Timeout("no answer in time", call=self._call, maybe_applied=self._write)
            case _:
                return Unreachable(str(error) or type(error).__name__, call=self._call, maybe_applied=self._write)


async def _refusal(answer: aiohttp.ClientResponse, request: Request) -> CallFailed:
    return _refused(answer, await _error_body(answer), request)


async def _error_body(answer: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    with suppress(aiohttp.ClientError, TimeoutError):  # the status says enough, should the body break off
        async for chunk in answer.content.iter_any():
            body += chunk
            if len(body) > _LONGEST_ERROR_BODY:
                answer.close()
                break
    return bytes(body)


def _refused(answer: aiohttp.ClientResponse, body: bytes, request: Request) -> CallFailed:
    return from_answer(
        body,
        status=answer.status,
        call=str(request),
        phrase=answer.reason or "",
        retry_after=answer.headers.get("Retry-After"),
        write=request.write,
        evict=request.verb == "evict",
    )


async def _lines(answer: aiohttp.ClientResponse, request: Request) -> AsyncIterator[bytes]:
    """Complete lines, without the limit on their length that aiohttp's own iteration has. A last line without its end is dropped."""
    parts: list[bytes] = []
    with _our_errors(request):
        async for chunk in answer.content.iter_any():
            *ends, rest = chunk.split(b"\n")
            for end in ends:
                parts.append(end)
                line = b"".join(parts)
                parts.clear()
                if line.strip():
                    yield line
            parts.append(rest)
            if sum(map(len, parts)) > _LONGEST_LINE:
                raise Malformed("a line without end", call=str(request))


def _worth_another_try(error: BaseException) -> bool:
    return isinstance(error, CallFailed) and error.retryable


def _pause(state: tenacity.RetryCallState) -> float:
    """Jittered and growing; never earlier than the server asked for."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, CallFailed) else None
    return (asked or 0.0) + _BACK_OFF(state)
