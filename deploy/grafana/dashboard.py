"""Makes remediator.json, the dashboard that Grafana imports, from the panels below. Run by ``make dashboard``; a test keeps it current.

Everything is placed by its order: rows of panels from left to right, 24 columns wide.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
COLUMNS = 24
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
GOOD_AT_ZERO = (("green", None), ("red", 1))
GOOD_AT_ONE = (("red", None), ("green", 1))
PLAYBOOK = 'playbook=~"$playbook"'


@dataclass(frozen=True)
class Panel:
    """One panel. ``queries``: (PromQL, legend)."""

    title: str
    queries: tuple[tuple[str, str], ...]
    says: str = ""
    kind: str = "timeseries"
    unit: str = "short"
    width: int = 12
    height: int = 7
    steps: tuple[tuple[str, float | None], ...] = ()
    words: tuple[tuple[int, str], ...] = ()
    """What a stat shows instead of a number."""
    bars: bool = False
    exemplars: bool = False


def stat(title: str, query: str, says: str, **more: Any) -> Panel:
    """One number, now."""
    return Panel(title, ((query, ""),), says, kind="stat", width=4, height=4, **more)


def counted(title: str, metric: str, by: str, says: str = "", *, where: str = "", **more: Any) -> Panel:
    """How often something came about, as stacked bars."""
    legend = " ".join("{{" + label + "}}" for label in by.split(", "))
    selector = f"{metric}{{{where}}}" if where else metric
    return Panel(title, ((f"sum by ({by}) (increase({selector}[$__rate_interval]))", legend),), says, bars=True, **more)


def quantiles(title: str, metric: str, by: str, says: str, *, where: str = "", over: str = "$__range") -> Panel:
    """The median and the 95th percentile of a histogram."""
    bucket = f"{metric}_bucket{{{where}}}" if where else f"{metric}_bucket"
    queries = [
        (f"histogram_quantile({q}, sum by ({by}, le) (rate({bucket}[{over}])))", f"{{{{{by}}}}} {name}")
        for q, name in ((0.5, "median"), (0.95, "p95"))
    ]
    return Panel(title, tuple(queries), says, unit="s", exemplars=True)


ROWS: dict[str, tuple[Panel, ...]] = {
    "State": (
        stat("Replicas that act", "sum(remediator_leader)", "0: nobody acts", steps=GOOD_AT_ONE),
        stat("Pauses in force", "max(remediator_paused)", "remediator status says whose", steps=GOOD_AT_ZERO),
        stat("Breaker", "max(remediator_breaker_open)", "Only a person closes it", steps=GOOD_AT_ZERO, words=((0, "closed"), (1, "OPEN"))),
        stat("Waiting for people", "sum(remediator_runs_awaiting_approval)", "Runs", steps=(("green", None), ("orange", 1))),
        stat("Open runs", "sum(remediator_runs_in_flight)", "Runs that have not ended"),
        stat("Runs beyond their time", "max(remediator_runs_overdue)", "Open, and waiting for nobody", steps=GOOD_AT_ZERO),
        stat(
            "Last delivery",
            "time() - max(remediator_last_delivery_timestamp_seconds)",
            "Ago",
            unit="s",
            steps=(("green", None), ("red", 3600)),
        ),
        stat("Undecided", "max(remediator_queue_depth)", "Deliveries on disk that wait for their decisions"),
        stat("Changes left behind", "max(remediator_changes_left_behind)", "By ended runs", steps=(("green", None), ("orange", 1))),
        stat(
            "Demoted playbooks",
            "count(max by (playbook) (remediator_playbook_demoted) > 0) or vector(0)",
            "Since they failed",
            steps=GOOD_AT_ZERO,
        ),
        stat(
            "Playbooks",
            "min(remediator_config_last_reload_successful)",
            "The last load",
            steps=GOOD_AT_ONE,
            words=((0, "REFUSED"), (1, "loaded")),
        ),
        stat("Journal", "min(remediator_journal_whole)", "The last verification", steps=GOOD_AT_ONE, words=((0, "ALTERED"), (1, "whole"))),
    ),
    "Decisions": (
        counted("Decisions", "remediator_decisions_total", "decision", "One for each alert of each delivery", exemplars=True),
        counted("Why not", "remediator_decisions_total", "reason", "Reasons of what was refused or held", where='decision=~"refused|held"'),
        counted("Alerts received", "remediator_alerts_received_total", "status"),
        counted("Webhooks by answer", "remediator_webhook_requests_total", "code", "503: it could not be kept; Alertmanager repeats it"),
    ),
    "Runs": (
        counted("Ended runs", "remediator_runs_total", "outcome", "By what they ended as", where=PLAYBOOK, exemplars=True),
        counted(
            "Ended runs by playbook", "remediator_runs_total", "playbook, outcome", where=f'{PLAYBOOK},outcome!="predicted"', exemplars=True
        ),
        counted("Left to a person", "remediator_not_healed_total", "playbook, reason", "Nothing more was tried", where=PLAYBOOK),
        counted("Questions to people", "remediator_approvals_total", "result", "How they ended", where=PLAYBOOK),
    ),
    "Gates": (
        counted("Refusals by gate", "remediator_gate_refusals_total", "gate", "Several gates may refuse one alert", where=PLAYBOOK),
        counted("Refusals by playbook", "remediator_gate_refusals_total", "playbook", where=PLAYBOOK),
    ),
    "Time to heal": (
        quantiles(
            "From alert to healed",
            "remediator_time_to_heal_seconds",
            "playbook",
            "From the alert's start until it was proved healed",
            where=PLAYBOOK,
        ),
        quantiles("Time of a run", "remediator_run_duration_seconds", "playbook", "However it ended", where=PLAYBOOK),
        counted("Verifications", "remediator_verifications_total", "result", where=PLAYBOOK, exemplars=True),
        quantiles("Time of a step", "remediator_action_duration_seconds", "action", "By action"),
    ),
    "Calls": (
        counted("Steps by result", "remediator_action_attempts_total", "action, result", exemplars=True),
        Panel(
            "Calls to the Kubernetes API",
            (("sum by (verb, code) (rate(remediator_kube_requests_total[$__rate_interval]))", "{{verb}} {{code}}"),),
            "A second",
            unit="reqps",
        ),
        quantiles(
            "Time of a call to the Kubernetes API", "remediator_kube_request_duration_seconds", "verb", "By verb", over="$__rate_interval"
        ),
        Panel(
            "Calls without a good answer",
            (
                (
                    'sum by (code) (increase(remediator_kube_requests_total{code=~"unreachable|timeout|5.."}[$__rate_interval]))',
                    "Kubernetes {{code}}",
                ),
                (
                    'sum by (result) (increase(remediator_prometheus_queries_total{result!="ok"}[$__rate_interval]))',
                    "Prometheus {{result}}",
                ),
                (
                    'sum by (result) (increase(remediator_alertmanager_queries_total{result!="ok"}[$__rate_interval]))',
                    "Alertmanager {{result}}",
                ),
            ),
            "What cannot be read refuses",
            bars=True,
        ),
    ),
    "Journal and messages": (
        counted("Operations of the journal that failed", "remediator_store_failures_total", "operation"),
        Panel("Age of the oldest undecided delivery", (("max(remediator_queue_oldest_seconds)", "age"),), unit="s"),
        Panel(
            "Messages to people",
            (
                (
                    "sum by (channel, result) (increase(remediator_notifications_total[$__rate_interval])) or vector(0)",
                    "{{channel}} {{result}}",
                ),
            ),
            "By route of the settings",
            bars=True,
        ),
        counted("Requests that were not let in", "remediator_auth_failures_total", "reason"),
        Panel(
            "How late the event loop is",
            tuple(
                (
                    f"histogram_quantile({q}, sum by (le) (rate(remediator_event_loop_delay_seconds_bucket[$__rate_interval])))",
                    name,
                )
                for q, name in ((0.5, "median"), (0.99, "p99"), (0.999, "p99.9"))
            ),
            "For so long one piece of work kept pages and webhooks waiting",
            unit="s",
        ),
    ),
}


def dashboard() -> dict[str, Any]:
    """All of it, as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS.items():
        panels.append(
            {"id": len(panels) + 1, "type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": _grid(0, y, COLUMNS, 1)}
        )
        x, y = 0, y + 1
        for panel in row:
            if x + panel.width > COLUMNS:
                x, y = 0, y + panel.height
            panels.append({"id": len(panels) + 1, **shown(panel), "gridPos": _grid(x, y, panel.width, panel.height)})
            x += panel.width
        y += row[-1].height
    return {
        "uid": "remediator",
        "title": "remediator",
        "description": "What remediator decides and does, and how it is",
        "tags": ["remediator"],
        "schemaVersion": 39,
        "version": 2,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "timezone": "",
        "time": {"from": "now-24h", "to": "now"},
        "annotations": {"list": [_runs()]},
        "links": [],
        "templating": {"list": [_source(), _playbooks()]},
        "panels": panels,
    }


