"""``cilium.restart_agent`` on the simulated cluster: each refusal and each proof of its own."""

from __future__ import annotations

import asyncio
import itertools
from datetime import timedelta
from types import SimpleNamespace

import pytest

from remediator import context, facts, readings
from remediator.cluster.model import Network
from remediator.kube import kinds
from remediator.kube.records import Pod
from remediator.model import PLAN, Alert, AlertStatus, ChangeState, StepState, Trigger, TriggerKind, evolve
from remediator.reasons import Reason
from remediator.run import StepEnd
from remediator.sim.happenings import people_cordon, people_uncordon
from remediator.sim.objects import is_ready

ACTION = "cilium.restart_agent"


@pytest.fixture(autouse=True)
def patient(stage, monkeypatch):
    """A busy machine is no hanging system."""
    stage.lasting = "20m"
    monkeypatch.setattr(facts, "_DEADLINE", timedelta(seconds=20))


async def test_replaces_the_hung_agent_of_that_node_and_no_other(stage):
    before = stage.agents()
    stage.cluster.kill_agent("node-3")
    done = await stage.step(ACTION, ready_for="10s")
    assert done.end is StepEnd.SUCCEEDED, done.detail
    after = stage.agents()
    assert {node for node in before if before[node] != after[node]} == {"node-3"}
    assert [verb for verb, _ in stage.writes()] == ["delete"]
    assert stage.cluster.writes()[0].body["preconditions"] == {"uid": before["node-3"]}
    (change,) = done.run.steps[0].changes
    assert (change.state, change.resource.uid) == (ChangeState.KEPT, before["node-3"])
    assert not change.left_behind


async def test_a_dry_run_sends_the_same_call_and_changes_nothing(stage):
    stage.cluster.kill_agent("node-3")
    before = stage.agents()
    done = await stage.step(ACTION, dry_run=True)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert stage.agents() == before
    (change,) = done.run.steps[0].changes
    assert change.dry_run
    assert not change.left_behind
    assert stage.writes() == []


async def test_refuses_on_a_node_that_is_not_ready(stage):
    stage.cluster.stop_kubelet("node-3")
    await stage.until(lambda: not _ready(stage.cluster.get("Node", "node-3")))
    done = await stage.step(ACTION)
    assert (done.end, done.reason) == (StepEnd.REFUSED, Reason.AGENT_NOT_READY)
    assert "not Ready" in done.detail
    assert stage.writes() == []


async def test_refuses_a_crash_loop(stage):
    stage.cluster.kill_agent("node-3", "crash_loop")
    await stage.until(lambda: _restarts(stage.cluster.agent_pod("node-3")) >= 3)
    done = await stage.step(ACTION)
    assert (done.end, done.reason) == (StepEnd.REFUSED, Reason.CRASH_LOOPING)
    assert "logs" in done.detail
    assert stage.writes() == []


async def test_refuses_while_another_agent_is_down(stage):
    stage.cluster.kill_agent("node-4")
    stage.cluster.kill_agent("node-3")
    done = await stage.step(ACTION)
    assert (done.end, done.reason) == (StepEnd.REFUSED, Reason.AGENT_NOT_READY)
    assert stage.cluster.agent_pod("node-4")["metadata"]["name"] in done.detail
    assert stage.writes() == []


async def test_refuses_without_an_operator(stage):
    deployment = await stage.world.kube.get(_kind("Deployment"), "cilium-operator", "kube-system")
    await stage.world.kube.patch(
        _kind("Deployment"), "cilium-operator", {"spec": {"replicas": 0}}, deployment["metadata"]["namespace"], type="merge"
    )
    await stage.until(lambda: not stage.cluster.operator_works())
    done = await stage.step(ACTION)
    assert (done.end, done.reason) == (StepEnd.REFUSED, Reason.OPERATOR_DOWN)


