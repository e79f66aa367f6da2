"""Something breaks in the network, and the whole stack deals with it.

The exporter says so, the shipped rule fires in Prometheus, the shipped route brings it to the daemon, which runs as a process with the
installed account; the cluster changes, the metric recovers, the alert ends, and what was changed is put back where there is something.
"""

from __future__ import annotations

import json
import threading

import pytest
from plugins.bgp import REAL, with_crds
from plugins.installation import NODES, all_is_well, forbidden
from standins import objects
from standins.network import SPEAKERS

from remediator.cluster.rollout import RESTARTED_AT

pytestmark = [pytest.mark.long, pytest.mark.controlplane, pytest.mark.alertmanager, pytest.mark.prometheus, pytest.mark.timeout(500)]

SERVICES = ("UnboundDown", "CoreDnsServfail", "CoreDnsUpstreamUnhealthy", "ServiceEndpointDown")


@pytest.fixture
def keep(control_plane, installation, exporter, agents, stack):
    """keep(*playbooks): an installation whose ``playbooks`` act by themselves, on a cluster that is well."""

    def start(*auto):
        agents()
        installed = installation(control_plane)
        things = installed.build("medik8s")
        installed.apply(things)
        all_is_well(exporter)
        return stack(installed, installed.settings(things), SERVICES, auto)

    return start


@pytest.fixture
def workload(control_plane):
    """workload(name, namespace, replicas): a Deployment with a Service, once its pods are ready; gone again afterwards."""
    made = []

    def make(name, namespace, replicas=1, port=80):
        if namespace not in ("default", "kube-system") and namespace not in made:
            control_plane.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
            made.append(namespace)
        spec = {"selector": {"app": name}, "ports": [{"name": f"p{port}", "port": port, "protocol": "TCP"}]}
        service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace}, "spec": spec}
        control_plane.apply(objects.deployment(name, namespace, replicas), service)
        control_plane.kubectl("rollout", "status", f"deployment/{name}", "-n", namespace, "--timeout=60s")

    yield make
    for namespace in made:
        control_plane.kubectl("delete", "namespace", namespace, "--wait=false")
    control_plane.kubectl("delete", "deployment,service", "coredns", "-n", "kube-system", "--ignore-not-found")


def restarted(plane, name, namespace):
    """When a Deployment was restarted by a rollout; None if it was not."""
    metadata = plane.get("deployment", name, "-n", namespace)["spec"]["template"]["metadata"]
    return (metadata.get("annotations") or {}).get(RESTARTED_AT)


def probe(exporter, value, **labels):
    """What the probers say, with the labels of targets.yaml."""
    exporter.set("probe_success", {"job": "remediator-probes", "location": "cluster", **labels}, value)


def ended(keeper, playbook, state):
    run = keeper.run_that_ended(playbook=playbook)
    assert run["state"] == state, keeper.why(run["id"])
    return run


def nothing_left(keeper):
    keeper.wait_for("nothing to be left behind", lambda: not keeper.get("/api/v1/changes?left_behind=true")["items"])


def steps_of(run):
    return {step["name"]: step["state"] for step in run["steps"]}


UNBOUND = {"probe": "dns", "service": "unbound", "instance": "10.25.150.252:53", "namespace": "dns", "deployment": "unbound"}


def test_an_unbound_that_does_not_resolve_is_restarted(control_plane, keep, workload, exporter):
    workload("unbound", "dns", port=53)
    for module in ("dns_udp", "dns_tcp"):
        probe(exporter, 1, module=module, **UNBOUND)
    keeper = keep("dns")
    keeper.prometheus.wait_for('probe_success{service="unbound"} == 1')
    assert restarted(control_plane, "unbound", "dns") is None

    for module in ("dns_udp", "dns_tcp"):
        probe(exporter, 0, module=module, **UNBOUND)
    control_plane.wait_for("the restart", lambda: restarted(control_plane, "unbound", "dns"), seconds=120)
    probe(exporter, 1, module="dns_tcp", **UNBOUND)  # one way is enough for whoever asks, and for the rule
    run = ended(keeper, "dns", "healed")
    assert (run["alert"]["name"], run["target"]["kind"], run["target"]["name"]) == ("UnboundDown", "Deployment", "unbound")
    (resolved,) = keeper.decisions(decision="resolved")
    assert resolved["alert"]["labels"]["deployment"] == "unbound"
    nothing_left(keeper)
    assert forbidden(keeper) == []


def answers(exporter, **counts):
    """How often CoreDNS has answered with which code."""
    for rcode, count in counts.items():
        exporter.set("coredns_dns_responses_total", {"namespace": "kube-system", "pod": "coredns-1", "rcode": rcode}, count)


