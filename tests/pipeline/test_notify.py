"""Messages of a whole daemon: webhooks in their order, signed, each once; one message in Slack; and receivers that fail stop nothing."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json

import pytest
from aiohttp import web
from pipeline.test_approval import CORDON, asking, cordoned, decision_of, say, waits  # noqa: F401 - asking is a fixture
from standins.slack import slack_server

from remediator.errors import UsageError

KEY = "signing-key-of-the-test-1"
ALL = ["approval", "step", "healed", "done", "cancelled", "failed", "not_healed", "expired", "unknown"]
TELL = {"tell": {"action": "notify", "text": "about to cordon ${target.name}"}}


class Receivers:
    """Other ends of webhooks, one a path: ``/fine``, ``/broken`` (500), ``/gone`` (410), ``/hung`` (never answers)."""

    def __init__(self):
        self.calls = []
        self.free = asyncio.Event()
        self.url = ""

    async def take(self, request):
        name, body = request.match_info["name"], await request.read()
        self.calls.append((name, json.loads(body), body, request.headers.get("X-Remediator-Signature", "")))
        if name == "hung":
            await self.free.wait()
        return web.Response(status={"broken": 500, "gone": 410}.get(name, 204))

    def told(self, name):
        """In the order of what they tell; two that are under way at once may overtake one another."""
        return sorted((message for where, message, _, _ in self.calls if where == name), key=lambda message: message["at"])


@pytest.fixture
async def receivers():
    ends = Receivers()
    app = web.Application()
    app.router.add_post("/{name}", ends.take)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    ends.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield ends
    ends.free.set()
    await runner.cleanup()


@pytest.fixture
def routes(house, receivers):
    (house.folder / "key").write_text(KEY)

    def make(*names, **more):
        return {"notify": [{"name": name, "url": f"{receivers.url}/{name}", "secret_file": "key", "events": ALL, **more} for name in names]}

    return make


def results(line, channel):
    """channel's results in the metric, of this process up to now."""
    return {
        result: line.counted("remediator_notifications_total", channel=channel, result=result)
        for result in ("sent", "refused", "failed", "dropped")
    }


@pytest.fixture
def counted(line):
    """What a channel's metric went up by since the test began."""
    before = {name: results(line, name) for name in ("fine", "broken", "gone", "hung")}
    return lambda name: {
        result: value - before[name][result] for result, value in results(line, name).items() if value != before[name][result]
    }


async def test_the_messages_of_a_run_in_their_order_signed_and_each_once(asking, house, receivers, routes, counted):  # noqa: F811 - the fixture
    run = await asking(steps=(TELL, CORDON), settings=routes("fine", link="https://remediator.example"))

    async def told(many):
        return len(receivers.told("fine")) >= many

    await house.until(lambda: told(1), "the question")
    await say(house, run.id, "approve", reason="looked at it")
    done = await house.ended(run.id)
    assert done.state == "healed", done.detail
    await house.until(lambda: told(3), "the end")
    messages = receivers.told("fine")
    assert [message["event"] for message in messages] == ["approval", "step", "healed"]
    assert {message["run"] for message in messages} == {run.id}
    assert {message["link"] for message in messages} == {f"https://remediator.example/runs/{run.id}"}
    assert {(message["playbook"], message["target"], message["alert"]) for message in messages} == {("remedy", "Node/node-3", "Symptom")}
    asked, step, end = messages
    assert f"remediator runs approve {run.id}" in asked["text"]
    assert step["text"] == "about to cordon node-3"
    assert (end["state"], end["reason"]) == ("healed", "healed")
    assert len({message["id"] for message in messages}) == 3
    for _, _, body, signature in receivers.calls:
        assert signature == f"sha256={hmac.new(KEY.encode(), body, hashlib.sha256).hexdigest()}"

    async def noted():
        ids = {entry.data["id"] for entry in await house.daemon.world.journal.entries(ref=run.id, kind="told")}
        return {asked["id"], end["id"]} <= ids

    await house.until(noted, "the notes")  # they follow the receiver's answer, as the metric does before them
    assert counted("fine") == {"sent": 3.0}

    await house.stop()
    await house.start(mode="auto", **routes("fine"))
    await decision_of(house, house.outside.fire(node="node-4"))  # something new, of which is told after what was caught up on
    await house.until(lambda: told(4), "the next question")
    assert [message["event"] for message in receivers.told("fine")] == ["approval", "step", "healed", "approval"], "nothing is told twice"


