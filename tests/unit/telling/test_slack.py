"""One message a run, kept up to date; what Slack answers, and what becomes of it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from standins.slack import slack_server
from structlog.testing import capture_logs

from remediator.clock import FastClock
from remediator.model import evolve
from remediator.settings import Event, Notify
from remediator.telemetry import METRICS
from remediator.telling import Message, Posted, Teller

ASKED = Message(
    id="r1.approval.1",
    event=Event.APPROVAL,
    at="2026-01-05T10:00:00.000Z",
    summary="May remedy act on Node/node-3?",
    playbook="remedy",
    target="Node/node-3",
    run="r1",
    state="awaiting_approval",
)
WORKING = evolve(
    ASKED, id="r1.begun", event=Event.BEGUN, state="running", summary="remedy on Node/node-3 is running", lines=("cordon: is running.",)
)
HEALED = evolve(WORKING, id="r1.end", event=Event.HEALED, state="healed", summary="healed", lines=("cordon: succeeded.",))
NOT_HEALED = evolve(HEALED, event=Event.NOT_HEALED, state="not_healed", summary="not healed")
STEP = evolve(ASKED, id="r1.step.0", event=Event.STEP, summary="about to cordon", aside=True)
BREAKER = Message(id="breaker.1", event=Event.BREAKER, at=ASKED.at, summary="The breaker opened", target="everything")


class Kept:
    """A journal in a dict."""

    def __init__(self):
        self.posted, self.trouble = {}, []

    async def find(self, route, run):
        if self.trouble:
            raise self.trouble.pop()
        return self.posted.get((route, run))

    async def keep(self, route, run, posted):
        self.posted[route, run] = posted


@pytest.fixture
async def slack():
    async with slack_server() as stand_in:
        yield stand_in


@pytest.fixture
def kept():
    return Kept()


@pytest.fixture
async def telling(slack, kept, tmp_path):
    """Tellers of one route, ``oncall``; each is a life of the daemon."""
    made = []
    (tmp_path / "bot").write_text(slack.token + "\n")

    def make(*, channel="oncall", events=tuple(Event), **more):
        route = Notify(
            name="oncall", slack={"token_file": tmp_path / "bot", "channel": channel, "url": slack.url + "/"}, events=events, **more
        )
        made.append(Teller([route], clock=FastClock(10_000), keeper=kept))
        return made[-1]

    yield make
    for one in made:
        await one.close()


@pytest.fixture
def counted():
    def results():
        return {
            one: METRICS.registry.get_sample_value("remediator_notifications_total", {"channel": "oncall", "result": one}) or 0
            for one in ("sent", "refused", "failed")
        }

    before = results()
    return lambda: {one: value - before[one] for one, value in results().items() if value != before[one]}


async def until(slack, there):
    while not there():
        slack.news.clear()
        if not there():
            await slack.news.wait()


async def test_a_run_has_one_message_and_a_question_a_link(slack, telling, kept):
    teller = telling(link="https://r.test/", text="${summary}!")
    assert await teller.tell(ASKED) == {"oncall": "sent"}
    (shown,) = slack.shown()
    assert shown.splitlines() == [
        "❓ *remediator: remedy on Node/node-3: approval*",
        "May remedy act on Node/node-3?!",
        "<https://r.test/runs/r1|Look at it, approve or reject>",
    ]
    assert kept.posted == {("oncall", "r1"): Posted(channel="C024BE91L", ts="1405894322.000100")}
    for message in (WORKING, HEALED):
        assert await teller.tell(message) == {"oncall": "sent"}
    assert [method for method, _ in slack.calls] == ["chat.postMessage", "chat.update", "chat.update"]
    (shown,) = slack.shown()
    assert shown.splitlines() == [
        "✅ *remediator: remedy on Node/node-3: healed*",
        "healed!",
        "• cordon: succeeded.",
        "<https://r.test/runs/r1|What was done, and why>",
    ]


async def test_a_link_that_answers_stands_in_the_question_and_goes_with_it(slack, telling):
    teller = telling(link="https://r.test", approve_links=True)
    await teller.tell(evolve(ASKED, invitation="r1.1.seal"))
    assert "\n<https://r.test/approve?token=r1.1.seal|Approve or reject>\n<https://r.test/runs/r1|" in slack.shown()[0]
    assert slack.shown()[0].count("token=") == 1
    await teller.tell(WORKING)
    assert "token=" not in slack.shown()[0]


async def test_what_needs_people_again_is_said_in_the_thread_and_aloud(slack, telling):
    teller = telling()
    await teller.tell(ASKED)
    await teller.tell(evolve(ASKED, id="r1.approval.2", summary="And now cordon it?"))
    await teller.tell(NOT_HEALED)
    (root,) = [ts for ts, one in slack.messages.items() if "thread_ts" not in one]
    replies = [one for one in slack.messages.values() if "thread_ts" in one]
    assert [(one["thread_ts"], one["reply_broadcast"], one["channel"]) for one in replies] == [(root, True, "C024BE91L")] * 2
    assert ["And now cordon it?" in replies[0]["text"], "not healed" in replies[1]["text"]] == [True, True]


async def test_what_a_step_says_stays_when_the_run_goes_on(slack, telling):
    teller = telling(events=["step"])
    await teller.tell(STEP)
    assert slack.shown() == ["⏳ *remediator: remedy on Node/node-3: begun*\nremedy on Node/node-3 is at work"]
    teller.follow(HEALED)
    await until(slack, lambda: "cordon: succeeded." in slack.shown()[0])
    assert len(slack.shown()) == 1
    (said,) = slack.shown(replies=True)
    assert "about to cordon" in said


async def test_a_run_that_nobody_was_told_of_has_no_message_and_the_breaker_one_of_its_own(slack, telling):
    teller = telling(events=["approval", "breaker"])
    teller.follow(WORKING)
    teller.follow(evolve(HEALED, run="r2"))
    assert await teller.tell(HEALED) == {}
    assert await teller.tell(BREAKER) == {"oncall": "sent"}
    assert [method for method, _ in slack.calls] == ["chat.postMessage"]


async def test_only_the_latest_is_shown_and_only_once(slack, telling, counted):
    teller = telling(events=["approval", "healed"])
    await teller.tell(ASKED)
    for message in (WORKING, evolve(WORKING, lines=("cordon: succeeded.",)), HEALED, HEALED):
        teller.follow(message)
    await until(slack, lambda: "healed" in slack.shown()[0])
    assert await teller.tell(HEALED) == {"oncall": "sent"}
    teller.follow(evolve(HEALED, lines=("cordon: was undone.",)))
    await until(slack, lambda: "was undone" in slack.shown()[0])
    assert [method for method, _ in slack.calls] == ["chat.postMessage", "chat.update", "chat.update"]


async def test_a_question_that_gets_through_late_says_how_the_run_stands_by_then(slack, telling):
    slack.answers["chat.postMessage"] = [(503, {}), (503, {})]
    teller = telling(events=["approval"])
    teller.tell_later(ASKED)
    await until(slack, lambda: len(slack.calls) == 1)
    teller.follow(HEALED)
    await until(slack, lambda: slack.shown() and "healed" in slack.shown()[0])
    assert len(slack.messages) == 1


async def test_the_message_is_the_same_after_a_restart_also_if_the_journal_answers_late(slack, telling, kept):
    from remediator.errors import JournalUnavailable

    await telling().tell(ASKED)
    kept.trouble = [JournalUnavailable("the disk is busy")]
    await telling(channel="elsewhere").tell(HEALED)
    assert ["healed" in text for text in slack.shown()] == [True]


async def test_alert_text_names_nobody_and_links_nowhere(slack, telling):
    evil = "<!channel> <@U1|x> <https://evil.test|ok> & @here &amp; `*_~"
    teller = telling(title="${alert}", text="${detail} ${summary}", link="https://r.test/?a=1&b=<|>")
    hostile = evolve(ASKED, alert=evil, detail=evil, summary=evil, lines=(evil,))
    await teller.tell(hostile)
    await teller.tell(evolve(hostile, id="r1.approval.2"))
    await teller.tell(evolve(hostile, event=Event.HEALED, lines=(evil, evil)))
    assert {method for method, _ in slack.calls} == {"chat.postMessage", "chat.update"}
    for _, body in slack.calls:
        assert (body["parse"], body["link_names"]) == ("none", False), "nor does plain text"
        *strangers, link = body["text"].splitlines()
        assert "<" not in "".join(strangers)
        assert ">" not in "".join(strangers)
        assert "&lt;!channel&gt; &lt;@U1|x&gt;" in strangers[0]
        assert "&amp;amp;" in strangers[0]
        assert link.startswith("<https://r.test/?a=1&amp;b=&lt;%7C&gt;/runs/r1|")
        assert (link.count("<"), link.count("|")) == (1, 1)


async def test_a_long_text_is_cut_between_its_characters_and_keeps_the_last_lines_and_the_link(slack, telling):
    lines = tuple(f"step {number}: {'x' * (number % 5)}{'&' * 200}" for number in range(40))
    await telling(link="https://r.test").tell(evolve(ASKED, summary="<" * 400, lines=lines))
    await telling(link="https://r.test", text="${summary}" * 3).tell(evolve(ASKED, run="r2", summary="<" * 600, lines=lines))
    first, second = slack.shown()
    assert max(len(first), len(second)) <= 4000
    for text in (first, second):
        assert text.endswith("|Look at it, approve or reject>")
        rest = text.replace("&lt;", "").replace("&amp;", "").rpartition("\n")[0]
        assert not {"&", "<", ">"} & set(rest), "no entity is halved"
    assert "step 39:" in first
    assert "step 0:" not in first
    assert "…" in second


@pytest.mark.parametrize(
    ("method", "answer", "result", "calls"),
    [
        ("chat.postMessage", {"ok": False, "error": "ratelimited"}, "failed", 5),
        ("chat.postMessage", {"ok": False, "error": "internal_error"}, "failed", 5),
        ("chat.postMessage", {"ok": False, "error": "channel_not_found"}, "refused", 1),
        ("chat.postMessage", {"ok": False, "error": "invalid_auth"}, "refused", 1),
        ("chat.postMessage", {"ok": False, "error": "not_in_channel"}, "refused", 1),
        ("chat.postMessage", {"ok": False, "error": "xoxb-0123456789-t0ken-of-the-b0t"}, "refused", 1),
        ("chat.postMessage", {"ok": True}, "refused", 1),
        ("chat.postMessage", ["no Slack"], "refused", 1),
    ],
)
async def test_what_slack_does_not_take_is_counted_and_logged_without_the_token(slack, telling, counted, method, answer, result, calls):
    slack.answers[method] = [(200, answer)] * 5
    with capture_logs() as logs:
        assert await telling().tell(ASKED) == {"oncall": result}
    assert (len(slack.calls), counted()) == (calls, {result: 1})
    assert "people could not be told" in str(logs)
    assert "t0ken" not in str(logs)


async def test_a_wrong_or_missing_token_and_a_wrong_channel(slack, telling, tmp_path, counted):
    assert await telling(channel="nowhere").tell(ASKED) == {"oncall": "refused"}
    (tmp_path / "bot").write_text("another")
    assert await telling().tell(ASKED) == {"oncall": "refused"}
    (tmp_path / "bot").unlink()
    assert await telling().tell(ASKED) == {"oncall": "failed"}
    assert counted() == {"refused": 2, "failed": 1}
    (tmp_path / "bot").write_text(slack.token)
    assert await telling().tell(ASKED) == {"oncall": "sent"}


async def test_slack_is_left_alone_for_as_long_as_it_asks(slack, telling, tmp_path):
    slept = []

    class Watched(FastClock):
        async def sleep(self, duration):
            slept.append(duration.total_seconds())
            await super().sleep(duration)

    slack.retry_after = "120"
    slack.answers["chat.postMessage"] = [(429, {"ok": False, "error": "ratelimited"})]
    route = telling().routes[0]
    teller = Teller([route], clock=Watched(10_000))
    assert await teller.tell(ASKED) == {"oncall": "sent"}
    assert max(slept) >= 120
    assert max(slept) < 121
    await teller.close()


@pytest.mark.parametrize("gone", ["message_not_found", "edit_window_closed", "cant_update_message"])
async def test_a_message_that_is_gone_is_posted_anew_while_the_run_goes_on(slack, telling, kept, gone):
    teller = telling(events=["approval"])
    await teller.tell(ASKED)
    slack.messages.clear()
    slack.answers["chat.update"] = [(200, {"ok": False, "error": gone})]
    teller.follow(WORKING)
    await until(slack, slack.shown)
    assert "is running" in slack.shown()[0]
    teller.follow(HEALED)
    await until(slack, lambda: "healed" in slack.shown()[0])
    assert list(slack.messages) == [kept.posted["oncall", "r1"].ts]


async def test_a_message_that_a_person_deleted_does_not_come_back_after_the_end_but_for_what_needs_people(slack, telling, counted):
    teller = telling(events=["approval", "not_healed"])
    await teller.tell(ASKED)
    slack.messages.clear()
    teller.follow(HEALED)
    while counted() != {"sent": 1, "refused": 1}:
        await FastClock(10_000).sleep(timedelta(seconds=10))
    assert slack.messages == {}
    assert await teller.tell(NOT_HEALED) == {"oncall": "sent"}
    assert len(slack.shown()) == 1


async def test_a_thread_that_is_gone_makes_what_needs_people_a_new_message(slack, telling):
    teller = telling()
    await teller.tell(ASKED)
    slack.messages.clear()
    slack.answers["chat.postMessage"] = [(200, {"ok": False, "error": "thread_not_found"})]
    assert await teller.tell(NOT_HEALED) == {"oncall": "sent"}
    (text,) = slack.shown()
    assert "not healed" in text
