"""``bgp.withdraw_node`` on the simulated cluster: each precondition of cilium.md 2.4 and each trap that it must not fall into."""

from __future__ import annotations

import asyncio
import json

import pytest

from remediator.bgp.objects import MARK
from remediator.bgp.selector import DRAIN_LABEL
from remediator.gates import gates
from remediator.kube import kinds
from remediator.model import ChangeState, StepState, evolve
from remediator.reasons import Reason
from remediator.run import StepEnd
from remediator.sim.routing import service
from remediator.undo import undo

ACTION = "bgp.withdraw_node"
WHOAMI = "10.25.150.223/32"
TOR1 = "10.25.150.1"


@pytest.fixture
def rate():
    """Slow enough that a busy machine is still in time."""
    return 30


def step(stage, **more):
    return stage.step(ACTION, **{"lasting": "15m", **more})


def labels(stage, name="node-3"):
    return stage.cluster.get("Node", name)["metadata"]["labels"]


def shape(stage, name="node-3"):
    node = stage.cluster.get("Node", name)
    return {**node["metadata"]["labels"]}, {**node["metadata"].get("annotations", {})}, node["spec"]


def heard(stage, node="node-3", router=TOR1):
    return node in stage.cluster.bgp.table(router).get(WHOAMI, [])


async def by_hand(stage, kind, name, body):
    await stage.world.kube.patch(kind, name, body, type="merge")


async def selector(stage, value):
    await by_hand(stage, kinds.BGP_CLUSTER_CONFIG, "cilium-bgp", {"spec": {"nodeSelector": value}})


async def without_drain_key(stage):
    await selector(stage, {"matchLabels": {"bgp": "enabled"}, "matchExpressions": None})


def undone_change(run):
    return next(c for c in run.steps[0].changes if not c.undoes)


async def test_method_b_one_patch_sets_the_drain_label_and_the_mark_and_the_routes_go(stage):
    before = shape(stage)
    done = await step(stage)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert not heard(stage)
    assert stage.cluster.get("CiliumBGPNodeConfig", "node-3") is None
    assert labels(stage) == {**before[0], DRAIN_LABEL: "true"}
    mark = json.loads(shape(stage)[1][MARK])
    assert (mark["run"], mark["previous"]) == (done.run.id, {DRAIN_LABEL: None})
    assert [verb for verb, _ in stage.writes()] == ["patch"]
    (change,) = done.run.steps[0].changes
    assert (change.state, change.left_behind) == (ChangeState.APPLIED, True)
    assert sorted(change.before["sessions"]) == ["node-3/instance-65001/tor1", "node-3/instance-65001/tor2"]
    assert "gone for 9s" in done.detail


async def test_the_plan_is_told_before_the_first_change(stage):
    done = await step(stage, dry_run=True)
    (plan,) = [e.data for e in done.run.steps[0].evidence if e.name == "plan"]
    assert plan[0].startswith(f"withdraw node-3: label {DRAIN_LABEL}=true (was absent), so that CiliumBGPClusterConfig/cilium-bgp lets go")
    assert f"the session with tor1 ({TOR1}) ends; it carries 2 routes" in plan
    assert f"{WHOAMI} (apps/whoami, policy Cluster): 5 speakers now, 4 left: node-1, node-2, node-4, node-5" in plan
    assert stage.writes() == []
    assert heard(stage)


async def test_method_a_keeps_the_value_before_and_puts_exactly_that_back(stage):
    await slow_retries(stage)
    await without_drain_key(stage)
    before = shape(stage)
    done = await step(stage)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert labels(stage)["bgp"] == "disabled"
    assert undone_change(done.run).before["labels"] == {"bgp": "enabled"}
    undone = await undo(stage.world, done.run)
    assert undone.failed == ()
    assert undone.foreign == ()
    assert shape(stage) == before
    assert heard(stage)


