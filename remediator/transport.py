"""HTTP to our own daemon: requests with a deadline in, decoded answers, lines and events out, and every failure as one of our errors.

``ServerUnreachable``: nobody answers, or not in time, or the answer breaks off. ``ServerRefused``: an answer that says no, with its
problem+json; something that is not our daemon counts as that too. Tokens go to the given address only: redirects are not followed.
"""

from __future__ import annotations

import json
import os
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec

from remediator import __version__
from remediator.clock import iso
from remediator.errors import ServerRefused, ServerUnreachable, UsageError
from remediator.model import from_json

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from types import TracebackType

__all__ = ["Query", "Scope", "Transport", "decode", "part", "query"]

T = TypeVar("T")
Scope = Literal["read", "write", "webhook"]
Query = list[tuple[str, str]]
_BEAT = 60.0
"""Seconds without a byte on a stream after which the connection counts as lost."""
_SLOW = 600.0
"""Seconds for an answer that reads the whole journal first."""
_LONGEST_TEXT = 300
_UNKNOWN_AUTHORITY = frozenset({2, 18, 19, 20, 21})
"""Of OpenSSL's codes (X509_V_ERR_...) those that say that the certificate's issuer is not known here, or that it is its own."""
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE", "UNEXPECTED_EOF_WHILE_READING"})
"""What an answer in plain HTTP is called, by the version of OpenSSL."""


class Transport:
    """Connections to one daemon. Use it as an async context manager."""

    def __init__(self, server: str, *, token: str | Callable[[Scope], str | None] | None = None, timeout: float = 10.0) -> None:
        """``server``: ``http(s)://host[:port][/prefix]``; ``token``: one for all, or by scope; ``timeout`` of a call in seconds."""
        if not server.startswith(("http://", "https://")):
            raise UsageError(
                f'the server\'s address is "{server}"; write it with its scheme, for example http://{server or "127.0.0.1:8080"}'
            )
        self.server = server.rstrip("/")
        self._token = token
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Nothing is connected before the first call."""
        self._session = aiohttp.ClientSession(headers={"User-Agent": f"remediator/{__version__}", "Accept": "application/json"})
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the connections."""
        await self.close()

    async def close(self) -> None:
        """Close the connections; again is fine."""
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str, kind: type[T], query: Query | None = None, *, slow: bool = False) -> T:
        """The answer to a GET, as ``kind``; ``slow`` gives it ten minutes."""
        async with self._request("GET", path, scope="read", query=query, timeout=_stream(_SLOW) if slow else self._timeout) as response:
            return decode(await self._body(response), kind, self.server)

    async def submit(
        self,
        method: str,
        path: str,
        kind: type[T],
        body: Any,
        *,
        scope: Scope = "write",
        query: Query | None = None,
        slow: bool = False,
    ) -> T:
        """The answer to a request with a body: bytes as they are, other data as JSON, None for none; ``slow`` gives it ten minutes."""
        timeout = _stream(_SLOW) if slow else self._timeout
        async with self._request(method, path, scope=scope, query=query, timeout=timeout, body=body) as response:
            return decode(await self._body(response), kind, self.server)

    async def lines(self, path: str) -> AsyncGenerator[bytes, None]:
        """The lines of an answer as they come, line ends included."""
        async with self._request("GET", path, scope="read", timeout=_stream()) as response:
            async for line in _lines(response, self.server):
                yield line

    def _request(
        self,
        method: str,
        path: str,
        *,
        scope: Scope,
        timeout: aiohttp.ClientTimeout,
        query: Query | None = None,
        body: Any = None,
    ) -> _Call:
        assert self._session is not None, "use the client as an async context manager"  # noqa: S101 - a programming error
        token = self._token(scope) if callable(self._token) else self._token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if data is not None:
            headers["Content-Type"] = "application/json"
        return _Call(
            self.server,
            self._session.request(
                method, self.server + path, params=query, data=data, headers=headers, timeout=timeout, allow_redirects=False
            ),
        )

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        try:
            return await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ServerUnreachable(f"{self.server} broke off its answer: {_cause(error)}") from error

    async def events(self, path: str) -> AsyncGenerator[str, None]:
        """The data of each server-sent event."""
        data: list[str] = []
        async with aclosing(self.lines(path)) as lines:
            async for raw in lines:
                line = raw.decode("utf-8", "replace").rstrip("\r\n")
                if line.startswith("data:"):
                    data.append(line[5:].removeprefix(" "))
                elif not line and data:
                    yield "\n".join(data)
                    data.clear()


