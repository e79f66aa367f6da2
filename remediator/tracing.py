"""Traces of runs (OpenTelemetry, an extra), behind this one door: a span for the delivery, the decision, each step, call and verification.

In: what stages say ended, with the times that the records have. Out: spans by OTLP over HTTP, from a thread of its own; nothing waits for
them. Their ids follow from the run's id, so that a run goes on in its trace after a restart, and what is told twice is one span.
Where the webhook came with a ``traceparent``, the run is part of that trace.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import structlog

from remediator import __version__
from remediator.errors import UsageError
from remediator.model import RunState, StepState
from remediator.telemetry import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

    from remediator.model import Change, Delivery, Run, Step, Verification

__all__ = ["PARENT", "Tracing", "traceparent"]

log = structlog.get_logger(__name__)

PARENT: ContextVar[str] = ContextVar("traceparent", default="")
"""The traceparent of the request, or of the delivery, that is worked on; empty if there was none."""
_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ENDPOINT: Final = "/v1/traces"
_STOP: Final = timedelta(seconds=3)
"""For what is not exported yet when the daemon is told to stop."""
_LONGEST: Final = 1000
"""Characters of an attribute."""
_BAD_RUNS: Final = frozenset({RunState.NOT_HEALED, RunState.FAILED, RunState.UNKNOWN})
_BAD_STEPS: Final = frozenset({StepState.FAILED, StepState.UNKNOWN})


def traceparent(header: str) -> str:
    """The header (W3C Trace Context) if it is one, else nothing; of a later version the part that is known."""
    found = _TRACEPARENT.fullmatch(header)
    if found is None or found[1] == "ff" or not int(found[2], 16) or not int(found[3], 16) or (found[1] == "00" and found[5]):
        return ""
    return f"00-{found[2]}-{found[3]}-{found[4]}"


class Tracing:
    """Off unless it is given an exporter: then nothing is recorded and every method returns at once."""

    def __init__(self, exporter: SpanExporter | None = None, redact: Callable[[str], str] = str, *, at_once: bool = False) -> None:
        """``at_once``: export each span as it ends, for tests."""
        self._redact = redact
        self._provider: TracerProvider | None = None
        if exporter is not None:
            self._ids = _ids()
            self._provider = _provider(exporter, self._ids, at_once=at_once)
            self._tracer = self._provider.get_tracer("remediator", __version__)

    @classmethod
    def to(cls, endpoint: str, *, token_file: Path | None, timeout: timedelta, redact: Callable[[str], str]) -> Tracing:
        """Export to a collector. Raises UsageError if the extra is not installed."""
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise UsageError(
                "tracing.endpoint: OpenTelemetry is not installed; install remediator's extra otel, or leave it out"
            ) from error
        from urllib.parse import urlsplit  # noqa: PLC0415 - beside what needs it

        bare = urlsplit(endpoint).path in ("", "/")
        url = endpoint.rstrip("/") + _ENDPOINT if bare else endpoint
        exporter = OTLPSpanExporter(endpoint=url, timeout=timeout.total_seconds(), session=_session(token_file))
        return cls(_counting(exporter), redact)

    @property
    def on(self) -> bool:
        """Whether anything is recorded."""
        return self._provider is not None

    async def close(self) -> None:
        """Export what is left, if that takes no longer than a moment."""
        if self._provider is not None:
            try:
                async with asyncio.timeout(_STOP.total_seconds()):
                    await asyncio.to_thread(self._provider.shutdown)
            except TimeoutError:
                log.warning("the last spans were not exported in time")

    def trace_id(self, run: Run) -> str:
        """Of the run's trace, as logs and exemplars name it; empty while this is off."""
        return f"{_trace(run):032x}" if self.on else ""

    def began(self, run: Run, delivery: Delivery | None) -> None:
        """A run was decided on: the delivery, and the decision with what every gate said."""
        if not self.on:
            return
        looked = [verdict.at for verdict in run.gates]
        began = delivery.received_at if delivery is not None else min([*looked, run.started_at])
        if delivery is not None:
            about = {"delivery": delivery.id, "alerts": len(delivery.alerts), "receiver": delivery.receiver, "sender": delivery.sender}
            self._span(run, ("delivery",), "delivery", began, run.started_at, about)
        verdicts = [
            (verdict.at, verdict.gate, {"allowed": verdict.allowed, "reason": verdict.reason or "", "detail": verdict.detail})
            for verdict in run.gates
        ]
        above = ("delivery",) if delivery is not None else ()
        self._span(run, ("decision",), "decision", min([*looked, run.started_at]), run.started_at, {}, above=above, events=verdicts)

    def step(self, run: Run, step: Step) -> None:
        """A step ended."""
        if self.on and step.started_at is not None and step.ended_at is not None:
            about = {"step": step.name, "action": step.action, "rung": step.rung, "state": step.state, "outcome": step.outcome}
            self._span(run, ("step", step.index), step.name, step.started_at, step.ended_at, about, bad=step.state in _BAD_STEPS)

    def call(self, run: Run, step: Step, change: Change) -> None:
        """A call that alters the cluster was sent, and what came of it is known."""
        if self.on and change.ended_at is not None:
            about = {"verb": change.verb, "object": change.resource.key, "request_id": change.request_id, "state": change.state}
            name = f"{change.verb} {change.resource.kind}"
            above = ("step", step.index) if not change.undoes else ()
            self._span(
                run, ("call", change.id), name, change.at, change.ended_at, {**about, "detail": change.detail}, above=above, client=True
            )

    def verified(self, run: Run, proof: Verification) -> None:
        """A verification ended."""
        if self.on and proof.ended_at is not None:
            about = {"healed": bool(proof.healed), "reason": proof.reason or "", "checks": proof.checks, "last": proof.last}
            key = ("verification", run.rung, run.attempt)
            self._span(run, key, "verification", proof.started_at, proof.ended_at, about, bad=not proof.healed)

    def ended(self, run: Run, delivery: Delivery | None) -> None:
        """A run ended: the span above all others."""
        if self.on and run.ended_at is not None:
            about = {"state": run.state, "reason": run.reason or "", "detail": run.detail, "dry_run": run.dry_run}
            about |= {"alert": run.alert.name if run.alert is not None else "", "trigger": run.trigger.kind}
            began = delivery.received_at if delivery is not None else run.started_at
            self._span(run, None, f"run {run.playbook}", began, run.ended_at, about, bad=run.state in _BAD_RUNS)

    def _span(
        self,
        run: Run,
        key: tuple[Any, ...] | None,
        name: str,
        began: datetime,
        ended: datetime,
        about: dict[str, Any],
        *,
        above: tuple[Any, ...] = (),
        events: Sequence[tuple[datetime, str, dict[str, Any]]] = (),
        bad: bool = False,
        client: bool = False,
    ) -> None:
        """``key``: what it is in its run, None for the run itself; ``above``: the key of the span that it belongs to, empty for the run."""
        from opentelemetry.context import Context  # noqa: PLC0415 - an extra
        from opentelemetry.trace import NonRecordingSpan, SpanKind, Status, StatusCode, set_span_in_context  # noqa: PLC0415 - the same

        context = Context()
        parent = _parent(run) if key is None else _context(run, above)
        if parent is not None:
            context = set_span_in_context(NonRecordingSpan(parent), context)
        self._ids.trace, self._ids.span = _trace(run), _span_id(run, key or ())
        span = self._tracer.start_span(
            name,
            context,
            kind=SpanKind.CLIENT if client else SpanKind.SERVER if key is None else SpanKind.INTERNAL,
            attributes=self._attributes({"run": run.id, "playbook": run.playbook, "target": run.target.key, **about}),
            start_time=_nanoseconds(min(began, ended)),
        )
        for at, title, more in events:
            span.add_event(title, self._attributes(more), _nanoseconds(at))
        if bad:
            span.set_status(
                Status(StatusCode.ERROR, self._words(str(about.get("detail") or about.get("outcome") or about.get("reason") or "")))
            )
        span.end(_nanoseconds(ended))

    def _attributes(self, about: dict[str, Any]) -> dict[str, Any]:
        return {
            f"remediator.{key}": value if isinstance(value, bool | int) else self._words(str(value))
            for key, value in about.items()
            if value != ""
        }

    def _words(self, text: str) -> str:
        return self._redact(text)[:_LONGEST]


