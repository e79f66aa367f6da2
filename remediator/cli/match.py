"""``match``: which playbook takes an alert, on which target, what every gate says now, and what the others missed it by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from remediator.cli import complete
from remediator.cli.exits import Exit, say
from remediator.cli.frame import command, connects
from remediator.cli.output import formatted, put_data
from remediator.cli.params import MOMENT, pairs, read_alerts
from remediator.cli.session import ask
from remediator.errors import UsageError

if TYPE_CHECKING:
    from datetime import datetime

    from remediator.cli.output import Form
    from remediator.client import Client
    from remediator.server.service import MatchReport

__all__ = ["match"]


@command(
    name="match",
    examples=[
        "remediator match --label alertname=CiliumAgentDown --label node=node-3",
        "remediator match --alert payload.json -o wide",
        "remediator match --label alertname=NodeFailure --label node=node-3 --verify node-down",
    ],
)
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="A label of the alert; may be given again.")
@click.option("--alert", "alert_file", metavar="FILE", help="Alertmanager's payload, a list of alerts, or one, as JSON; - is stdin.")
@click.option("--at", type=MOMENT, help="As of this time instead of now: a time, or how long ago.")
@click.option("--verify", metavar="PLAYBOOK", shell_complete=complete.playbooks, help="Exit with 1 unless this playbook takes every alert.")
@connects
@formatted
def match(form: Form, labels: tuple[str, ...], alert_file: str | None, at: datetime | None, verify: str | None) -> int:
    """Ask which playbook takes an alert, and what its gates say now.

    Nothing is recorded and nothing changes. Where no playbook takes it, the nearest misses are explained. The answer is no error whatever
    it says; use --verify in scripts.
    """
    if bool(labels) == bool(alert_file):
        raise UsageError("give the alert either with --label or with --alert")
    wanted = [alert["labels"] for alert in read_alerts(alert_file)] if alert_file else [pairs(labels, "--label")]

    async def ask_all(client: Client) -> list[MatchReport]:
        return [await client.match(one, at=at) for one in wanted]

    reports = ask(ask_all)
    data = reports[0] if len(reports) == 1 else {"items": reports, "next": None}
    put_data(form, data, lambda wide: "\n".join(_text(r, wide=wide) for r in reports), lambda: [r.playbook for r in reports if r.playbook])
    return _verified(reports, verify)


def _verified(reports: list[MatchReport], playbook: str | None) -> int:
    others = {report.playbook or "no playbook" for report in reports} - {playbook} if playbook else set()
    for other in sorted(others):
        say(f"error: {playbook} was to take it, but {other} does")
    return Exit.PROBLEMS if others else Exit.FINE


def _text(report: MatchReport, *, wide: bool) -> str:
    from remediator import words
    from remediator.cli.text import table
    from remediator.cli.views import blame_text, block, gate_table

    name = report.labels.get("alertname", "an alert without alertname")
    parts = [
        block(
            [
                ("Alert", f"{name} {words.labels(report.labels)}"),
                ("Playbook", report.playbook or "none"),
                ("Target", report.target.key if report.target else "none"),
                ("Decision", str(report.decision)),
                ("Reason", words.because(report.reason, report.detail)),
            ]
        )
    ]
    if report.gates:
        parts.append(gate_table(report.gates))
    parts += blame_text(report.evidence)
    if report.nearest and (report.playbook is None or wide):
        rows = [(miss.playbook, f"{miss.matched}/{miss.of}", "; ".join(miss.failed)) for miss in report.nearest]
        parts.append(table(("NEAREST", "FITS", "DOES NOT FIT"), rows))
    return "\n".join(parts)
