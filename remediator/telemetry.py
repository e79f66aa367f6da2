"""Logs and metrics: every metric is declared here, zero-initialised where its labels are known, with bounded label values.

Names are those of the interface; nothing is ever labelled by pod or fingerprint.
"""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar
from itertools import product
from threading import Lock
from typing import TYPE_CHECKING, Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.exposition import choose_encoder

from remediator import __version__
from remediator.neutral import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime
    from typing import TextIO

    from prometheus_client import Metric

__all__ = ["METRICS", "REQUEST", "Metrics", "Tally", "configure_logging", "elapsed", "exemplar", "zero"]

_LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_STALLS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5)
"""Fine around 50 ms: a page that shows within a second, and an answer to Alertmanager, leave no more than that."""
_LONG = (1, 5, 10, 30, 60, 120, 300, 600, 1200, 3600, 7200)
_VERBS = ("get", "list", "watch", "create", "patch", "delete", "evict", "exec", "log", "review")
_NO_ANSWER = ("unreachable", "timeout")
_ASKED = ("ok", "refused", "unreachable", "unusable")


class Tally:
    """Counts what comes with each webhook: a plain number, of which the counter hears when somebody reads the metrics.

    ``add`` belongs to one thread, the event loop's; any may read.
    """

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._total = self._told = 0

    def add(self, number: int = 1) -> None:
        """So many more."""
        self._total += number

    def tell(self) -> None:
        """Let the counter hear; one caller at a time."""
        total = self._total
        self._counter.inc(total - self._told)
        self._told = total


class _Tallies:
    """Stands first in its registry, so that what is read after it is up to date. Has no metrics of its own."""

    def __init__(self) -> None:
        self.of: list[Tally] = []
        self._one_at_a_time = Lock()
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def collect(self) -> tuple[Metric, ...]:
        """What the registry asks of whatever stands in it."""
        with self._one_at_a_time:
            for tally in self.of:
                tally.tell()
        return ()


