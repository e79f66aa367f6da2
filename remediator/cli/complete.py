"""What the shell may complete: ids and names that the running daemon knows.

In: how the line says to find the daemon, and what is typed so far. Out: what fits, with a few words for shells that show them. A daemon
that is not named, not there, or does not answer within a second or two, completes nothing and says nothing: whoever presses Tab has not
asked for errors.

Names are written by strangers, and what is completed becomes part of a command line: what a shell could read as anything but a word is
left out.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from remediator.cli.params import OPEN_STATES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    import click
    from click.shell_completion import CompletionItem

    from remediator.client import Client
    from remediator.model import Run

    Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
    Found = Mapping[str, str]

__all__ = ["actions", "answerable", "deliveries", "open_runs", "playbooks", "refs", "runs", "scenarios", "targets", "undoable"]

_SECONDS = 1.5
"""For each answer of the daemon."""
_MOST = 100
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./@:-]*", re.ASCII)
_LONGEST_HELP = 60


def _by(find: Callable[[Client], Awaitable[Found]]) -> Completer:
    """Completes by what ``find`` gets from the daemon: words, each with what it is."""

    def complete(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from remediator.cli.session import ask
        from remediator.errors import RemediatorError

        try:
            with ctx.scope(cleanup=False):
                found = ask(find, timeout=_SECONDS)
        except RemediatorError:
            return []
        return _fitting(found, incomplete)

    return complete


def _fitting(found: Found, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    from remediator.cli.text import clip, safe

    return [
        CompletionItem(word, help=clip(safe(told), _LONGEST_HELP) or None)
        for word, told in found.items()
        if word.startswith(incomplete) and _WORD.fullmatch(word)
    ]


def _run_ids(states: Iterable[str] = ()) -> Completer:
    async def find(daemon: Client) -> Found:
        from remediator.model import RunState

        return _told((await daemon.runs(state=[RunState(state) for state in states], limit=_MOST)).items)

    return _by(find)


def _told(found: Iterable[Run]) -> Found:
    return {run.id: f"{run.playbook} on {run.target.key}, {run.state}" for run in found}


async def _undoable(daemon: Client) -> Found:
    return dict.fromkeys((change.run for change in (await daemon.changes(limit=_MOST)).items), "its changes are not put back")


async def _deliveries(daemon: Client) -> Found:
    page = await daemon.deliveries(limit=_MOST)
    return {one.id: ", ".join(dict.fromkeys(alert.name for alert in one.alerts)) for one in page.items}


async def _playbooks(daemon: Client) -> Found:
    return _summaries((await daemon.playbooks()).items)


async def _actions(daemon: Client) -> Found:
    return _summaries((await daemon.actions()).items)


def _summaries(items: Iterable[dict[str, Any]]) -> Found:
    return {str(item["name"]): str(item.get("summary") or "") for item in items}


async def _targets(daemon: Client) -> Found:
    """What was acted on lately, then the nodes; one of both will do where the other cannot be read."""
    return {**await _or_none(_acted_on, daemon), **await _or_none(_nodes, daemon)}


async def _acted_on(daemon: Client) -> Found:
    return {run.target.key: f"{run.playbook}, {run.state}" for run in reversed((await daemon.runs(limit=_MOST)).items)}


async def _nodes(daemon: Client) -> Found:
    view = await daemon.get("/api/v1/cluster", dict[str, Any])
    return {f"Node/{node['name']}": "" for node in view["nodes"]}


async def _refs(daemon: Client) -> Found:
    return {**await _or_none(_alerts, daemon), **await _or_none(_acted_on, daemon), **_told((await daemon.runs(limit=_MOST)).items)}


async def _alerts(daemon: Client) -> Found:
    return {one.name: "an alert" for one in (await daemon.alerts(every=True, limit=_MOST)).items}


async def _or_none(find: Callable[[Client], Awaitable[Found]], daemon: Client) -> Found:
    from remediator.errors import RemediatorError

    try:
        return await find(daemon)
    except RemediatorError:
        return {}


def scenarios(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Incidents of the demo; no daemon is asked."""
    from remediator.sim import all_scenarios

    del ctx, param
    return _fitting({one.name: one.summary for one in all_scenarios() if one.demo}, incomplete)


runs = _run_ids()
open_runs = _run_ids(OPEN_STATES)
answerable = _run_ids(("awaiting_approval",))
undoable = _by(_undoable)
deliveries = _by(_deliveries)
playbooks = _by(_playbooks)
actions = _by(_actions)
targets = _by(_targets)
refs = _by(_refs)
