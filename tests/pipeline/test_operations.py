"""What people may ask of the running daemon: trigger, match, cancel, undo, pause, resume; what it says where a request makes no sense."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import sys
from contextlib import closing
from datetime import timedelta
from functools import partial

import pytest
from dbos import DBOS

from remediator import daemon
from remediator.errors import JournalUnavailable, UsageError
from remediator.gates import Limits
from remediator.model import Delivery, evolve
from remediator.server.connections import Connections
from remediator.server.service import ManualRequest, MatchRequest, PauseRequest
from remediator.settings import Breaker
from remediator.telemetry import METRICS

CORDON = {"cordon": {"action": "node.cordon"}}
SETTLE = {"settle": {"action": "wait", "for": "${parameters.pause}"}}
PARAMETERS = {"pause": {"type": "duration", "default": "1s"}}


@pytest.fixture
async def open_house(house, symptom, text):
    """With a playbook ``remedy`` (settle, cordon) that heals what it cordons."""
    symptom.cured = lambda node: bool(house.stage.cluster.get("Node", node)["spec"].get("unschedulable"))
    house.put("remedy.yaml", text(steps=[SETTLE, CORDON], parameters=PARAMETERS, deadline="2h"))
    await house.start(mode="auto")
    return house


def ids_in(store):
    """Of the works that the engine's tables say anything about."""
    with closing(sqlite3.connect(store)) as connection:
        tables = ("workflow_status", "workflow_input", "workflow_output", "operation_outputs")
        return {id_ for table in tables for (id_,) in connection.execute(f"SELECT workflow_uuid FROM {table}")}


async def ends(house, work):
    """Until the engine has it for ended, which is when nothing of it is written any more."""

    async def over():
        with closing(sqlite3.connect(house.folder / "remediator.db.engine")) as connection:
            return connection.execute("SELECT 1 FROM workflow_status WHERE workflow_uuid = ? AND status = 'SUCCESS'", [work]).fetchone()

    await house.until(over, f"the end of {work}")


async def prune(house, run, later):
    """Until that run is gone from the journal. One that lies on both sides of a slice's end goes when that is old in turn."""
    for _ in range(5):
        later(days=100)
        status, done = await house.http("POST", "/api/v1/journal/prune", {})
        assert status == 200, done
        if await house.journal.run(run) is None:
            return
    raise AssertionError(f"run {run} stays: {done}")


async def unanswered(**_):
    raise OSError("no route to the store")


def request(**more):
    return ManualRequest(**{"playbook": "remedy", "target": "Node/node-3", "by": "anna", "reason": "to see", **more})


