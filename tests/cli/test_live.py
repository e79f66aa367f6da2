"""A run on a terminal: pictures instead of lines, and nothing that a stranger's text could do to it."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys

import pytest
from rich.console import Console

from remediator.cli.live import Progress, is_terminal, picture
from remediator.model import Run, from_json


def drawn(run, **more):
    console = Console(file=io.StringIO(), width=120, **more)
    console.print(picture(from_json(run, Run)))
    return console.file.getvalue()


def test_pictures(runs, golden):
    golden("---\n".join(drawn(look) for look in runs.looks()))


@pytest.mark.parametrize("state", ["pending", "running", "succeeded", "skipped", "failed", "undone", "unknown"])
def test_every_state_of_a_step_can_be_drawn(runs, state):
    assert "restart" in drawn(runs.one(steps=[{**runs.step, "state": state}]))


def test_undoing_and_dry_run(runs):
    text = drawn(runs.one(state="undoing", dry_run=True, ended_at=None))
    assert "undo" in text
    assert "dry run" in text


def test_undoing_is_said_with_the_time_at_which_it_began(runs):
    run = runs.one(state="undoing", ended_at=None, undoing_at="2026-01-05T10:01:20Z", verification=None)
    assert Progress().lines(from_json(run, Run))[-1] == "10:01:20  undoing what the run changed"


def test_hostile_text_is_drawn_neutral(runs):
    steps = [{**runs.step, "outcome": "\x1b[2J[bold]x[/bold]\x07"}]
    text = drawn(runs.one(steps=steps), force_terminal=True, color_system=None)
    assert "\x1b[2J" not in text
    assert "\x07" not in text
    assert "[bold]x[/bold]" in text


def test_progress_says_a_relapse(runs):
    progress = Progress()
    proof = {**runs.proof, "healed": None, "ended_at": None}
    again = {**proof, "held_since": "2026-01-05T10:02:00Z"}
    looks = [runs.one(state="verifying", ended_at=None, verification=one) for one in (proof, {**proof, "held_since": None}, again)]
    said = [line for look in looks for line in progress.lines(from_json(look, Run))]
    assert [line for line in said if "is gone" in line] == [
        "10:00:37  the symptom is gone; it has to stay gone for 60s",
        "10:02:00  the symptom is gone; it has to stay gone for 60s",
    ]


def test_a_plan_is_shown_before_anything_happens_and_then_how_it_goes(runs):
    plan = {"name": "plan", "at": "2026-01-05T10:00:02Z", "data": ["cordon Node/node-3", "evict 2 pods"]}
    step = {**runs.step, "state": "running", "ended_at": None, "outcome": "", "changes": [], "evidence": [plan]}
    told = {**step, "detail": "1 pod left", "detail_at": "2026-01-05T10:00:09Z"}
    progress = Progress()
    said = [
        line
        for look in (step, told, told)
        for line in progress.lines(from_json(runs.one(state="running", ended_at=None, steps=[look]), Run))
    ]
    assert [line.partition(": ")[2] for line in said if "step" in line][1:] == [
        "plan: cordon Node/node-3",
        "plan: evict 2 pods",
        "1 pod left",
    ]
    text = drawn(runs.one(state="running", ended_at=None, steps=[told]))
    assert text.index("1 pod left") < text.index("evict 2 pods")


@pytest.mark.parametrize(
    ("tty", "term", "wanted"), [(True, "xterm", True), (True, "dumb", False), (True, "", False), (False, "xterm", False)]
)
def test_what_counts_as_a_terminal(monkeypatch, tty, term, wanted):
    class Stream:
        def isatty(self):
            return tty

    monkeypatch.setenv("TERM", term)
    assert is_terminal(Stream()) is wanted


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_a_real_terminal(api, runs, no_color, coloured):
    api.answer("POST", "/api/v1/runs", runs.looks()[0], status=201)
    api.stream(f"/api/v1/runs/{runs.id}/watch", runs.looks())
    ours, theirs = pty.openpty()
    env = {k: v for k, v in os.environ.items() if not k.startswith("REMEDIATOR_") and k != "NO_COLOR"}
    env |= {"TERM": "xterm-256color", "REMEDIATOR_SERVER": api.url} | ({"NO_COLOR": no_color} if no_color else {})
    command = [sys.executable, "-m", "remediator", "run", "restart-agent", "--target", "Node/node-3", "--wait"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=env) as process:
        os.close(theirs)
        text = b""
        while True:
            try:
                text += (piece := os.read(ours, 65536))
            except OSError:  # the other end was closed
                break
            if not piece:
                break
        out = process.stdout.read()
        code = process.wait(30)
    os.close(ours)
    assert (code, out.decode()) == (0, f"run {runs.id} healed\n")
    assert "✓ restart".encode() in text
    assert (b"\x1b[32m" in text) is coloured