class _Call:
    """One request: entering it gives the response of a 2xx, everything else is one of our errors."""

    def __init__(self, server: str, request: Any) -> None:
        self._server = server
        self._request = request

    async def __aenter__(self) -> aiohttp.ClientResponse:
        try:
            response: aiohttp.ClientResponse = await self._request.__aenter__()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ServerUnreachable(f"no answer from {self._server}: {_cause(error)}") from error
        except ValueError as error:
            raise UsageError(f'"{self._server}" is not an address that can be called: {error}') from error
        if response.status < 300:
            return response
        try:
            raise ServerRefused(response.status, await _problem(response, self._server))
        finally:
            response.release()

    async def __aexit__(self, *exit_args: object) -> None:
        await self._request.__aexit__(*exit_args)


async def _lines(response: aiohttp.ClientResponse, server: str) -> AsyncGenerator[bytes, None]:
    """The lines of a body as they come, line ends included; aiohttp's own reader refuses lines above 128 KiB."""
    rest = b""
    try:
        async for chunk in response.content.iter_any():
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                yield line + b"\n"
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ServerUnreachable(f"{server} broke off its answer: {_cause(error)}") from error
    if rest:
        yield rest


async def _problem(response: aiohttp.ClientResponse, server: str) -> dict[str, object]:
    """The problem+json of an answer; one of our own making where something else answered."""
    text = ""
    try:
        text = (await response.read()).decode("utf-8", "replace")
        problem = json.loads(text)
    except (aiohttp.ClientError, TimeoutError, ValueError):
        problem = None
    if isinstance(problem, dict) and problem.get("title"):
        return problem
    return {
        "title": f"{server} answered {response.status} {response.reason or ''}".rstrip(),
        "detail": " ".join(text.split())[:_LONGEST_TEXT] or "without saying why; is this a remediator?",
        "status": response.status,
    }


def decode(body: bytes, kind: type[T], server: str) -> T:
    """What ``server`` answered, as ``kind``. Raises ServerRefused for an answer that is not ours."""
    try:
        return from_json(body, kind)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        what = f"the answer cannot be understood ({error}); is this a remediator, and of about this version ({__version__})?"
        raise ServerRefused(200, {"title": f"{server} answered", "detail": what, "status": 200}) from error


def _stream(silence: float = _BEAT) -> aiohttp.ClientTimeout:
    """No end in total, but one for ``silence`` seconds without a byte."""
    return aiohttp.ClientTimeout(total=None, connect=10, sock_read=silence)


def _cause(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientSSLError):  # its number is 1, whatever the cause
        return _tls(error.os_error)
    if isinstance(error, aiohttp.ClientConnectorError):
        return os.strerror(error.os_error.errno) if error.os_error.errno and error.os_error.errno > 0 else str(error.os_error)
    return str(error) or type(error).__name__


def _tls(error: OSError) -> str:
    """What ``ssl`` says, and what to do about it where that is known."""
    if message := getattr(error, "verify_message", ""):
        own = "; SSL_CERT_FILE names your own authority" if getattr(error, "verify_code", 0) in _UNKNOWN_AUTHORITY else ""
        return f"its certificate is not trusted: {message.rstrip('.')}{own}"
    reason = getattr(error, "reason", None)
    if not reason:
        return f"TLS: {error}"
    plain = "; does it speak TLS?" if reason in _NO_TLS else ""
    return f"TLS: {reason.replace('_', ' ').lower()}{plain}"


def part(text: str) -> str:
    """``text`` as one part of a path."""
    return quote(text, safe="")


def query(**values: Any) -> Query:
    """A query without what is None; lists repeat their name."""
    several = {name: value if isinstance(value, list) else [value] for name, value in values.items()}
    return [(name, _word(one)) for name, many in several.items() for one in many if one is not None]


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return iso(value) if hasattr(value, "isoformat") else str(value)
