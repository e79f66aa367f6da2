"""``demo`` and ``scenarios``: an incident on a simulated cluster, from alert to healed, with the daemon in the same process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from remediator.cli import complete
from remediator.cli.frame import command, group
from remediator.cli.output import Column, formatted, put_list

if TYPE_CHECKING:
    from remediator.cli.output import Form
    from remediator.sim import Scenario

__all__ = ["demo", "scenarios"]

_COLUMNS: tuple[Column[Scenario], ...] = (
    Column("NAME", lambda scenario: scenario.name),
    Column("ALERTS", lambda scenario: ", ".join(scenario.truth.alerts)),
    Column("PLAYBOOK", lambda scenario: scenario.truth.playbook),
    Column("SUMMARY", lambda scenario: scenario.summary),
    Column("CURE", lambda scenario: scenario.truth.cure, wide=True),
)


@command(name="demo", examples=["remediator demo", "remediator demo --once", "remediator demo --scenario agent-down"])
@click.option(
    "--scenario", "name", metavar="NAME", shell_complete=complete.scenarios, default="agent-down", show_default=True, help="What breaks."
)
@click.option("--once", is_flag=True, help="End by itself; exit 0 only if the incident ended healed.")
@click.option("--list", "only_list", is_flag=True, help="List the scenarios and exit.")
def demo(name: str, once: bool, only_list: bool) -> int:
    """Play an incident on a simulated cluster, from alert to healed.

    Nothing outside of this process is touched. Without --once the daemon and the cluster stay up until ctrl-C, to be looked at.
    """
    if only_list:
        _list("table", every=False)
        return 0
    import asyncio

    from remediator.cli.stage import perform
    from remediator.sim import scenario

    return asyncio.run(perform(scenario(name, demo=True), once=once))


@group(name="scenarios", examples=["remediator scenarios list"])
def scenarios() -> None:
    """List the incidents that the demo can play."""


@scenarios.command(name="list", examples=["remediator scenarios list -o json", "remediator scenarios list --all -o wide"])
@click.option("--all", "every", is_flag=True, help="Also those that only tests and the benchmark play.")
@formatted
def list_(form: Form, every: bool) -> None:
    """List the incidents that the demo can play."""
    _list(form, every=every)


def _list(form: Form, *, every: bool) -> None:
    from remediator.sim import all_scenarios

    rows = tuple(scenario for scenario in all_scenarios() if every or scenario.demo)
    items = [
        {"name": one.name, "summary": one.summary, "alerts": list(one.truth.alerts), "playbook": one.truth.playbook, "cure": one.truth.cure}
        for one in rows
    ]
    put_list(form, {"items": items, "next": None}, rows, _COLUMNS, lambda scenario: scenario.name, "scenarios")
