"""The stand-ins for Cilium do what Cilium does, as ``pkg/bgp`` and ``operator/pkg/bgp`` of its sources and its operation guide say.

What is withdrawn is gone from the table of a real router, what is undone is back in it. The tests of BGP on real parts stand on this.
"""

from __future__ import annotations

import asyncio
import ipaddress
from datetime import UTC, datetime

import pytest
from plugins.bgp import REAL, with_crds
from standins import objects
from standins.network import SPEAKERS

from remediator.bgp.assemble import assemble
from remediator.bgp.read import read_objects
from remediator.kube import Kube

pytestmark = [pytest.mark.controlplane, pytest.mark.gobgp, pytest.mark.long, pytest.mark.timeout(300)]

REAL_ONLY = with_crds(REAL)
EVERY = with_crds(REAL, "1.18.0", "1.19.0", "1.20.2")
EACH_OPERATOR = with_crds(REAL, "1.20.2")
"""Where the CRD's version makes no difference, but who plays the operator does."""
SECONDS = 10
"""How long a withdrawal may take to reach the router; it is less than one as a rule."""


@EVERY
def test_a_node_speaks_while_the_selector_takes_its_labels(bgp_network):
    vip = bgp_network.vip("web")
    bgp_network.label("node-2", "bgp", None)
    bgp_network.label("node-3", "remediator.dev/bgp-drain", "true")
    bgp_network.until("both out of the router's table", lambda: bgp_network.announcers(vip) == {"node-4"}, seconds=SECONDS)
    for name in ("node-2", "node-3"):
        assert bgp_network.node_config(name) is None
        assert bgp_network.session(name) != "established"

    bgp_network.label("node-2", "bgp", "enabled")
    bgp_network.label("node-3", "remediator.dev/bgp-drain", None)
    bgp_network.until("both back in it", lambda: bgp_network.announcers(vip) == set(SPEAKERS))
    (owner,) = bgp_network.node_config("node-3")["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"]) == ("CiliumBGPClusterConfig", objects.CONFIG)
    bgp_network.until("its agent to write so", lambda: bgp_network.reported("node-3") == [("established", 1)])


@EACH_OPERATOR
def test_a_service_gets_an_address_of_the_pool_and_is_announced_until_it_goes(bgp_network):
    bgp_network.apply(objects.service("second"))
    vip = bgp_network.until("an address", lambda: bgp_network.vip("second"))
    assert ipaddress.ip_network(vip).subnet_of(ipaddress.ip_network("10.25.150.224/27"))
    assert vip != bgp_network.vip("web")
    bgp_network.until("all speakers to announce it", lambda: bgp_network.announcers(vip) == set(SPEAKERS))
    bgp_network.until("their agents to count it", lambda: bgp_network.reported("node-2") == [("established", 2)])
    bgp_network.plane.kubectl("delete", "service", "second")
    bgp_network.until("nobody to announce it", lambda: not bgp_network.announcers(vip), seconds=SECONDS)
    assert bgp_network.announcers(bgp_network.vip("web")) == set(SPEAKERS)


@EVERY
def test_traps_3_and_10_a_dead_agent_hears_no_label_and_its_status_stays(bgp_network):
    vip = bgp_network.vip("web")
    bgp_network.agent("node-2", ready=False)
    bgp_network.until("its routes to go", lambda: bgp_network.announcers(vip) == {"node-3", "node-4"}, seconds=SECONDS)
    assert bgp_network.session("node-2") != "established"

    written = bgp_network.node_config("node-2")["metadata"]["resourceVersion"]
    bgp_network.apply(objects.service("meanwhile"))
    bgp_network.until("the living to count it", lambda: bgp_network.reported("node-4") == [("established", 2)])
    for name in ("node-2", "node-3"):
        bgp_network.label(name, "remediator.dev/bgp-drain", "true")
    bgp_network.until("the living to be heard", lambda: bgp_network.node_config("node-3") is None, seconds=SECONDS)
    assert bgp_network.reported("node-2") == [("established", 1)]
    assert bgp_network.node_config("node-2")["metadata"]["resourceVersion"] == written

    bgp_network.agent("node-2", ready=True)
    bgp_network.until("the revived to be heard", lambda: bgp_network.node_config("node-2") is None, seconds=SECONDS)


