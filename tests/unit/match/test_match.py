from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.errors import Refused, UsageError
from remediator.kube.errors import NotFound
from remediator.match import choose, find, host_of, nearest, resolve
from remediator.model import Alert, AlertStatus
from remediator.playbook import Library, TargetSpec
from remediator.reasons import Reason


class Label:
    """A matcher as the playbook package makes them: equality is enough here."""

    def __init__(self, label, value):
        self.label, self.value = label, value

    def matches(self, labels):
        return labels.get(self.label, "") == self.value

    def __str__(self):
        return f'{self.label}="{self.value}"'


class Book:
    """As much of a playbook as matching looks at."""

    def __init__(self, name, labels):
        self.name = name
        self.when = SimpleNamespace(alerts=tuple(Label(*pair) for pair in labels.items())) if labels else None

    def matches(self, labels):
        return self.when is not None and all(m.matches(labels) for m in self.when.alerts)


def playbook(name, **labels):
    return Book(name, labels)


def library(*playbooks):
    return Library(playbooks)


class Cluster:
    """Nodes and pods by name; everything else is not found."""

    def __init__(self, *objects):
        self.objects = objects
        self.asked = []

    async def get(self, kind, name, namespace="", **_):
        self.asked.append((kind.kind, namespace, name))
        for thing in self.objects:
            meta = thing["metadata"]
            if (thing["kind"], meta.get("namespace", ""), meta["name"]) == (kind.kind, namespace, name):
                return thing
        raise NotFound(f"{kind.plural} {name!r} not found")

    async def list(self, kind, namespace="", **_):
        return SimpleNamespace(items=[o for o in self.objects if o["kind"] == kind.kind])


def node(name, *ips, hostname=None):
    addresses = [{"type": "InternalIP", "address": ip} for ip in ips] + ([{"type": "Hostname", "address": hostname}] if hostname else [])
    return {"kind": "Node", "metadata": {"name": name, "uid": f"uid-{name}"}, "status": {"addresses": addresses}}


def pod(namespace, name):
    return {"kind": "Pod", "metadata": {"namespace": namespace, "name": name, "uid": f"uid-{name}"}}


CLUSTER = Cluster(
    node("node-1", "10.25.150.10", "fd00::10", hostname="one"),
    node("node-2", "10.25.150.11"),
    node("twin-a", "10.9.9.9"),
    node("twin-b", "10.9.9.9"),
    pod("kube-system", "cilium-x"),
    {"kind": "Deployment", "metadata": {"namespace": "dns", "name": "unbound", "uid": "u-d"}},
    {"kind": "StatefulSet", "metadata": {"namespace": "dns", "name": "unbound", "uid": "u-s"}},
)


def alert(**labels):
    return Alert(name="X", fingerprint="f", starts_at=datetime(2026, 1, 5, tzinfo=UTC), status=AlertStatus.FIRING, labels=labels)


NODE = TargetSpec(kind="Node")
POD = TargetSpec(kind="Pod")
WORKLOAD = TargetSpec(kind=["Deployment", "StatefulSet", "DaemonSet"])


@pytest.mark.parametrize(
    ("labels", "name"),
    [
        ({"node": "node-1"}, "node-1"),
        ({"instance": "10.25.150.11:9962"}, "node-2"),
        ({"instance": "[fd00::10]:9962"}, "node-1"),
        ({"instance": "fd00:0:0::10"}, "node-1"),
        ({"instance": "node-2:9100"}, "node-2"),
        ({"instance": "one"}, "node-1"),
        ({"node": "10.25.150.10"}, "node-1"),
        ({"node": "node-1", "instance": "10.25.150.11:9962"}, "node-1"),
        ({"node": "node-1", "target_node": "node-2"}, "node-2"),
        ({"nodename": "node-2"}, "node-2"),
    ],
)
async def test_a_node_is_found_by_whatever_label_names_it(labels, name):
    target = await resolve(NODE, alert(**labels), CLUSTER)
    assert (target.kind, target.name, target.uid) == ("Node", name, f"uid-{name}")


@pytest.mark.parametrize(
    ("labels", "reason", "words"),
    [
        ({}, Reason.TARGET_MISSING, "no label names a node"),
        ({"severity": "critical"}, Reason.TARGET_MISSING, "severity='critical'"),
        ({"node": ""}, Reason.TARGET_MISSING, "no label names a node"),
        ({"node": "node-9"}, Reason.TARGET_MISSING, "Node/node-9 does not exist"),
        ({"instance": "10.25.150.99:9962"}, Reason.TARGET_MISSING, "10.25.150.99"),
        ({"instance": "10.9.9.9:9962"}, Reason.TARGET_AMBIGUOUS, "twin-a, twin-b"),
        ({"node": "../secrets"}, Reason.TARGET_MISSING, "not a name that an object can have"),
        ({"node": "node-1?dryRun=All"}, Reason.TARGET_MISSING, "not a name"),
        ({"node": "NODE-1"}, Reason.TARGET_MISSING, "not a name"),
    ],
)
async def test_anything_but_one_existing_node_is_refused_with_what_was_found(labels, reason, words):
    with pytest.raises(Refused) as refused:
        await resolve(NODE, alert(**labels), CLUSTER)
    assert refused.value.reason is reason
    assert words in refused.value.detail