async def test_refuses_where_a_restart_would_upgrade(stage):
    patch = {"spec": {"updateStrategy": {"type": "OnDelete"}, "template": {"metadata": {"annotations": {"rolled": "yes"}}}}}
    await stage.world.kube.patch(_kind("DaemonSet"), "cilium", patch, "kube-system", type="strategic")
    await stage.world.clock.sleep(timedelta(seconds=20))
    before = len(stage.writes())
    done = await stage.step(ACTION)
    assert (done.end, done.reason) == (StepEnd.REFUSED, Reason.ROLLOUT_IN_PROGRESS), done.detail
    assert len(stage.writes()) == before


@pytest.mark.parametrize("hung", [False, True])
async def test_a_failing_scrape_is_no_reason_while_the_pod_is_ready(stage, hung):
    if hung:
        stage.cluster.kill_agent("node-3")
    now = stage.world.clock.now()
    alert = Alert(name="CiliumAgentScrapeDown", fingerprint="f", starts_at=now, status=AlertStatus.FIRING, labels={"node": "node-3"})
    playbook = stage.playbook(ACTION, scrape_alerts=["CiliumAgentScrapeDown"], ready_for="5s")
    run = await stage.begin(playbook, node="node-3")
    await stage.world.journal.save_run(evolve(run, alert=alert))
    done = await stage.carry(playbook, run)
    assert done.reason is (None if hung else Reason.STALE_METRIC)
    assert len(stage.writes()) == hung


async def test_fails_when_the_new_agent_does_not_get_ready_in_time(stage):
    stage.cluster.kill_agent("node-3")
    stage.simulation.cluster.timing = _slow_agents(stage.cluster.timing)
    done = await stage.step(ACTION, lasting="4m", metrics=False)
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.DEADLINE)
    assert done.run.steps[0].changes[0].state is ChangeState.KEPT


async def test_a_second_entry_after_the_delete_sends_nothing_again(stage):
    """As after a crash between the call and its outcome: the intent is on disk, the old pod is gone."""
    stage.cluster.kill_agent("node-3")
    playbook = stage.playbook(ACTION, ready_for="5s")
    run = await stage.begin(playbook, node="node-3")
    done = await stage.carry(playbook, run)
    assert done.end is StepEnd.SUCCEEDED
    (change,) = done.run.steps[0].changes
    await stage.world.journal.save_change(evolve(change, state=ChangeState.INTENDED, ended_at=None))
    await stage.world.journal.save_step(run.id, evolve(done.run.steps[0], state=StepState.RUNNING, ended_at=None))
    again = await stage.carry(playbook, run)
    assert again.end is StepEnd.SUCCEEDED
    assert [verb for verb, _ in stage.writes()] == ["delete"]
    (looked,) = again.run.steps[0].changes
    assert looked.state is ChangeState.KEPT
    assert "after a restart" in looked.detail


async def test_metrics_that_the_release_before_kept_and_no_agent_has_keep_no_proof_waiting(stage):
    stage.cluster.kill_agent("node-3")
    playbook = stage.playbook(ACTION, ready_for="5s")
    run = await stage.begin(playbook, node="node-3")
    done = await stage.carry(playbook, run)
    (change,) = done.run.steps[0].changes
    assert change.before["metrics"]["present"] == ["cilium_unreachable_nodes", "cilium_unreachable_health_endpoints"]
    present = [*change.before["metrics"]["present"], 'cilium_endpoint_state{endpoint_state="invalid"}']
    before = {**change.before, "metrics": {**change.before["metrics"], "present": present}}
    await stage.world.journal.save_change(evolve(change, state=ChangeState.INTENDED, ended_at=None, before=before))
    await stage.world.journal.save_step(run.id, evolve(done.run.steps[0], state=StepState.RUNNING, ended_at=None))
    again = await stage.carry(playbook, run)
    assert again.end is StepEnd.SUCCEEDED, again.detail
    assert again.run.steps[0].changes[0].before == before


