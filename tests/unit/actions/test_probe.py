"""The probes as steps: what is asked, what counts as success, what is kept."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from remediator.actions import actions
from remediator.errors import MonitoringError
from remediator.model import Target, evolve
from remediator.probing import Certificate, DnsSeen, HttpSeen, TcpSeen
from remediator.run import StepEnd


class Scripted:
    """Answers as told and remembers what it was asked."""

    def __init__(self):
        self.asked = []
        self.page = {"status": 200}
        self.records = {"rcode": "NOERROR", "answers": ("A 10.25.150.223", "CNAME Whoami.Example.")}
        self.closed = set()

    async def http(self, url, **more):
        self.asked.append((url, more.get("address", "")))
        return HttpSeen(what=url, seconds=0.1, **self.page)

    async def dns(self, server, port, name, kind, *, tcp, within):
        self.asked.append((server, port, name, kind, tcp))
        return DnsSeen(what=server, seconds=0.1, transport="tcp" if tcp else "udp", **self.records)

    async def tcp(self, host, port, *, within):
        self.asked.append((host, port))
        return TcpSeen(what=f"{host}:{port}", seconds=0.1, trouble="refused" if (host, port) in self.closed else "")


@pytest.fixture
def scripted(stage):
    stage.world.probe = Scripted()
    return stage.world.probe


@pytest.mark.parametrize(
    ("page", "more", "fault"),
    [
        ({"status": 302}, {}, ""),
        ({"status": 404}, {}, "status 404"),
        ({"status": 302}, {"status": [200]}, "status 302"),
        ({"status": 401}, {"status": [200, 401]}, ""),
        ({"trouble": "no answer within 5 s"}, {}, "no answer within 5 s"),
        ({"status": 200}, {"certificate_for": "7d"}, "there is no certificate"),
        (
            {"status": 200, "certificate": Certificate(subject="x", issuer="y", not_after="2020-01-01T00:00:00Z")},
            {"certificate_for": "7d"},
            "the certificate ends 2020-01-01T00:00:00Z",
        ),
    ],
)
async def test_what_counts_as_a_page(stage, scripted, page, more, fault):
    scripted.page = page
    done = await stage.step("probe.http", url="https://grafana.test/", address="10.0.0.9", **more)
    assert (done.end is StepEnd.SUCCEEDED, fault in done.detail) == (not fault, True)
    assert scripted.asked == [("https://grafana.test/", "10.0.0.9")]
    (evidence,) = done.run.steps[0].evidence
    assert evidence.data["what"] == "https://grafana.test/"
    assert stage.writes() == []
    assert (await stage.step("probe.http", url="https://grafana.test/", expect="any", **more)).end is StepEnd.SUCCEEDED
    opposite = await stage.step("probe.http", url="https://grafana.test/", expect="failure", **more)
    assert (opposite.end is StepEnd.SUCCEEDED) is bool(fault)


async def test_a_name_server_must_say_what_is_expected_over_both_transports(stage, scripted):
    done = await stage.step("probe.dns", server="10.25.150.252", name="whoami.test", answers=["10.25.150.223", "whoami.example"])
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert [asked[-1] for asked in scripted.asked] == [False, True]
    done = await stage.step("probe.dns", server="10.25.150.252", name="whoami.test", answers=["10.0.0.1"], over=["udp"])
    assert (done.end, "10.0.0.1 is not among the 2 answers over udp" in done.detail) == (StepEnd.FAILED, True)
    scripted.records = {"rcode": "SERVFAIL"}
    done = await stage.step("probe.dns", server="10.25.150.252", name="whoami.test")
    assert (done.end, "SERVFAIL over tcp" in done.detail) == (StepEnd.FAILED, True)


@pytest.fixture
async def coredns(stage):
    """A workload with two Services, one of them with an address outside, and a Service of others beside them."""
    labels = {"k8s-app": "kube-dns"}
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53}, {"name": "metrics", "port": 9153}]
    for name, selector, address in (("a", labels, "10.96.0.210"), ("b", {"other": "x"}, "10.96.0.211")):
        spec = {"selector": selector, "clusterIP": address, "clusterIPs": [address], "ports": ports}
        metadata = {"name": name, "namespace": "apps"}
        stage.cluster.create({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "example.test/c:1"}]}}
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
    metadata = {"name": "coredns", "namespace": "apps"}
    return stage.cluster.create({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec})


async def on(stage, thing, action, **parameters):
    playbook = stage.playbook(action, **parameters)
    run = await stage.begin(playbook, node="node-3")
    metadata = thing["metadata"]
    target = Target(kind=thing["kind"], name=metadata["name"], namespace=metadata["namespace"], uid=metadata["uid"])
    await stage.world.journal.save_run(evolve(run, target=target))
    return await stage.carry(playbook, run)


async def test_without_an_address_the_services_of_the_workload_are_asked(stage, scripted, coredns):
    done = await on(stage, coredns, "probe.tcp")
    assert (done.end, scripted.asked) == (StepEnd.SUCCEEDED, [("10.96.0.210", 53), ("10.96.0.210", 9153)]), done.detail
    scripted.asked.clear()
    done = await on(stage, coredns, "probe.dns", name="kubernetes.default.svc.cluster.local")
    assert [asked[:2] for asked in scripted.asked] == [("10.96.0.210", 53)] * 2
    scripted.closed = {("10.96.0.210", 9153)}
    done = await on(stage, coredns, "probe.tcp")
    assert (done.end, done.detail) == (StepEnd.FAILED, "10.96.0.210:9153: refused")


async def test_nothing_to_ask_is_no_success(stage, scripted, coredns):
    assert (await on(stage, coredns, "probe.tcp", port=7)).detail == "there is no address to ask"
    done = await stage.step("probe.tcp")
    assert (done.end, "Node/node-3 is no Deployment" in done.detail) == (StepEnd.FAILED, True)
    assert scripted.asked == []


class Told:
    """A Prometheus that knows these instances."""

    def __init__(self, *instances):
        self.instances = instances

    async def require_fresh(self):
        pass

    async def query(self, promql):
        if not promql.startswith("probe_success"):
            raise MonitoringError("no answer")
        return [SimpleNamespace(labels={"instance": one} if one else {}) for one in self.instances]


PROBED = "probe_success{probe='service'} == 0"


async def test_what_prometheus_probes_is_looked_at_again(stage, scripted):
    stage.world.prometheus = Told("https://grafana.test", "10.0.0.9:6881", "https://grafana.test", "[fd00::9]:80")
    done = await stage.step("probe.targets", query=PROBED)
    assert (done.end, done.detail) == (StepEnd.SUCCEEDED, "3 of 3 answer")
    assert scripted.asked == [("https://grafana.test", ""), ("10.0.0.9", 6881), ("fd00::9", 80)]
    scripted.page = {"status": 503}
    scripted.closed = {("10.0.0.9", 6881)}
    done = await stage.step("probe.targets", query=PROBED, expect="failure")
    assert (done.end, done.detail) == (StepEnd.SUCCEEDED, "https://grafana.test: status 503; 10.0.0.9:6881: refused")
    assert (await stage.step("probe.targets", query=PROBED)).end is StepEnd.FAILED
    assert stage.writes() == []


@pytest.mark.parametrize("instance", ["one.one.one.one", "10.0.0.9:53", "https://user:secret@x", "x:port", "https://", "a/b:80", ""])
async def test_what_is_neither_a_page_nor_a_port_is_named_and_not_asked(stage, scripted, instance):
    stage.world.prometheus = Told(instance)
    for expect in ("success", "failure"):
        done = await stage.step("probe.targets", query=PROBED, expect=expect)
        assert (done.end, "has a page or a port" in done.detail) == (StepEnd.FAILED, True), "nothing was asked, so nothing is proved"
    done = await stage.step("probe.targets", query=PROBED, expect="any")
    assert done.end is StepEnd.SUCCEEDED
    told = [seen.data for seen in done.run.steps[0].evidence if seen.name == "not looked at"]
    assert told == [[instance.replace("secret", "<redacted>")]]
    assert scripted.asked == []


async def test_without_prometheus_nobody_knows_what_is_probed(stage, scripted):
    stage.world.prometheus = Told()
    assert "no answer" in (await stage.step("probe.targets", query="down", expect="any")).detail
    stage.world.prometheus = None
    assert "prometheus.url" in (await stage.step("probe.targets", query=PROBED, expect="any")).detail


@pytest.mark.parametrize(
    ("action", "parameters"),
    [
        ("probe.http", {"url": "ftp://x"}),
        ("probe.http", {"url": "https://user:pass@x"}),
        ("probe.http", {"url": "https://x", "address": "x"}),
        ("probe.http", {"url": "https://x", "within": "2m"}),
        ("probe.dns", {"name": "x", "server": "dns.example"}),
        ("probe.dns", {"name": "x", "over": ["quic"]}),
        ("probe.tcp", {"host": "x", "port": 0}),
    ],
)
def test_parameters_that_make_no_sense_are_refused_when_the_file_is_read(action, parameters):
    with pytest.raises(ValidationError):
        actions()[action].Parameters.model_validate(parameters)
