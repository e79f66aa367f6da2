"""The pages as a browser without JavaScript gets them, read with an HTML parser."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest

from remediator.demotion import Demotion
from remediator.errors import UsageError
from remediator.model import (
    Alert,
    AlertStatus,
    Answer,
    Approval,
    ApprovalState,
    DecisionKind,
    Entry,
    Episode,
    Evidence,
    Pause,
    RunState,
    StepState,
    Target,
    Verdict,
    Verification,
    evolve,
)
from remediator.reasons import Reason
from remediator.server import Proxy, Tokens
from remediator.server.auth import COOKIE
from remediator.server.pages import frame
from remediator.server.service import Series, Waiting

NOW = datetime(2026, 1, 5, 10, 0, tzinfo=UTC)
HTML = {"Accept": "text/html"}
EVIL = "<script>alert(1)</script>\x1b[31m\u202e\x07<img src=x onerror=alert(1)>" + "A" * 10_000


class Document(HTMLParser):
    """Elements with their attributes, and all text."""

    def __init__(self, text):
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag, **attributes):
        return [found for name, found in self.elements if name == tag and attributes.items() <= found.items()]

    def field(self, name):
        return self.all("input", name=name)[0]["value"]


@pytest.fixture
def read(api):
    async def get(path, **options):
        response = await api("GET", path, token=options.pop("token", "write"), headers=HTML, **options)
        assert response.status == 200, await response.text()
        assert response.content_type == "text/html"
        return Document(await response.text())

    return get


def an_alert(**labels):
    return Alert(name="CiliumAgentDown", fingerprint="f", starts_at=NOW, status=AlertStatus.FIRING, labels=labels)


class TestSigningIn:
    async def test_a_stranger_sees_nothing_but_the_form(self, api):
        for path in ("/", "/runs/run-1", "/cluster", "/playbooks", "/playbooks/cilium-agent-down", "/report", "/events"):
            response = await api("GET", path, token=None, headers=HTML, allow_redirects=False)
            assert (response.status, response.headers["Location"]) == (303, f"/login?next={path}")
        text = await (await api("GET", "/login", token=None, headers=HTML)).text()
        assert "cilium" not in text
        assert "mode" not in text

    async def sign_in(self, api, token="write-secret", **more):
        form = {"token": token, "name": "ada", **more}
        return await api("POST", "/login", token=None, headers=HTML, data=form, allow_redirects=False)

    async def test_a_token_becomes_a_cookie_that_scripts_and_other_sites_cannot_use(self, api):
        response = await self.sign_in(api, next="/runs/run-1?x=1")
        assert (response.status, response.headers["Location"]) == (303, "/runs/run-1?x=1")
        cookie = response.headers["Set-Cookie"]
        assert all(part in cookie for part in ("HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"))
        assert "write-secret" not in cookie
        assert "Secure" not in cookie  # this test speaks http

    @pytest.mark.parametrize("path", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:x", "/login", ""])
    async def test_it_leads_to_no_other_site(self, api, path):
        assert (await self.sign_in(api, next=path)).headers["Location"] == "/"

    async def test_a_wrong_token_gets_the_form_again(self, api):
        response = await self.sign_in(api, token="<b>wrong")
        assert response.status == 401
        assert "Set-Cookie" not in response.headers
        assert "not known here" in await response.text()
        assert (await self.sign_in(api, token="hook-secret")).status == 403
        for _ in range(29):
            await self.sign_in(api, token="wrong")
        assert (await self.sign_in(api)).status == 429

    async def test_the_cookie_reads_pages_and_not_the_api(self, api):
        await self.sign_in(api)
        assert (await api("GET", "/", token=None)).status == 200
        assert (await api("GET", "/api/v1/status", token=None)).status == 401
        assert (await api("POST", "/logout", token=None, headers=HTML, allow_redirects=False)).status == 303
        assert (await api("GET", "/", token=None)).status == 401

    async def test_one_secret_for_the_webhook_and_for_people_opens_pages_too(self, serve, service):
        api = await serve(service, tokens=Tokens(webhook="write-secret", write="write-secret"))
        assert (await self.sign_in(api)).status == 303
        assert (await api("GET", "/", token=None)).status == 200

    async def test_a_cookie_ends_with_its_time_and_with_its_token(self, serve, service):
        api = await serve(service)
        value = (await self.sign_in(api)).cookies[COOKIE].value
        other = await serve(service, tokens=Tokens(write="another-secret"))
        forged = value[:-1] + ("0" if value[-1] != "0" else "1")
        for server, cookie in ((other, value), (api, forged), (api, "x"), (api, "1.a.b.c")):
            server.client.session.cookie_jar.clear()
            assert (await server("GET", "/", token=None, headers={"Cookie": f"{COOKIE}={cookie}"})).status == 401
        clock = api.client.app[_hall()].clock
        clock.advance(timedelta(hours=12))
        assert (await api("GET", "/", token=None, headers={"Cookie": f"{COOKIE}={value}"})).status == 401


def _hall():
    from remediator.server.app import HALL

    return HALL


class TestNow:
    async def test_what_is_done_why_and_how_to_stop_it(self, read, service, run):
        service.journal.the_runs["run-1"] = run(alert=an_alert(node="node-3"))
        page = await read("/")
        assert not service.with_records, "thousands of runs are not read for what the page does not show"
        assert "At work: 1 run" in page.text
        assert 'CiliumAgentDown {node="node-3"}' in page.text
        assert page.all("form", action="/runs/run-1/cancel", method="post")
        assert page.all("form", action="/pause", method="post")
        assert "remediator runs cancel run-1" in page.text

    async def test_what_waits_for_people_stands_first(self, read, service, run):
        service.journal.the_runs["run-1"] = run(state=RunState.AWAITING_APPROVAL)
        what = {"run": "run-1", "playbook": "p", "target": "Node/node-3", "question": "May <p> act?", "missing": 2}
        service.waiting = (Waiting(asked_at=NOW, expires_at=NOW + timedelta(hours=3), **what),)
        page = await read("/")
        assert "1 run waits for a person" in page.text
        assert "May <p> act? 2 more people; expires in 3h." in " ".join(page.text.split())
        assert page.all("form", action="/runs/run-1/approve")
        assert page.all("form", action="/runs/run-1/reject")

    async def test_the_banner(self, read, service):
        service.journal.the_pauses = [Pause(id="p", reason="<b>night</b>", by="ada", at=NOW)]
        page = await read("/")
        assert "Everything is paused by ada since 10:00:00: <b>night</b>" in " ".join(page.text.split())
        assert page.all("form", action="/resume")
        assert not page.all("form", action="/pause")
        assert not page.all("b", onclick="x")

    async def test_the_kill_switch_says_what_it_does_to_open_runs(self, read):
        """See test_pause_before_each_call.py: a run that is open stops before its next change."""
        page = await read("/")
        assert page.all("form", action="/pause")
        said = " ".join(page.text.split())
        assert "Nothing new is started, and open runs stop before their next change, until somebody resumes." in said
        assert "goes on" not in said

    async def test_how_long_the_oldest_undecided_delivery_waits(self, read, service):
        assert not (await read("/")).all("p", id="undecided")
        service.undecided = {"undecided": 3, "undecided_since": NOW - timedelta(seconds=90)}
        assert "3 deliveries wait for decisions, the oldest for" in " ".join((await read("/")).text.split())

    async def test_alerts_not_acted_on_say_why(self, read, service):
        service.journal.episode = Episode(
            fingerprint="f",
            starts_at=NOW - timedelta(hours=3),
            name="NodeFailure",
            labels={"node": "n"},
            first_seen=NOW,
            last_seen=NOW,
            decision=DecisionKind.REFUSED,
            reason=Reason.COOLDOWN,
            detail="acted 5m ago",
        )
        page = await read("/")
        assert "NodeFailure" in page.text
        assert "cooldown: " in page.text
        assert "acted 5m ago · fires since 3h ago" in page.text

    async def test_filters_are_handed_on_and_the_next_page_keeps_them(self, read, service, run):
        service.journal.the_runs["run-1"] = run(state=RunState.HEALED)
        service.journal.next = "c2"
        page = await read("/?playbook=cilium-agent-down&state=ended")
        assert service.journal.asked["runs"].get("state")
        await read("/?playbook=&state=&target=")
        assert set(service.journal.asked["runs"]) <= {"limit", "state"}
        assert any("playbook=cilium-agent-down" in a.get("href", "") and "cursor=c2" in a["href"] for a in page.all("a"))

    async def test_a_reader_gets_no_buttons(self, read, service, run):
        service.journal.the_runs["run-1"] = run()
        page = await read("/", token="read")
        assert not [form for form in page.all("form") if form["method"] == "post"]


class TestRun:
    async def test_from_the_delivery_to_the_proof(self, read, service, run):
        step = evolve(
            run().steps[0],
            state=StepState.SUCCEEDED,
            started_at=NOW + timedelta(seconds=1),
            ended_at=NOW + timedelta(seconds=31),
            evidence=(Evidence(name="logs", at=NOW, data={"line": "boom"}),),
        )
        service.journal.the_runs["run-1"] = run(
            state=RunState.HEALED,
            reason=Reason.HEALED,
            ended_at=NOW + timedelta(minutes=2),
            steps=(step,),
            gates=(Verdict(gate="paused", allowed=True, at=NOW), Verdict(gate="cooldown", allowed=False, reason=Reason.COOLDOWN, at=NOW)),
            verification=Verification(started_at=NOW, deadline=NOW, hold_seconds=60, healed=True, checks=7, last="up gives 1"),
            approvals=(
                Approval(
                    question="May it?",
                    asked_at=NOW,
                    expires_at=NOW,
                    state=ApprovalState.APPROVED,
                    answers=(Answer(by="ada", at=NOW, approved=True, reason="go"),),
                ),
            ),
        )
        service.the_series = Series(query="up", operator="==", limit=1.0, points=((NOW, 0.0), (NOW + timedelta(minutes=1), 1.0)))
        asked = {"by": "ben", "reason": "false alarm"}
        service.journal.the_notes.append(Entry(seq=1, at=NOW, kind="undo", ref="run-1", data=asked, previous="", hash=""))
        page = await read("/runs/run-1")
        assert "ben asked to put back what it changed: false alarm" in page.text
        for words in ("approved by ada: go", "1. restart", "succeeded after 30s", "after 7 looks", "1 of 2 refused", "boom", "up gives 1"):
            assert words in page.text, words
        assert page.all("svg")
        assert page.all("line", **{"class": "limit"})
        assert page.all("polyline")[0]["points"].count(",") == 2
        assert "remediator why run-1" in page.text
        assert not page.all("form", action="/runs/run-1/cancel")

    async def test_a_run_that_is_none(self, api):
        response = await api("GET", "/runs/<b>", headers=HTML)
        assert response.status == 404
        assert "There is no run" in Document(await response.text()).text


class TestButtons:
    @pytest.fixture
    async def form(self, api, service, run):
        """The client signed in as ada, and the token of the run's page."""
        service.journal.the_runs["run-1"] = run()
        await api("POST", "/login", token=None, data={"token": "write-secret", "name": "ada"})
        page = Document(await (await api("GET", "/runs/run-1", token=None, headers=HTML)).text())
        return {"csrf": page.field("csrf"), "reason": "wrong node"}

    async def press(self, api, verb, form, **headers):
        return await api("POST", f"/runs/run-1/{verb}", token=None, data=form, headers={**HTML, **headers}, allow_redirects=False)

    @pytest.mark.parametrize("verb", ["cancel", "approve", "reject", "undo"])
    async def test_it_does_what_the_api_does_under_the_name_of_who_signed_in(self, api, service, form, verb):
        response = await self.press(api, verb, form)
        assert (response.status, response.headers["Location"]) == (303, "/runs/run-1")
        named = (True,) if verb == "approve" else ()
        assert service.calls == [(verb, ("run-1", "ada", "wrong node", *named))]

    @pytest.mark.parametrize("csrf", ["", "0" * 64, "é"])
    async def test_without_the_pages_token_nothing_happens(self, api, service, form, csrf):
        assert (await self.press(api, "cancel", {**form, "csrf": csrf})).status == 403
        assert not service.calls

    async def test_from_another_site_nothing_happens(self, api, service, form):
        assert (await self.press(api, "cancel", form, **{"Sec-Fetch-Site": "cross-site"})).status == 403
        assert (await self.press(api, "cancel", form, Origin="https://evil.example")).status == 403
        assert not service.calls

    async def test_what_its_state_does_not_allow_is_told_on_a_page(self, api, service, form):
        service.fails = UsageError("run run-1 has ended: healed")
        response = await self.press(api, "cancel", form)
        assert response.status == 409
        assert "has ended: healed" in Document(await response.text()).text

    async def test_a_reader_steers_nothing(self, api, service, form):
        await api("POST", "/login", token=None, data={"token": "read-secret"})
        assert (await self.press(api, "cancel", form)).status == 403
        assert not service.calls

    async def test_stop_and_go(self, api, service, form):
        assert (await api("POST", "/pause", token=None, data={**form, "reason": " "}, headers=HTML)).status == 400
        await api("POST", "/pause", token=None, data=form)
        await api("POST", "/resume", token=None, data=form)
        assert [(name, getattr(what, "by", None) or what["by"]) for name, what in service.calls] == [("pause", "ada"), ("resume", "ada")]

    async def test_behind_a_proxy_its_name_is_recorded(self, serve, service, run):
        service.journal.the_runs["run-1"] = run()
        api = await serve(service, proxy=Proxy(["127.0.0.1"], write=["sre"]))
        who = {"Remote-User": "dora", "Remote-Groups": "sre", **HTML}
        page = Document(await (await api("GET", "/runs/run-1", token=None, headers=who)).text())
        form = {"csrf": page.field("csrf"), "reason": "x"}
        assert (await api("POST", "/runs/run-1/cancel", token=None, data=form, headers=who, allow_redirects=False)).status == 303
        assert service.calls == [("cancel", ("run-1", "dora", "x"))]