async def test_after_the_delete_no_gate_refuses_the_rest(stage):
    """As after a crash: agent and operator of others are down by then, and what is left to do disturbs nothing."""
    stage.cluster.kill_agent("node-3")
    playbook = stage.playbook(ACTION, ready_for="5s", lasting="20m")
    run = await stage.begin(playbook, node="node-3")
    done = await stage.carry(playbook, run)
    assert done.end is StepEnd.SUCCEEDED
    await stage.world.journal.save_step(run.id, evolve(done.run.steps[0], state=StepState.RUNNING, ended_at=None))
    stage.cluster.kill_agent("node-4")
    await stage.world.kube.patch(_kind("Deployment"), "cilium-operator", {"spec": {"replicas": 0}}, "kube-system", type="merge")
    await stage.until(lambda: not stage.cluster.operator_works())
    again = await stage.carry(playbook, run)
    assert again.end is StepEnd.SUCCEEDED, again.detail
    assert [verb for verb, _ in stage.writes() if verb == "delete"] == ["delete"]


async def test_a_second_entry_before_the_delete_was_sent_sends_it_once_as_a_new_change(stage):
    from remediator.model import Change, Resource, new_id

    stage.cluster.kill_agent("node-3")
    playbook = stage.playbook(ACTION, ready_for="5s")
    run = await stage.begin(playbook, node="node-3")
    pod = stage.cluster.agent_pod("node-3")["metadata"]
    now = stage.world.clock.now()
    never_sent = Change(
        id=new_id(now),
        run=run.id,
        step="it",
        action=ACTION,
        verb="delete",
        resource=Resource(kind="Pod", namespace="kube-system", name=pod["name"], uid=pod["uid"]),
        state=ChangeState.INTENDED,
        at=now,
    )
    await stage.world.journal.save_change(never_sent)
    await stage.world.journal.save_step(run.id, evolve(run.steps[0], state=StepState.RUNNING, started_at=now))
    done = await stage.carry(playbook, run)
    assert done.end is StepEnd.SUCCEEDED
    states = [c.state for c in done.run.steps[0].changes]
    assert states == [ChangeState.ABSENT, ChangeState.KEPT]
    assert [verb for verb, _ in stage.writes()] == ["delete"]


async def test_a_lost_answer_is_looked_into_and_not_sent_again(stage):
    stage.cluster.kill_agent("node-3")
    stage.cluster.drop(verb="delete", path="/pods/", when="after")
    done = await stage.step(ACTION, ready_for="5s")
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert len([verb for verb, _ in stage.writes()]) == 1
    assert "seen to have taken effect" in done.run.steps[0].changes[0].detail


async def test_a_refusal_of_the_api_changes_nothing_and_fails_the_step(stage):
    stage.cluster.kill_agent("node-3")
    stage.cluster.fail(verb="delete", path="/pods/", status=403)
    done = await stage.step(ACTION)
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.STEP_FAILED)
    assert done.run.steps[0].changes[0].state is ChangeState.ABSENT


def evidence(done, name):
    return next((e.data for e in done.run.steps[0].evidence if e.name == name), None)


async def test_the_plan_says_what_goes_what_waits_and_what_will_be_proved(stage):
    old = stage.cluster.agent_pod("node-3")["metadata"]
    done = await stage.step(ACTION, ready_for="10s", dry_run=True)
    lines = evidence(done, PLAN)
    assert lines[0].startswith(
        f"delete pod kube-system/{old['name']} (uid {old['uid']}, Ready); DaemonSet cilium makes a new one on node-3"
    )
    assert any("cilium_unreachable_nodes" in line for line in lines)
    assert lines[-1] == "nothing is to be undone"
    (caveat,) = evidence(done, "caveats")
    assert caveat.startswith("graceful restart is off for BGP sessions"), "nothing else in this cluster needs to be minded"


