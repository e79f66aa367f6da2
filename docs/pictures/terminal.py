"""The demo as a terminal shows it: recorded in a pseudo terminal, and drawn as a picture that moves.

``python docs/pictures/terminal.py record`` plays ``remediator demo --once`` and writes ``demo.cast`` (asciinema's format, version 2) beside
itself; ``draw`` makes ``demo.svg`` from that; without a word it does both. A browser that moves nothing, or whose reader wants nothing
moved, shows the last screen. Colours follow the reader's theme.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from html import escape
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
CAST, PICTURE = HERE / "demo.cast", HERE / "demo.svg"
COLUMNS, ROWS = 116, 34
LONGEST_PAUSE = 1.2
"""Seconds; what waits longer in the demo waits so long in the picture."""
LAST = 9.0
"""Seconds that the last screen stays before it begins anew."""
BEFORE_LAST = 3.0
"""Seconds that the screen before the last stays longer than it did: the last one takes its place at once, and it says how it ended."""
BETWEEN = 0.15
"""Screens that follow one another faster are one, unless a line went out at the top."""
WIDE, HIGH, EDGE = 7.8, 17, 14
SPINNER, STILL = re.compile("[\u2800-\u28ff]"), "▸"
"""What turns is drawn as one sign, or each turn would be a screen of its own."""
LIGHT = {"ground": "#ffffff", "edge": "#cdd3da", "ink": "#16191d", "dim": "#4d5661", "good": "#0c6b32", "bad": "#a8161b", "busy": "#0b57b8"}
DARK = {"ground": "#101317", "edge": "#39424c", "ink": "#e9edf1", "dim": "#a9b4bf", "good": "#7fdca0", "bad": "#ff9d97", "busy": "#9cc4ff"}
SAID = {"1": "bold", "2": "dim", "31": "bad", "32": "good", "33": "busy", "34": "busy", "36": "busy"}
"""What the terminal is told -> class."""
_PIECES = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)")


class Cell(NamedTuple):
    """One character and how it looks."""

    sign: str
    looks: frozenset[str]


BLANK = Cell(" ", frozenset())
Row = tuple[Cell, ...]


class Shown(NamedTuple):
    """A line in one row of the screen, from and until when."""

    row: int
    line: Row
    since: float
    until: float


class Terminal:
    """As much of a terminal as the demo uses: text that wraps, colours, the cursor up, a line erased."""

    def __init__(self, columns: int, rows: int) -> None:
        self._columns, self._rows = columns, rows
        self._lines: list[list[Cell]] = [[]]
        self._row = self._column = 0
        self._looks: frozenset[str] = frozenset()

    def feed(self, text: str) -> None:
        """Take what was written."""
        for numbers, order, control, words in _PIECES.findall(text):
            if words:
                for sign in words:
                    self._put(sign)
            elif control == "\r":
                self._column = 0
            elif control:
                self._down()
            elif order == "A":
                self._row = max(0, self._row - int(numbers or 1))
            elif order == "K":
                self._lines[self._row] = []
            elif order == "m":
                self._look(numbers)

    def screen(self) -> tuple[Row, ...]:
        """The lowest lines, as many as there are rows; spaces at their ends are cut."""
        seen = [tuple(line) for line in self._lines[-self._rows :]]
        return tuple(line[: max((at + 1 for at, cell in enumerate(line) if cell.sign != " "), default=0)] for line in seen)

    def _put(self, sign: str) -> None:
        if self._column >= self._columns:
            self._column = 0
            self._down()
        line = self._lines[self._row]
        line += [BLANK] * (self._column + 1 - len(line))
        line[self._column] = Cell(SPINNER.sub(STILL, sign), self._looks)
        self._column += 1

    def _down(self) -> None:
        self._row += 1
        if self._row == len(self._lines):
            self._lines.append([])

    def _look(self, numbers: str) -> None:
        for number in (numbers or "0").split(";"):
            self._looks = frozenset() if number == "0" else self._looks | {SAID[number]}


def record(command: list[str]) -> tuple[int, str]:
    """The exit code, and the recording."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("REMEDIATOR_", "NO_COLOR", "COLUMNS", "LINES"))
    }
    began = time.monotonic()
    environment["TERM"] = "xterm-256color"
    program = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)  # noqa: S603 - our own program
    os.close(theirs)
    lines = [
        json.dumps({"version": 2, "width": COLUMNS, "height": ROWS, "title": "remediator demo --once", "idle_time_limit": LONGEST_PAUSE})
    ]
    rest = b""
    while written := _read(ours):
        text, rest = _whole(rest + written)
        lines.append(json.dumps([round(time.monotonic() - began, 3), "o", text], ensure_ascii=False))
    os.close(ours)
    return program.wait(), "\n".join(lines) + "\n"


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # how Linux says that nobody writes to it any more
        return b""


def _whole(written: bytes) -> tuple[str, bytes]:
    """The text, and the beginning of a character whose end is not here yet."""
    for cut in range(4):
        try:
            return written[: len(written) - cut].decode(), written[len(written) - cut :]
        except UnicodeDecodeError:
            continue
    return written.decode(errors="replace"), b""


