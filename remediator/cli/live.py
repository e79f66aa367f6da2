"""A run while it goes on: a picture that renews itself on a terminal, plain lines elsewhere, JSON lines for programs.

``Progress`` turns what changed between two looks at a run into lines; it is pure. ``follow`` reads the daemon's stream.
"""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager, aclosing, nullcontext
from typing import TYPE_CHECKING, Any, Self

import click

from remediator import words
from remediator.cli.exits import Exit
from remediator.cli.output import to_text, to_yaml
from remediator.cli.text import safe
from remediator.model import PLAN, ApprovalState, RunState, StepState

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from rich.console import Console, RenderableType

    from remediator.cli.output import Form
    from remediator.client import Client
    from remediator.model import Approval, Run, Step

__all__ = ["Progress", "Screen", "follow", "is_terminal", "outcome_code", "picture"]

_FINE = (RunState.HEALED, RunState.DONE, RunState.PREDICTED)
_BEGUN = (StepState.RUNNING, StepState.SUCCEEDED, StepState.FAILED, StepState.UNDONE, StepState.UNKNOWN)


def outcome_code(run: Run) -> Exit:
    """The exit code of an ended run: 0 for healed, done and predicted, 4 if gates refused before anything was begun, else 1."""
    if run.state in _FINE:
        return Exit.FINE
    untouched = not any(step.state in _BEGUN for step in run.steps)
    return Exit.REFUSED if untouched and any(not gate.allowed for gate in run.gates) else Exit.PROBLEMS


class Progress:
    """Says what is new about a run since the last look, in lines with the time of day in UTC."""

    def __init__(self) -> None:
        self._said: set[tuple[Any, ...]] = set()

    def lines(self, run: Run) -> list[str]:
        """What was not said before, oldest first."""
        new = []
        for key, at, line in self._facts(run):
            if key not in self._said:
                self._said.add(key)
                new.append(safe(f"{words.moment(at, at)}  {line}"))
        return new

    def _facts(self, run: Run) -> Iterator[tuple[tuple[Any, ...], datetime, str]]:
        kind = "dry run" if run.dry_run else "run"
        yield ("began",), run.started_at, f"{kind} {run.id} of {run.playbook} on {run.target.key} began"
        for number, asked in enumerate(run.approvals):
            yield from _approval_facts(run, number, asked)
        for step in run.steps:
            yield from _step_facts(step, len(run.steps))
        proof = run.verification
        if proof is not None:
            by = words.moment(proof.deadline, proof.started_at)
            yield ("proof", proof.started_at), proof.started_at, f"verification began, until {by} at the latest"
            if proof.held_since:
                yield ("held", proof.held_since), proof.held_since, f"the symptom is gone; it has to stay gone for {proof.hold_seconds:g}s"
        if run.state is RunState.UNDOING:
            yield ("undoing",), run.undoing_at or run.started_at, "undoing what the run changed"
        if run.ended_at is not None:
            yield ("end", run.state), run.ended_at, words.ending(run)


def _approval_facts(run: Run, number: int, asked: Approval) -> Iterator[tuple[tuple[Any, ...], datetime, str]]:
    until = words.moment(asked.expires_at, asked.asked_at)
    yield ("asked", number), asked.asked_at, f"people are asked, until {until}: {words.folded(asked.question)}"
    if asked.state is ApprovalState.WAITING:
        yield ("how", number), asked.asked_at, f"to allow it: remediator runs approve {run.id}"
    for said in asked.answers:
        yield ("answer", number, said.at, said.by), said.at, words.answered(said)


def _step_facts(step: Step, count: int) -> Iterator[tuple[tuple[Any, ...], datetime, str]]:
    if step.started_at is None:
        return
    name = f"step {step.index + 1}/{count} {step.name}"
    yield ("step", step.index), step.started_at, f"{name}: {step.action}"
    for at, number, line in _planned(step):
        yield ("plan", step.index, number), at, f"{name}: plan: {line}"
    for change in step.changes:
        told = f"{name}: {words.changed(change)}"
        yield ("change", change.id), change.at, told
        if change.ended_at is not None:
            yield ("fate", change.id, change.state), change.ended_at, f"{told}: {words.change_fate(change)}"
    if step.ended_at is None and step.detail and step.detail_at is not None:
        yield ("progress", step.index, step.detail), step.detail_at, f"{name}: {step.detail}"
    if step.ended_at is not None:
        yield ("ended", step.index, step.state), step.ended_at, f"{name}: {words.step_end(step)}"