class TestTrigger:
    async def test_through_http(self, open_house):
        status, run = await open_house.http(
            "POST", "/api/v1/runs", {"playbook": "remedy", "target": "Node/node-3", "by": "anna", "reason": "to see"}
        )
        assert (status, run["state"]) == (201, "running")
        assert (run["trigger"]["kind"], run["trigger"]["by"], run["trigger"]["reason"]) == ("manual", "anna", "to see")
        assert len(run["gates"]) >= 8
        assert (await open_house.ended(run["id"])).state == "healed"

    async def test_what_makes_no_sense_is_a_usage_error_and_no_decision(self, open_house, subtests):
        for asked, said in (
            ({"playbook": "remedi"}, 'no playbook is named "remedi".*remedy'),
            ({"target": "node-3"}, "is not Kind/name"),
            ({"target": "Node//node-3"}, "is not Kind/name"),
            ({"target": "Nod/node-3"}, "Node"),
            ({"target": "Pod/kube-system/cilium-x"}, "acts on a Node"),
            ({"target": "Node/default/node-3"}, "Kind/name"),
            ({"parameters": {"paus": "1s"}}, "pause"),
            ({"parameters": {"pause": "soon"}}, "pause"),
        ):
            with subtests.test(asked=asked), pytest.raises(UsageError, match=said):
                await open_house.operations.trigger(request(**asked))
        assert (await open_house.journal.decisions()).items == ()

    async def test_a_target_that_is_not_there_is_a_refused_decision(self, open_house):
        decision = await open_house.operations.trigger(request(target="Node/node-99"))
        assert (decision.decision, decision.reason) == ("refused", "target_missing")
        assert (await open_house.journal.decisions()).items == (decision,)
        status, problem = await open_house.http("POST", "/api/v1/runs", {"playbook": "remedy", "target": "Node/node-99"})
        assert (status, problem["reason"]) == (409, "target_missing")

    async def test_a_second_run_on_the_target_is_409_with_the_gates(self, open_house):
        first = await open_house.operations.trigger(request(parameters={"pause": "1h"}))
        status, problem = await open_house.http("POST", "/api/v1/runs", {"playbook": "remedy", "target": "Node/node-3"})
        assert (status, problem["reason"], problem["title"]) == (409, "target_busy", "Refused")
        no = [gate for gate in problem["gates"] if not gate["allowed"]]
        assert [gate["gate"] for gate in no] == ["target_busy"]
        assert first.run in no[0]["detail"]

    async def test_a_kubernetes_that_cannot_be_asked_refuses(self, open_house):
        open_house.stage.cluster.fail(path="^/api", status=403, count=None)
        decision = await open_house.operations.trigger(request())
        assert (decision.decision, decision.reason) == ("refused", "unreadable")

    async def test_no_symptom_and_no_alertmanager_are_needed_for_a_person(self, open_house):
        open_house.stage.cluster.fail(path="^/alertmanager", status=500, count=None)
        decision = await open_house.operations.trigger(request())
        assert decision.decision == "run", decision.detail

    async def test_a_dry_run_by_hand(self, open_house):
        decision = await open_house.operations.trigger(request(dry_run=True))
        run = await open_house.ended(decision.run)
        assert (run.state, run.dry_run) == ("predicted", True)
        assert open_house.stage.writes() == []

    async def test_suggest_lets_a_person_act_and_asks_for_an_alert(self, house, symptom, text):
        house.put("remedy.yaml", text(mode="suggest"))
        symptom.set("node-3", False)
        await house.start(mode="auto")
        delivery = await house.operations.receive(body_of(house.outside.fire()), sender="10.0.0.7")

        async def decided():
            return (await house.journal.decisions(delivery=delivery.id)).items

        (suggested,) = await house.until(decided)
        assert suggested.decision == "run"
        assert (await house.journal.run(suggested.run)).state == "awaiting_approval"
        assert (await house.operations.trigger(request())).decision == "run"

    async def test_observe_is_the_ceiling_for_people_too(self, house, text):
        house.put("remedy.yaml", text())
        await house.start(mode="observe")
        decision = await house.operations.trigger(request())
        assert (decision.decision, decision.reason) == ("refused", "observe_only")


def body_of(*alerts):
    import json

    return json.dumps({"version": "4", "status": "firing", "receiver": "r", "groupKey": "g", "alerts": list(alerts)}).encode()


class TestMatch:
    async def test_tells_what_would_be_and_changes_nothing(self, open_house):
        labels = {"alertname": "Symptom", "node": "node-3", "severity": "critical"}
        entries = len(await open_house.journal.entries())
        open_house.outside.fire()
        report = await open_house.operations.match(MatchRequest(labels=labels))
        assert (report.playbook, report.target.key, report.decision) == ("remedy", "Node/node-3", "run"), report.detail
        assert len(report.gates) >= 8
        assert len(await open_house.journal.entries()) == entries
        assert (await open_house.journal.runs()).items == ()
        assert open_house.stage.writes() == []

    async def test_of_an_alert_that_does_not_fire_now(self, open_house):
        report = await open_house.operations.match(MatchRequest(labels={"alertname": "Symptom", "node": "node-3"}))
        assert (report.decision, report.reason) == ("refused", "not_firing")

    async def test_of_a_missing_target_and_of_nothing(self, open_house):
        report = await open_house.operations.match(MatchRequest(labels={"alertname": "Symptom", "node": "node-99"}))
        assert (report.playbook, report.decision, report.reason) == ("remedy", "refused", "target_missing")
        report = await open_house.operations.match(MatchRequest(labels={"alertname": "Symptoms"}))
        assert (report.playbook, report.decision) == (None, "unmatched")
        assert report.nearest[0].playbook == "remedy"

    async def test_of_a_cluster_that_cannot_be_asked(self, open_house):
        open_house.stage.cluster.fail(path="^/api", status=403, count=None)
        report = await open_house.operations.match(MatchRequest(labels={"alertname": "Symptom", "node": "node-3"}))
        assert (report.decision, report.reason) == ("refused", "unreadable")