async def test_after_peers_reach_the_node_by_samples_two_probe_intervals_after(stage):
    stage.cluster.kill_agent("node-3")
    before = stage.world.clock.now()
    done = await stage.step(ACTION, ready_for="0s")
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert (stage.world.clock.now() - before).total_seconds() > 287, "twice 60 s x ln(1 + 2 x 5 addresses), from Ready on"
    assert evidence(done, "not checked") is None
    lists = [entry for entry in stage.cluster.request_log if entry.verb == "list" and entry.resource.partition(".")[0] == "ciliumendpoints"]
    assert 2 <= len(lists) < 20, "all of the cluster's, and nothing waits for them meanwhile"


async def test_the_longer_looks_take_the_rarer_they_are(stage, monkeypatch):
    """As in a cluster of thousands of nodes, where each has to read long lists: 20 s for each of these."""
    seconds = itertools.count(step=20)
    monkeypatch.setattr(context, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    done = await stage.step(ACTION, ready_for="3m", metrics=False)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    looks = [entry for entry in stage.cluster.request_log if entry.verb == "list" and entry.resource.partition(".")[0] == "ciliumendpoints"]
    assert 3 <= len(looks) <= 6, "every minute, in place of 90 in three minutes"


async def test_where_agents_probe_more_often_the_proof_takes_less(stage):
    await tell_agents(stage, "0")
    before = stage.world.clock.now()
    done = await stage.step(ACTION, ready_for="0s")
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert 47 < (stage.world.clock.now() - before).total_seconds() < 200, "twice 10 s x ln(1 + 2 x 5 addresses), and some time to get Ready"


async def test_where_they_probe_too_rarely_for_the_time_there_is_the_record_says_that_nobody_asked(stage):
    await tell_agents(stage, "1")
    done = await stage.step(ACTION, ready_for="5s", lasting="10m")
    assert done.end is StepEnd.SUCCEEDED, done.detail
    (told,) = evidence(done, "not checked")
    assert "whether peers reach node-3: with the new agent's start it takes 10m18s until they could tell, and the step ends in 9m" in told
    assert "Prometheus is not asked whether peers reach node-3 again: with the new" in " ".join(evidence(done, PLAN))


async def test_the_step_that_the_design_shows_has_five_minutes(stage):
    done = await stage.step(ACTION, lasting="5m")
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert "it takes 6m18s" in evidence(done, "not checked")[0]


async def tell_agents(stage, ratio):
    data = {"data": {"connectivity-probe-frequency-ratio": ratio}}
    await stage.world.kube.patch(kinds.CONFIG_MAP, "cilium-config", data, "kube-system", type="merge")


async def test_an_agent_that_was_not_ready_for_a_moment_begins_the_two_intervals_anew(stage):
    """Between two looks: only the time of the pod's condition tells."""
    old = stage.agents()["node-3"]
    task = asyncio.create_task(stage.step(ACTION, ready_for="0s"))
    await stage.until(lambda: _replaced(stage, old) and is_ready(stage.cluster.agent_pod("node-3")))
    await stage.world.clock.sleep(timedelta(minutes=2))
    pod, again = stage.cluster.agent_pod("node-3"), stage.world.clock.now()
    for ready in (False, True):
        stage.cluster.kubelets.set_ready(pod, ready=ready)
    done = await task
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert stage.world.clock.now() - again > timedelta(seconds=287 - 10)


async def test_after_a_node_that_peers_do_not_reach_is_not_restarted_well(stage):
    stage.cluster.kill_agent("node-3")
    stage.cluster.network.degrade_node("node-3", loss=1)
    done = await stage.step(ACTION, ready_for="0s", lasting="8m")
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.DEADLINE)
    assert "cilium_unreachable_nodes is not 0 for node-1 (1)" in done.detail


async def test_where_metrics_are_the_symptom_they_are_left_to_the_playbook(stage):
    stage.cluster.kill_agent("node-3")
    stage.cluster.network.degrade_node("node-3", loss=1)
    done = await stage.step(ACTION, ready_for="0s", lasting="8m", metrics=False)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert "metrics: false" in evidence(done, "not checked")[0]
    assert "metrics: false" in " ".join(evidence(done, PLAN))


