"""``alerts``: open episodes; ``alert``: send alerts to the daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from remediator.cli.exits import say
from remediator.cli.frame import connects, group
from remediator.cli.output import formatted, put_data, put_page
from remediator.cli.params import read_bytes
from remediator.cli.session import ask
from remediator.cli.text import safe

if TYPE_CHECKING:
    from remediator.cli.output import Form

__all__ = ["alert", "alerts"]


@group(name="alerts", examples=["remediator alerts list"])
def alerts() -> None:
    """List open episodes and what was decided on them."""


@alerts.command(name="list", examples=["remediator alerts list", "remediator alerts list --all -o wide"])
@click.option("--all", "every", is_flag=True, help="Ended episodes too.")
@click.option("--limit", type=click.IntRange(1, 500), default=50, show_default=True, help="How many at most.")
@click.option("--cursor", metavar="CURSOR", help="Go on where another list ended.")
@connects
@formatted
def list_(form: Form, every: bool, limit: int, cursor: str | None) -> None:
    """List episodes, each with the decision on it; one episode is one firing of one alert."""
    from remediator.cli.views import EPISODES

    page = ask(lambda c: c.alerts(every=every, limit=limit, cursor=cursor))
    put_page(form, page, EPISODES, lambda episode: episode.fingerprint, "alerts")


@group(name="alert", examples=["remediator alert send payload.json"])
def alert() -> None:
    """Send alerts to the daemon, as Alertmanager would."""


@alert.command(
    name="send",
    examples=["remediator alert send payload.json", "remediator alert send - --server http://127.0.0.1:8080 --token-file webhook.token"],
)
@click.argument("file", metavar="FILE")
@connects
@formatted
def send(form: Form, file: str) -> None:
    """Post the webhook payload (version 4) in FILE as it is; - is stdin.

    The token is the webhook's. Returns when the delivery is on disk.
    """
    body = read_bytes(file)
    answer = ask(lambda c: c.send(body))
    delivery, count = str(answer.get("delivery")), answer.get("alerts")
    alerts = "1 alert" if count == 1 else f"{count} alerts"
    put_data(form, answer, lambda _: f"delivery {safe(delivery)} is on disk, with {alerts}\n", lambda: [delivery])
    say(f"What became of it: remediator why {safe(delivery)}")