class TestCancelAndUndo:
    async def test_cancel_and_then_nothing_is_left_to_cancel(self, open_house):
        decision = await open_house.operations.trigger(request(parameters={"pause": "1h"}))
        asked = await open_house.operations.cancel(decision.run, by="berta", reason="wrong node")
        assert asked.cancel == "berta: wrong node"
        run = await open_house.ended(decision.run)
        assert (run.state, run.reason, run.detail) == ("cancelled", "cancelled_by", "berta: wrong node")
        with pytest.raises(UsageError, match="has ended: cancelled"):
            await open_house.operations.cancel(decision.run, by="berta", reason="")
        with pytest.raises(UsageError, match="there is no run"):
            await open_house.operations.cancel("01nothing", by="berta", reason="")
        status, problem = await open_house.http("POST", f"/api/v1/runs/{decision.run}/cancel", {})
        assert (status, problem["state"]) == (409, "cancelled")

    async def test_a_cancel_that_comes_as_a_step_ends_overwrites_nothing(self, house, text, gate, gated, monkeypatch):
        """The wish is kept with the run as it was read; what the run wrote in between must not be lost."""
        house.put("remedy.yaml", text(steps=[gate, CORDON]))
        await house.start(mode="auto")
        door = house.daemon.world.kube = gated(house.daemon.world.kube)
        journal, save_run = house.journal, house.journal.save_run
        wished, go_on = asyncio.Event(), asyncio.Event()

        async def slow_wish(run):
            if not wished.is_set():
                wished.set()
                await go_on.wait()
            await save_run(run)

        run = (await house.operations.trigger(request())).run

        async def at_the_gate():
            return (await house.journal.run(run)).steps[0].state == "running"

        await house.until(at_the_gate)
        monkeypatch.setattr(journal, "save_run", slow_wish)
        cancelling = asyncio.create_task(house.operations.cancel(run, by="berta", reason=""))
        await wished.wait()
        door.gate.set()  # the step ends now, and is written down as soon as it can be
        await house.stage.world.clock.sleep(timedelta(seconds=10))
        go_on.set()
        await cancelling
        done = await house.ended(run)
        assert (done.state, done.detail) == ("cancelled", "berta")
        assert [str(step.state) for step in done.steps] == ["succeeded", "skipped"]

    async def test_undo_by_hand(self, open_house):
        decision = await open_house.operations.trigger(request())
        with pytest.raises(UsageError, match=r"is (running|verifying); cancel it first"):
            await open_house.operations.undo(decision.run, by="berta", reason="")
        await open_house.ended(decision.run)
        status, _ = await open_house.http("POST", f"/api/v1/runs/{decision.run}/undo", {"by": "berta", "reason": "it is fine again"})
        assert status == 200

        async def undone():
            return (await open_house.journal.run(decision.run)).steps[1].state == "undone"

        await open_house.until(undone)
        assert not open_house.stage.cluster.get("Node", "node-3")["spec"].get("unschedulable")
        with pytest.raises(UsageError, match="left nothing behind"):
            await open_house.operations.undo(decision.run, by="berta", reason="")