async def test_a_page_is_compiled_away_from_the_event_loop(read, monkeypatch):
    monkeypatch.setattr(frame, "_compiled", set())
    where = []
    compile_ = frame._compile
    monkeypatch.setattr(frame, "_compile", lambda name: (where.append((name, threading.current_thread())), compile_(name)))
    await read("/playbooks")
    await read("/playbooks")
    ((name, thread),) = where
    assert name == "playbooks.html"
    assert thread is not threading.main_thread()


class TestWhatStrangersWrote:
    async def test_it_does_no_harm(self, read, api, service, run):
        alert = evolve(an_alert(**{"node": EVIL, EVIL[:60]: "x"}), name=EVIL, annotations={"summary": EVIL})
        service.journal.the_runs["run-1"] = run(alert=alert, detail=EVIL, playbook=EVIL[:90])
        service.journal.episode = evolve(service.journal.episode, name=EVIL, labels={"a": EVIL}, detail=EVIL)
        service.demoted = (Demotion(playbook=EVIL, at=NOW),)
        for path in ("/", "/runs/run-1", "/report"):
            text = await (await api("GET", path, headers=HTML)).text()
            page = Document(text)
            assert {one.get("src") for one in page.all("script")} == {"/static/live.js"}
            assert not page.all("img")
            assert not [name for _, found in page.elements for name in found if name.startswith("on") or name == "style"]
            assert not set(text) & {"\x1b", "\x07", "\u202e"}
            assert "\\x1b[31m\\u202e" in page.text or path == "/report"  # which has no text of alerts, and cuts names
        assert len(text) < 150_000

    async def test_every_page_forbids_scripts_of_its_own(self, api):
        for path in ("/", "/login", "/cluster", "/playbooks", "/report", "/runs/none"):
            policy = (await api("GET", path, headers=HTML)).headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy


