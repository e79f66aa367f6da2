"""Who counts as a speaker, and what would be left without one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.bgp.coverage import Rules, alone, losses, plan_lines, report, warnings
from remediator.bgp.model import Metrics, Node, Prefix, PrefixKind, Routes, Session
from remediator.bgp.objects import SessionMetrics

POD_CIDR = {"advertisementType": "PodCIDR"}


def speakers(world, prefix="10.25.150.224/32"):
    return sorted(next(p for p in world.routes().prefixes if p.prefix == prefix).speakers)


def why(world, node, **rules):
    return [loss.why for loss in losses(world.routes(), Rules(**rules), nodes=[node])]


def test_every_selected_node_announces_a_vip_of_policy_cluster_to_every_router(world):
    (prefix,) = world.routes().prefixes
    routers = ("10.25.150.1", "10.25.150.2")
    assert (prefix.of, prefix.policy) == ("apps/web", "Cluster")
    assert prefix.speakers == dict.fromkeys(world.names, routers)
    assert why(world, "node-1") == [""]


def test_trap_1_a_cordoned_node_still_announces_and_is_told_of(world):
    world.cordoned = {"node-2"}
    world.services = ["web", "dns", "torrent"]
    assert "node-2" in speakers(world)
    assert any("node-2 is cordoned and still announces 3 VIPs" in line for line in warnings(world.routes()))


def test_trap_2_the_exclude_label_changes_nothing(world):
    world.labels = {"node-2": {"node.kubernetes.io/exclude-from-external-load-balancers": ""}}
    assert "node-2" in speakers(world)


def test_trap_3_labels_of_the_node_that_its_agent_did_not_copy_do_not_count(world):
    world.node_labels = {"node-2": {"bgp": "disabled"}}
    node = world.routes().node("node-2")
    assert node.configs == ("CiliumBGPClusterConfig/main",)
    assert "still to copy bgp" in node.lag
    assert "node-2" in speakers(world)


def test_trap_3_a_node_config_that_the_operator_did_not_delete_is_told_of(world):
    world.labels = {"node-2": {"bgp": "disabled"}}
    assert "still to delete" in world.routes().node("node-2").lag


def test_trap_9_a_vanished_series_is_no_speaker(world):
    world.scraped("node-2")
    assert speakers(world) == ["node-1", "node-3"]
    assert "no fresh sample" in world.routes().node("node-2").sessions[0].trouble


def test_trap_9_without_any_series_the_objects_alone_count(world):
    world.metrics = SessionMetrics(state=Metrics.ABSENT)
    assert speakers(world) == world.names


def test_trap_10_established_of_a_dead_agent_is_no_speaker(world):
    world.agents_down = {"node-2"}
    session = world.routes().node("node-2").sessions[0]
    assert session.state == "established"
    assert "so its state is old" in session.stale
    assert speakers(world) == ["node-1", "node-3"]


def test_a_session_that_prometheus_has_as_down_is_no_speaker(world):
    world.scraped()
    world.metrics.up["node-2", "10.25.150.1"] = False
    assert next(p for p in world.routes().prefixes).speakers["node-2"] == ("10.25.150.2",)


def test_established_and_nothing_advertised_is_no_speaker(world):
    world.sessions = {("node-2", peer): ("established", 0) for peer in ("tor1", "tor2")}
    assert speakers(world) == ["node-1", "node-3"]
    assert "advertises 0 of 1" in world.routes().node("node-2").sessions[0].trouble


def test_a_node_whose_count_of_routes_lags_may_announce_and_so_may_take_away(world):
    """An agent writes its count every 5 s: a new prefix is announced before the count says so."""
    world.names = ["node-1", "node-2"]
    world.sessions = {("node-2", peer): ("established", 0) for peer in ("tor1", "tor2")}
    assert speakers(world) == ["node-1"]
    assert why(world, "node-2", min_speakers=2) == ["1 of 2 speakers would be left, 2 are wanted"]
    assert why(world, "node-2", min_speakers=1) == [""]
    assert why(world, "node-1", min_speakers=1) == ["0 of 1 speakers would be left, 1 are wanted"]
    assert [p.prefix for p in alone(world.routes(), "node-2")] == []
    world.sessions |= {("node-1", peer): ("active", 0) for peer in ("tor1", "tor2")}
    assert [p.prefix for p in alone(world.routes(), "node-2")] == ["10.25.150.224/32"]


def test_two_speakers_and_min_speakers_2_refuses(world):
    world.names = ["node-1", "node-2"]
    assert why(world, "node-1", min_speakers=2) == ["1 of 2 speakers would be left, 2 are wanted"]
    assert why(world, "node-1", min_speakers=1) == [""]


def test_policy_local_counts_only_nodes_with_a_ready_endpoint(world):
    world.local_on = {"web": ["node-1", "node-2"]}
    assert speakers(world) == ["node-1", "node-2"]
    (words,) = why(world, "node-1", min_speakers=2)
    assert "externalTrafficPolicy Local" in words
    assert why(world, "node-3") == []


@pytest.mark.parametrize("conditions", [{"ready": False}, {"ready": True, "terminating": True}])
def test_policy_local_does_not_count_endpoints_that_take_no_traffic(world, conditions):
    import msgspec

    from remediator.bgp.assemble import assemble
    from remediator.bgp.objects import Endpoint

    world.local_on = {"web": ["node-1", "node-2"]}
    objects = world.objects()
    bad = msgspec.convert({"nodeName": "node-2", "conditions": conditions}, Endpoint)
    objects.slices[0] = msgspec.structs.replace(objects.slices[0], endpoints=(objects.slices[0].endpoints[0], bad))
    assert sorted(assemble(objects).prefixes[0].speakers) == ["node-1"]


def test_a_pod_network_may_go_once_its_pods_are_gone(world):
    world.adverts = [POD_CIDR]
    world.pods = [("node-1", {}), ("node-1", {"ownerReferences": [{"kind": "DaemonSet", "controller": True}]}), ("node-2", {})]
    assert why(world, "node-1") == ["1 pods of node-1 are reached through it; drain the node first"]
    assert why(world, "node-1", pod_cidrs=False) == [""]
    assert why(world, "node-3") == [""]


def test_the_other_nodes_count_only_if_all_their_sessions_work(world):
    world.sessions = {("node-2", "tor2"): ("active", 0)}
    (words,) = why(world, "node-1", min_speakers=2)
    assert words == "1 of 3 speakers would be left (1 more with sessions that do not all work), 2 are wanted"


def test_a_router_that_would_have_a_prefix_from_nobody_refuses():
    def node(name, address):
        return Node(name=name, sessions=(Session(instance="i", peer=address, address=address, state="established"),))

    routers = {"a": ("r1",), "b": ("r2",), "c": ("r2",)}
    nodes = tuple(node(name, reached[0]) for name, reached in routers.items())
    routes = Routes(nodes=nodes, prefixes=(Prefix(prefix="p", kind=PrefixKind.SERVICE, of="s", speakers=routers),))
    assert losses(routes, Rules(), nodes=["a"])[0].why == "router r1 would have it from nobody"
    assert losses(routes, Rules(each_peer=False), nodes=["a"])[0].why == ""


def test_zones_that_the_speakers_lie_in(world):
    world.labels = {name: {"topology.kubernetes.io/zone": "a"} for name in ("node-1", "node-2")}
    (words,) = why(world, "node-3", min_zones=2)
    assert words == "its speakers would lie in 1 of 2 zones, 2 are wanted"
    assert why(world, "node-1", min_zones=2) == [""]


def test_without_one_router_the_others_are_what_is_left(world):
    (loss,) = losses(world.routes(), Rules(), peers=["10.25.150.1"])
    assert loss.why == ""
    (loss,) = losses(world.routes(), Rules(), peers=["10.25.150.1", "10.25.150.2"])
    assert "0 of 3" in loss.why


def test_a_peering_policy_has_no_state_but_that_of_prometheus(world):
    router = {
        "localASN": 65001,
        "serviceSelector": {},
        "neighbors": [{"peerAddress": f"10.25.150.{i}/32", "peerASN": 65000} for i in (1, 2)],
    }
    world.policies = [{"metadata": {"name": "old"}, "spec": {"nodeSelector": {}, "virtualRouters": [router]}}]
    assert speakers(world) == []
    world.scraped("node-3")
    assert speakers(world) == ["node-1", "node-2"]


def test_the_plan_says_what_goes_and_what_stays(world):
    lines = plan_lines(losses(world.routes(), Rules(), nodes=["node-1"]))
    assert lines == ["10.25.150.224/32 (apps/web, policy Cluster): 3 speakers now, 2 left: node-2, node-3"]


def test_a_report_says_how_many_would_be_left_without_each(world):
    world.sessions = {("node-3", peer): ("active", 0) for peer in ("tor1", "tor2")}
    (prefix,) = report(world.routes(), Rules()).prefixes
    assert (prefix.left, prefix.least) == ({"node-1": 1, "node-2": 1}, 1)


NAMES = ["a", "b", "c", "d", "e"]
REACHED = st.dictionaries(st.sampled_from(NAMES), st.lists(st.sampled_from(["r1", "r2", "r3"]), min_size=1, unique=True).map(tuple))


@given(st.lists(REACHED, max_size=4), st.sets(st.sampled_from(NAMES)), st.sets(st.sampled_from(["r1", "r2", "r3"])), st.integers(1, 4))
def test_what_is_left_is_what_was_there_without_what_goes(announced, going, without, least):
    prefixes = tuple(Prefix(prefix=str(i), kind=PrefixKind.SERVICE, of="s", speakers=s) for i, s in enumerate(announced))
    routes = Routes(nodes=tuple(Node(name=name) for name in NAMES), prefixes=prefixes)
    found = {loss.prefix.prefix: loss for loss in losses(routes, Rules(min_speakers=least), nodes=going, peers=without)}
    for prefix in prefixes:
        kept = {n: tuple(r for r in reached if r not in without) for n, reached in prefix.speakers.items() if n not in going}
        kept = {n: reached for n, reached in kept.items() if reached}
        if kept == prefix.speakers:
            assert prefix.prefix not in found
            continue
        loss = found[prefix.prefix]
        assert set(loss.left) == set(kept)
        had, has = ({r for reached in some.values() for r in reached} for some in (prefix.speakers, kept))
        assert set(loss.peers_lost) == had - has - without
        short = len(kept) < least or bool(kept and loss.peers_lost)
        assert bool(loss.why) is short


@given(st.lists(REACHED, max_size=4), st.sets(st.sampled_from(NAMES)))
def test_a_report_says_of_each_node_what_its_loss_would(announced, ailing):
    down = Session(instance="i", peer="p", address="r9", state="active")
    nodes = tuple(Node(name=name, sessions=(down,) if name in ailing else ()) for name in NAMES)
    prefixes = tuple(Prefix(prefix=str(i), kind=PrefixKind.SERVICE, of="s", speakers=s) for i, s in enumerate(announced))
    routes = Routes(nodes=nodes, prefixes=prefixes)
    told = {(p.prefix, node): count for p in report(routes, Rules()).prefixes for node, count in p.left.items()}
    asked = {(loss.prefix.prefix, node): len(loss.left) for node in NAMES for loss in losses(routes, Rules(), nodes=[node])}
    assert told == asked