class TestPause:
    async def test_what_makes_no_sense_is_a_usage_error(self, open_house, subtests):
        for target in ("node-3", "Node/", "/node-3", "Node/a/b/c", "Nodes!/x", "Node/a/b", "Pod/a", "Node/A b", ""):
            with subtests.test(target=target):
                with pytest.raises(UsageError):
                    await open_house.operations.pause(PauseRequest(target=target, reason="r", by="anna"))
                with pytest.raises(UsageError):
                    await open_house.operations.resume(playbook=None, target=target, by="anna")
        with pytest.raises(UsageError, match="remedy"):
            await open_house.operations.pause(PauseRequest(playbook="remedi", reason="r", by="anna"))
        assert await open_house.journal.pauses(open_house.stage.world.clock.now()) == []

    async def test_a_kind_as_people_spell_it_stops_that_target(self, open_house, subtests):
        """A kill switch that was taken and does not work is worse than one that was refused."""
        for spelled in ("Node/node-3", "node/node-3", "nodes/node-3"):
            with subtests.test(target=spelled):
                pause = await open_house.operations.pause(PauseRequest(target=spelled, reason="exam", by="anna"))
                assert pause.target == "Node/node-3"
                decision = await open_house.operations.trigger(request())
                assert (decision.decision, decision.reason) == ("refused", "paused")
                assert await open_house.operations.resume(playbook=None, target=spelled, by="anna") == 1
        assert (await open_house.operations.trigger(request())).decision == "run"

    async def test_it_ends_by_its_own_time(self, open_house, later):
        await open_house.operations.pause(PauseRequest(reason="exam", by="anna", seconds=600))
        assert [p.reason for p in open_house.operations.status().paused] == ["exam"]
        assert (await open_house.operations.trigger(request())).reason == "paused"
        later(seconds=600)
        assert open_house.operations.status().paused == ()
        assert (await open_house.operations.trigger(request())).decision == "run"

    async def test_resume_ends_exactly_its_own_scope(self, open_house):
        operations = open_house.operations
        await operations.pause(PauseRequest(reason="all", by="anna"))
        await operations.pause(PauseRequest(reason="one", playbook="remedy", by="anna"))
        assert await operations.resume(playbook=None, target=None, by="berta") == 1
        assert [p.reason for p in operations.status().paused] == ["one"]
        assert await operations.resume(playbook=None, target=None, by="berta") == 0
        assert await operations.resume(playbook="remedy", target=None, by="berta") == 1

    async def test_it_survives_a_restart(self, open_house):
        await open_house.operations.pause(PauseRequest(reason="exam", by="anna"))
        await open_house.stop()
        await open_house.start(mode="auto")
        assert (await open_house.operations.trigger(request())).reason == "paused"

        async def shown():
            return [p.reason for p in open_house.operations.status().paused] == ["exam"]

        await open_house.until(shown)