async def test_without_prometheus_the_record_says_what_was_not_checked(stage):
    stage.world.prometheus = None
    stage.cluster.kill_agent("node-3")
    done = await stage.step(ACTION, ready_for="5s")
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert "prometheus.url" in evidence(done, "not checked")[0]
    assert "Prometheus is not asked" in " ".join(evidence(done, PLAN))


async def test_a_prometheus_that_did_not_answer_before_is_not_waited_for_after(stage, monkeypatch):
    monkeypatch.setattr(readings, "read_network", _all_is_well)  # else the gate partition refuses before the action looks
    stage.cluster.fail(path="/prometheus/", status=503, count=None)
    done = await stage.step(ACTION, ready_for="5s")
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert "503" in evidence(done, "not checked")[0]


async def _all_is_well(_):
    return Network(unreachable=(0.0,) * 5, targets=12)


async def test_a_prometheus_that_answers_no_more_proves_nothing(stage):
    task = asyncio.create_task(stage.step(ACTION, ready_for="0s", lasting="8m"))
    await stage.until(lambda: any(verb == "delete" for verb, _ in stage.writes()))
    stage.cluster.fail(path="/prometheus/", status=503, count=None)
    done = await task
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.DEADLINE)
    assert "503" in done.detail


async def test_after_the_taint_is_gone(stage):
    """The operator goes right after the delete: the agent is Ready, and the node still takes no pods."""
    stage.world.prometheus = None
    task = asyncio.create_task(stage.step(ACTION, ready_for="5s", lasting="8m"))
    await stage.until(lambda: _tainted(stage))
    await stage.world.kube.patch(_kind("Deployment"), "cilium-operator", {"spec": {"replicas": 0}}, "kube-system", type="merge")
    done = await task
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.DEADLINE)
    assert "still carries node.cilium.io/agent-not-ready" in done.detail


async def test_after_every_endpoint_of_the_node_is_ready(stage):
    stage.world.prometheus = None
    address = stage.cluster.node_address("node-3")
    body = {"metadata": {"name": "stale", "namespace": "apps"}, "status": {"state": "regenerating", "networking": {"node": address}}}
    stage.cluster.create({"apiVersion": "cilium.io/v2", "kind": "CiliumEndpoint", **body})
    done = await stage.step(ACTION, ready_for="5s", lasting="4m")
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.DEADLINE)
    assert "endpoints are not ready (regenerating)" in done.detail


async def test_after_the_new_agent_stays_without_a_restart(stage):
    stage.world.prometheus = None
    stage.cluster.kill_agent("node-3")
    old = stage.agents()["node-3"]
    task = asyncio.create_task(stage.step(ACTION, ready_for="10m", lasting="30m"))
    await stage.until(lambda: _replaced(stage, old))
    await stage.world.clock.sleep(timedelta(seconds=20))
    stage.cluster.kill_agent("node-3", "crash_loop")
    done = await task
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.STEP_FAILED)
    assert "crash_looping" in done.detail


async def test_after_bgp_sessions_are_back_with_the_new_agent(stage):
    stage.world.prometheus = None
    task = asyncio.create_task(stage.step(ACTION, ready_for="5s", lasting="20m"))
    old = stage.agents()["node-3"]
    await stage.until(lambda: _replaced(stage, old))
    stage.cluster.bgp.cut.add(("node-3", "10.25.150.1"))
    await stage.world.clock.sleep(timedelta(seconds=90))
    assert not task.done(), "one of its two sessions is still down"
    stage.cluster.bgp.cut.clear()
    done = await task
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert sorted(done.run.steps[0].changes[0].before["sessions"]) == ["instance-65001/tor1", "instance-65001/tor2"]
    assert any("graceful restart is off for BGP sessions instance-65001/tor1" in words for words in evidence(done, "caveats"))