async def test_undo_takes_label_and_mark_off_and_waits_for_sessions_and_routes(stage):
    await slow_retries(stage)
    before = shape(stage)
    done = await step(stage)
    undone = await undo(stage.world, done.run)
    assert "2 sessions are up" in undone.words
    assert shape(stage) == before
    assert heard(stage)
    run = await stage.world.journal.run(done.run.id)
    assert [c.state for c in run.steps[0].changes] == [ChangeState.UNDONE, ChangeState.KEPT]


async def test_undo_leaves_what_somebody_changed_since(stage):
    done = await step(stage)
    await by_hand(stage, kinds.NODE, "node-3", {"metadata": {"labels": {DRAIN_LABEL: "by-ada"}}})
    undone = await undo(stage.world, done.run)
    assert undone.foreign
    assert labels(stage)[DRAIN_LABEL] == "by-ada"
    run = await stage.world.journal.run(done.run.id)
    assert undone_change(run).state is ChangeState.FOREIGN


async def slow_retries(stage, seconds=90):
    """Time enough for sessions to come up while everything else is slow."""
    for peer in ("peer-tor1", "peer-tor2"):
        await by_hand(stage, kinds.BGP_PEER_CONFIG, peer, {"spec": {"timers": {"connectRetryTimeSeconds": seconds}}})


async def test_undo_that_brings_no_sessions_back_in_twice_the_retry_time_says_so(stage):
    done = await step(stage)
    stage.cluster.bgp.cut.add(("node-3", TOR1))
    undone = await undo(stage.world, done.run)
    assert "after 25s node-3/instance-65001/tor1: the session is active" in undone.failed[0]
    assert DRAIN_LABEL not in labels(stage)


async def test_undo_wants_as_many_routes_as_were_recorded(stage):
    await slow_retries(stage, 45)
    done = await step(stage)
    await by_hand(stage, kinds.BGP_ADVERTISEMENT, "services", {"metadata": {"labels": {"advertise": "nothing"}}})
    undone = await undo(stage.world, done.run)
    assert "advertises 0 of 2 routes" in undone.failed[0]


async def test_trap_1_a_drained_node_is_reported_as_announcing_until_it_is_withdrawn(stage):
    from remediator.bgp.coverage import Rules, report
    from remediator.bgp.read import read_routes

    async def warnings():
        world = stage.world
        routes = await read_routes(world.kube, world.prometheus, namespace="kube-system", agents="k8s-app=cilium", now=world.clock.now())
        return report(routes, Rules()).warnings

    await by_hand(stage, kinds.NODE, "node-3", {"spec": {"unschedulable": True}})
    for pod in stage.cluster.objects("Pod", "apps"):
        if pod["spec"].get("nodeName") == "node-3":
            await stage.world.kube.evict(pod["metadata"]["name"], "apps")
    assert heard(stage)
    assert "node-3 is cordoned and still announces 2 VIPs: a cordon or drain does not stop BGP" in await warnings()
    await step(stage)
    assert not any("still announces" in line for line in await warnings())


async def test_trap_2_no_label_of_kubernetes_is_used_as_a_shift(stage):
    await selector(stage, {"matchLabels": {"bgp": None, "kubernetes.io/os": "linux"}, "matchExpressions": None})
    done = await step(stage)
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.PROTECTED)
    assert DRAIN_LABEL in done.detail
    assert stage.writes()[1:] == []


async def test_trap_3_refuses_while_the_agent_is_not_ready(stage):
    stage.cluster.kill_agent("node-3")
    done = await step(stage)
    assert (done.end, done.reason) == (StepEnd.REFUSED, Reason.AGENT_NOT_READY)
    assert stage.writes() == []


async def test_trap_3_refuses_without_an_operator(stage):
    await stage.world.kube.patch(kinds.DEPLOYMENT, "cilium-operator", {"spec": {"replicas": 0}}, "kube-system", type="merge")
    await stage.until(lambda: not stage.cluster.operator_works())
    done = await step(stage)
    assert (done.end, done.reason) == (StepEnd.REFUSED, Reason.OPERATOR_DOWN)
    assert len(stage.writes()) == 1