async def test_a_playbook(read, service, root):
    described = {
        "summary": "An agent is down",
        "source": "x.yaml",
        "ladder": [{"name": "restart", "attempts": 2, "steps": [{"name": "one", "action": "wait", "disruptive": True}]}],
        "verify": {"within": "10m", "hold": "1m"},
    }
    (old,) = service.library.playbooks
    shown = {**old.describe(), **described}
    service.library = SimpleNamespace(playbooks=(SimpleNamespace(**{**vars(old), "describe": lambda: shown, "text": "a: 1\nb: <i>\n"}),))
    assert "None beside it." in (await read("/playbooks/cilium-agent-down")).text
    service.library.playbooks[0].source = str(root / "playbooks" / "cilium-agent-down.yaml")
    page = await read("/playbooks/cilium-agent-down")
    assert [one["id"] for one in page.all("span", **{"class": "row"})] == ["L1", "L2"]
    assert "b: <i>" in page.text
    assert "up to 2 times" in page.text
    assert "disturbs" in page.text
    assert "heals a hung agent by replacing its pod once" in page.text
    assert "remediator test /" in page.text
    assert "cilium-agent-down" in (await read("/playbooks")).text


async def test_the_cluster_and_what_cannot_be_read(read, service):
    from remediator.attribution import Symptom, Table
    from remediator.server.service import ClusterView, NodeView, Pairs

    table = Table(symptom=Symptom.LATENCY, limit=0.02, at=NOW, nodes=("a", "b"), rows=((None, 0.08), (0.001, None)))
    nodes = (NodeView(name="a"), NodeView(name="b", troubles=("cordoned",), runs=("run-1",)))
    service.view = ClusterView(nodes=nodes, disturbed=1, most=2, pairs=(Pairs(table=table, node="b", words="b is slow"),), at=NOW)
    page = await read("/cluster")
    assert "1 of 2 nodes disturbed" in page.text
    assert [one["class"] for one in page.all("td") if "heat" in one.get("class", "")] == ["heat-none", "heat-4", "heat-0", "heat-none"]
    assert page.text.count("◀ blamed") == 2
    a, b = (one["class"] for one in page.all("li") if one.get("class") in ("good", "bad", "busy"))
    assert (a, b) == ("good", "busy")
    assert "cordoned, blamed for latency" in page.text
    service.unreachable = True
    page = await read("/cluster")
    assert "The nodes cannot be read" in page.text
    assert "BGP cannot be read" in page.text


