"""What GET /metrics tells: every metric of the published list, from 0 on, with labels whose values are bounded; exemplars; how we are."""

from __future__ import annotations

import asyncio
import re
import time
from datetime import timedelta

import pytest
from pipeline.test_approval import decision_of
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from remediator import daemon, record, telemetry, vitals
from remediator.actions import actions
from remediator.gates import gates
from remediator.journal.audit import ChainReport
from remediator.model import Change, ChangeState, Pause, RunState, evolve, new_id
from remediator.model import Resource as Thing
from remediator.server import manage
from remediator.telling import teller
from remediator.vitals import Vitals, keep_timing

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
"""As Prometheus asks."""
ENDED = [state.value for state in RunState if not state.open]
NAMED = {"playbook": ["remedy"], "gate": sorted(gates()), "outcome": ENDED, "action": sorted(actions())}
LIST = {
    "build_info": {},
    "webhook_requests_total": {"code": ["200", "400", "401", "413", "503"]},
    "alerts_received_total": {"status": ["firing", "resolved"]},
    "alerts_truncated_total": {},
    "alerts_unmatched_total": {},
    "gate_refusals_total": {key: NAMED[key] for key in ("playbook", "gate")},
    "runs_total": {key: NAMED[key] for key in ("playbook", "outcome")},
    "runs_in_flight": {"playbook": ["remedy"]},
    "run_duration_seconds_count": {"playbook": ["remedy"]},
    "action_attempts_total": {"action": NAMED["action"], "result": ["succeeded", "failed", "refused", "cancelled", "unknown"]},
    "action_duration_seconds_count": {"action": NAMED["action"]},
    "verifications_total": {"playbook": ["remedy"], "result": ["healed", "still_firing", "relapsed", "deadline"]},
    "queue_depth": {},
    "queue_oldest_seconds": {},
    "kube_requests_total": {"verb": ["get", "list", "patch", "evict"], "code": ["200", "unreachable", "timeout"]},
    "prometheus_queries_total": {"result": ["ok", "refused", "unreachable", "unusable", "stale"]},
    "notifications_total": {"channel": ["pager"], "result": ["sent", "refused", "failed", "dropped"]},
    "store_failures_total": {"operation": ["queue", "read", "write"]},
    "config_last_reload_successful": {},
    "config_last_reload_success_timestamp_seconds": {},
    "config_hash": {},
    "paused": {},
    "leader": {},
    # beyond the published list, for our own alerts
    "time_to_heal_seconds_count": {"playbook": ["remedy"]},
    "decisions_total": {"decision": ["refused"], "reason": ["paused", "storm", "missing_right"]},
    "not_healed_total": {"playbook": ["remedy"], "reason": ["no_more_rungs", "still_firing", "relapsed", "deadline"]},
    "last_delivery_timestamp_seconds": {},
    "paused_oldest_seconds": {},
    "changes_left_behind": {},
    "changes_left_behind_oldest_seconds": {},
    "runs_overdue": {},
    "breaker_open": {},
    "playbook_demoted": {"playbook": ["remedy"]},
    "journal_whole": {},
    "event_loop_delay_seconds_count": {},
    "journal_verified_timestamp_seconds": {},
}
UNBOUNDED = re.compile(r"pod|fingerprint|run|delivery|target|node|instance|id")


@pytest.fixture
async def fresh(house, text, monkeypatch):
    """A daemon whose metrics nobody has touched; those of this process are shared by all tests, and children of theirs are kept by many."""
    metrics = telemetry.Metrics()
    for module in (daemon, record, manage, teller, vitals):
        monkeypatch.setattr(module, "METRICS", metrics)
    house.put("remedy.yaml", text())
    await house.start(notify=[{"name": "pager", "url": "http://127.0.0.1:9/"}])
    return house


def samples(text, parse=plain):
    return [sample for family in parse(text) for sample in family.samples if not sample.name.endswith("_created")]


async def test_every_metric_of_the_list_is_there_from_the_start(fresh):
    _, text = await fresh.http("GET", "/metrics", token="read")
    found = samples(text)
    for name, labels in LIST.items():
        mine = [sample for sample in found if sample.name == f"remediator_{name}"]
        assert mine, name
        for label, values in labels.items():
            assert set(values) <= {sample.labels[label] for sample in mine}, (name, label)
    assert {s.value for s in found if s.name in ("remediator_runs_total", "remediator_verifications_total")} == {0}
    assert next(s.value for s in found if s.name == "remediator_leader") == 1