async def test_trap_3_an_operator_that_dies_right_after_the_label_ends_failed_in_time_and_is_put_back(stage):
    await slow_retries(stage)
    before = shape(stage)
    stage.cluster.timing.bgp_operator = _minutes(30)
    done = await step(stage, lasting="3m")
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.DEADLINE)
    assert done.detail.endswith("the operator has still to delete the CiliumBGPNodeConfig")
    undone = await undo(stage.world, done.run)
    assert undone.undone
    assert shape(stage) == before


async def test_trap_9_it_waits_until_the_series_are_gone(stage):
    """It begins right after a scrape, so that the objects are gone long before the series are."""
    scraped = asyncio.Event()
    stage.simulation.prometheus.after_scrape.append(scraped.set)
    await scraped.wait()
    done = await step(stage, hold="0s")
    assert done.end is StepEnd.SUCCEEDED
    left = await stage.world.prometheus.query('cilium_bgp_control_plane_session_state{node="node-3"}')
    assert left == []


async def test_trap_10_speakers_with_dead_agents_do_not_count(stage, monkeypatch):
    stage.wide()
    # So many dead agents may look like a partition as well, as soon as the scrapes tell.
    monkeypatch.setattr(gates()["partition"], "judge", lambda self, _case, snapshot: self.allow(snapshot))
    for node in ("node-1", "node-2", "node-4"):
        stage.cluster.kill_agent(node)
    done = await step(stage)
    assert (done.end, done.reason) == (StepEnd.REFUSED, Reason.ROUTE_COVERAGE)
    assert "1 of 2 speakers would be left, 2 are wanted" in done.detail
    assert stage.writes() == []


async def test_trap_11_argo_cd_does_not_stand_in_the_way_of_a_node_label(stage):
    tracked = {"metadata": {"annotations": {"argocd.argoproj.io/tracking-id": "cilium:cilium.io/CiliumBGPClusterConfig:x/cilium-bgp"}}}
    await by_hand(stage, kinds.BGP_CLUSTER_CONFIG, "cilium-bgp", tracked)
    done = await step(stage)
    assert done.end is StepEnd.SUCCEEDED, done.detail


async def test_refuses_while_another_shift_is_under_way(stage):
    stage.wide()
    stage.cluster.timing.bgp_operator = _minutes(30)
    await by_hand(stage, kinds.NODE, "node-5", {"metadata": {"labels": {DRAIN_LABEL: "true"}}})
    await stage.until(lambda: DRAIN_LABEL in stage.cluster.get("CiliumNode", "node-5")["metadata"]["labels"])
    done = await step(stage)
    assert (done.end, done.reason) == (StepEnd.REFUSED, Reason.CONCURRENCY)
    assert "node-5: the operator has still to delete" in done.detail
    assert len(stage.writes()) == 1


async def test_refuses_a_node_that_two_configurations_select(stage):
    spec = stage.cluster.get("CiliumBGPClusterConfig", "cilium-bgp")["spec"]
    stage.cluster.create({"apiVersion": "cilium.io/v2", "kind": "CiliumBGPClusterConfig", "metadata": {"name": "second"}, "spec": spec})
    await stage.until(lambda: "ConflictingClusterConfig" in json.dumps(stage.cluster.get("CiliumBGPClusterConfig", "second")))
    done = await step(stage)
    assert (done.end, done.reason) == (StepEnd.REFUSED, Reason.TARGET_AMBIGUOUS)
    assert "CiliumBGPClusterConfig/second" in done.detail


async def test_refuses_what_would_leave_a_local_service_without_a_node(stage):
    stage.cluster.create(service("inside", "apps", "10.25.150.240", {"app": "whoami"}, policy="Local"))
    await stage.until(lambda: "10.25.150.240/32" in stage.cluster.bgp.table(TOR1))
    for pod in stage.cluster.objects("Pod", "apps")[1:]:
        stage.cluster.kubelets.set_ready(pod, ready=False)
    only = stage.cluster.objects("Pod", "apps")[0]["spec"]["nodeName"]
    await stage.until(lambda: stage.cluster.bgp.table(TOR1)["10.25.150.240/32"] == [only])
    done = await step(stage, node=only)
    assert (done.end, done.reason) == (StepEnd.REFUSED, Reason.ROUTE_COVERAGE)
    assert "externalTrafficPolicy Local" in done.detail