class Metrics:
    """All metrics, on a registry of their own."""

    delivered_at: datetime | None = None
    """When the last delivery was stored, also before the start; ``last_delivery`` tells it to who reads."""

    def __init__(self) -> None:
        self._tallies = _Tallies()
        self.registry = r = self._tallies.registry
        p = "remediator_"
        self.build = Info(p + "build", "Version of this program", registry=r)
        self.webhook_requests = Counter(p + "webhook_requests_total", "Webhook calls by HTTP status", ["code"], registry=r)
        self.auth_failures = Counter(p + "auth_failures_total", "Requests that were not let in", ["reason"], registry=r)
        self.forged_headers = Counter(
            p + "forged_identity_headers_total", "Remote-User or Remote-Groups from where no listed proxy is", registry=r
        )
        self.alerts_received = Counter(p + "alerts_received_total", "Alerts in stored deliveries", ["status"], registry=r)
        self.alerts_truncated = Counter(p + "alerts_truncated_total", "Alerts that Alertmanager cut off", registry=r)
        self.alerts_unmatched = Counter(p + "alerts_unmatched_total", "Alerts that no playbook takes", registry=r)
        self.decisions = Counter(p + "decisions_total", "Decisions by kind and reason", ["decision", "reason"], registry=r)
        self.gate_refusals = Counter(p + "gate_refusals_total", "Refusals by gate", ["playbook", "gate"], registry=r)
        self.runs = Counter(p + "runs_total", "Ended runs", ["playbook", "outcome"], registry=r)
        self.not_healed = Counter(p + "not_healed_total", "Runs that leave it to a person", ["playbook", "reason"], registry=r)
        self.runs_in_flight = Gauge(p + "runs_in_flight", "Open runs", ["playbook"], registry=r)
        self.run_duration = Histogram(p + "run_duration_seconds", "From start to end of a run", ["playbook"], buckets=_LONG, registry=r)
        self.time_to_heal = Histogram(
            p + "time_to_heal_seconds", "From the alert's start until it was proved healed", ["playbook"], buckets=_LONG, registry=r
        )
        self.action_attempts = Counter(p + "action_attempts_total", "Steps tried", ["action", "result"], registry=r)
        self.action_duration = Histogram(p + "action_duration_seconds", "Time of a step", ["action"], buckets=_LONG, registry=r)
        self.verifications = Counter(p + "verifications_total", "Verifications ended", ["playbook", "result"], registry=r)
        self.queue_depth = Gauge(p + "queue_depth", "Deliveries stored and not decided", registry=r)
        self.queue_oldest = Gauge(p + "queue_oldest_seconds", "Age of the oldest undecided delivery", registry=r)
        self.kube_requests = Counter(p + "kube_requests_total", "Calls to the Kubernetes API", ["verb", "code"], registry=r)
        self.kube_duration = Histogram(
            p + "kube_request_duration_seconds", "Time of a call to the Kubernetes API", ["verb"], buckets=_LATENCY, registry=r
        )
        self.prometheus_queries = Counter(p + "prometheus_queries_total", "Queries to Prometheus", ["result"], registry=r)
        self.alertmanager_queries = Counter(p + "alertmanager_queries_total", "Questions to Alertmanager", ["result"], registry=r)
        self.notifications = Counter(p + "notifications_total", "Messages to people", ["channel", "result"], registry=r)
        self.events = Counter(p + "events_total", "Kubernetes Events about runs", ["result"], registry=r)
        self.spans = Counter(p + "spans_total", "Spans of traces", ["result"], registry=r)
        self.store_failures = Counter(p + "store_failures_total", "Journal operations that failed", ["operation"], registry=r)
        self.reload_ok = Gauge(p + "config_last_reload_successful", "1 if the last load of playbooks was accepted", registry=r)
        self.reload_at = Gauge(p + "config_last_reload_success_timestamp_seconds", "When playbooks were last accepted", registry=r)
        self.config_hash = Gauge(p + "config_hash", "Changes when the loaded playbooks do", registry=r)
        self.paused = Gauge(p + "paused", "Pauses in force", registry=r)
        self.breaker_open = Gauge(p + "breaker_open", "1 if too many runs or failures opened the breaker", registry=r)
        self.awaiting_approval = Gauge(p + "runs_awaiting_approval", "Runs that wait for people", ["playbook"], registry=r)
        self.approvals = Counter(p + "approvals_total", "Questions to people by how they ended", ["playbook", "result"], registry=r)
        self.demoted = Gauge(p + "playbook_demoted", "1 while a playbook may not act by itself since it failed", ["playbook"], registry=r)
        self.demotions = Counter(p + "playbook_demotions_total", "Playbooks demoted by their failures", ["playbook"], registry=r)
        self.leader = Gauge(p + "leader", "1 if this replica acts", registry=r)
        self.last_delivery = Gauge(
            p + "last_delivery_timestamp_seconds", "When the last delivery was stored, also before the start", registry=r
        )
        self.paused_oldest = Gauge(p + "paused_oldest_seconds", "Age of the oldest pause in force", registry=r)
        self.left_behind = Gauge(p + "changes_left_behind", "Changes of ended runs that nobody has put back", registry=r)
        self.left_behind_oldest = Gauge(p + "changes_left_behind_oldest_seconds", "Age of the oldest of them", registry=r)
        self.runs_overdue = Gauge(p + "runs_overdue", "Open runs whose time is up and that wait for nobody", registry=r)
        self.journal_whole = Gauge(p + "journal_whole", "0 if the last verification found the journal altered", registry=r)
        self.journal_verified_at = Gauge(
            p + "journal_verified_timestamp_seconds", "When the journal was last verified; 0: not since the start", registry=r
        )
        self.loop_delay = Histogram(
            p + "event_loop_delay_seconds", "How late a timer of 10 ms was: how long nothing else could go on", buckets=_STALLS, registry=r
        )
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """What has its labels from here; the rest begins with the playbooks and actions that are loaded."""
        self.build.info({"version": __version__})
        self.last_delivery.set_function(lambda: self.delivered_at.timestamp() if self.delivered_at else 0.0)
        zero(self.webhook_requests, ("200", "400", "401", "413", "503"))
        zero(self.auth_failures, ("unknown_token", "limited", "csrf"))
        zero(self.alerts_received, ("firing", "resolved"))
        zero(self.kube_requests, _VERBS, ("200", *_NO_ANSWER))
        zero(self.kube_duration, _VERBS)
        zero(self.prometheus_queries, (*_ASKED, "stale"))
        zero(self.alertmanager_queries, _ASKED)
        zero(self.store_failures, ("queue", "read", "write"))
        zero(self.spans, ("exported", "failed"))
        zero(self.events, ("written", "failed", "dropped"))
        self.journal_whole.set(1)

    def tally(self, counter: Counter) -> Tally:
        """For ``counter``, which nothing else may count up."""
        tally = Tally(counter)
        self._tallies.of.append(tally)
        return tally

    def written(self, accept: str = "") -> tuple[bytes, str]:
        """All of them for ``GET /metrics`` and their media type: OpenMetrics, with exemplars, for who asks for it; else the older text."""
        write, media = choose_encoder(accept)
        return write(self.registry), media