def _trace(run: Run) -> int:
    """The trace that the webhook came with, or else one of the run's own."""
    return int(run.trace.split("-")[1], 16) if run.trace else _digest(16, "trace", run.id)


def _span_id(run: Run, key: tuple[Any, ...]) -> int:
    return _digest(8, run.id, *key)


def _digest(size: int, *parts: Any) -> int:
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:size], "big") or 1


def _context(run: Run, key: tuple[Any, ...]) -> Any:
    """The span ``key`` of a run as the parent of another one."""
    from opentelemetry.trace import SpanContext, TraceFlags  # noqa: PLC0415 - an extra

    flags = int(run.trace.split("-")[3], 16) if run.trace else TraceFlags.SAMPLED
    return SpanContext(_trace(run), _span_id(run, key), is_remote=True, trace_flags=TraceFlags(flags))


def _parent(run: Run) -> Any:
    """The span that the webhook came with; None if it came with none."""
    from opentelemetry.trace import SpanContext, TraceFlags  # noqa: PLC0415 - an extra

    if not run.trace:
        return None
    _, _, span, flags = run.trace.split("-")
    return SpanContext(_trace(run), int(span, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))


def _nanoseconds(moment: datetime) -> int:
    return (moment.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1) * 1000


def _provider(exporter: SpanExporter, ids: Any, *, at_once: bool) -> TracerProvider:
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - an extra
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - the same
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor  # noqa: PLC0415 - the same
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased  # noqa: PLC0415 - the same

    resource = Resource.create({"service.name": "remediator", "service.version": __version__})
    provider = TracerProvider(ParentBased(ALWAYS_ON), resource, shutdown_on_exit=False, id_generator=ids)
    provider.add_span_processor(SimpleSpanProcessor(exporter) if at_once else BatchSpanProcessor(exporter))
    return provider


