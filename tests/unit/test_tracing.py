"""Traces: which spans a run has, what is above what, and that they leave as OTLP; and that all of it is an extra."""

from __future__ import annotations

import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from remediator.errors import UsageError
from remediator.model import (
    Change,
    ChangeState,
    Delivery,
    Resource,
    Run,
    RunState,
    Step,
    StepState,
    Target,
    Trigger,
    TriggerKind,
    Verdict,
    Verification,
    evolve,
)
from remediator.reasons import Reason
from remediator.telemetry import METRICS
from remediator.tracing import Tracing, traceparent

NOW = datetime(2026, 1, 5, 10, tzinfo=UTC)
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def at(seconds):
    return NOW + timedelta(seconds=seconds)


DELIVERY = Delivery(id="d1", received_at=at(0), receiver="am", group_key="g", status="firing", truncated=0, alerts=())
RUN = Run(
    id="r1",
    playbook="remedy",
    revision="x",
    trigger=Trigger(kind=TriggerKind.ALERT, by="am", reason="Slow"),
    delivery="d1",
    target=Target(kind="Node", name="node-3", uid="u3"),
    state=RunState.RUNNING,
    started_at=at(2),
    deadline=at(3600),
    gates=(
        Verdict(gate="paused", allowed=True, at=at(1)),
        Verdict(gate="cooldown", allowed=False, reason=Reason.COOLDOWN, detail="t0ken", at=at(1)),
    ),
)
STEP = Step(name="restart", action="cilium.restart_agent", rung=0, index=0, state=StepState.SUCCEEDED, started_at=at(3), ended_at=at(6))
CHANGE = Change(
    id="c1",
    run="r1",
    step="restart",
    action="cilium.restart_agent",
    verb="delete",
    resource=Resource(kind="Pod", namespace="kube-system", name="cilium-x", uid="p"),
    state=ChangeState.KEPT,
    request_id="c1",
    at=at(4),
    ended_at=at(5),
)
PROOF = Verification(started_at=at(6), deadline=at(60), hold_seconds=10, healed=True, reason=Reason.HEALED, checks=3, ended_at=at(20))


@pytest.fixture
def memory():
    return InMemorySpanExporter()


def whole(tracing, run=RUN, delivery=DELIVERY):
    tracing.began(run, delivery)
    tracing.call(run, STEP, CHANGE)
    tracing.step(run, STEP)
    tracing.verified(run, PROOF)
    tracing.ended(evolve(run, state=RunState.HEALED, reason=Reason.HEALED, ended_at=at(21)), delivery)


def tree(memory):
    """name -> name of what is above it; the id of a parent that is not there."""
    spans = memory.get_finished_spans()
    names = {span.context.span_id: span.name for span in spans}
    return {span.name: names.get(span.parent.span_id, f"{span.parent.span_id:016x}") if span.parent else None for span in spans}


def test_one_trace_a_run_from_the_webhook_to_the_verification(memory):
    whole(Tracing(memory, at_once=True))
    assert tree(memory) == {
        "delivery": "run remedy",
        "decision": "delivery",
        "delete Pod": "restart",
        "restart": "run remedy",
        "verification": "run remedy",
        "run remedy": None,
    }
    spans = {span.name: span for span in memory.get_finished_spans()}
    assert len({span.context.trace_id for span in spans.values()}) == 1
    assert {span.attributes["remediator.run"] for span in spans.values()} == {"r1"}
    assert (spans["run remedy"].start_time, spans["run remedy"].end_time) == (int(at(0).timestamp() * 1e9), int(at(21).timestamp() * 1e9))
    assert spans["delete Pod"].attributes["remediator.object"] == "Pod/kube-system/cilium-x"
    assert [(event.name, event.attributes["remediator.allowed"]) for event in spans["decision"].events] == [
        ("paused", True),
        ("cooldown", False),
    ]
    assert spans["verification"].attributes["remediator.checks"] == 3
    assert all(span.status.is_unset for span in spans.values())


def test_a_parent_that_the_webhook_came_with_is_above_the_run(memory):
    whole(Tracing(memory, at_once=True), run=evolve(RUN, trace=PARENT))
    assert tree(memory)["run remedy"] == "b7ad6b7169203331"
    assert {f"{span.context.trace_id:032x}" for span in memory.get_finished_spans()} == {"0af7651916cd43dd8448eb211c80319c"}


def test_a_parent_that_is_not_sampled_is_heeded(memory):
    whole(Tracing(memory, at_once=True), run=evolve(RUN, trace=PARENT[:-1] + "0"))
    assert memory.get_finished_spans() == ()