class TestReport:
    async def test_success_time_to_heal_and_false_starts_by_playbook_and_target(self, read, service, run):
        def ended(number, name, state, **more):
            target = Target(kind="Node", name=name)
            return run(state=state, target=target, ended_at=NOW + timedelta(seconds=number), id=f"run-{number}", **more)

        runs = [
            ended(30, "node-1", RunState.HEALED),
            ended(90, "node-1", RunState.HEALED),
            ended(600, "node-2", RunState.NOT_HEALED, reason=Reason.STILL_FIRING),
            ended(5, "node-2", RunState.CANCELLED, reason=Reason.RESOLVED_MEANWHILE),
        ]
        service.journal.the_runs = {one.id: one for one in runs}
        page = await read("/report")
        text = " ".join(page.text.split())
        assert "67% 2 of 3" in text
        assert "1m longest 1m30s" in text
        assert text.index("Node/node-2") < text.index("Node/node-1"), "the worst in front"
        assert "Node/n cilium.restart_agent 3 3" in text, "what recurs"
        assert page.all("a", href="/runs/run-1")
        assert page.all("a", href="/report?since=30d&playbook=cilium-agent-down")
        assert service.asked_of_effect == (NOW - timedelta(days=30), None)
        assert service.asked_of_recurrence[0] == NOW - timedelta(days=30)
        assert "report effect --since 30d --markdown" in text

    async def test_a_span_and_a_playbook_may_be_chosen(self, read, service):
        page = await read("/report?since=90d&playbook=p")
        assert service.asked_of_effect == (NOW - timedelta(days=90), "p")
        assert "No live run began." in page.text
        assert "--since 90d --playbook p --markdown" in page.text
        assert "Node/n" in page.text
        assert "Node/n" not in (await read("/report?playbook=other")).text, "what recurs is that of the playbook too"
        page = await read("/report?since=2026-01-01T00:00:00Z&playbook=")
        assert service.asked_of_effect == (datetime(2026, 1, 1, tzinfo=UTC), None)
        assert "report effect --since 2026-01-01T00:00:00.000Z --markdown" in page.text

    async def test_many_targets_are_cut_and_counted_unless_one_playbook_is_asked_for(self, read, service, run):
        for number in range(12):
            made = run(id=f"run-{number}", target=Target(kind="Node", name=f"node-{number}"), state=RunState.DONE, ended_at=NOW)
            service.journal.the_runs[made.id] = made
        page = await read("/report")
        assert "12 targets" in page.text
        assert "and 4 more, which did no worse" in page.text
        assert "Node/node-9" in (await read("/report?playbook=cilium-agent-down")).text
        assert "more, which" not in (await read("/report?playbook=cilium-agent-down")).text

    async def test_it_is_read_anew_less_often_than_others(self, read):
        assert (await read("/report")).all("html", **{"data-pause": "30000"})
        assert not [one for one in (await read("/")).all("html") if "data-pause" in one]

    async def test_a_span_that_is_none_is_refused(self, api):
        assert (await api("GET", "/report?since=soon", headers=HTML)).status == 400