async def test_refuses_to_withdraw_a_pod_network_that_pods_still_use(stage):
    entry = {"spec": {"advertisements": [{"advertisementType": "PodCIDR"}]}}
    await by_hand(stage, kinds.BGP_ADVERTISEMENT, "services", entry)
    node = next(p["spec"]["nodeName"] for p in stage.cluster.objects("Pod", "apps"))
    await stage.until(lambda: stage.cluster.pod_cidr(node) in stage.cluster.bgp.table(TOR1))
    done = await step(stage, node=node)
    assert done.reason is Reason.ROUTE_COVERAGE
    assert "drain the node first" in done.detail


async def test_refuses_while_prometheus_cannot_be_asked(stage):
    stage.cluster.fail(path="/prometheus", count=None)
    done = await step(stage)
    assert done.reason is Reason.UNREADABLE
    assert stage.writes() == []


async def test_a_node_that_announces_nothing_is_left_as_it_is(stage):
    await by_hand(stage, kinds.NODE, "node-3", {"metadata": {"labels": {"bgp": "disabled"}}})
    await stage.until(lambda: stage.cluster.get("CiliumBGPNodeConfig", "node-3") is None)
    done = await step(stage)
    assert (done.end, done.detail) == (StepEnd.SUCCEEDED, "node-3 announces nothing; left as it is")
    assert len(stage.writes()) == 1


async def test_method_drain_label_is_refused_where_the_selector_does_not_heed_it(stage):
    await without_drain_key(stage)
    done = await step(stage, method="drain_label")
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.PROTECTED)
    assert "does not heed" in done.detail


async def test_method_selector_label_uses_the_selectors_own(stage):
    done = await step(stage, method="selector_label")
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert labels(stage)["bgp"] == "disabled"
    assert DRAIN_LABEL not in labels(stage)


async def test_somebody_who_takes_the_label_back_meanwhile_fails_it(stage):
    stage.cluster.timing.bgp_operator = _minutes(30)

    async def take_back():
        await stage.until(lambda: DRAIN_LABEL in labels(stage))
        await by_hand(stage, kinds.NODE, "node-3", {"metadata": {"labels": {DRAIN_LABEL: None}}})

    done, _ = await asyncio.gather(step(stage), take_back())
    assert done.end is StepEnd.FAILED
    assert "somebody changed the label" in done.detail


async def test_a_race_with_another_writer_is_tried_again_on_fresh_state(stage):
    stage.cluster.fail(verb="patch", path="/nodes/node-3", status=422, count=1)
    done = await step(stage)
    assert done.end is StepEnd.SUCCEEDED
    assert [c.state for c in done.run.steps[0].changes] == [ChangeState.ABSENT, ChangeState.APPLIED]


async def test_after_a_crash_the_label_is_not_sent_again(stage):
    playbook = stage.playbook(ACTION)
    run = await stage.begin(playbook, node="node-3")
    done = await stage.carry(playbook, run)
    (change,) = done.run.steps[0].changes
    await stage.world.journal.save_change(evolve(change, state=ChangeState.INTENDED, ended_at=None))
    await stage.world.journal.save_step(run.id, evolve(done.run.steps[0], state=StepState.RUNNING, ended_at=None))
    again = await stage.carry(playbook, run)
    assert again.end is StepEnd.SUCCEEDED, again.detail
    assert [verb for verb, _ in stage.writes()] == ["patch"]
    assert again.run.steps[0].changes[0].state is ChangeState.APPLIED


