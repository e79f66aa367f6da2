"""The typed client of our own HTTP API: a method a route, the nouns that the API shows out.

Comes in: the daemon's address and the tokens for reading, acting and delivering. Every call has a deadline. What may go wrong is
``remediator.transport``'s to say: ``ServerUnreachable`` or ``ServerRefused``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from remediator.clock import iso
from remediator.demotion import Demotion
from remediator.errors import ServerRefused, ServerUnreachable
from remediator.model import Change, Decision, Delivery, Episode, Page, Pause, Run
from remediator.story import Story
from remediator.transport import Scope, Transport, decode, part, query

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence
    from datetime import datetime, timedelta

    from remediator.bgp.coverage import Report
    from remediator.breaker import Reset, Standing
    from remediator.effect import Effect
    from remediator.journal import ChainReport, Pruned
    from remediator.model import RunState
    from remediator.recurrence import Recurrence
    from remediator.server.service import MatchReport, ReloadReport, Status

__all__ = ["Client", "Scope"]

_PATIENCE = 60.0
"""Seconds that a watch goes on trying to reach the daemon again, as after its restart."""
_PAUSE = 1.0
_PASSING = (502, 503, 504)
"""What a daemon that starts or stops answers, or a proxy in front of it."""


class Client(Transport):
    """One daemon. Use it as an async context manager."""

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
        wanted = query(state=list(state), playbook=playbook, target=target, since=since, dry_run=dry_run, limit=limit, cursor=cursor)
        return await self.get("/api/v1/runs", Page[Run], wanted)

    async def run(self, id: str) -> Run:  # noqa: A002 - the name of the field
        """One run with its steps and changes."""
        return await self.get(f"/api/v1/runs/{part(id)}", Run)

    async def trigger(self, request: Mapping[str, Any]) -> Run:
        """Start a run by hand; ServerRefused with status 409 and ``gates`` in its problem if a gate says no.

        ``request``: playbook, target, parameters, labels, alert, dry_run, by, reason.
        """
        return await self.submit("POST", "/api/v1/runs", Run, request)

    async def cancel(self, id: str, *, by: str, reason: str) -> Run:  # noqa: A002 - as above
        """Ask an open run to stop after its current call."""
        return await self.submit("POST", f"/api/v1/runs/{part(id)}/cancel", Run, {"by": by, "reason": reason})

    async def undo(self, id: str, *, by: str, reason: str) -> Run:  # noqa: A002 - as above
        """Put back what an ended run changed, where nobody touched it since."""
        return await self.submit("POST", f"/api/v1/runs/{part(id)}/undo", Run, {"by": by, "reason": reason})

    async def approve(self, id: str, *, by: str, reason: str) -> Run:  # noqa: A002 - as above
        """Say yes to a run that waits for people."""
        return await self.submit("POST", f"/api/v1/runs/{part(id)}/approve", Run, {"by": by, "reason": reason})

    async def reject(self, id: str, *, by: str, reason: str) -> Run:  # noqa: A002 - as above
        """Say no to a run that waits for people."""
        return await self.submit("POST", f"/api/v1/runs/{part(id)}/reject", Run, {"by": by, "reason": reason})

    async def reinstate(self, playbook: str, *, by: str, reason: str) -> Demotion:
        """Let a playbook that failed too often act by itself again, as far as file and settings allow."""
        return await self.submit("POST", f"/api/v1/playbooks/{part(playbook)}/reinstate", Demotion, {"by": by, "reason": reason})

    async def watch(self, id: str) -> AsyncGenerator[Run, None]:  # noqa: A002 - as above
        """The run as it is now and whenever it changes, until it ends. A lost connection is made again for a minute."""
        last: Run | None = None
        loop = asyncio.get_running_loop()
        give_up = loop.time() + _PATIENCE
        while last is None or last.state.open:
            try:
                async for data in self.events(f"/api/v1/runs/{part(id)}/watch"):
                    run = decode(data.encode(), Run, self.server)
                    give_up = loop.time() + _PATIENCE
                    if run != last:
                        yield run
                    last = run
            except (ServerUnreachable, ServerRefused) as error:
                passing = isinstance(error, ServerUnreachable) or error.status in _PASSING
                if last is None or not passing or loop.time() > give_up:
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
        return await self.get("/api/v1/decisions", Page[Decision], query(delivery=delivery, run=run, limit=limit, cursor=cursor))

    async def decision(self, id: str) -> Decision:  # noqa: A002 - as above
        """One decision."""
        return await self.get(f"/api/v1/decisions/{part(id)}", Decision)

    async def deliveries(self, *, since: datetime | None = None, limit: int | None = None, cursor: str | None = None) -> Page[Delivery]:
        """Webhook calls, newest first."""
        return await self.get("/api/v1/deliveries", Page[Delivery], query(since=since, limit=limit, cursor=cursor))

    async def delivery(self, id: str) -> Delivery:  # noqa: A002 - as above
        """One webhook call."""
        return await self.get(f"/api/v1/deliveries/{part(id)}", Delivery)

    async def alerts(self, *, every: bool = False, limit: int | None = None, cursor: str | None = None) -> Page[Episode]:
        """Open episodes; with ``every`` the ended ones too."""
        return await self.get("/api/v1/alerts", Page[Episode], query(all=every or None, limit=limit, cursor=cursor))

    async def changes(
        self, *, run: str | None = None, every: bool = False, limit: int | None = None, cursor: str | None = None
    ) -> Page[Change]:
        """Changes that nobody has put back; with ``every`` all that are on record."""
        wanted = query(run=run, left_behind=None if every else True, limit=limit, cursor=cursor)
        return await self.get("/api/v1/changes", Page[Change], wanted)

    async def why(self, ref: str) -> Story:
        """The story of an alert, delivery, decision, run or target."""
        return await self.get("/api/v1/why", Story, query(ref=ref))

    async def send(self, body: bytes) -> dict[str, Any]:
        """Post a payload as Alertmanager does; ``{"delivery": id, "alerts": n}`` once it is on disk."""
        answer: dict[str, Any] = await self.submit("POST", "/api/v1/alerts", dict[str, Any], body, scope="webhook")
        return answer

    # What is loaded

    async def playbooks(self) -> Page[dict[str, Any]]:
        """The loaded playbooks."""
        return await self.get("/api/v1/playbooks", Page[dict[str, Any]])

    async def playbook(self, name: str) -> dict[str, Any]:
        """One playbook with its text."""
        return await self.get(f"/api/v1/playbooks/{part(name)}", dict[str, Any])

    async def actions(self) -> Page[dict[str, Any]]:
        """The actions that steps may use."""
        return await self.get("/api/v1/actions", Page[dict[str, Any]])

    async def action(self, name: str) -> dict[str, Any]:
        """One action with the schema of its parameters."""
        return await self.get(f"/api/v1/actions/{part(name)}", dict[str, Any])

    async def gates(self) -> Page[dict[str, Any]]:
        """The gates that every run passes."""
        return await self.get("/api/v1/gates", Page[dict[str, Any]])

    async def match(self, labels: Mapping[str, str], *, at: datetime | None = None) -> MatchReport:
        """Which playbook would take an alert, and what its gates say; changes nothing."""
        from remediator.server.service import MatchReport  # noqa: PLC0415 - not needed for other calls

        return await self.submit(
            "POST", "/api/v1/match", MatchReport, {"labels": dict(labels), "at": iso(at) if at else None}, scope="read"
        )

    # The daemon

    async def status(self) -> Status:
        """How the daemon stands."""
        from remediator.server.service import Status  # noqa: PLC0415 - not needed for other calls

        return await self.get("/api/v1/status", Status)

    async def recurrence(self, *, since: datetime | None = None, at_least: int = 2) -> Page[Recurrence]:
        """What was restarted again and again, and how each time ended."""
        from remediator.recurrence import Recurrence  # noqa: PLC0415 - not needed for other calls

        return await self.get("/api/v1/report/recurrence", Page[Recurrence], query(since=since, at_least=at_least))

    async def effect(self, *, since: datetime | None = None, playbook: str | None = None) -> Page[Effect]:
        """What came of acting: success, time to heal, false starts."""
        from remediator.effect import Effect  # noqa: PLC0415 - not needed for other calls

        return await self.get("/api/v1/report/effect", Page[Effect], query(since=since, playbook=playbook))

    async def bgp(self) -> Report:
        """Who announces what by BGP."""
        from remediator.bgp.coverage import Report  # noqa: PLC0415 - not needed for other calls

        return await self.get("/api/v1/bgp", Report)

    async def pauses(self) -> Page[Pause]:
        """Pauses in force."""
        return await self.get("/api/v1/pause", Page[Pause])

    async def pause(self, *, playbook: str | None, target: str | None, reason: str, by: str, duration: timedelta | None) -> Pause:
        """Stop starting anything, for everything, one playbook or one target, for good or for ``duration``."""
        seconds = duration.total_seconds() if duration is not None else None
        request = {"playbook": playbook, "target": target, "reason": reason, "by": by, "seconds": seconds}
        return await self.submit("PUT", "/api/v1/pause", Pause, request)

    async def resume(self, *, playbook: str | None, target: str | None, by: str) -> int:
        """End the pauses of exactly this scope; how many there were."""
        wanted = query(playbook=playbook, target=target, by=by)
        answer: dict[str, int] = await self.submit("DELETE", "/api/v1/pause", dict[str, int], None, query=wanted)
        return answer["ended"]

    async def breaker(self) -> Standing:
        """How the breaker stands."""
        from remediator.breaker import Standing  # noqa: PLC0415 - not needed for other calls

        return await self.get("/api/v1/breaker", Standing)

    async def reset_breaker(self, *, backlog: str, reason: str, by: str) -> Reset:
        """Close the breaker."""
        from remediator.breaker import Reset  # noqa: PLC0415 - not needed for other calls

        return await self.submit("POST", "/api/v1/breaker/reset", Reset, {"backlog": backlog, "reason": reason, "by": by})

    async def reload(self) -> ReloadReport:
        """Read playbooks again; on errors the old ones stay."""
        from remediator.server.service import ReloadReport  # noqa: PLC0415 - not needed for other calls

        return await self.submit("POST", "/-/reload", ReloadReport, None)

    async def verify(self, *, resume: bool = False, jobs: int | None = None) -> ChainReport:
        """Whether the journal's hash chain is whole, from its beginning, which may take long, or since the last time that it was."""
        from remediator.journal import ChainReport  # noqa: PLC0415 - not needed for other calls

        asked = [("resume", "true")] if resume else []
        if jobs is not None:
            asked.append(("jobs", str(jobs)))
        return await self.get("/api/v1/journal/verify", ChainReport, asked, slow=True)

    async def prune(self, *, age: timedelta | None, keep: int, by: str) -> Pruned:
        """Take away what is older, or older than the settings keep; never the last ``keep`` entries. May take minutes."""
        from remediator.journal import Pruned  # noqa: PLC0415 - not needed for other calls

        request = {"seconds": age.total_seconds() if age is not None else None, "keep": keep, "by": by}
        return await self.submit("POST", "/api/v1/journal/prune", Pruned, request, slow=True)

    async def export(self) -> AsyncGenerator[bytes, None]:
        """The whole journal, a line of JSON an entry, oldest first; the lines as they were sent, line ends included."""
        async for line in self.lines("/api/v1/journal/export"):
            yield line