@EACH_OPERATOR
def test_trap_4_the_operator_puts_back_what_a_hand_changed(bgp_network):
    path = f"{bgp_network.bgp}/ciliumbgpnodeconfigs/node-3"
    before = bgp_network.node_config("node-3")
    bgp_network.api.patch(path, [{"op": "replace", "path": "/spec/bgpInstances/0/peers", "value": []}], "json")
    bgp_network.until("the peer to be back", lambda: bgp_network.node_config("node-3")["spec"] == before["spec"])
    bgp_network.api.delete(path)
    bgp_network.until("the whole to be back", lambda: (bgp_network.node_config("node-3") or {}).get("spec") == before["spec"])


@EACH_OPERATOR
def test_a_second_config_for_the_same_nodes_is_refused_and_says_so(bgp_network):
    second = next(one for one in objects.bgp(bgp_network.version, objects.BY_LABEL) if one["kind"] == "CiliumBGPClusterConfig")
    second["metadata"]["name"] = "second"
    bgp_network.apply(second)
    try:
        conditions = bgp_network.until("it to be judged", lambda: _conditions(bgp_network, "second"))
        assert conditions["cilium.io/ConflictingClusterConfig"] == "True"
        assert _conditions(bgp_network, objects.CONFIG)["cilium.io/ConflictingClusterConfig"] == "False"
        assert bgp_network.announcers(bgp_network.vip("web")) == set(SPEAKERS)
    finally:
        bgp_network.api.delete(f"{bgp_network.bgp}/ciliumbgpclusterconfigs/second")


@REAL_ONLY
def test_traps_1_and_2_neither_a_cordon_nor_the_load_balancer_label_withdraws_anything(bgp_network):
    bgp_network.plane.kubectl("cordon", "node-3")
    bgp_network.label("node-3", "node.kubernetes.io/exclude-from-external-load-balancers", "")

    def copied():
        labels = bgp_network.api.get("/apis/cilium.io/v2/ciliumnodes/node-3")["metadata"]["labels"]
        return "node.kubernetes.io/exclude-from-external-load-balancers" in labels

    bgp_network.until("the agent to copy the label", copied)
    bgp_network.label("node-2", "remediator.dev/bgp-drain", "true")  # later than both, and it is heeded
    bgp_network.until("node-2 to go", lambda: bgp_network.announcers(bgp_network.vip("web")) == {"node-3", "node-4"})
    assert bgp_network.reported("node-3") == [("established", 1)]


@REAL_ONLY
def test_policy_local_is_announced_only_from_where_an_endpoint_is_ready(bgp_network):
    workload = objects.deployment("local", "default", 1)
    workload["spec"]["template"]["spec"]["nodeSelector"] = {"kubernetes.io/hostname": "node-4"}
    bgp_network.apply(workload, objects.service("local", policy="Local"))
    try:
        vip = bgp_network.until("an address", lambda: bgp_network.vip("local"))
        bgp_network.until("the one node to announce it", lambda: bgp_network.announcers(vip) == {"node-4"})
        bgp_network.plane.kubectl("scale", "deployment", "local", "--replicas=0")
        bgp_network.until("nobody to announce it", lambda: not bgp_network.announcers(vip))
    finally:
        bgp_network.plane.kubectl("delete", "deployment", "local")


@REAL_ONLY
def test_an_advertisement_that_no_family_takes_leaves_the_session_and_withdraws_the_routes(bgp_network):
    path, where = f"{bgp_network.bgp}/ciliumbgppeerconfigs/{objects.PEER_CONFIG}", "/spec/families/0/advertisements/matchLabels/advertise"
    bgp_network.api.patch(path, [{"op": "replace", "path": where, "value": "nothing"}], "json")
    try:
        bgp_network.until("no route", lambda: not bgp_network.announcers(bgp_network.vip("web")), seconds=SECONDS)
        bgp_network.until("the count to fall", lambda: bgp_network.reported("node-3") == [("established", 0)])
        assert bgp_network.session("node-3") == "established"
    finally:
        bgp_network.api.patch(path, [{"op": "replace", "path": where, "value": "bgp"}], "json")