def unhealthy(exporter, count):
    """How often CoreDNS found AdGuard unhealthy."""
    labels = {"namespace": "kube-system", "proxy_name": "forward", "to": "10.25.150.253:53"}
    exporter.set("coredns_proxy_healthcheck_failures_total", labels, count)


def test_a_coredns_that_answers_servfail_is_restarted_but_never_for_a_sick_upstream(control_plane, keep, workload, exporter):
    workload("coredns", "kube-system", replicas=2, port=53)
    exporter.set("kube_deployment_status_replicas_available", {"namespace": "kube-system", "deployment": "coredns"}, 2)
    answers(exporter, NOERROR=1_000, SERVFAIL=0)
    unhealthy(exporter, 0)
    keeper = keep("dns", "dns-warning")
    keeper.prometheus.wait_for("namespace:coredns_servfail:ratio_rate5m == 0 or namespace:coredns_responses:rate5m == 0")

    answers(exporter, NOERROR=2_000, SERVFAIL=100)
    at = control_plane.wait_for("the restart", lambda: restarted(control_plane, "coredns", "kube-system"), seconds=120)
    answers(exporter, NOERROR=20_000)
    run = ended(keeper, "dns", "healed")
    assert (run["alert"]["name"], run["target"]["name"]) == ("CoreDnsServfail", "coredns")
    keeper.decisions(1, decision="resolved", seconds=60)

    unhealthy(exporter, 9)
    assert ended(keeper, "dns-warning", "done")["alert"]["name"] == "CoreDnsUpstreamUnhealthy"
    answers(exporter, SERVFAIL=9_000)
    runs = keeper.wait_for("a second run to fail", lambda: runs_of(keeper, "dns", "failed"), seconds=90)
    left = keeper.get(f"/api/v1/runs/{runs[0]['id']}")
    assert (left["alert"]["name"], steps_of(left)["upstreams"], steps_of(left)["restart"]) == ("CoreDnsServfail", "failed", "pending")
    assert restarted(control_plane, "coredns", "kube-system") == at
    assert forbidden(keeper) == []


def runs_of(keeper, playbook, state):
    return [run for run in keeper.get(f"/api/v1/runs?playbook={playbook}")["items"] if run["state"] == state]


@pytest.fixture
def accepted(control_plane):
    """accepted(name, namespace): from now on the Gateway's controller, whom this plays, accepts that HTTPRoute as it is written."""
    end = threading.Event()
    threads = []

    def play(name, namespace):
        where = ("httproute", name, "-n", namespace)
        while not end.wait(0.3):
            told = {"status": "True", "reason": "x", "message": "", "lastTransitionTime": "2026-01-05T10:00:00Z"}
            told["observedGeneration"] = control_plane.get(*where)["metadata"]["generation"]
            conditions = [{"type": one, **told} for one in ("Accepted", "ResolvedRefs")]
            parents = [{"parentRef": {"name": "external"}, "controllerName": "test.dev/x", "conditions": conditions}]
            patch = json.dumps({"status": {"parents": parents}})
            control_plane.kubectl("patch", *where, "--type=merge", "--subresource=status", "-p", patch)

    def start(name, namespace):
        threads.append(threading.Thread(target=play, args=(name, namespace), daemon=True))
        threads[-1].start()

    yield start
    end.set()
    for thread in threads:
        thread.join(60)


GRAFANA = {"probe": "service", "service": "grafana", "instance": "https://127.0.0.1:1", "namespace": "web", "deployment": "grafana"}
"""Nobody listens there, so the daemon gets no answer either."""