async def _alone(stage):
    """Node-3 is the only one that speaks BGP."""
    for node in stage.cluster.node_names():
        if node != "node-3":
            await stage.world.kube.patch(_kind("Node"), node, {"metadata": {"labels": {"bgp": None}}}, type="merge")
    await stage.until(lambda: all(nodes == ["node-3"] for nodes in stage.cluster.bgp.table("10.25.150.1").values()))


async def test_before_the_last_speaker_without_graceful_restart_is_left_alone(stage):
    await _alone(stage)
    before = len(stage.writes())
    done = await stage.step(ACTION)
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.ROUTE_COVERAGE), done.detail
    assert "node-3 alone announces 10.25.150.223/32 (apps/whoami)" in done.detail
    assert len(stage.writes()) == before


async def test_before_the_last_speaker_with_graceful_restart_may_be_restarted(stage):
    await _alone(stage)
    for name in ("peer-tor1", "peer-tor2"):
        await stage.world.kube.patch(_kind("CiliumBGPPeerConfig"), name, {"spec": {"gracefulRestart": {"enabled": True}}}, type="merge")
    done = await stage.step(ACTION, dry_run=True)
    assert done.end is StepEnd.SUCCEEDED, done.detail


async def test_where_sessions_are_the_reason_a_node_that_nobody_configures_is_left_alone(stage):
    await stage.world.kube.patch(_kind("Node"), "node-3", {"metadata": {"labels": {"bgp": None}}}, type="merge")
    await stage.until(lambda: not any(c["metadata"]["name"] == "node-3" for c in stage.cluster.objects("CiliumBGPNodeConfig")))
    before = stage.agents()
    done = await stage.step(ACTION, needs_bgp=True)
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.TARGET_MISSING)
    assert "node-3 has no CiliumBGPNodeConfig: no BGP configuration selects its CiliumNode" in done.detail
    assert stage.agents() == before


async def test_where_sessions_are_the_reason_a_configured_node_gets_its_new_agent(stage):
    old = stage.agents()["node-3"]
    done = await stage.step(ACTION, needs_bgp=True, ready_for="1s")
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert stage.agents()["node-3"] != old


