"""The first page: status and the latest runs as plain HTML, without script or style. In: nouns; out: text, every value of it escaped."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from remediator.clock import iso

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from remediator.model import Pause, Run
    from remediator.server.service import Status, Waiting

__all__ = ["RUNS", "render"]

RUNS = 20
"""How many runs the page shows."""


def render(status: Status, runs: Sequence[Run]) -> str:
    """The page."""
    title = "remediator"
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f'<meta name="viewport" content="width=device-width"><title>{title}</title></head><body>',
        f"<h1>{title}</h1>",
        *(f"<p><strong>Paused</strong>: {escape(_pause(pause))}</p>" for pause in status.paused),
        _table(("", ""), _facts(status)),
        *(("<h2>Wait for approval</h2>", _table(_WAITING, map(_waiting, status.waiting))) if status.waiting else ()),
        "<h2>Latest runs</h2>",
        _table(("Run", "Playbook", "Target", "State", "Reason", "Started", "Ended"), map(_run, runs)) if runs else "<p>None yet.</p>",
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


_WAITING = ("Run", "Playbook", "Target", "Question", "Missing", "Expires")


def _waiting(one: Waiting) -> tuple[str, ...]:
    return one.run, one.playbook, one.target, one.question, str(one.missing), iso(one.expires_at)


def _facts(status: Status) -> list[tuple[str, str]]:
    report = status.last_reload
    loaded = f"{status.playbooks} in force" + ("" if report.ok else f"; the last load failed: {'; '.join(report.problems)}")
    return [
        ("Version", status.version),
        ("Ready", f"{'yes' if status.ready else 'no'}: {status.ready_detail}"),
        ("Mode", status.mode + (", dry run" if status.dry_run else "")),
        ("Playbooks", loaded),
        *(("Demoted", f"{one.playbook}, since {iso(one.at)}") for one in status.demoted),
        ("Open runs", str(status.open_runs)),
        ("Undecided deliveries", str(status.undecided)),
        ("Journal", status.journal),
        ("Kubernetes", status.kubernetes),
        ("Prometheus", status.prometheus),
        ("Alertmanager", status.alertmanager),
        ("Started", iso(status.started_at)),
    ]


def _run(run: Run) -> tuple[str, ...]:
    state = run.state + (" (dry run)" if run.dry_run and run.state != "predicted" else "")
    return run.id, run.playbook, run.target.key, state, run.reason or "", iso(run.started_at), _time(run.ended_at)


def _pause(pause: Pause) -> str:
    what = pause.playbook or pause.target or "everything"
    return f"{what}, by {pause.by}: {pause.reason}" + (f" (until {iso(pause.until)})" if pause.until else "")


def _time(moment: datetime | None) -> str:
    return iso(moment) if moment else ""


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in heads)
    body = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table>\n<tr>{head}</tr>\n{body}\n</table>" if any(heads) else f"<table>\n{body}\n</table>"