@REAL_ONLY
def test_a_restarted_agent_begins_its_session_anew(bgp_network):
    since = _established(bgp_network, "node-3")
    bgp_network.plane.kubectl("-n", "kube-system", "delete", "pod", "-l", "k8s-app=cilium", "--field-selector", "spec.nodeName=node-3")
    bgp_network.until("another session", lambda: _established(bgp_network, "node-3") not in (None, since))
    assert bgp_network.announcers(bgp_network.vip("web")) == set(SPEAKERS)


@REAL_ONLY
def test_each_pod_with_a_network_has_an_endpoint_until_it_goes(bgp_network):
    def endpoints():
        found = bgp_network.plane.get("ciliumendpoints", "-n", "default")["items"]
        return {one["metadata"]["name"]: one["status"] for one in found}

    bgp_network.apply(objects.deployment("app", "default", 3))
    bgp_network.until("three endpoints", lambda: len(endpoints()) == 3)
    addresses = {node["status"]["addresses"][0]["address"] for node in bgp_network.api.items("/api/v1/nodes")}
    assert {one["state"] for one in endpoints().values()} == {"ready"}
    assert {one["networking"]["node"] for one in endpoints().values()} <= addresses
    bgp_network.plane.kubectl("delete", "deployment", "app")
    bgp_network.until("no endpoint", lambda: not endpoints())


def _conditions(network, name):
    found = network.api.get(f"{network.bgp}/ciliumbgpclusterconfigs/{name}")
    return {one["type"]: one["status"] for one in found.get("status", {}).get("conditions", ())}


def _established(network, node):
    instances = (network.node_config(node) or {}).get("status", {}).get("bgpInstances", ())
    return next((peer.get("establishedTime") for one in instances for peer in one["peers"]), None)


@EACH_OPERATOR
def test_what_we_read_is_what_the_router_has(bgp_network):
    local = objects.deployment("local", "default", 1)
    local["spec"]["template"]["spec"]["nodeSelector"] = {"kubernetes.io/hostname": "node-4"}
    bgp_network.apply(local, objects.service("local", policy="Local"), objects.service("second"))
    try:
        bgp_network.until("the Local service to be announced", lambda: bgp_network.announcers(bgp_network.vip("local")) == {"node-4"})
        _agree(bgp_network)
        bgp_network.agent("node-2", ready=False)
        bgp_network.until("node-2 to go", lambda: bgp_network.announcers(bgp_network.vip("web")) == {"node-3", "node-4"})
        assert bgp_network.reported("node-2") == [("established", 2)]
        _agree(bgp_network)
        bgp_network.label("node-3", "remediator.dev/bgp-drain", "true")
        bgp_network.until("node-3 to go", lambda: bgp_network.announcers(bgp_network.vip("web")) == {"node-4"})
        _agree(bgp_network)
        found = asyncio.run(_read(bgp_network))
        assert found.version == bgp_network.version
        assert found.operator == ""
        assert {node.name: (node.agent_ready, node.configured) for node in found.nodes if node.name in SPEAKERS} == {
            "node-2": (False, True),
            "node-3": (True, False),
            "node-4": (True, True),
        }
    finally:
        bgp_network.plane.kubectl("delete", "deployment", "local")


def _agree(network):
    """The product's model, read by its own door, names the same speakers of each prefix as the router's table."""

    def look():
        model = {prefix.prefix: set(prefix.speakers) for prefix in asyncio.run(_read(network)).prefixes}
        return model == {prefix: network.announcers(prefix) for prefix in network.fabric.table()} and model

    return network.until("the model and the router to agree", look)


async def _read(network):
    kube = await Kube.connect(kubeconfig=network.plane.remediator)
    try:
        return assemble(await read_objects(kube, None, namespace="kube-system", agents="k8s-app=cilium", now=datetime.now(UTC)))
    finally:
        await kube.close()