async def test_no_metric_is_labelled_by_what_comes_without_end(fresh):
    _, text = await fresh.http("GET", "/metrics", token="read")
    labels = {label for sample in samples(text) for label in sample.labels}
    assert not [label for label in labels if UNBOUNDED.fullmatch(label)]
    assert {"playbook", "gate", "reason", "action"} <= labels


async def test_a_scraper_that_asks_for_openmetrics_gets_it_with_the_run_behind_a_point(house, text, symptom):
    symptom.cured = lambda _: True
    house.put("remedy.yaml", text())
    await house.start()
    _, decision = await house.http("POST", "/api/v1/runs", {"playbook": "remedy", "target": "Node/node-3", "reason": "to see"})
    run = decision["id"] if "id" in decision else decision["run"]
    await house.ended(run)
    body, media = telemetry.METRICS.written(OPENMETRICS)
    assert media.startswith("application/openmetrics-text; version=1.0.0")
    told = {s.name for s in samples(body.decode(), openmetrics) if s.exemplar is not None and s.exemplar.labels == {"run": run}}
    assert told >= {
        f"remediator_{name}" for name in ("runs_total", "run_duration_seconds_bucket", "time_to_heal_seconds_bucket", "verifications_total")
    }
    assert told >= {"remediator_action_attempts_total", "remediator_action_duration_seconds_bucket"}
    body, media = telemetry.METRICS.written()
    assert media.startswith("text/plain; version=0.0.4")
    assert run.encode() not in body


async def test_an_alert_that_began_in_the_future_by_our_clock_leaves_metrics_that_can_be_read(house, text, symptom):
    symptom.cured = lambda _: True
    house.put("remedy.yaml", text())
    await house.start(mode="auto")
    ahead = house.outside.fire(since=house.stage.world.clock.now() + timedelta(days=1))
    decision = await decision_of(house, ahead)
    assert (await house.ended(decision.run)).state == "healed"
    found = samples(telemetry.METRICS.written(OPENMETRICS)[0].decode(), openmetrics)
    assert next(s.value for s in found if s.name == "remediator_time_to_heal_seconds_sum" and s.labels == {"playbook": "remedy"}) >= 0


def gauge(name):
    return telemetry.METRICS.registry.get_sample_value(f"remediator_{name}")


async def test_what_is_left_behind_overdue_and_paused_is_counted_with_its_age(line, text, later):
    line.load(text())
    await line.start()
    world, own = line.world, Vitals(line.world, line.pipeline)
    await own.look()
    assert [gauge(name) for name in ("changes_left_behind", "changes_left_behind_oldest_seconds", "runs_overdue")] == [0, 0, 0]
    now = world.clock.now()
    playbook = line.stage.playbook("wait", **{"for": "1s"})
    over, waiting = [await line.stage.begin(playbook, node=node) for node in ("node-1", "node-2")]
    await world.journal.save_run(evolve(waiting, state=RunState.AWAITING_APPROVAL))
    thing = Thing(kind="Node", namespace="", name="node-1", uid="u")
    change = Change(
        id=new_id(now),
        run=over.id,
        step="it",
        action="node.cordon",
        verb="patch",
        resource=thing,
        state=ChangeState.APPLIED,
        at=now,
    )
    await world.journal.save_change(change)
    await world.journal.add_pause(Pause(id=new_id(now), reason="r", by="ada", at=now))
    later(hours=2)
    await own.look()
    assert gauge("runs_overdue") == 1, "who waits for people is not late"
    assert gauge("changes_left_behind") == 0, "a run at work has not left it behind yet"
    assert gauge("paused_oldest_seconds") >= 7200
    await world.journal.save_run(evolve(over, state=RunState.FAILED, ended_at=now))
    await own.look()
    assert (gauge("runs_overdue"), gauge("changes_left_behind")) == (0, 1)
    assert 7200 <= gauge("changes_left_behind_oldest_seconds") < 7200 + 600