def test_a_service_that_a_restart_does_not_heal_is_served_by_its_standby_until_a_person_gives_it_back(
    control_plane, keep, workload, accepted, exporter
):
    for name in ("grafana", "standby"):
        workload(name, "web")
    refs = [{"name": name, "port": 80, "weight": weight} for name, weight in (("grafana", 1), ("standby", 0))]
    spec = {"parentRefs": [{"name": "external"}], "rules": [{"backendRefs": refs}]}
    meta = {"name": "grafana", "namespace": "web"}
    probe(exporter, 1, **GRAFANA)
    keeper = keep("service-endpoint")  # it brings the CRD of routes
    control_plane.apply({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": meta, "spec": spec})
    accepted("grafana", "web")
    first = control_plane.get("httproute", "grafana", "-n", "web")
    keeper.prometheus.wait_for('probe_success{service="grafana"} == 1')

    probe(exporter, 0, **GRAFANA)
    control_plane.wait_for("the restart", lambda: restarted(control_plane, "grafana", "web"), seconds=120)
    control_plane.wait_for("the shift", lambda: weights(control_plane) == [0, 1], seconds=120)
    probe(exporter, 1, **GRAFANA)
    run = ended(keeper, "service-endpoint", "healed")
    assert (run["alert"]["name"], run["target"]["name"], run["rung"]) == ("ServiceEndpointDown", "grafana", 1)
    assert {**steps_of(run), "again": "succeeded"} == dict.fromkeys(steps_of(run), "succeeded")
    keeper.decisions(decision="resolved")
    assert weights(control_plane) == [0, 1], "the alert says only that the standby answers"

    done = keeper.cli("runs", "undo", run["id"], "--reason", "grafana is well again")
    assert done.returncode == 0, done.stdout + done.stderr
    nothing_left(keeper)
    last = control_plane.get("httproute", "grafana", "-n", "web")
    assert last["spec"] == first["spec"]
    assert last["metadata"].get("annotations") == first["metadata"].get("annotations")
    assert forbidden(keeper) == []


def weights(plane):
    (rule,) = plane.get("httproute", "grafana", "-n", "web")["spec"]["rules"]
    return [ref["weight"] for ref in rule["backendRefs"]]


def slow(exporter, node, seconds):
    """What a prober on every node says of its round trips to and from ``node``, and between the others, which are fine."""
    for one in NODES:
        for other in NODES:
            if one != other:
                labels = {"node": one, "target_node": other}
                exporter.set("network_pair_latency_seconds", labels, seconds if node in (one, other) else 0.0004)


@pytest.mark.gobgp
@with_crds(REAL)
def test_a_slow_node_is_restarted_then_withdrawn_and_drained_and_has_everything_back_once_it_is_fast(
    bgp_network, installation, exporter, stack
):
    """Judged by the router's own table, and by the nodes as they were before."""
    plane, vip = bgp_network.plane, bgp_network.vip("web")
    bgp_network.apply(objects.deployment("shop", "default", 6))
    plane.kubectl("rollout", "status", "deployment/shop", "--timeout=60s")
    on_node = ("pods", "-A", "--field-selector=spec.nodeName=node-3")
    first = {name: bgp_network.shape(name) for name in bgp_network.nodes()}
    agents = agent_uids(plane)
    installed = installation(plane)
    things = installed.build("medik8s")
    installed.apply(things)
    all_is_well(exporter)
    bgp_network.agents.export_to(exporter)
    slow(exporter, "node-3", 0.0004)
    keeper = stack(installed, installed.settings(things), ("NodeLatencyCritical",), ("node-latency",))
    keeper.prometheus.wait_for("count(cilium_bgp_control_plane_session_state == 1) == 3")
    keeper.prometheus.wait_for("node:latency_seconds:median < 0.001")
    try:
        slow(exporter, "node-3", 0.040)
        bgp_network.until(
            "the router to hear of it from the others only", lambda: bgp_network.announcers(vip) == set(SPEAKERS) - {"node-3"}
        )
        agents_after = agent_uids(plane)
        assert {node for node in agents if agents[node] != agents_after[node]} == {"node-3"}, "its agent was restarted first"
        bgp_network.until("the node to be empty", lambda: {owner(pod) for pod in plane.get(*on_node)["items"]} <= {"DaemonSet", "Node"})
        keeper.wait_for("the proof", lambda: runs_of(keeper, "node-latency", "verifying"))
        slow(exporter, "node-3", 0.0004)
        run = ended(keeper, "node-latency", "healed")
        assert (run["alert"]["name"], run["target"]["name"], run["rung"]) == ("NodeLatencyCritical", "node-3", 1)
        keeper.decisions(decision="resolved", seconds=60)
        bgp_network.until("the router to have node-3 back", lambda: bgp_network.announcers(vip) == set(SPEAKERS))
        nothing_left(keeper)
        bgp_network.until("every node as it was", lambda: {name: bgp_network.shape(name) for name in first} == first)
        told = steps_of(keeper.get(f"/api/v1/runs/{run['id']}"))
        assert {name: told[name] for name in ("restart", "shift", "drain")} == {
            "restart": "succeeded",
            "shift": "undone",
            "drain": "undone",
        }
        assert forbidden(keeper) == []
    finally:
        plane.kubectl("delete", "deployment", "shop", "--wait=false")


def agent_uids(plane):
    """node name -> the uid of its agent pod."""
    pods = plane.get("pods", "-n", "kube-system", "-l", "k8s-app=cilium")["items"]
    return {pod["spec"]["nodeName"]: pod["metadata"]["uid"] for pod in pods if "deletionTimestamp" not in pod["metadata"]}


def owner(pod):
    return pod["metadata"]["ownerReferences"][0]["kind"]