class TestInvited:
    """The page behind the one-time link of a message, as a stranger with the link gets it."""

    @pytest.fixture
    def asked(self, service, run):
        expires = NOW + timedelta(hours=3)
        question = Approval(question="May <p> act?", asked_at=NOW, expires_at=expires, state=ApprovalState.WAITING, people=1)
        service.the_invited = run(state=RunState.AWAITING_APPROVAL, approvals=(question,))

    async def send(self, api, **given):
        form = {"token": "good", "name": "ada", "reason": "seen it", "answer": "approve", **given}
        return await api("POST", "/approve", token=None, data=form, headers=HTML)

    async def test_it_tells_the_question_and_nothing_of_the_daemon_and_changes_nothing(self, api, service, asked):
        response = await api("GET", "/approve?token=good", token=None, headers=HTML)
        page = Document(await response.text())
        assert "May <p> act?" in page.text
        assert "Expires in 3h" in page.text
        assert page.field("token") == "good"
        assert {one["value"] for one in page.all("button", name="answer")} == {"approve", "reject"}
        assert "mode" not in page.text
        assert not page.all("script")
        assert service.calls == []

    @pytest.mark.parametrize("answer", ["approve", "reject"])
    async def test_the_answer_is_recorded_under_the_name_that_was_given(self, api, service, asked, answer):
        response = await self.send(api, answer=answer)
        assert response.status == 200
        assert service.calls == [("answer_invited", ("good", "ada, by a link", "seen it", answer == "approve"))]
        assert ("Approved" if answer == "approve" else "Rejected") in Document(await response.text()).text

    async def test_without_a_name_or_an_answer_or_from_another_site_nothing_happens(self, api, service, asked):
        assert (await self.send(api, name=" ")).status == 400
        assert (await self.send(api, answer="")).status == 400
        response = await api("POST", "/approve", token=None, data={"token": "good"}, headers={**HTML, "Sec-Fetch-Site": "cross-site"})
        assert response.status == 403
        assert service.calls == []

    async def test_one_that_is_over_says_so(self, api, service, asked):
        response = await api("GET", "/approve?token=over", token=None, headers=HTML)
        assert response.status == 410
        assert "was answered" in Document(await response.text()).text
        service.fails = UsageError("run run-1 has ended")
        assert (await self.send(api)).status == 410

    async def test_guesses_are_counted_as_unknown_tokens_are(self, api, service, asked):
        for _ in range(30):
            assert (await api("GET", "/approve?token=bad", token=None, headers=HTML)).status == 404
        assert (await api("GET", "/approve?token=good", token=None, headers=HTML)).status == 429
        assert (await self.send(api)).status == 429
        assert service.calls == []


async def test_what_pages_load(api):
    for name, kind in (("style.css", "text/css"), ("live.js", "text/javascript"), ("icon.svg", "image/svg+xml")):
        response = await api("GET", f"/static/{name}", token=None)
        assert (response.status, response.content_type) == (200, kind)
    for name in ("../app.py", "..%2fapp.py", "none.css"):
        assert (await api("GET", f"/static/{name}", token=None)).status == 404
