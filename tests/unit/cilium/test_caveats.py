from __future__ import annotations

import msgspec
import pytest

from remediator.cilium import caveats
from remediator.kube.records import Pod


def policy(egress, namespace="apps", **more):
    return {"metadata": {"name": "p", "namespace": namespace}, "spec": {"egress": [egress]}, **more}


DNS = {"toPorts": [{"ports": [{"port": "53"}], "rules": {"dns": [{"matchPattern": "*"}]}}]}
NAMES = {"toFQDNs": [{"matchName": "example.test"}]}


@pytest.mark.parametrize("egress", [DNS, NAMES])
def test_before_a_dns_proxy_in_use_is_said(egress):
    assert "apps/p" in caveats.dns_proxy([policy(egress)], ["apps"])
    assert caveats.dns_proxy([policy(egress)], ["other"]) == "", "no pod of that namespace runs on the node"
    everywhere = {"metadata": {"name": "all"}, "specs": [{"egress": [egress]}]}
    assert "under all fail" in caveats.dns_proxy([everywhere], [])


@pytest.mark.parametrize("egress", [{"toEntities": ["world"]}, {"toPorts": [{"ports": [{"port": "53"}]}]}, {}])
def test_a_policy_without_names_needs_no_dns_proxy(egress):
    assert caveats.dns_proxy([policy(egress)], ["apps"]) == ""


CONFIG = {
    "spec": {"bgpInstances": [{"name": "i", "peers": [{"name": "tor1", "peerConfigRef": {"name": "c"}}, {"name": "tor2"}]}]},
    "status": {"bgpInstances": [{"name": "i", "peers": [{"name": "tor1", "peeringState": "established"}]}]},
}


@pytest.mark.parametrize(
    ("peer", "said"),
    [({"spec": {"gracefulRestart": {"enabled": True}}}, False), ({"spec": {"gracefulRestart": {"enabled": False}}}, True),
     ({"spec": {}}, True), (None, True)],
)  # fmt: skip
def test_before_graceful_restart_that_is_off_is_said(peer, said):
    words = caveats.without_graceful_restart(CONFIG, {"c": peer})
    assert ("i/tor1" in words) is said
    assert "tor2" not in words, "a session that is down loses nothing"


def daemonset(*env):
    containers = [{"name": "cilium-agent", "env": [{"name": name, "value": "x"} for name in env]}]
    return {"spec": {"template": {"spec": {"containers": containers}}}}


def test_before_the_way_to_the_api_server_does_not_lead_through_the_agent_itself():
    replaced = {"kube-proxy-replacement": "true"}
    assert "k8sServiceHost" in caveats.through_service(daemonset(), replaced)
    assert caveats.through_service(daemonset("KUBERNETES_SERVICE_HOST"), replaced) == ""
    assert caveats.through_service(daemonset(), {"kube-proxy-replacement": "false"}) == ""
    assert caveats.through_service(None, replaced) == ""


def dns_pod(node, ready=True):
    status = {"conditions": [{"type": "Ready", "status": str(ready)}]}
    return msgspec.convert({"metadata": {"name": f"coredns-{node}"}, "spec": {"nodeName": node}, "status": status}, Pod)


def test_before_not_the_only_dns_node():
    assert "coredns-node-3" in caveats.only_dns([dns_pod("node-3"), dns_pod("node-1", ready=False)], "node-3")
    assert caveats.only_dns([dns_pod("node-3"), dns_pod("node-1")], "node-3") == ""
    assert caveats.only_dns([], "node-3") == ""


@pytest.mark.parametrize(
    ("unschedulable", "ours", "said"),
    [(True, False, True), (True, True, False), (False, False, False)],
)
def test_before_nobody_else_drains_the_node(unschedulable, ours, said):
    node = {"metadata": {"name": "node-3"}, "spec": {"unschedulable": unschedulable}}
    assert bool(caveats.cordon_of_others(node, ours=ours)) is said