async def test_receivers_that_fail_refuse_or_hang_stop_no_run_and_are_counted(asking, house, receivers, routes, counted):  # noqa: F811 - the fixture
    run = await asking(steps=(TELL, CORDON), settings=routes("broken", "gone", "hung", "fine", timeout="20s"))
    await say(house, run.id, "approve")
    done = await house.ended(run.id)
    assert done.state == "healed", done.detail
    assert cordoned(house)
    assert not receivers.free.is_set(), "nobody waited for the one that hangs"

    async def through():
        return counted("broken").get("failed") == 3 and counted("gone").get("refused") == 3 and counted("fine").get("sent") == 3

    await house.until(through, "the last try")
    assert len(receivers.told("broken")) == 15, "each message five times"
    assert len(receivers.told("gone")) == 3, "what will never be taken is not tried again"
    assert len({message["id"] for message in receivers.told("broken")}) == 3, "a receiver can tell that it is the same again"
    status, text = await house.http("GET", "/metrics", token="read")
    assert status == 200
    assert 'remediator_notifications_total{channel="broken",result="failed"}' in text
    failures = [line for line in house.log.getvalue().splitlines() if "people could not be told" in line and '"broken"' in line]
    assert len(failures) == 3
    assert receivers.url not in "".join(failures)


@pytest.fixture
async def slack():
    async with slack_server() as stand_in:
        yield stand_in


async def test_a_run_has_one_message_in_slack_over_a_restart_to_its_undo(asking, house, slack):  # noqa: F811 - the fixture
    (house.folder / "bot").write_text(slack.token)
    route = {"name": "slack", "slack": {"token_file": "bot", "channel": "oncall", "url": slack.url}, "link": "https://r.test"}
    run = await asking(settings={"notify": [route]})

    async def shows(*words):
        return len(slack.shown()) == 1 and all(word in slack.shown()[0] for word in words)

    await house.until(lambda: shows("waits for 1 person", f"<https://r.test/runs/{run.id}|Look at it, approve or reject>"), "the question")

    async def noted():
        journal = house.daemon.world.journal
        kept = await journal.entries(ref=run.id, kind="slack")
        return kept and await journal.entries(ref=run.id, kind="told") and kept

    (note,) = await house.until(noted, "the note")
    assert note.data == {"route": "slack", "channel": "C024BE91L", "ts": next(iter(slack.messages))}
    await house.stop()
    await house.start(mode="auto", notify=[route])
    await say(house, run.id, "approve", reason="<!channel> go")
    done = await house.ended(run.id)
    assert done.state == "healed", done.detail
    await house.until(lambda: shows("Node/node-3: healed", "approved by anna", "&lt;!channel&gt; go", "cordon: succeeded"), "the end")
    await say(house, run.id, "undo", reason="that was it")
    await house.until(lambda: shows("Node/node-3: healed", "cordon: was undone"), "the undo")
    assert slack.shown(replies=True) == [], "nothing of it needed people again"
    written = "".join(str(entry.data) for entry in await house.daemon.world.journal.entries())
    assert slack.token not in written + house.log.getvalue()


class TestLinks:
    """The one-time link of a question, from the message to the run that goes on."""

    async def link_in(self, house, receivers):
        async def told():
            return receivers.told("fine")

        await house.until(told, "the question")
        (message,) = receivers.told("fine")
        assert message["approve"].startswith("https://remediator.example/approve?token=")
        assert message["approve"] in message["text"]
        return message["approve"].partition("token=")[2]

    async def test_whoever_holds_it_approves_once(self, asking, house, receivers, routes):  # noqa: F811 - the fixture
        more = {"link": "https://remediator.example/", "approve_links": True, "events": ["approval"]}
        run = await asking(steps=(CORDON,), settings=routes("fine", **more))
        token = await self.link_in(house, receivers)
        operations = house.daemon.operations
        assert (await operations.invited(token)).id == run.id
        assert await operations.invited(token[:-1]) is None
        await operations.answer_invited(token, by="ada, by a link", reason="seen it", yes=True)
        with pytest.raises(UsageError, match="was answered"):
            await operations.answer_invited(token, by="eve", reason="", yes=False)
        done = await house.ended(run.id)
        assert [(said.by, said.approved) for said in done.approvals[0].answers] == [("ada, by a link", True)]
        with pytest.raises(UsageError, match="was answered"):
            await operations.invited(token)
        notes = [entry.data for entry in await house.daemon.world.journal.entries(ref=run.id)]
        assert token not in str(notes)

    async def test_it_expires_with_the_question(self, asking, house, receivers, routes, later):  # noqa: F811 - the fixture
        more = {"link": "https://remediator.example", "approve_links": True, "events": ["approval"]}
        run = await asking(steps=(CORDON,), settings=routes("fine", **more))
        token = await self.link_in(house, receivers)
        later(hours=24)
        with pytest.raises(UsageError, match=r"expired|has ended"):
            await house.daemon.operations.answer_invited(token, by="ada", reason="", yes=True)
        assert (await house.ended(run.id)).state == "expired"

    async def test_where_two_people_have_to_agree_there_is_none(self, asking, house, receivers, routes):  # noqa: F811 - the fixture
        more = {"link": "https://remediator.example", "approve_links": True, "events": ["approval"]}
        run = await asking(steps=(CORDON,), settings={**routes("fine", **more), "approval": {"people": 2}})

        async def told():
            return receivers.told("fine")

        await house.until(told, "the question")
        (message,) = receivers.told("fine")
        assert message["approve"] == ""
        made = house.daemon.world.invitations.text(run.id, run.approvals[-1].asked_at)
        with pytest.raises(UsageError, match="2 different people"):
            await house.daemon.operations.invited(made)