def _ids() -> Any:
    from opentelemetry.sdk.trace.id_generator import IdGenerator  # noqa: PLC0415 - an extra

    class Ids(IdGenerator):
        """Hands out what it was told, right before."""

        trace = span = 1

        def generate_trace_id(self) -> int:
            return self.trace

        def generate_span_id(self) -> int:
            return self.span

    return Ids()


def _counting(exporter: SpanExporter) -> SpanExporter:
    """``exporter``, with what becomes of its spans in a metric, and a trouble told once in the log."""
    import logging  # noqa: PLC0415 - only to silence the library, which would tell every single try

    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult  # noqa: PLC0415 - an extra

    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)

    class Counting(SpanExporter):
        well = True

        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            result = exporter.export(spans)
            well = result is SpanExportResult.SUCCESS
            METRICS.spans.labels("exported" if well else "failed").inc(len(spans))
            if well is not self.well:
                self.well = well
                log.info("spans are exported again") if well else log.warning("spans cannot be exported; is tracing.endpoint right?")
            return result

        def shutdown(self) -> None:
            exporter.shutdown()

        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            return exporter.force_flush(timeout_millis)

    return Counting()


def _session(token_file: Path | None) -> Any:
    """What speaks HTTP: no proxy of the environment; the token is read for every call, so that it may rotate."""
    import requests  # noqa: PLC0415 - only where spans are exported

    session = requests.Session()
    session.trust_env = False

    def bearer(request: Any) -> Any:
        if token_file is not None:
            request.headers["Authorization"] = f"Bearer {token_file.read_text(encoding='utf-8').strip()}"
        return request

    session.auth = bearer
    return session
