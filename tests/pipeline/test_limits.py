"""Gates over all runs, read from a real journal: what counts is what is on disk, so a restart changes nothing."""

from __future__ import annotations

from datetime import timedelta

import pytest

from remediator.breaker import Backlog
from remediator.errors import UsageError
from remediator.gates import Limits
from remediator.model import RunState, evolve
from remediator.reasons import Reason
from remediator.server.service import BreakerRequest
from remediator.settings import Breaker, Share, Storm
from remediator.windows import Window

DISTURBS = [{"restart": {"action": "cilium.restart_agent"}}]
WIDE = {"concurrent_runs": 100, "concurrent_disruptive": 100, "concurrent_per_zone": 100, "max_disturbed": Share(percent=100)}


@pytest.fixture
def remedy(deciding, text, symptom):
    """With ``symptom`` Prometheus scrapes whenever it is asked, so that a leap in time does not make it stale."""
    deciding.load(text(steps=DISTURBS, gates={"cooldown": "1s"}))
    return deciding


def limits(remedy, **fields):
    remedy.world.limits = Limits(**{**WIDE, **fields})


def refusing(decision):
    return {verdict.gate for verdict in decision.gates if not verdict.allowed}


async def one(remedy, alert):
    (decision,) = await remedy.decide(alert)
    return decision


async def test_the_rate_is_that_of_the_journal_whoever_restarts(remedy, outside, later):
    limits(remedy, disruptive_per_hour=2)
    for node in ("node-1", "node-2"):
        assert (await one(remedy, outside.fire(node=node))).decision == "run"
    await remedy.restart()
    decision = await one(remedy, alert := outside.fire(node="node-3"))
    assert (decision.decision, decision.reason) == ("refused", Reason.RATE_LIMITED)
    later(hours=1)
    assert (await one(remedy, alert)).decision == "run", "Alertmanager repeats it when there is room again"


async def test_a_storm_that_arrives_in_one_delivery_is_seen_before_its_first_alert_acts(remedy, outside):
    limits(remedy, storm=Storm(episodes=4, within=timedelta(minutes=5), cooldown=timedelta(minutes=10)))
    decisions = await remedy.decide(*(outside.fire(node=f"node-{n}") for n in range(1, 6)))
    assert {(d.decision, d.reason) for d in decisions} == {("refused", Reason.STORM)}


async def test_a_storm_that_arrives_one_by_one_is_seen_and_outlives_a_restart(remedy, outside, later):
    limits(remedy, storm=Storm(episodes=4, within=timedelta(minutes=5), cooldown=timedelta(minutes=10)))
    reasons = [(await one(remedy, outside.fire(node=f"node-{n}"))).reason for n in range(1, 5)]
    assert reasons == [None, None, None, Reason.STORM]
    await remedy.restart()
    alert = outside.fire(node="node-5")
    assert (await one(remedy, alert)).reason is Reason.STORM
    later(minutes=6)
    decision = await one(remedy, alert)
    assert decision.reason is Reason.STORM
    assert "cooldown" in decision.detail
    later(minutes=10)
    assert (await one(remedy, alert)).decision == "run"


async def test_many_alerts_about_one_node_are_no_storm(remedy, outside):
    limits(remedy, storm=Storm(episodes=2, within=timedelta(minutes=5), cooldown=timedelta(minutes=10)))
    decisions = await remedy.decide(*(outside.fire(node="node-3", way=f"{n}") for n in range(5)))
    assert [d.decision for d in decisions] == ["run", "refused", "refused", "refused", "refused"]
    assert refusing(decisions[1]) == {"target_busy"}


async def test_failures_open_the_breaker_for_good(remedy, outside, later):
    limits(remedy, breaker=Breaker(failures=2, runs=100, within=timedelta(hours=1)))
    for node in ("node-1", "node-2"):
        await one(remedy, outside.fire(node=node))
        (run,) = remedy.runs
        ended = remedy.world.clock.now()
        await remedy.world.journal.save_run(evolve(run, state=RunState.FAILED, reason=Reason.STEP_FAILED, ended_at=ended))
    await remedy.restart()
    alert = outside.fire(node="node-3")
    assert (await one(remedy, alert)).reason is Reason.BREAKER_OPEN
    later(hours=20)
    assert "breaker_open" in refusing(await one(remedy, alert))