async def test_when_the_last_delivery_came_is_known_after_a_restart(house, text, outside):
    house.put("remedy.yaml", text())
    await house.start()
    await house.operations.receive((await _body(outside)), sender="10.0.0.7")
    (stored,) = (await house.journal.deliveries()).items
    await house.stop()
    telemetry.METRICS.delivered_at = None
    await house.start()

    async def known():
        return gauge("last_delivery_timestamp_seconds") == pytest.approx(stored.received_at.timestamp(), abs=0.01)

    await house.until(known, "the last delivery is known")


async def test_work_that_holds_the_loop_up_shows_in_a_metric_and_when_long_in_the_log(monkeypatch, logged):
    metrics = telemetry.Metrics()
    monkeypatch.setattr(vitals, "METRICS", metrics)
    monkeypatch.setattr(vitals, "_STALL", 0.05)

    def within(seconds):
        return metrics.registry.get_sample_value("remediator_event_loop_delay_seconds_bucket", {"le": str(seconds)})

    timing = asyncio.create_task(keep_timing())
    while not within("+Inf"):  # noqa: ASYNC110 - the loop has to turn, that is all
        await asyncio.sleep(0)
    time.sleep(0.1)  # noqa: ASYNC251 - what is to be noticed
    before = within("+Inf")
    while within("+Inf") == before:  # noqa: ASYNC110 - as above
        await asyncio.sleep(0)
    timing.cancel()
    assert within("+Inf") > within(0.05)
    told = [entry["seconds"] for entry in logged if entry["event"] == "the event loop stood still"]
    assert max(told) >= 0.05


async def _body(outside):
    import json

    return json.dumps({"version": "4", "receiver": "r", "status": "firing", "groupKey": "g", "alerts": [outside.fire("Other")]}).encode()


@pytest.mark.parametrize("ok", [True, False])
async def test_a_journal_that_was_altered_shows_in_a_metric_and_in_the_log(line, text, monkeypatch, logged, ok):
    line.load(text())
    await line.start()
    own = Vitals(line.world, line.pipeline)
    given = []
    monkeypatch.setattr(vitals, "give_back", lambda: given.append("memory"))
    if not ok:
        report = ChainReport(ok=False, entries=3, problems=["entry 2 does not follow from entry 1"])

        async def altered(**_):
            return report

        monkeypatch.setattr(line.world.journal, "verify", altered)
    assert await own.verify() is True
    assert given == ["memory"], "which it took, and needs no more before tomorrow"
    assert gauge("journal_whole") == ok
    assert gauge("journal_verified_timestamp_seconds") == pytest.approx(line.world.clock.now().timestamp(), abs=timedelta(hours=1).seconds)
    assert [entry["problems"] for entry in logged if entry["log_level"] == "error"] == ([] if ok else [report.problems])


async def test_a_journal_that_its_anchor_does_not_know_shows_in_a_metric_the_log_and_the_status(house, text, logged, tmp_path):
    anchor = tmp_path / "anchor.jsonl"
    house.put("remedy.yaml", text())
    store = {"url": "sqlite:///remediator.db", "anchor": str(anchor)}
    telemetry.METRICS.journal_whole.set(1)  # as in a process that begins
    await house.start(store=store)
    assert anchor.read_text().count("\n") == 1
    await house.journal.note("said", "", {})
    await house.stop()
    assert anchor.read_text().count("\n") == 2, "at start and at stop"

    await house.start(store=store)
    assert (house.operations.status().journal, gauge("journal_whole")) == ("ok", 1)
    await house.stop()
    known = anchor.read_text()
    anchor.write_text(known.replace('"hash":"', '"hash":"0', 1))
    await house.start(store=store)
    assert gauge("journal_whole") == 0
    assert "entry 1 is not the one that the anchor has" in house.operations.status().journal
    assert "the journal is not what its anchor says" in house.log.getvalue()
    status, report = await house.http("GET", "/api/v1/journal/verify")
    assert (status, report["ok"]) == (200, False)
    await house.stop()

    anchor.write_text(known)
    await house.start(store=store)
    assert await Vitals(house.daemon.world, house.daemon._pipeline).verify()
    assert (house.operations.status().journal, gauge("journal_whole")) == ("ok", 1)