async def test_a_dns_proxy_in_use_is_said_in_the_record(stage):
    _define(stage, "CiliumNetworkPolicy", "ciliumnetworkpolicies", "Namespaced")
    spec = {"egress": [{"toFQDNs": [{"matchName": "example.test"}]}]}
    thing = {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": "out", "namespace": "apps"}, "spec": spec}
    stage.cluster.create(thing)
    on = next(p["spec"]["nodeName"] for p in stage.cluster.objects("Pod", "apps"))
    done = await stage.step(ACTION, node=on, dry_run=True)
    assert any("DNS proxy in use: lookups of pods under apps/out" in words for words in evidence(done, "caveats"))


async def test_what_may_not_be_read_is_said_and_stops_nothing(stage):
    stage.cluster.fail(path="ciliumnetworkpolicies", status=403, count=None)
    stage.cluster.fail(path="configmaps", status=403, count=None)
    done = await stage.step(ACTION, dry_run=True)
    assert done.end is StepEnd.SUCCEEDED
    assert "again: how often agents probe could not be read" in " ".join(evidence(done, PLAN))
    assert any(words.startswith("DNS policies could not be looked at") for words in evidence(done, "caveats"))


@pytest.mark.parametrize("noted", [False, True])
@pytest.mark.parametrize(("kind", "reason"), [(TriggerKind.ALERT, Reason.PROTECTED), (TriggerKind.MANUAL, None)])
async def test_a_node_that_somebody_else_cordoned_is_left_to_them_unless_a_person_asks(stage, kind, reason, noted):
    """``noted``: it carries a note of ours, since kubectl left it there when it lifted our cordon."""
    if noted:
        await stage.over((await stage.step("node.cordon")).run)
        people_uncordon("node-3")(stage.simulation)
    people_cordon("node-3")(stage.simulation)
    playbook = stage.playbook(ACTION, ready_for="5s")
    run = await stage.begin(playbook, node="node-3", dry_run=True)
    await stage.world.journal.save_run(evolve(run, trigger=Trigger(kind=kind)))
    assert (await stage.carry(playbook, run)).reason is reason


async def test_never_a_second_restart_in_one_run(stage):
    playbook = stage.playbook(ACTION, ready_for="5s")
    stage.world.prometheus = None
    first = await stage.carry(playbook, await stage.begin(playbook, node="node-3"))
    assert first.end is StepEnd.SUCCEEDED
    again = evolve(first.run.steps[0], attempt=2, index=1, state=StepState.PENDING, started_at=None, changes=(), evidence=())
    await stage.world.journal.save_step(first.run.id, again)
    spec = playbook.ladder[0].steps[0]
    from remediator.run import run_step

    stored = await stage.world.journal.run(first.run.id)
    ending = await run_step(stage.world, playbook, stored, stored.steps[1], spec)
    assert (ending.end, ending.reason) == (StepEnd.FAILED, Reason.ATTEMPTS_EXHAUSTED)
    assert [verb for verb, _ in stage.writes()] == ["delete"]


async def test_a_cluster_whose_clock_is_ahead_does_not_keep_the_proof_waiting(stage, monkeypatch):
    """The new agent is Ready in an hour, by its own account; what counts is when it was seen to be."""
    told = Pod.ready_since.fget
    monkeypatch.setattr(Pod, "ready_since", property(lambda pod: (at := told(pod)) and at + timedelta(hours=1)))
    done = await stage.step(ACTION, ready_for="5s", lasting="15m")
    assert done.end is StepEnd.SUCCEEDED, done.detail


def test_never_a_fleet_wide_restart():
    """All that it may change is one pod: no rule lets it touch a DaemonSet or a collection."""
    from remediator.actions import actions

    may = {(resource, verb) for rule in actions()[ACTION].rbac for resource in rule.resources for verb in rule.verbs}
    assert {pair for pair in may if pair[1] not in ("get", "list", "watch")} == {("pods", "delete")}


async def test_never_on_anything_but_a_node(stage):
    playbook = stage.playbook(ACTION)
    run = await stage.begin(playbook, node="node-3")
    await stage.world.journal.save_run(evolve(run, target=await _daemonset(stage)))
    done = await stage.carry(playbook, run)
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.TARGET_MISSING)
    assert stage.writes() == []


async def _daemonset(stage):
    from remediator.match import find

    return await find("DaemonSet", "cilium", "kube-system", stage.world.kube)


def _replaced(stage, old, node="node-3"):
    pod = stage.cluster.agent_pod(node)
    return pod is not None and pod["metadata"]["uid"] != old and stage.cluster.agent_works(node)


def _tainted(stage, node="node-3"):
    taints = stage.cluster.get("Node", node)["spec"].get("taints") or ()
    return any(taint["key"] == "node.cilium.io/agent-not-ready" for taint in taints)


def _define(stage, kind, plural, scope="Cluster"):
    """Install a CRD, unless the simulated cluster serves the kind by itself."""
    if stage.cluster.kinds.by_kind(kind) is None:
        versions = [{"name": "v2", "served": True, "storage": True}]
        spec = {"group": "cilium.io", "scope": scope, "names": {"kind": kind, "plural": plural}, "versions": versions}
        metadata = {"name": f"{plural}.cilium.io"}
        crd = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": metadata, "spec": spec}
        stage.cluster.create(crd)


def _kind(name):
    from remediator.kube import kinds

    return kinds.by_name(name)


def _ready(thing):
    return any(c["type"] == "Ready" and c["status"] == "True" for c in thing["status"]["conditions"])


def _restarts(pod):
    return sum(c.get("restartCount", 0) for c in pod["status"].get("containerStatuses", ()))


def _slow_agents(timing):
    import dataclasses

    fields = {f.name for f in dataclasses.fields(timing)}
    name = next(n for n in fields if "agent" in n and ("start" in n or "ready" in n))
    return dataclasses.replace(timing, **{name: timedelta(minutes=10)})
