"""The typed client of our own HTTP API.

Comes in: the daemon's address and the tokens for reading, acting and delivering. Goes out: the nouns that the API shows. Every call has a
deadline. What may go wrong: ``ServerUnreachable`` (nobody answers, or not in time) and ``ServerRefused`` (an answer that says no, with its
problem+json; something that is not our daemon counts as that too). Tokens go to the given address only: redirects are not followed.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec

from remediator import __version__
from remediator.clock import iso
from remediator.errors import ServerRefused, ServerUnreachable, UsageError
from remediator.model import Change, Decision, Delivery, Episode, Page, Pause, Run, from_json
from remediator.story import Story

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
    from datetime import datetime, timedelta
    from types import TracebackType

    from remediator.journal import ChainReport
    from remediator.model import RunState
    from remediator.server.service import MatchReport, ReloadReport, Status

__all__ = ["Client", "Scope"]

T = TypeVar("T")
Scope = Literal["read", "write", "webhook"]
Query = list[tuple[str, str]]
_BEAT = 60.0
"""Seconds without a byte on an event stream after which the connection counts as lost."""
_SLOW = 600.0
"""Seconds for an answer that reads the whole journal first."""
_PATIENCE = 60.0
"""Seconds that a watch goes on trying to reach the daemon again, as after its restart."""
_PAUSE = 1.0
_LONGEST_TEXT = 300


class Client:
    """One daemon. Use it as an async context manager."""

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

    # Runs

    async def runs(
        self,
        *,
        state: Sequence[RunState] = (),
        playbook: str | None = None,
        target: str | None = None,
        since: datetime | None = None,
        dry_run: bool | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page[Run]:
        """One page of runs, newest first; steps may be left out of them."""
        query = _query(state=list(state), playbook=playbook, target=target, since=since, dry_run=dry_run, limit=limit, cursor=cursor)
        return await self._get("/api/v1/runs", Page[Run], query)

    async def run(self, id: str) -> Run:  # noqa: A002 - the name of the field
        """One run with its steps and changes."""
        return await self._get(f"/api/v1/runs/{_part(id)}", Run)

    async def trigger(self, request: Mapping[str, Any]) -> Run:
        """Start a run by hand; ServerRefused with status 409 and ``gates`` in its problem if a gate says no.

        ``request``: playbook, target, parameters, labels, alert, dry_run, by, reason.
        """
        return await self._send("POST", "/api/v1/runs", Run, request)

    async def cancel(self, id: str, *, by: str, reason: str) -> Run:  # noqa: A002 - as above
        """Ask an open run to stop after its current call."""
        return await self._send("POST", f"/api/v1/runs/{_part(id)}/cancel", Run, {"by": by, "reason": reason})

    async def undo(self, id: str, *, by: str, reason: str) -> Run:  # noqa: A002 - as above
        """Put back what an ended run changed, where nobody touched it since."""
        return await self._send("POST", f"/api/v1/runs/{_part(id)}/undo", Run, {"by": by, "reason": reason})

    async def watch(self, id: str) -> AsyncGenerator[Run, None]:  # noqa: A002 - as above
        """The run as it is now and whenever it changes, until it ends. A lost connection is made again for a minute."""
        last: Run | None = None
        loop = asyncio.get_running_loop()
        give_up = loop.time() + _PATIENCE
        while last is None or last.state.open:
            try:
                async for data in self._events(f"/api/v1/runs/{_part(id)}/watch"):
                    run = _decode(data.encode(), Run, self.server)
                    give_up = loop.time() + _PATIENCE
                    if run != last:
                        yield run
                    last = run
            except ServerUnreachable:
                if last is None or loop.time() > give_up:
                    raise
            if last is None or last.state.open:
                await asyncio.sleep(_PAUSE)
                if loop.time() > give_up:
                    raise ServerUnreachable(f"{self.server} ended the stream of run {id} before the run ended")

    # What was received and decided

    async def decisions(
        self, *, delivery: str | None = None, run: str | None = None, limit: int | None = None, cursor: str | None = None
    ) -> Page[Decision]:
        """Decisions, newest first."""
        return await self._get("/api/v1/decisions", Page[Decision], _query(delivery=delivery, run=run, limit=limit, cursor=cursor))

    async def decision(self, id: str) -> Decision:  # noqa: A002 - as above
        """One decision."""
        return await self._get(f"/api/v1/decisions/{_part(id)}", Decision)

    async def deliveries(self, *, limit: int | None = None, cursor: str | None = None) -> Page[Delivery]:
        """Webhook calls, newest first."""
        return await self._get("/api/v1/deliveries", Page[Delivery], _query(limit=limit, cursor=cursor))

    async def delivery(self, id: str) -> Delivery:  # noqa: A002 - as above
        """One webhook call."""
        return await self._get(f"/api/v1/deliveries/{_part(id)}", Delivery)

    async def alerts(self, *, every: bool = False, limit: int | None = None, cursor: str | None = None) -> Page[Episode]:
        """Open episodes; with ``every`` the ended ones too."""
        return await self._get("/api/v1/alerts", Page[Episode], _query(all=every or None, limit=limit, cursor=cursor))

    async def changes(
        self, *, run: str | None = None, every: bool = False, limit: int | None = None, cursor: str | None = None
    ) -> Page[Change]:
        """Changes that nobody has put back; with ``every`` all that are on record."""
        query = _query(run=run, left_behind=None if every else True, limit=limit, cursor=cursor)
        return await self._get("/api/v1/changes", Page[Change], query)

    async def why(self, ref: str) -> Story:
        """The story of an alert, delivery, decision, run or target."""
        return await self._get("/api/v1/why", Story, _query(ref=ref))

    async def send(self, body: bytes) -> dict[str, Any]:
        """Post a payload as Alertmanager does; ``{"delivery": id, "alerts": n}`` once it is on disk."""
        answer: dict[str, Any] = await self._send("POST", "/api/v1/alerts", dict[str, Any], body, scope="webhook")
        return answer

    # What is loaded

    async def playbooks(self) -> Page[dict[str, Any]]:
        """The loaded playbooks."""
        return await self._get("/api/v1/playbooks", Page[dict[str, Any]])

    async def playbook(self, name: str) -> dict[str, Any]:
        """One playbook with its text."""
        return await self._get(f"/api/v1/playbooks/{_part(name)}", dict[str, Any])

    async def actions(self) -> Page[dict[str, Any]]:
        """The actions that steps may use."""
        return await self._get("/api/v1/actions", Page[dict[str, Any]])

    async def action(self, name: str) -> dict[str, Any]:
        """One action with the schema of its parameters."""
        return await self._get(f"/api/v1/actions/{_part(name)}", dict[str, Any])

    async def gates(self) -> Page[dict[str, Any]]:
        """The gates that every run passes."""
        return await self._get("/api/v1/gates", Page[dict[str, Any]])

    async def match(self, labels: Mapping[str, str], *, at: datetime | None = None) -> MatchReport:
        """Which playbook would take an alert, and what its gates say; changes nothing."""
        from remediator.server.service import MatchReport  # noqa: PLC0415 - the server's package is not needed for other calls

        return await self._send("POST", "/api/v1/match", MatchReport, {"labels": dict(labels), "at": iso(at) if at else None}, scope="read")

    # The daemon

    async def status(self) -> Status:
        """How the daemon stands."""
        from remediator.server.service import Status  # noqa: PLC0415 - as above

        return await self._get("/api/v1/status", Status)

    async def pauses(self) -> Page[Pause]:
        """Pauses in force."""
        return await self._get("/api/v1/pause", Page[Pause])

    async def pause(self, *, playbook: str | None, target: str | None, reason: str, by: str, duration: timedelta | None) -> Pause:
        """Stop starting anything, for everything, one playbook or one target, for good or for ``duration``."""
        seconds = duration.total_seconds() if duration is not None else None
        request = {"playbook": playbook, "target": target, "reason": reason, "by": by, "seconds": seconds}
        return await self._send("PUT", "/api/v1/pause", Pause, request)

    async def resume(self, *, playbook: str | None, target: str | None, by: str) -> int:
        """End the pauses of exactly this scope; how many there were."""
        query = _query(playbook=playbook, target=target, by=by)
        answer: dict[str, int] = await self._send("DELETE", "/api/v1/pause", dict[str, int], None, query=query)
        return answer["ended"]

    async def reload(self) -> ReloadReport:
        """Read playbooks again; on errors the old ones stay."""
        from remediator.server.service import ReloadReport  # noqa: PLC0415 - as above

        return await self._send("POST", "/-/reload", ReloadReport, None)

    async def verify(self) -> ChainReport:
        """Whether the journal's hash chain is whole. May take long for a long journal."""
        from remediator.journal import ChainReport  # noqa: PLC0415 - SQL is not needed for other calls

        return await self._get("/api/v1/journal/verify", ChainReport, slow=True)

    async def export(self) -> AsyncGenerator[bytes, None]:
        """The whole journal, a line of JSON an entry, oldest first; the lines as they were sent, line ends included."""
        async with self._request("GET", "/api/v1/journal/export", scope="read", timeout=_stream()) as response:
            async for line in _lines(response, self.server):
                yield line

    # How

    async def _get(self, path: str, kind: type[T], query: Query | None = None, *, slow: bool = False) -> T:
        async with self._request("GET", path, scope="read", query=query, timeout=_stream(_SLOW) if slow else self._timeout) as response:
            return _decode(await self._body(response), kind, self.server)

    async def _send(self, method: str, path: str, kind: type[T], body: Any, *, scope: Scope = "write", query: Query | None = None) -> T:
        async with self._request(method, path, scope=scope, query=query, timeout=self._timeout, body=body) as response:
            return _decode(await self._body(response), kind, self.server)

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

    async def _events(self, path: str) -> AsyncGenerator[str, None]:
        """The data of each server-sent event."""
        data: list[str] = []
        async with self._request("GET", path, scope="read", timeout=_stream()) as response:
            async for raw in _lines(response, self.server):
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


def _decode(body: bytes, kind: type[T], server: str) -> T:
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
    if isinstance(error, aiohttp.ClientConnectorError):
        return os.strerror(error.os_error.errno) if error.os_error.errno and error.os_error.errno > 0 else str(error.os_error)
    return str(error) or type(error).__name__


def _part(text: str) -> str:
    """``text`` as one part of a path."""
    return quote(text, safe="")


def _query(**values: Any) -> Query:
    """A query without what is None; lists repeat their name."""
    several = {name: value if isinstance(value, list) else [value] for name, value in values.items()}
    return [(name, _word(one)) for name, many in several.items() for one in many if one is not None]


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return iso(value) if hasattr(value, "isoformat") else str(value)