async def test_during_maintenance_an_alert_is_held_and_decided_again_when_it_comes_again(remedy, outside, later):
    now = remedy.world.clock.now()
    window = Window.model_validate({"since": now - timedelta(hours=1), "until": now + timedelta(hours=1)})
    limits(remedy, maintenance=(window,))
    alert = outside.fire()
    decision = await one(remedy, alert)
    assert (decision.decision, decision.reason, decision.run) == ("held", Reason.MAINTENANCE, None)
    later(hours=2)
    assert (await one(remedy, alert)).decision == "run"


async def test_a_playbooks_own_expression_is_asked_again_before_it_acts(remedy, outside, text, symptom):
    limits(remedy)
    remedy.load(text(steps=DISTURBS, gates={"cooldown": "1s", "still_true": 'symptom{node="${target.name}"} == 1'}))
    symptom.set("node-2", False)
    gone = await one(remedy, outside.fire(node="node-2"))
    assert gone.reason is Reason.NOT_FIRING
    assert refusing(gone) == {"stale_metric"}
    assert (await one(remedy, outside.fire(node="node-3"))).decision == "run"


async def test_a_node_that_medik8s_works_on_is_left_to_it(remedy, outside, stage):
    limits(remedy)
    now = remedy.world.clock.now()
    spec = {"holderIdentity": "node-maintenance", "leaseDurationSeconds": 3600, "renewTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")}
    metadata = {"name": "node-node-3", "namespace": "medik8s-leases"}
    stage.cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "medik8s-leases"}})
    stage.cluster.create({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec})
    assert refusing(await one(remedy, outside.fire(node="node-3"))) == {"target_leased"}
    assert (await one(remedy, outside.fire(node="node-4"))).decision == "run"


class TestBreakerOfPeople:
    """Through the service that the API and the command line use."""

    @pytest.fixture
    def service(self, remedy):
        from remediator.model import Mode
        from remediator.operations import Operations
        from remediator.payload import Limits as PayloadLimits
        from remediator.server.service import ReloadReport

        report = ReloadReport(ok=True, at=remedy.world.clock.now())
        return Operations(remedy.world, None, limits=PayloadLimits(), ceiling=Mode.AUTO, first_load=report)

    @pytest.fixture
    async def broken(self, remedy, outside):
        """One failure is enough here; the alert on node-2 began while the breaker was open."""
        limits(remedy, breaker=Breaker(failures=1, runs=100, within=timedelta(hours=1)))
        await one(remedy, outside.fire(node="node-1"))
        (run,) = remedy.runs
        ended = remedy.world.clock.now()
        await remedy.world.journal.save_run(evolve(run, state=RunState.FAILED, reason=Reason.STEP_FAILED, ended_at=ended))
        alert = outside.fire(node="node-2")
        assert (await one(remedy, alert)).reason is Reason.BREAKER_OPEN
        return alert

    async def test_it_stands_closed_and_cannot_be_closed_again(self, service, remedy):
        found = await service.breaker()
        assert (found.open, found.failures, found.reset) == (False, 0, None)
        with pytest.raises(UsageError, match="No breaker is open"):
            await service.reset_breaker(BreakerRequest(backlog=Backlog.SKIP))

    @pytest.mark.parametrize(("backlog", "then"), [(Backlog.RESUME, "run"), (Backlog.SKIP, "refused")])
    async def test_a_reset_is_on_record_and_says_what_becomes_of_the_backlog(self, service, remedy, outside, broken, later, backlog, then):
        assert (await service.breaker()).detail == "1 runs that may disturb failed or did not heal within 1h"
        later(minutes=1)
        reset = await service.reset_breaker(BreakerRequest(backlog=backlog, by="ada", reason="a switch"))
        assert (reset.by, reset.backlog) == ("ada", backlog)
        found = await service.breaker()
        assert (found.open, found.failures, found.reset) == (False, 0, reset)
        await remedy.restart()
        later(minutes=1)
        assert (await one(remedy, broken)).decision == then
        assert (await one(remedy, outside.fire(node="node-5"))).decision == "run", "what begins afterwards is no backlog"
        assert (await remedy.world.journal.verify()).ok
