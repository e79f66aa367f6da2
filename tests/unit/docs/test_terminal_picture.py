"""The moving picture of the demo: made from its recording, legible in both themes, and of a demo that healed."""

from __future__ import annotations

import json
import runpy
from xml.etree import ElementTree as ET

import pytest


@pytest.fixture(scope="module")
def terminal(root):
    return runpy.run_path(str(root / "docs" / "pictures" / "terminal.py"))


@pytest.fixture
def cast():
    """cast((seconds, text), ...): a recording of 10 columns and 3 rows."""

    def make(*written):
        head = {"version": 2, "width": 10, "height": 3, "title": "x", "idle_time_limit": 1.0}
        return "\n".join(json.dumps(line) for line in (head, *([at, "o", text] for at, text in written)))

    return make


def told(screen):
    return ["".join(cell.sign for cell in line) for line in screen]


def test_it_is_made_from_the_recording_and_the_recording_is_of_a_demo_that_healed(root, terminal):
    recorded = (root / "docs" / "pictures" / "demo.cast").read_text()
    assert (root / "docs" / "pictures" / "demo.svg").read_text() == terminal["drawn"](recorded), "python docs/pictures/terminal.py draw"
    seen = [line for _, screen in terminal["screens"](recorded) for line in told(screen)]
    assert any(line.startswith("healed.") for line in seen)
    assert "The cluster itself says: whole again." in recorded
    assert "token" not in recorded
    assert "/tmp" not in recorded


def test_it_is_a_picture_that_loads_nothing_and_whose_last_screen_stands_without_movement(root, terminal):
    picture = (root / "docs" / "pictures" / "demo.svg").read_text()
    still = [
        "".join(line.itertext())
        for line in ET.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")
        if "gone" not in line.get("class").split()
    ]
    last = [line.strip() for line in told(terminal["screens"]((root / "docs" / "pictures" / "demo.cast").read_text())[-1][1]) if line]
    assert [line.strip() for line in still] == last
    assert "Nothing." in last
    assert "href" not in picture
    assert "url(" not in picture
    assert "@media(prefers-reduced-motion:no-preference)" in picture


@pytest.mark.parametrize("theme", ["LIGHT", "DARK"])
def test_every_colour_is_legible_on_its_ground(terminal, theme):
    def light(colour):
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True))

    colours = terminal[theme]
    ground = light(colours["ground"])
    for name in ("ink", "dim", "good", "bad", "busy"):
        both = sorted((light(colours[name]), ground))
        assert (both[1] + 0.05) / (both[0] + 0.05) >= 4.5, name


def test_the_terminal_goes_up_erases_wraps_scrolls_and_colours(terminal):
    screen = terminal["Terminal"](5, 3)
    screen.feed("\x1b[?25lone\r\ntwo\r\x1b[2K\x1b[1A\x1b[2K\x1b[1;32mnew\x1b[0m\r\nabcdefg\r\nlast ")
    assert told(screen.screen()) == ["abcde", "fg", "last"]
    screen = terminal["Terminal"](9, 3)
    screen.feed("one\r\n\x1b[1A\x1b[2K\x1b[1;32mn\x1b[0mew\u280b")
    (line, _) = screen.screen()
    assert [(cell.sign, sorted(cell.looks)) for cell in line] == [("n", ["bold", "good"]), ("e", []), ("w", []), ("▸", [])]


def test_long_pauses_are_short_and_what_follows_at_once_is_one_screen(terminal, cast):
    found = terminal["screens"](cast((5, "ab"), (5.01, "\r\nb"), (65, "\r\x1b[2Kc"), (66, "\r\x1b[2Kd")))
    assert [(at, told(screen)) for at, screen in found] == [
        (0, ["ab", "b"]),
        (pytest.approx(1.01), ["ab", "c"]),
        (pytest.approx(2.01 + 3), ["ab", "d"]),
    ]
    lines = terminal["shown"](found, 9.0)
    assert [(one.row, "".join(cell.sign for cell in one.line), round(one.since, 2), round(one.until, 2)) for one in lines] == [
        (0, "ab", 0, 9.0),
        (1, "b", 0, 1.01),
        (1, "c", 1.01, 5.01),
        (1, "d", 5.01, 9.0),
    ]
    assert "ab" in terminal["drawn"](cast((0, "ab")))
