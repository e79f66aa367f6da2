"""A stand-in for the daemon, in memory, and clients with each token."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from remediator.bgp.coverage import Rules, report
from remediator.bgp.model import Node, Routes
from remediator.breaker import Reset, Standing
from remediator.clock import ManualClock
from remediator.demotion import Demotion
from remediator.effect import effects
from remediator.errors import JournalError, UsageError
from remediator.feed import Feed
from remediator.gates import gates
from remediator.journal import ChainReport, Pruned
from remediator.kube.errors import Unreachable
from remediator.model import (
    Change,
    ChangeState,
    Decision,
    DecisionKind,
    Done,
    Entry,
    Episode,
    Exported,
    Mode,
    Page,
    Pause,
    Resource,
    Run,
    RunState,
    Step,
    StepState,
    Target,
    Trigger,
    TriggerKind,
    Verdict,
    evolve,
    new_id,
)
from remediator.promotion import Record
from remediator.reasons import Reason
from remediator.receive import Kept, Limits, parse_delivery
from remediator.recurrence import recurrences
from remediator.server import MatchReport, NearMiss, ReloadReport, Status, Tokens, build_app
from remediator.server.service import ClusterView, NodeView, Series
from remediator.story import Story

NOW = datetime(2026, 1, 5, 10, 0, tzinfo=UTC)
TOKENS = Tokens(webhook="hook-secret", read="read-secret", write="write-secret")


def a_run(**fields: Any) -> Run:
    change = Change(
        id="c1",
        run="run-1",
        step="restart",
        action="cilium.restart_agent",
        verb="delete",
        resource=Resource(kind="Pod", namespace="kube-system", name="cilium-abc"),
        state=ChangeState.KEPT,
        at=NOW,
    )
    step = Step(name="restart", action="cilium.restart_agent", rung=0, index=0, state=StepState.RUNNING, changes=(change,))
    run = Run(
        id="run-1",
        playbook="cilium-agent-down",
        revision="0123456789ab",
        trigger=Trigger(kind=TriggerKind.MANUAL, by="ada", reason="drill"),
        target=Target(kind="Node", name="node-3", uid="u3"),
        state=RunState.RUNNING,
        started_at=NOW,
        deadline=NOW + timedelta(hours=1),
        steps=(step,),
        gates=(Verdict(gate="paused", allowed=True, at=NOW),),
    )
    return evolve(run, **fields)


class FakeJournal:
    """Holds what a test puts in, and remembers how it was asked."""

    def __init__(self) -> None:
        self.asked: dict[str, dict[str, Any]] = {}
        self.the_runs: dict[str, Run] = {}
        self.the_deliveries: dict[str, Any] = {}
        self.the_pauses: list[Pause] = []
        self.the_notes: list[Entry] = []
        self.next: str | None = None
        self.decision = Decision(id="decision-1", delivery="d1", at=NOW, decision=DecisionKind.UNMATCHED, reason=Reason.UNMATCHED)
        self.episode = Episode(
            fingerprint="f", starts_at=NOW, name="A", labels={}, first_seen=NOW, last_seen=NOW, decision=DecisionKind.UNMATCHED
        )
        self.entries_held = 3

    async def run(self, id):  # noqa: A002 - the journal's own name
        return self.the_runs.get(id)

    async def runs(self, **query):
        return self._page("runs", query, self.the_runs.values())

    async def delivery(self, id):  # noqa: A002 - as above
        return self.the_deliveries.get(id)

    async def deliveries(self, **query):
        return self._page("deliveries", query, self.the_deliveries.values())

    async def decisions(self, **query):
        return self._page("decisions", query, [self.decision])

    async def episodes(self, **query):
        return self._page("episodes", query, [self.episode])

    async def changes(self, **query):
        return self._page("changes", query, [a_run().steps[0].changes[0]])

    async def pauses(self, now):
        self.asked["pauses"] = {"now": now}
        return self.the_pauses

    async def entries(self, *, ref, kind, limit=1000):
        from remediator.model import to_json

        if kind == "undo":
            return [note for note in self.the_notes if note.ref == ref][:limit]
        held = {"decision-1": Entry(seq=1, at=NOW, kind=kind, ref=ref, data=to_json(self.decision), previous="", hash="")}
        return [held[ref]] if ref in held else []

    async def verify(self, **query):
        self.asked["verify"] = query
        return ChainReport(ok=True, entries=3, problems=[])

    async def export(self):
        for seq in range(1, self.entries_held + 1):
            yield Exported(seq=seq, at=NOW, kind="note", ref="x", data={"text": "y" * 1000}, previous="p", hash="h")

    def _page(self, name, query, items):
        self.asked[name] = query
        return Page(items=tuple(items), next=self.next)


class FakeService:
    """The daemon as the server sees it."""

    def __init__(self) -> None:
        self.unreachable = False
        self.waiting: tuple[Any, ...] = ()
        self.demoted: tuple[Any, ...] = ()
        self.undecided: dict[str, Any] = {}
        self.journal = FakeJournal()
        self.feed = Feed(queue=8)
        self.library = SimpleNamespace(playbooks=(a_playbook(),))
        self.actions = {"wait": SimpleNamespace(describe=lambda: {"name": "wait", "summary": "Let time pass"})}
        self.gates = {"paused": gates()["paused"]}
        self.calls: list[tuple[str, Any]] = []
        self.view = ClusterView(nodes=(NodeView(name="node-1", zone="a"),), disturbed=0, most=1, at=NOW)
        self.the_series = Series()
        self.the_invited: Run | None = None
        self.fails: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.limits = Limits()
        self.is_ready = (True, "leader")
        self.report = ReloadReport(ok=True, playbooks=1, at=NOW)
        self.decided = Decision(id="decision-2", at=NOW, decision=DecisionKind.RUN, run="run-1")

    async def _did(self, name: str, what: Any) -> None:
        self.calls.append((name, what))
        await self.gate.wait()
        if self.fails is not None:
            raise self.fails

    async def receive(self, body, *, sender):
        delivery = parse_delivery(body, id=new_id(NOW), at=NOW, sender=sender, limits=self.limits)
        await self._did("receive", delivery)
        self.journal.the_deliveries[delivery.id] = delivery
        return Kept.of(delivery)

    async def trigger(self, request):
        await self._did("trigger", request)
        return self.decided

    async def match(self, request):
        await self._did("match", request)
        near = NearMiss(playbook="cilium-agent-down", matched=1, of=2, failed=('severity="critical" (severity is "warning")',))
        return MatchReport(labels=request.labels, decision=DecisionKind.UNMATCHED, reason=Reason.UNMATCHED, nearest=(near,))

    async def cancel(self, run, *, by, reason):
        await self._did("cancel", (run, by, reason))
        return self._altered(run, cancel=f"{by}: {reason}")

    async def undo(self, run, *, by, reason):
        await self._did("undo", (run, by, reason))
        return self._altered(run, state=RunState.UNDOING)

    async def approve(self, run, *, by, reason, named):
        await self._did("approve", (run, by, reason, named))
        return self._altered(run)

    async def invited(self, text):
        if text == "over":
            raise UsageError("The question was answered.")
        return self.the_invited if text == "good" else None

    async def answer_invited(self, text, *, by, reason, yes):
        await self._did("answer_invited", (text, by, reason, yes))
        return self.the_invited

    async def reject(self, run, *, by, reason):
        await self._did("reject", (run, by, reason))
        return self._altered(run, state=RunState.CANCELLED)

    async def reinstate(self, playbook, *, by, reason):
        await self._did("reinstate", (playbook, by, reason))
        return Demotion(playbook=playbook, at=NOW, runs=("r1", "r2"))

    def mode_of(self, playbook):
        return {"mode_in_force": "suggest", "demoted": None}

    async def record(self, playbook):
        return Record(playbook=playbook.name)

    def _altered(self, run, **fields):
        if not self.journal.the_runs[run].state.open:
            raise UsageError(f"run {run} has ended")
        return evolve(self.journal.the_runs[run], **fields)

    async def pause(self, request):
        await self._did("pause", request)
        return Pause(id="p1", playbook=request.playbook, target=request.target, reason=request.reason, by=request.by, at=NOW)

    async def resume(self, **scope):
        await self._did("resume", scope)
        return 2

    async def breaker(self):
        return Standing(open=False, failures=0, most_failures=5, runs=1, most_runs=20, within="6h")

    async def reset_breaker(self, request):
        await self._did("reset_breaker", request)
        return Reset(at=NOW, by=request.by, reason=request.reason, backlog=request.backlog, opened_at=NOW)

    async def prune(self, request):
        await self._did("prune", request)
        if request.keep == 13:
            raise JournalError("the log is not whole")
        return Pruned(through=7, removed={"run": 2}, slices=3, longest=0.02)

    async def reload(self):
        await self._did("reload", None)
        return self.report

    async def why(self, ref):
        await self._did("why", ref)
        return Story(ref=ref, kind="nothing", lines=("The journal knows nothing of it.",))

    async def recurrence(self, *, since=None, at_least=2):
        self.asked_of_recurrence = since, at_least
        done = Done(action="cilium.restart_agent", target="Node/n", at=NOW, run="run-1", playbook="p", state=RunState.HEALED)
        return Page(items=recurrences([done] * 3, at_least=at_least))

    async def effect(self, *, since=None, playbook=None):
        self.asked_of_effect = since, playbook
        return Page(items=effects(self.journal.the_runs.values()))

    async def bgp(self):
        if self.unreachable:
            raise Unreachable("connection refused", call="GET /apis/cilium.io/v2/ciliumbgpnodeconfigs")
        return report(Routes(nodes=(Node(name="node-1", agent_ready=True),)), Rules())

    async def cluster(self):
        if self.unreachable:
            raise Unreachable("connection refused", call="GET /api/v1/nodes")
        return self.view

    async def series(self, run):
        return self.the_series

    def status(self):
        return Status(
            version="0.1.0",
            mode=Mode.AUTO,
            dry_run=False,
            paused=tuple(self.journal.the_pauses),
            started_at=NOW,
            ready=True,
            ready_detail="leader",
            playbooks=1,
            last_reload=self.report,
            undecided=0,
            open_runs=1,
            journal="open",
            kubernetes="reachable",
            prometheus="reachable",
            alertmanager="reachable",
            leader=True,
        )

    async def full_status(self, *, with_records=True):
        self.with_records = with_records
        return evolve(self.status(), waiting=self.waiting, demoted=self.demoted, **self.undecided)

    def ready(self):
        return self.is_ready


def a_playbook() -> Any:
    """As the library holds it; only what the API shows."""
    shown = {"name": "cilium-agent-down", "mode": "suggest", "revision": "0123456789ab"}
    gates = {"gates": {}}
    return SimpleNamespace(
        name="cilium-agent-down",
        source="/nowhere/x.yaml",
        text="apiVersion: remediator.dev/v1\n",
        ladder=(),
        disruptive=True,
        describe=lambda: {**shown, **gates},
    )


class Api:
    """One server on a free port, and requests to it with the token that is named."""

    def __init__(self, client: TestClient) -> None:
        self.client = client
        self.host, self.port = client.host, client.port

    async def __call__(self, method: str, path: str, *, token: str | None = "write", **options: Any) -> Any:
        headers = {**({"Authorization": f"Bearer {token}-secret"} if token else {}), **options.pop("headers", {})}
        response = await self.client.request(method, path, headers=headers, **options)
        await response.read()
        return response

    async def get(self, path: str, **options: Any) -> Any:
        response = await self("GET", path, **options)
        assert response.status == 200, await response.text()
        return await response.json()

    async def post_alerts(self, payload: Any, **options: Any) -> Any:
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        return await self("POST", "/api/v1/alerts", token=options.pop("token", "hook"), data=io.BytesIO(body), **options)

    async def problem(self, method: str, path: str, status: int, **options: Any) -> dict[str, Any]:
        return await self.problem_in(await self(method, path, **options), status)

    async def problem_in(self, response: Any, status: int) -> dict[str, Any]:
        assert response.status == status, await response.text()
        assert response.content_type == "application/problem+json"
        problem = await response.json()
        assert problem["status"] == status
        assert problem["title"]
        assert problem["detail"]
        assert problem["request_id"] == response.headers["X-Request-ID"]
        return problem

    @contextlib.asynccontextmanager
    async def raw(self):
        """A bare connection, to send what no client library would."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def run() -> Any:
    return a_run


@pytest.fixture
async def serve():
    """Start a server for a service: ``await serve(service, **options of build_app)``."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(service: Any, *, tokens: Tokens = TOKENS, **options: Any) -> Api:
            app = build_app(service, tokens=tokens, clock=ManualClock(NOW), **options)
            client = TestClient(TestServer(app, access_log=None), auto_decompress=True)
            return Api(await stack.enter_async_context(client))

        yield start


@pytest.fixture
async def api(serve, service) -> Api:
    return await serve(service)


@pytest.fixture
def payload() -> dict[str, Any]:
    return {
        "receiver": "remediator",
        "status": "firing",
        "alerts": [
            {
                "status": status,
                "labels": {"alertname": "CiliumAgentDown", "node": node},
                "annotations": {},
                "startsAt": "2026-01-05T10:00:00Z",
                "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": "",
                "fingerprint": fingerprint,
            }
            for status, node, fingerprint in (("firing", "node-3", "00000000000000aa"), ("resolved", "node-4", "00000000000000ab"))
        ],
        "groupLabels": {},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "",
        "version": "4",
        "groupKey": "{}",
        "truncatedAlerts": 0,
    }
