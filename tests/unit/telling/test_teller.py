from __future__ import annotations

import hashlib
import hmac
import json
import sys
import types

import pytest
from structlog.testing import capture_logs

from remediator.clock import FastClock
from remediator.errors import UsageError
from remediator.settings import Event, Notify
from remediator.telemetry import METRICS
from remediator.telling import Message, Teller

MESSAGE = Message(
    id="r1.end",
    event=Event.NOT_HEALED,
    at="2026-01-05T10:00:00.000Z",
    summary="node-latency on Node/node-3: not healed.",
    playbook="node-latency",
    target="Node/node-3",
    run="r1",
    detail="a\n<b>",
)


@pytest.fixture
async def telling():
    made = []

    def make(**route):
        made.append(Teller([Notify(name="oncall", **route)], clock=FastClock(10_000)))
        return made[-1]

    yield make
    for one in made:
        await one.close()


def count(result):
    return METRICS.registry.get_sample_value("remediator_notifications_total", {"channel": "oncall", "result": result}) or 0


async def test_a_webhook_is_signed_over_its_body_and_worded_for_people(receiver, telling, tmp_path):
    (tmp_path / "key").write_text("k3y-of-hook\n")
    (tmp_path / "url").write_text(receiver.url)
    before = count("sent")
    teller = telling(url_file=tmp_path / "url", secret_file=tmp_path / "key", link="https://x.test/", text="${summary} ${link} ${detail}")
    assert await teller.tell(MESSAGE) == {"oncall": "sent"}
    ((headers, body),) = receiver.calls
    assert headers["X-Remediator-Signature"] == "sha256=" + hmac.new(b"k3y-of-hook", body, hashlib.sha256).hexdigest()
    told = json.loads(body)
    assert (told["id"], told["event"], told["run"]) == ("r1.end", "not_healed", "r1")
    assert told["title"] == "remediator: node-latency on Node/node-3: not_healed"
    assert told["text"] == "node-latency on Node/node-3: not healed. https://x.test/runs/r1 a <b>"
    assert count("sent") == before + 1


async def test_what_may_get_through_later_is_tried_again(receiver, telling):
    receiver.statuses = [503, 429, 200]
    assert await telling(url=receiver.url).tell(MESSAGE) == {"oncall": "sent"}
    assert len(receiver.calls) == 3
    assert len({body for _, body in receiver.calls}) == 1


@pytest.mark.parametrize(("status", "result", "calls"), [(401, "refused", 1), (302, "refused", 1), (500, "failed", 5)])
async def test_who_cannot_be_told_is_logged_and_counted_without_a_secret(receiver, telling, status, result, calls, tmp_path):
    receiver.statuses = [status]
    (tmp_path / "url").write_text(receiver.url)
    before = count(result)
    with capture_logs() as logs:
        assert await telling(url_file=tmp_path / "url").tell(MESSAGE) == {"oncall": result}
    assert (len(receiver.calls), count(result)) == (calls, before + 1)
    assert "people could not be told" in str(logs)
    assert "s3cr3t" not in str(logs)


async def test_nobody_there_a_missing_file_and_a_url_that_is_none_raise_nothing(telling, unused_tcp_port, tmp_path):
    (tmp_path / "bad").write_text("no url at all")
    with capture_logs() as logs:
        assert await telling(url=f"http://127.0.0.1:{unused_tcp_port}/s3cr3t").tell(MESSAGE) == {"oncall": "failed"}
        assert await telling(url_file=tmp_path / "absent").tell(MESSAGE) == {"oncall": "failed"}
        assert await telling(url_file=tmp_path / "bad").tell(MESSAGE) == {"oncall": "refused"}
    assert "s3cr3t" not in str(logs)


async def test_routes_take_what_they_ask_for(receiver, telling):
    teller = telling(url=receiver.url, events=["not_healed"], playbooks=["node-*"])
    assert teller.taking(MESSAGE) == ("oncall",)
    assert teller.taking(MESSAGE, ["other"]) == ()
    for other in ({"event": Event.FAILED}, {"playbook": "dns"}):
        message = Message(**{**{name: getattr(MESSAGE, name) for name in MESSAGE.__struct_fields__}, **other})
        assert await teller.tell(message) == {}
    assert receiver.calls == []


async def test_by_default_healed_and_predicted_runs_are_quiet(telling):
    teller = telling(url="http://x.test")
    quiet = {event for event in Event if not teller.routes[0].takes(event, "dns")}
    assert quiet == {Event.BEGUN, Event.HEALED, Event.DONE, Event.CANCELLED, Event.PREDICTED}


async def test_apprise_must_be_installed_where_a_route_names_it(telling, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises((UsageError, ValueError), match="apprise"):
        telling(apprise_file=tmp_path / "urls")


async def test_apprise_gets_title_and_text_for_every_url_of_the_file(telling, tmp_path, monkeypatch):
    calls = []

    class Apprise:
        def add(self, url):
            calls.append(url)
            return True

        async def async_notify(self, **what):
            calls.append(what)
            return True

    module = types.ModuleType("apprise")
    module.Apprise = Apprise
    module.__spec__ = types.SimpleNamespace()
    monkeypatch.setitem(sys.modules, "apprise", module)
    (tmp_path / "urls").write_text("# ours\njson://one\n\nntfy://two\n")
    assert await telling(apprise_file=tmp_path / "urls").tell(MESSAGE) == {"oncall": "sent"}
    title = "remediator: node-latency on Node/node-3: not_healed"
    assert calls == ["json://one", "ntfy://two", {"title": title, "body": MESSAGE.summary, "body_format": "text"}]