class TestGatesAndBreaker:
    async def test_every_gate_that_applies_is_shown_with_why_and_its_settings(self, house, text):
        steps = [{"cordon": {"action": "node.cordon"}}, {"restart": {"action": "cilium.restart_agent"}}]
        house.put("remedy.yaml", text(steps=steps, gates={"cooldown": "30m", "capacity": {"headroom_percent": 10}}))
        house.put("look.yaml", text("look", alert=None))
        await house.start(mode="auto")
        _, shown = await house.http("GET", "/api/v1/playbooks/remedy")
        applying = {one["gate"]: (one["by"], one["settings"]) for one in shown["in_force"]}
        assert applying["cooldown"] == ("always", "30m")
        assert applying["disturbance_budget"] == ("always", None)
        assert applying["capacity"] == ("the playbook", {"headroom_percent": 10.0})
        assert applying["crash_looping"] == ("cilium.restart_agent", None)
        assert "route_coverage" not in applying
        _, shown = await house.http("GET", "/api/v1/playbooks/look")
        disturbing = {"breaker_open", "disturbance_budget", "partition", "quorum", "rate_limited", "self", "storm", "target_leased"}
        assert not disturbing & {one["gate"] for one in shown["in_force"]}

    async def test_while_the_breaker_is_read_the_status_tells_what_was_known(self, open_house, monkeypatch):
        operations = open_house.operations
        await operations.look_at_doors()
        asked, told, known = asyncio.Event(), asyncio.Event(), operations.breaker

        async def slow():
            asked.set()
            await told.wait()
            return await known()

        monkeypatch.setattr(operations, "breaker", slow)
        look = asyncio.create_task(operations.look_at_doors())
        await asked.wait()
        assert operations.status().breaker.open is False
        told.set()
        await look

    async def test_a_breaker_that_cannot_be_read_is_not_known(self, open_house, monkeypatch):
        operations = open_house.operations
        await operations.look_at_doors()

        async def broken():
            raise JournalUnavailable("gone")

        monkeypatch.setattr(operations, "breaker", broken)
        with pytest.raises(JournalUnavailable):
            await operations.look_at_doors()
        assert operations.status().breaker is None

    async def test_the_status_says_how_the_breaker_stands(self, open_house):
        await open_house.operations.look_at_doors()
        _, status = await open_house.http("GET", "/api/v1/status")
        assert (status["breaker"]["open"], status["breaker"]["failures"]) == (False, 0)
        open_house.daemon.world.limits = Limits(breaker=Breaker(runs=1))
        decision = await open_house.operations.trigger(request())
        assert decision.run is not None, decision.detail
        await open_house.journal.save_run(evolve(await open_house.ended(decision.run), disruptive=True))
        await open_house.operations.look_at_doors()
        assert open_house.operations.status().breaker.open
        assert METRICS.breaker_open._value.get() == 1


class TestReceive:
    @pytest.mark.parametrize("room", [0, 100])
    async def test_while_it_waits_for_the_disk_it_holds_no_more_than_it_needs_afterwards(self, house, text, monkeypatch, room):
        monkeypatch.setattr("remediator.inbox._IN_MEMORY", room)
        house.put("remedy.yaml", text())
        await house.start()
        body, on_disk, waits = body_of(house.outside.fire()), asyncio.Event(), asyncio.Event()
        write = house.journal._writer.write

        async def slowly(work, size=0):
            waits.set()
            await on_disk.wait()
            return await write(work, size)

        monkeypatch.setattr(house.journal._writer, "write", slowly)
        counted = sys.getrefcount(body)
        receiving = asyncio.ensure_future(house.operations.receive(body, sender=f"room for {room}"))
        await waits.wait()
        assert sys.getrefcount(body) == counted
        held = [one for one in gc.get_objects() if isinstance(one, Delivery) and one.sender == f"room for {room}"]
        assert len(held) == (1 if room else 0)
        on_disk.set()
        kept = await receiving
        assert (kept.firing, kept.resolved, kept.alerts, kept.truncated) == (1, 0, 1, 0)

        async def decided():
            return (await house.journal.decisions(delivery=kept.id)).items

        (decision,) = await house.until(decided)
        assert decision.playbook == "remedy"