@pytest.mark.parametrize(("label", "uid"), [("deployment", "u-d"), ("statefulset", "u-s")])
async def test_of_several_kinds_the_label_says_which_is_meant(label, uid):
    target = await resolve(WORKLOAD, alert(namespace="dns", daemonset="", **{label: "unbound"}), CLUSTER)
    assert (target.uid, target.named["label"]) == (uid, label)


@pytest.mark.parametrize(
    ("labels", "reason", "words"),
    [
        ({"namespace": "dns"}, Reason.TARGET_MISSING, "no label deployment or statefulset or daemonset"),
        ({"deployment": "unbound"}, Reason.TARGET_MISSING, "no label deployment and namespace"),
        ({"namespace": "dns", "daemonset": "unbound"}, Reason.TARGET_MISSING, "DaemonSet/dns/unbound does not exist"),
        (
            {"namespace": "dns", "deployment": "unbound", "statefulset": "unbound"},
            Reason.TARGET_AMBIGUOUS,
            "names a Deployment and a StatefulSet",
        ),
    ],
)
async def test_of_several_kinds_exactly_one_must_be_named(labels, reason, words):
    with pytest.raises(Refused) as refused:
        await resolve(WORKLOAD, alert(**labels), CLUSTER)
    assert refused.value.reason is reason
    assert words in refused.value.detail


async def test_a_pod_needs_its_name_and_namespace():
    target = await resolve(POD, alert(pod="cilium-x", namespace="kube-system"), CLUSTER)
    assert target.key == "Pod/kube-system/cilium-x"
    for labels in ({"pod": "cilium-x"}, {"namespace": "kube-system"}, {}):
        with pytest.raises(Refused, match="pod and namespace"):
            await resolve(POD, alert(**labels), CLUSTER)


async def test_no_name_that_kubernetes_would_not_accept_reaches_the_api():
    asked = Cluster()
    for name in ("a/b", "..", "a b", "", "x" * 300, "a\nb", "ä"):
        with pytest.raises(Refused):
            await find("Node", name, "", asked)
    assert asked.asked == []


async def test_a_target_with_a_namespace_too_many_is_a_usage_error():
    with pytest.raises(UsageError, match="Kind/name"):
        await find("Node", "node-1", "default", CLUSTER)
    with pytest.raises(UsageError, match="Kind/namespace/name"):
        await find("Pod", "cilium-x", "", CLUSTER)


def test_the_first_playbook_whose_matchers_all_fit_takes_it():
    books = library(playbook("a", alertname="X", severity="critical"), playbook("b", alertname="X"), playbook("c", alertname="X"))
    assert choose({"alertname": "X"}, books).name == "b"
    assert choose({"alertname": "X", "severity": "critical"}, books).name == "a"
    assert choose({"alertname": "Y"}, books) is None


def test_names_that_somebody_makes_up_fill_no_memory():
    books = library(playbook("a", alertname="X"))
    for number in range(3_000):
        assert choose({"alertname": f"made-up-{number}"}, books) is None
    assert len(books._by_alert) <= 1_000
    assert choose({"alertname": "X"}, books).name == "a"


def test_a_playbook_for_alerts_of_any_name_is_asked_too():
    books = library(playbook("a", alertname="X"), playbook("any", severity="critical"))
    assert choose({"alertname": "Y", "severity": "critical"}, books).name == "any"
    assert choose({"severity": "critical"}, books).name == "any"
    assert choose({"alertname": "Y"}, books) is None


def test_manual_playbooks_take_no_alert():
    assert choose({}, library(playbook("m"))) is None


def test_the_nearest_miss_names_the_matcher_and_the_actual_value():
    books = library(playbook("far", alertname="Y", severity="x"), playbook("near", alertname="X", severity="critical"))
    miss = nearest({"alertname": "X", "severity": "warning"}, books)[0]
    assert (miss.playbook, miss.matched, miss.of) == ("near", 1, 2)
    assert miss.failed == ("severity=\"critical\" (it is 'warning')",)


@given(st.ip_addresses(), st.integers(1, 65535))
def test_the_host_of_any_instance_is_its_address(address, port):
    with_port = f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
    assert host_of(with_port) == host_of(str(address)) == str(address)