async def test_the_older_api_version_is_read_and_waited_for_just_the_same(stage):
    await slow_retries(stage)
    import dataclasses

    for kind in list(stage.cluster.kinds.all()):
        if kind.versions == ("v2", "v2alpha1"):
            stage.cluster.kinds.add(dataclasses.replace(kind, versions=("v2alpha1",), version="v2alpha1"))
    done = await step(stage)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert not heard(stage)
    assert (await undo(stage.world, done.run)).undone


@pytest.mark.parametrize("hold", ["0s", "40s"])
async def test_the_hold_can_be_set(stage, hold):
    began = stage.world.clock.now()
    done = await step(stage, hold=hold)
    assert done.end is StepEnd.SUCCEEDED
    assert (stage.world.clock.now() - began).total_seconds() >= int(hold[:-1])


def _minutes(count):
    from datetime import timedelta

    return timedelta(minutes=count)


async def test_an_undo_that_a_crash_cut_off_still_waits_for_the_sessions(stage):
    """The label was put back before the crash; that the node speaks again nobody has seen yet."""
    await slow_retries(stage, 45)
    done = await step(stage)
    stage.cluster.bgp.cut.add(("node-3", TOR1))
    assert "after 1m45s" in (await undo(stage.world, done.run)).failed[0]
    run = await stage.world.journal.run(done.run.id)
    assert "after 1m45s" in (await undo(stage.world, run)).failed[0]
    stage.cluster.bgp.cut.clear()
    assert (await undo(stage.world, run)).undone
    assert len(stage.writes()) == 4


@pytest.fixture
async def peering_policy(stage):
    """BGPv1, up to Cilium 1.18: no CiliumBGPNodeConfig, no status; only the agents' metrics tell who speaks."""
    from remediator.sim.prometheus.series import Sample

    neighbors = [{"peerAddress": f"{TOR1}/32", "peerASN": 65000, "connectRetryTimeSeconds": 60, "holdTimeSeconds": 9}]
    router = {"localASN": 65001, "serviceSelector": {"matchLabels": {"bgp": "true"}}, "neighbors": neighbors}
    spec = {"nodeSelector": {"matchLabels": {"bgp": "enabled"}}, "virtualRouters": [router]}
    policy = {"apiVersion": "cilium.io/v2alpha1", "kind": "CiliumBGPPeeringPolicy", "metadata": {"name": "old"}, "spec": spec}

    def speakers():
        for name in stage.cluster.node_names():
            if stage.cluster.get("CiliumNode", name)["metadata"]["labels"].get("bgp") == "enabled":
                series = {"job": "cilium-agent", "node": name, "vrouter": "65001", "neighbor": f"{TOR1}:179", "neighbor_asn": "65000"}
                yield Sample("cilium_bgp_control_plane_session_state", series, 1)
                yield Sample("cilium_bgp_control_plane_advertised_routes", {**series, "afi": "ipv4", "safi": "unicast"}, 2)

    cluster = stage.cluster
    cluster.store.remove(cluster.kind("CiliumBGPClusterConfig"), cluster.store.get(cluster.kind("CiliumBGPClusterConfig"), "cilium-bgp"))
    cluster.create(policy)
    await stage.until(lambda: cluster.objects("CiliumBGPNodeConfig") == [])
    stage.simulation.prometheus.extra.append(speakers)
    scraped = asyncio.Event()
    stage.simulation.prometheus.after_scrape.append(scraped.set)
    await scraped.wait()


async def test_method_n_a_peering_policy_is_withdrawn_and_brought_back_by_its_label_and_proved_by_metrics(stage, peering_policy):
    before = shape(stage)
    done = await step(stage)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert labels(stage)["bgp"] == "disabled"
    query = 'cilium_bgp_control_plane_session_state{node="node-3"}'
    assert await stage.world.prometheus.query(query) == []
    undone = await undo(stage.world, done.run)
    assert undone.undone, undone.words
    assert shape(stage) == before
    assert len(await stage.world.prometheus.query(query)) == 1


async def test_method_n_is_refused_where_no_metric_could_prove_it(stage, peering_policy):
    stage.world.prometheus = None
    done = await step(stage)
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.STALE_METRIC)
    assert "reports no state" in done.detail