def _planned(step: Step) -> Iterator[tuple[datetime, int, str]]:
    """The lines that the step's action wrote down before it changed anything."""
    for seen in step.evidence:
        if seen.name == PLAN and isinstance(seen.data, list):
            yield from ((seen.at, number, str(line)) for number, line in enumerate(seen.data))


def is_terminal(stream: Any) -> bool:
    """Whether pictures can be drawn on ``stream``."""
    return bool(stream.isatty()) and os.environ.get("TERM", "") not in ("", "dumb")


class Screen:
    """Where a run is shown: drawn anew on a terminal, as lines elsewhere. ``err``: on stderr, so that stdout stays clean."""

    def __init__(self, *, err: bool) -> None:
        self._err = err
        self._progress = Progress()
        self._live: Any = None

    def __enter__(self) -> Self:
        if is_terminal(sys.stderr if self._err else sys.stdout):
            from rich.live import Live

            self._live = Live(console=console(err=self._err), refresh_per_second=8, transient=False)
            self._live.__enter__()
        return self

    def __exit__(self, *exit_args: object) -> None:
        if self._live is not None:
            self._live.__exit__(*exit_args)

    def show(self, run: Run) -> None:
        """Show the run as it is now."""
        if self._live is not None:
            self._live.update(picture(run))
        else:
            for line in self._progress.lines(run):
                click.echo(line, err=self._err)


def console(*, err: bool) -> Console:
    """A rich console on stdout or stderr; it heeds NO_COLOR by itself."""
    from rich.console import Console

    return Console(stderr=err, highlight=False, markup=False, emoji=False)


_MARKS = {
    StepState.PENDING: ("·", "dim"),
    StepState.SUCCEEDED: ("✓", "green"),
    StepState.SKIPPED: ("-", "dim"),
    StepState.FAILED: ("✗", "bold red"),
    StepState.UNDONE: ("↶", "yellow"),
    StepState.UNKNOWN: ("?", "bold red"),
}


def picture(run: Run) -> RenderableType:
    """The run as a few coloured lines: its head, a line a step, and the proof or the end."""
    from rich.console import Group
    from rich.spinner import Spinner
    from rich.text import Text

    def text(line: str, style: str = "") -> Text:
        return Text(safe(line), style=style)

    parts: list[RenderableType] = [text(f"{run.playbook} on {run.target.key}  {'dry run ' if run.dry_run else ''}{run.id}", "bold")]
    for step in run.steps:
        line = f"{step.name}  {step.action}" + (f"  {words.step_end(step)}" if step.ended_at else "")
        if step.state is StepState.RUNNING:
            parts.append(Spinner("dots", text(f"{line}  {step.detail}" if step.detail else line), style="cyan"))
            parts += [text(f"    {planned}", "dim") for _, _, planned in _planned(step)]
        else:
            mark, style = _MARKS[step.state]
            parts.append(text(f"{mark} {line}", style))
    if run.state is RunState.AWAITING_APPROVAL and run.approvals:
        asked = run.approvals[-1]
        parts.append(Spinner("dots", text(f"{words.folded(asked.question)}  {words.approval(asked)}"), style="yellow"))
        parts.append(text(f"    to allow it: remediator runs approve {run.id}", "dim"))
    proof = run.verification
    if run.state is RunState.VERIFYING and proof is not None:
        seen = f": {words.folded(proof.last)}" if proof.last else ""
        hold = (
            f"gone since {words.moment(proof.held_since)} UTC, has to hold {proof.hold_seconds:g}s" if proof.held_since else "not gone yet"
        )
        parts.append(Spinner("dots", text(f"verify  {hold}{seen}"), style="cyan"))
    elif run.state is RunState.UNDOING:
        parts.append(Spinner("dots", text("undo"), style="yellow"))
    if run.ended_at is not None:
        parts.append(text(words.ending(run), "bold green" if run.state in _FINE else "bold red"))
    return Group(*parts)


async def follow(client: Client, run_id: str, form: Form, *, data: bool) -> Run:
    """Show a run until it ends and return it. ``data``: what is shown is the command's output, so it goes to stdout in ``form``."""
    form = form if data else "table"
    shown: AbstractContextManager[Screen | None] = Screen(err=not data) if form in ("table", "wide") else nullcontext(None)
    last: Run | None = None
    with shown as screen:
        async with aclosing(client.watch(run_id)) as looks:
            async for last in looks:
                if screen is not None:
                    screen.show(last)
                elif form == "json":
                    click.echo(to_text(last, indent=None))
                elif form == "yaml":
                    click.echo("---\n" + to_yaml(last), nl=False)
    assert last is not None  # noqa: S101 - the stream begins with the run as it is, or raises
    if form == "name":
        click.echo(last.id)
    return last