class TestPrune:
    async def test_the_daemon_prunes_by_itself_what_is_older_than_the_settings_keep(self, house, later, text, monkeypatch):
        monkeypatch.setattr("remediator.daemon._PRUNE", timedelta(seconds=5))
        house.put("remedy.yaml", text(steps=[CORDON]))
        await house.start(store={"url": "sqlite:///remediator.db", "retention": "40d"})
        await house.journal.note("reload", "", {"number": 1})
        await house.journal.note("reload", "", {"number": 2})
        later(days=41)

        async def pruned():
            return (await house.journal.verify()).pruned

        await house.until(pruned, "the pruning")
        assert [entry.data["number"] for entry in await house.journal.entries(kind="reload")] == [2]
        assert (await house.journal.verify()).problems == []

    async def test_the_engine_forgets_what_was_pruned_and_no_open_run(self, house, symptom, text, later, gate, gated):
        """An open run of the same age goes on afterwards, and not from its beginning."""
        symptom.cured = lambda node: bool(house.stage.cluster.get("Node", node)["spec"].get("unschedulable"))
        house.put("remedy.yaml", text(steps=[CORDON], alert=None))
        house.put(
            "waits.yaml", text("waits", steps=[SETTLE, gate, CORDON], parameters=PARAMETERS, alert=None, verify=None, deadline="1000d")
        )
        await house.start(mode="auto")
        house.daemon.world.kube = gated(house.daemon.world.kube)

        async def trigger(playbook, node):
            asked = {"playbook": playbook, "target": f"Node/{node}", "by": "anna", "reason": "to see"}
            status, run = await house.http("POST", "/api/v1/runs", asked)
            assert status == 201, run
            return run["id"]

        over = await trigger("remedy", "node-3")
        await house.ended(over)
        assert (await house.http("POST", f"/api/v1/runs/{over}/undo", {"by": "anna", "reason": "to see"}))[0] == 200

        await ends(house, f"{over}.undo")
        waits = await trigger("waits", "node-4")

        async def at_the_gate():
            return (await house.journal.run(waits)).steps[1].state == "running"

        await house.until(at_the_gate, "the run at its gate")
        store = house.folder / "remediator.db.engine"
        assert {over, f"{over}.undo", waits} <= ids_in(store)
        await prune(house, over, later)
        assert ids_in(store) == {waits}
        house.daemon.world.kube.gate.set()
        ended = await house.ended(waits)
        assert (ended.state, [step.state for step in ended.steps]) == ("done", ["succeeded"] * 3)

    async def test_what_the_engine_cannot_forget_now_is_pruned_all_the_same(self, open_house, later, monkeypatch):
        """Its store does not answer. The journal's part is done, and the next pruning sees to the rest."""
        _, run = await open_house.http("POST", "/api/v1/runs", {"playbook": "remedy", "target": "Node/node-3"})
        await open_house.ended(run["id"])
        await open_house.http("POST", f"/api/v1/runs/{run['id']}/undo", {"by": "anna", "reason": "to see"})

        await ends(open_house, f"{run['id']}.undo")
        with monkeypatch.context() as broken:
            broken.setattr(DBOS, "list_workflows_async", unanswered)
            await prune(open_house, run["id"], later)
        assert "still holds runs that were pruned" in open_house.log.getvalue()
        store = open_house.folder / "remediator.db.engine"
        assert run["id"] in ids_in(store)
        status, done = await open_house.http("POST", "/api/v1/journal/prune", {})
        assert (status, done["removed"].get("run")) == (200, None)
        assert ids_in(store) == set()

    async def test_nothing_goes_that_gates_still_look_back_to(self, open_house):
        status, problem = await open_house.http("POST", "/api/v1/journal/prune", {"seconds": 30 * 86400})
        assert (status, "31d" in problem["detail"]) == (400, True)
        status, done = await open_house.http("POST", "/api/v1/journal/prune", {"seconds": 31 * 86400})
        assert (status, done["through"], done["removed"], done["slices"]) == (200, 0, {}, 1)


async def test_a_connection_that_makes_no_request_is_closed(house, text, monkeypatch):
    """Nobody needs a token for it, and aiohttp would hold it for ever."""
    monkeypatch.setattr(daemon, "Connections", partial(Connections, head_seconds=0.3))
    house.put("remedy.yaml", text())
    await house.start()
    port = int(house.daemon.url.rpartition(":")[2])
    held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(50)]
    for _, writer in held:
        writer.write(b"POST /api/v1/alerts HTTP/1.1\r\nHost: x\r\n")
    assert [await asyncio.wait_for(reader.read(), 20) for reader, _ in held] == [b""] * 50
    assert (await house.http("GET", "/api/v1/status", token="read"))[0] == 200
    for _, writer in held:
        writer.close()
