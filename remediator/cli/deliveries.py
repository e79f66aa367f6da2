"""``deliveries``: list and show webhook calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from remediator.cli import complete
from remediator.cli.frame import connects, group
from remediator.cli.output import formatted, put_data, put_page
from remediator.cli.session import ask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from remediator.cli.output import Form
    from remediator.client import Client
    from remediator.model import Decision, Delivery

__all__ = ["deliveries"]


@group(name="deliveries", examples=["remediator deliveries list", "remediator deliveries show 01k5y0q6d3n8v4x2c7b9m1t5rw"])
def deliveries() -> None:
    """List and show webhook calls."""


@deliveries.command(name="list", examples=["remediator deliveries list --limit 10", "remediator deliveries list -o wide"])
@click.option("--limit", type=click.IntRange(1, 500), default=50, show_default=True, help="How many at most.")
@click.option("--cursor", metavar="CURSOR", help="Go on where another list ended.")
@connects
@formatted
def list_(form: Form, limit: int, cursor: str | None) -> None:
    """List webhook calls, newest first."""
    from remediator.cli.views import DELIVERIES

    page = ask(lambda c: c.deliveries(limit=limit, cursor=cursor))
    put_page(form, page, DELIVERIES, lambda delivery: delivery.id, "deliveries")


@deliveries.command(name="show", examples=["remediator deliveries show 01k5y0q6d3n8v4x2c7b9m1t5rw -o json"])
@click.argument("delivery_id", metavar="ID", shell_complete=complete.deliveries)
@connects
@formatted
def show(form: Form, delivery_id: str) -> None:
    """Show one webhook call, and as text also what was decided on each of its alerts."""

    async def ask_both(client: Client) -> tuple[Delivery, Sequence[Decision]]:
        delivery = await client.delivery(delivery_id)
        if form not in ("table", "wide"):
            return delivery, ()
        return delivery, (await client.decisions(delivery=delivery.id, limit=500)).items

    delivery, decisions = ask(ask_both)
    put_data(form, delivery, lambda wide: _text(delivery, decisions, wide=wide), lambda: [delivery.id])


def _text(delivery: Delivery, decisions: Sequence[Decision], *, wide: bool) -> str:
    from remediator import words
    from remediator.cli.text import table
    from remediator.cli.views import DECISIONS, block, stamp

    facts = block(
        [
            ("Delivery", delivery.id),
            ("Received", stamp(delivery.received_at)),
            ("From", " ".join(part for part in (delivery.sender, delivery.external_url) if part)),
            ("Receiver", delivery.receiver),
            ("Group", delivery.group_key),
            ("Status", delivery.status),
            ("Why sent", delivery.notification_reason),
            ("Truncated", f"{delivery.truncated} alerts were cut off" if delivery.truncated else ""),
            ("Decided", stamp(delivery.decided_at) or "not yet"),
        ]
    )
    rows = [(a.name, str(a.status), words.moment(a.starts_at), a.fingerprint, words.labels(a.labels)) for a in delivery.alerts]
    parts = [facts, table(("ALERT", "STATUS", "SINCE", "FINGERPRINT", "LABELS"), rows)]
    if decisions:
        shown = [column for column in DECISIONS if wide or not column.wide]
        parts.append(table([c.header for c in shown], ([c.value(decision) for c in shown] for decision in reversed(decisions))))
    return "\n".join(parts)