def test_after_a_restart_the_run_goes_on_in_its_trace_and_no_span_is_there_twice(memory):
    for _ in range(2):
        whole(Tracing(memory, at_once=True))
    spans = memory.get_finished_spans()
    assert len(spans) == 12
    assert len({(span.context.trace_id, span.context.span_id) for span in spans}) == 6


def test_two_runs_have_two_traces(memory):
    tracing = Tracing(memory, at_once=True)
    whole(tracing)
    whole(tracing, run=evolve(RUN, id="r2"))
    assert len({span.context.trace_id for span in memory.get_finished_spans()}) == 2
    assert tracing.trace_id(RUN) != tracing.trace_id(evolve(RUN, id="r2"))


def test_what_went_wrong_is_an_error_and_secrets_are_taken_out(memory):
    tracing = Tracing(memory, lambda text: text.replace("t0ken", "***"), at_once=True)
    tracing.began(RUN, None)
    tracing.step(RUN, evolve(STEP, state=StepState.FAILED, outcome="step_failed"))
    tracing.ended(evolve(RUN, state=RunState.FAILED, detail="t0ken " + "x" * 5000, ended_at=at(9)), None)
    spans = {span.name: span for span in memory.get_finished_spans()}
    assert not spans["restart"].status.is_ok
    assert spans["restart"].status.description == "step_failed"
    assert spans["run remedy"].status.description.startswith("*** x")
    assert len(spans["run remedy"].attributes["remediator.detail"]) <= 1000
    assert "t0ken" not in "".join(span.to_json() for span in spans.values())
    assert spans["decision"].parent.span_id == spans["run remedy"].context.span_id, "nobody delivered it"


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        (PARENT, PARENT),
        ("cc-" + PARENT[3:] + "-more", PARENT),
        ("ff-" + PARENT[3:], ""),
        (PARENT + "-more", ""),
        (PARENT.upper(), ""),
        (PARENT + "\n", ""),
        (f"00-{'0' * 32}-b7ad6b7169203331-01", ""),
        (f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01", ""),
        ("00-1-2-3", ""),
        ("", ""),
    ],
)
def test_only_a_traceparent_is_taken_for_one(header, taken):
    assert traceparent(header) == taken


def test_off_it_does_nothing_and_has_no_ids():
    tracing = Tracing()
    whole(tracing)
    assert (tracing.on, tracing.trace_id(RUN)) == (False, "")


@pytest.fixture
def collector():
    """What a collector is asked: (path, Authorization, spans); ``answers`` are the statuses that it gives, in order, then 200."""
    calls, answers = [], []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            request = ExportTraceServiceRequest.FromString(body)
            names = [span.name for r in request.resource_spans for scope in r.scope_spans for span in scope.spans]
            calls.append((self.path, self.headers.get("Authorization"), names))
            self.send_response(answers.pop(0) if answers else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", calls, answers
    server.shutdown()
    server.server_close()
    thread.join(5)


def counted(result):
    return METRICS.registry.get_sample_value("remediator_spans_total", {"result": result}) or 0


@pytest.mark.parametrize(("path", "asked"), [("", "/v1/traces"), ("/", "/v1/traces"), ("/otlp/v1/traces", "/otlp/v1/traces")])
async def test_spans_leave_as_otlp_with_the_token_and_the_last_ones_at_the_end(collector, tmp_path, path, asked):
    url, calls, _ = collector
    (tmp_path / "token").write_text("first\n")
    before = counted("exported")
    tracing = Tracing.to(url + path, token_file=tmp_path / "token", timeout=timedelta(seconds=5), redact=str)
    (tmp_path / "token").write_text("rotated\n")
    whole(tracing)
    await tracing.close()
    assert {(where, token) for where, token, _ in calls} == {(asked, "Bearer rotated")}
    assert sorted(name for _, _, names in calls for name in names) == sorted(
        ["delivery", "decision", "delete Pod", "restart", "verification", "run remedy"]
    )
    assert counted("exported") == before + 6


async def test_a_collector_that_says_no_is_counted(collector):
    url, _, answers = collector
    answers.append(400)
    before = counted("failed")
    tracing = Tracing.to(url, token_file=None, timeout=timedelta(seconds=5), redact=str)
    whole(tracing)
    await tracing.close()
    assert counted("failed") == before + 6


def test_without_the_extra_the_setting_is_refused_in_words(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(UsageError, match=r"tracing.endpoint: OpenTelemetry is not installed; install remediator's extra otel"):
        Tracing.to("http://collector:4318", token_file=None, timeout=timedelta(seconds=5), redact=str)


def test_without_the_extra_the_daemon_is_whole():
    code = "import sys; sys.modules['opentelemetry'] = None; import remediator.daemon as d; assert not d.Tracing().on"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