def shown(panel: Panel) -> dict[str, Any]:
    """A panel without its place."""
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.steps:
        defaults["thresholds"] = {"mode": "absolute", "steps": [{"color": color, "value": value} for color, value in panel.steps]}
    if panel.words:
        options = {str(value): {"text": text, "index": index} for index, (value, text) in enumerate(panel.words)}
        defaults["mappings"] = [{"type": "value", "options": options}]
    if panel.bars:
        defaults["custom"] = {"drawStyle": "bars", "fillOpacity": 60, "stacking": {"mode": "normal", "group": "A"}}
    options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "background" if panel.steps else "none", "graphMode": "none"}
    legend = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.says,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options if panel.kind == "stat" else legend,
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": SOURCE, "expr": query, "legendFormat": name, "exemplar": panel.exemplars}
            for index, (query, name) in enumerate(panel.queries)
        ],
    }


def _grid(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"h": height, "w": width, "x": x, "y": y}


def _runs() -> dict[str, Any]:
    """What the setting ``grafana.url`` lets the daemon write."""
    target = {"type": "tags", "tags": ["remediator"], "matchAny": False, "limit": 100}
    source = {"type": "grafana", "uid": "-- Grafana --"}
    return {"name": "Runs", "enable": True, "iconColor": "blue", "datasource": source, "target": target}


def _source() -> dict[str, Any]:
    return {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"}


def _playbooks() -> dict[str, Any]:
    query = "label_values(remediator_runs_in_flight, playbook)"
    every = {"includeAll": True, "multi": True, "allValue": ".*", "current": {"text": "All", "value": "$__all"}}
    return {
        "name": "playbook",
        "type": "query",
        "label": "Playbook",
        "datasource": SOURCE,
        "query": query,
        "refresh": 2,
        "sort": 1,
        **every,
    }


def text() -> str:
    """The file's content."""
    return json.dumps(dashboard(), indent=2) + "\n"


if __name__ == "__main__":
    (HERE / "remediator.json").write_text(text())
