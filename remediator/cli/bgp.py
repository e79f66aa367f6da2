"""``bgp``: who announces what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remediator.cli.frame import connects, group
from remediator.cli.output import Column, formatted, put_data
from remediator.cli.session import ask

if TYPE_CHECKING:
    from remediator.bgp.coverage import PrefixReport, Report
    from remediator.bgp.model import Node, Session
    from remediator.cli.output import Form

__all__ = ["bgp"]


@group(name="bgp", examples=["remediator bgp status"])
def bgp() -> None:
    """Show who announces what by BGP."""


@bgp.command(name="status", examples=["remediator bgp status", "remediator bgp status -o wide", "remediator bgp status -o json"])
@connects
@formatted
def status(form: Form) -> None:
    """Who announces what: nodes, sessions, prefixes, and how many speakers each prefix would have left without a node."""
    from remediator.cli.exits import say
    from remediator.cli.text import safe

    found = ask(lambda c: c.bgp(), timeout=30.0)
    put_data(form, found, lambda wide: _text(found, wide=wide), lambda: [node.name for node in found.nodes if node.sessions])
    if form in ("table", "wide"):
        for line in found.warnings:
            say(f"Warning: {safe(line)}")


def _state(node: Node) -> str:
    """In order of what a person should hear of first."""
    if node.lag:
        return "shifting"
    if node.withdrawn_by:
        return f"withdrawn by run {node.withdrawn_by}"
    if not node.sessions:
        return "silent"
    words = "speaks" if node.speaks else "DOES NOT SPEAK"
    return f"{words}, cordoned" if node.unschedulable else words


def _left(prefix: PrefixReport) -> str:
    """The worst case, and which nodes it takes."""
    worst = sorted(node for node, count in prefix.left.items() if count == prefix.least)
    return str(prefix.least) if len(worst) in (0, len(prefix.left)) else f"{prefix.least} without {', '.join(worst)}"


NODES: tuple[Column[Node], ...] = (
    Column("NODE", lambda node: node.name),
    Column("ZONE", lambda node: node.zone),
    Column("AGENT", lambda node: "ready" if node.agent_ready else "NOT READY"),
    Column("SESSIONS", lambda node: f"{sum(not s.trouble for s in node.sessions)}/{len(node.sessions)}"),
    Column("ROUTES", lambda node: str(sum(session.advertised for session in node.sessions))),
    Column("STATE", _state),
    Column("CONFIG", lambda node: ", ".join(node.configs), wide=True),
    Column("POD CIDRS", lambda node: ", ".join(node.pod_cidrs), wide=True),
)

SESSIONS: tuple[Column[tuple[Node, Session]], ...] = (
    Column("NODE", lambda row: row[0].name),
    Column("PEER", lambda row: row[1].peer),
    Column("ADDRESS", lambda row: row[1].address),
    Column("ASN", lambda row: f"{row[1].local_asn} to {row[1].asn}"),
    Column("STATE", lambda row: row[1].state),
    Column("FAMILIES", lambda row: ", ".join(f"{f.afi} {'?' if f.advertised is None else f.advertised}" for f in row[1].families)),
    Column("COUNTS", lambda row: row[1].trouble or "yes"),
)

PREFIXES: tuple[Column[PrefixReport], ...] = (
    Column("PREFIX", lambda prefix: prefix.prefix),
    Column("OF", lambda prefix: prefix.of),
    Column("POLICY", lambda prefix: prefix.policy),
    Column("SPEAKERS", lambda prefix: str(len(prefix.speakers))),
    Column("LEFT", _left),
    Column("LEFT WITHOUT", lambda prefix: ", ".join(f"{node} {count}" for node, count in sorted(prefix.left.items())), wide=True),
    Column("ROUTERS", lambda prefix: ", ".join(sorted({r for reached in prefix.speakers.values() for r in reached})), wide=True),
)


def _text(found: Report, *, wide: bool) -> str:
    from remediator.cli.text import table

    def shown(columns: tuple[Column[object], ...], rows: list[object]) -> str:
        picked = [column for column in columns if wide or not column.wide]
        return table([column.header for column in picked], ([column.value(row) for column in picked] for row in rows))

    sessions = [(node, session) for node in found.nodes for session in node.sessions]
    parts = [shown(NODES, list(found.nodes))]  # type: ignore[arg-type] # columns and rows are of the same type each time
    if sessions:
        parts.append(shown(SESSIONS, list(sessions)))  # type: ignore[arg-type] # as above
    if found.prefixes:
        parts.append(shown(PREFIXES, list(found.prefixes)))  # type: ignore[arg-type] # as above
    return "\n".join(parts)