def screens(cast: str) -> list[tuple[float, tuple[Row, ...]]]:
    """Every screen that differs from the one before, and when it began, in seconds; long pauses are shortened."""
    head, *lines = cast.splitlines()
    about = json.loads(head)
    terminal = Terminal(about["width"], about["height"])
    found: list[tuple[float, tuple[Row, ...]]] = []
    now = before = 0.0
    for line in lines:
        at, _, text = json.loads(line)
        now += min(at - before, about["idle_time_limit"]) if found else 0.0
        before = at
        terminal.feed(text)
        screen = terminal.screen()
        if found and now - found[-1][0] < BETWEEN and screen[:1] == found[-1][1][:1]:
            found[-1] = found[-1][0], screen
        elif not found or screen != found[-1][1]:
            found.append((now, screen))
    *others, (at, last) = found
    return [*others, (at + (BEFORE_LAST if others else 0.0), last)]


def shown(found: list[tuple[float, tuple[Row, ...]]], end: float) -> list[Shown]:
    """Each line once for as long as it stays in its row."""
    lines: list[Shown] = []
    open_: dict[int, tuple[Row, float]] = {}
    for at, screen in [*found, (end, ())]:
        for row in range(max(len(screen), *open_, 0, 0) + 1):
            line = screen[row] if row < len(screen) else ()
            held, since = open_.get(row, ((), at))
            if line != held:
                if held:
                    lines.append(Shown(row, held, since, at))
                open_[row] = line, at
    return sorted(lines, key=lambda one: (one.since, one.row))


def drawn(cast: str) -> str:
    """The picture."""
    found = screens(cast)
    about = json.loads(cast.partition("\n")[0])
    end = found[-1][0] + LAST
    lines = shown(found, end)
    times = sorted({(one.since, one.until) for one in lines})
    wide, high = about["width"] * WIDE + 2 * EDGE, about["height"] * HIGH + 2 * EDGE
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide:g} {high:g}" role="img" aria-label="{escape(about["title"])}">',
        f"<style>\n{_style(times, end)}</style>",
        f'<rect class="ground" x="0.5" y="0.5" width="{wide - 1:g}" height="{high - 1:g}" rx="8"/>',
    ]
    parts += [_line(one, times.index((one.since, one.until)), last=one.until == end) for one in lines]
    return "\n".join([*parts, "</svg>\n"])


def _style(times: list[tuple[float, float]], end: float) -> str:
    def theme(colours: dict[str, str]) -> str:
        words = "".join(f".{name}{{fill:{colour}}}" for name, colour in colours.items() if name not in ("ground", "edge", "ink"))
        return f".ground{{fill:{colours['ground']};stroke:{colours['edge']}}}text{{fill:{colours['ink']}}}{words}"

    moves = "".join(f".t{index}{{animation:t{index} {end:.2f}s step-end infinite}}\n" for index in range(len(times)))
    frames = []
    for index, (since, until) in enumerate(times):
        begin, over = since / end * 100, until / end * 100
        after = "" if until >= end else f"{over:.3f}%{{opacity:0}}"
        frames.append(f"@keyframes t{index}{{0%{{opacity:{0 if begin else 1}}}{begin:.3f}%{{opacity:1}}{after}}}\n")
    font = 'text{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;white-space:pre}'
    return (
        f"{font}.bold{{font-weight:700}}.gone{{opacity:0}}\n{theme(LIGHT)}\n@media(prefers-color-scheme:dark){{{theme(DARK)}}}\n"
        f"@media(prefers-reduced-motion:no-preference){{\n{moves}}}\n{''.join(frames)}"
    )


def _line(one: Shown, time_: int, *, last: bool) -> str:
    spans, column = [], 0
    for looks, cells in groupby(one.line, key=lambda cell: cell.looks):
        text = "".join(cell.sign for cell in cells)
        if text.strip():
            kind = f' class="{" ".join(sorted(looks))}"' if looks else ""
            place = f'x="{EDGE + column * WIDE:g}" textLength="{len(text) * WIDE:g}" lengthAdjust="spacingAndGlyphs"'
            spans.append(f"<tspan {place}{kind}>{escape(text, quote=False)}</tspan>")
        column += len(text)
    kind = f"t{time_}" if last else f"t{time_} gone"
    return f'<text class="{kind}" y="{EDGE + one.row * HIGH + 13:g}" xml:space="preserve">{"".join(spans)}</text>'


def main(words: list[str]) -> None:
    """Do what ``words`` say; exits otherwise than with 0 if the demo did."""
    if words not in ([], ["record"], ["draw"]):
        sys.exit(__doc__)
    if words != ["draw"]:
        code, cast = record([sys.executable, "-m", "remediator", "demo", "--once"])
        if code:
            sys.exit(f"the demo ended with {code}; nothing is drawn")
        CAST.write_text(cast, encoding="utf-8")
    if words != ["record"]:
        PICTURE.write_text(drawn(CAST.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
