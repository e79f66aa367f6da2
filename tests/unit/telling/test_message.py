"""How a route words what happened, with text that strangers wrote."""

from __future__ import annotations

from remediator.settings import Event, Notify
from remediator.telling import Message

EVIL = "\x1b[2J\u202e\x07<b>" + "A" * 10_000


def test_what_strangers_wrote_moves_nothing_and_stays_short():
    message = Message(id="1", event=Event.FAILED, at="now", summary=EVIL[:50], alert=EVIL, detail=EVIL, playbook="p", target="Node/n")
    route = Notify(name="a", url="http://127.0.0.1:1/", title="${alert}: ${event}", text="${summary}\n${alert} ${detail}")
    told = message.worded(route)
    for value in told.values():
        assert not set(value) & {"\x1b", "\u202e", "\x07"}
    assert "\\x1b[2J\\u202e\\x07<b>" in told["text"]
    assert "\n" in told["text"]
    assert "\n" not in told["title"]
    assert len(told["text"]) < 3_000