def zero(metric: Counter | Gauge | Histogram, *values: Iterable[str]) -> None:
    """Let ``metric`` begin at 0 for every combination of its labels' ``values``, in their order: a first event is an increase then."""
    for labels in product(*values):
        metric.labels(*labels)


def elapsed(since: datetime, until: datetime) -> float:
    """Seconds, none where clocks disagree: Prometheus refuses everything once the sum of a histogram is negative."""
    return max(0.0, (until - since).total_seconds())


def exemplar(run: str | None, trace_id: str = "") -> dict[str, str] | None:
    """What leads from a point of a graph to the run behind it, and to its trace; nothing where there is none."""
    trace = {"trace_id": trace_id} if trace_id else {}
    return {"run": run, **trace} if run else None


METRICS = Metrics()
REQUEST: ContextVar[str] = ContextVar("request", default="")
"""The id of the HTTP request at work; each line of the log bears it. Apart from structlog's own, which take five times as long to set."""
_given: dict[str, Any] = {}


def _of_request(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    if request := REQUEST.get():
        event.setdefault("request_id", request)
    return event


def _drop_colour(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    event.pop("color_message", None)
    return event


def _harmless(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    """On a terminal, what strangers wrote moves no cursor; JSON writes it out by itself."""
    return {name: visible(value) if isinstance(value, str) else value for name, value in event.items()}


class _Clean(logging.Formatter):
    """What libraries log, tracebacks included, without secrets."""

    def __init__(self, redact: Callable[[Any], Any] | None) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s")
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        text = super().format(record)
        return visible(str(self._redact(text)) if self._redact is not None else text)


def configure_logging(
    *, level: str | None = None, redact: Callable[[Any], Any] | None = None, json: bool | None = None, stream: TextIO | None = None
) -> None:
    """Logs go to ``stream`` (stderr): JSON lines, or readable lines on a terminal. ``redact`` sees every event before it is written.

    Called again, what is not given stays as it was.
    """
    if stream is not None:
        _given["stream"] = stream
    if level is not None:
        _given["level"] = level
    if json is not None:
        _given["json"] = json
    out: TextIO = _given.get("stream") or sys.stderr
    as_json = _given.get("json", not out.isatty())
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        _of_request,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _drop_colour,
    ]
    processors.append(structlog.processors.format_exc_info)  # before the redaction: a traceback may quote anything
    if redact is not None:
        processors.append(lambda _, __, event: redact(event))
    if as_json:
        processors.append(structlog.processors.JSONRenderer())
    else:
        processors.append(_harmless)
        # The default formatter would show the values of local variables, tokens among them.
        processors.append(structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback))
    number = logging.getLevelNamesMapping()[_given.get("level", "info").upper()]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(_Clean(redact))
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[handler], force=True)
