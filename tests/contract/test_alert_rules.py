"""promtool and amtool on what deploy/ ships: rules that parse, rules that fire for the right reason and no other, a valid routing tree."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import yaml

PROMETHEUS = Path(__file__).parents[2] / "deploy" / "prometheus"


def run(program, *arguments, cwd=PROMETHEUS, package="prometheus"):
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed (Debian package {package})")
    done = subprocess.run([program, *arguments], check=False, cwd=cwd, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.prometheus
@pytest.mark.parametrize("name", ["rules.yaml", "self.yaml"])
def test_the_rules_parse(name):
    assert "SUCCESS" in run("promtool", "check", "rules", name)


@pytest.mark.prometheus
@pytest.mark.parametrize("name", sorted(path.stem for path in (PROMETHEUS / "tests").glob("*.yaml")))
def test_the_rules_fire_for_the_right_reason(name, tmp_path):
    test = yaml.safe_load((PROMETHEUS / "tests" / f"{name}.yaml").read_text())
    (rules,) = test.pop("rule_files")
    promtool_test(tmp_path, yaml.safe_load((PROMETHEUS / "tests" / rules).read_text())["groups"], **test)


def promtool_test(folder, groups, **test):
    """With the groups alone that the test speaks of: promtool evaluates every rule for every minute of every test."""
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": concerned(groups, json.dumps(test).replace("\\n", " "))}))
    (folder / "test.yaml").write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], **test}))
    run("promtool", "test", "rules", "test.yaml", cwd=folder)


def concerned(groups, text):
    """The groups with a rule that the text names, and those with what their rules read."""
    while True:
        names = set(re.findall(r"[\w:]+", text))
        found = [group for group in groups if any(rule.get("alert", rule.get("record")) in names for rule in group["rules"])]
        grown = text + " ".join(rule["expr"] for group in found for rule in group["rules"])
        if set(re.findall(r"[\w:]+", grown)) == names:
            return found
        text = grown


@pytest.mark.prometheus
def test_the_same_by_hand():
    """As people run them, with every rule; one file, since all of them take a minute of a core."""
    run("promtool", "test", "rules", "services.yaml", cwd=PROMETHEUS / "tests")


PLAIN = "histogram_quantile(0.95, sum by (node, target_node, le) (rate(smokeping_response_duration_seconds_bucket[5m])))"
"""What one would record of smokeping_prober without a thought: NaN where nothing is answered."""


def in_the_docs(name):
    """The recording rules that the page of a playbook asks for."""
    page = (PROMETHEUS.parents[1] / "docs" / "playbooks" / f"{name}.md").read_text()
    return [rule for block in re.findall(r"```yaml\n(- record.*?)```", page, re.DOTALL) for rule in yaml.safe_load(block)]


def pinged(values, *, observers=("node-1", "node-2", "node-4"), target="node-3"):
    """What smokeping_prober has of one target: ``values`` of answers between 1.6 and 51.2 ms, one ping a second."""
    for node in observers:
        labels = f'node="{node}",target_node="{target}"'
        for name, written in (("bucket", ',le="0.0016"'), ("bucket", ',le="0.0512"'), ("bucket", ',le="+Inf"'), ("count", "")):
            shown = "0x60" if "0.0016" in written else values
            yield {"series": f"smokeping_response_duration_seconds_{name}{{{labels}{written}}}", "values": shown}
        yield {"series": f"smokeping_requests_total{{{labels}}}", "values": "0+60x60"}


def recorded(folder, rules, input_series, **expected):
    """A test with rules of one's own beside the shipped ones."""
    shipped = yaml.safe_load((PROMETHEUS / "rules.yaml").read_text())["groups"]
    tests = [{"interval": "1m", "input_series": [*input_series], **expected}]
    promtool_test(folder, [{"name": "recorded", "rules": rules}, *shipped], evaluation_interval="1m", tests=tests)


@pytest.mark.prometheus
def test_the_recording_rule_in_the_docs_counts_no_answer_as_ten_seconds(tmp_path):
    (rule,) = in_the_docs("node-latency")
    each = {"labels": 'network_pair_latency_seconds{node="node-1",target_node="node-3"}'}
    asked = [
        {"expr": 'network_pair_latency_seconds{node="node-1"}', "eval_time": at, "exp_samples": [{**each, "value": value}]}
        for at, value in (("15m", 0.04872), ("30m", 10))
    ]
    recorded(tmp_path, [rule], pinged("0+60x20 1200x40"), promql_expr_test=asked)
    never = [{**one, "exp_samples": [{**each, "value": 10}]} for one in asked]
    recorded(tmp_path, [rule], pinged("5x60"), promql_expr_test=never)
    silent = [{**one, "exp_samples": []} for one in asked]
    unsent = [one | {"values": "7x60"} if "requests" in one["series"] else one for one in pinged("5x60")]
    recorded(tmp_path, [rule], unsent, promql_expr_test=silent)


@pytest.mark.prometheus
def test_a_recorded_quantile_of_no_pings_hides_no_silent_node(tmp_path):
    plain = {"record": "network_pair_latency_seconds", "expr": PLAIN}
    shown = {"expr": "count(network_pair_latency_seconds) unless count(network_pair_latency_seconds >= 0)", "eval_time": "15m"}
    shown["exp_samples"] = [{"labels": "{}", "value": 3}]
    found = {"expr": 'ALERTS{alertname="NodeLatencyCritical",alertstate="firing"}', "eval_time": "15m"}
    name = 'ALERTS{alertname="NodeLatencyCritical",alertstate="firing",kind="latency",severity="critical",target_node="node-3"}'
    found["exp_samples"] = [{"labels": name, "value": 1}]
    recorded(tmp_path, [plain], pinged("5x60"), promql_expr_test=[shown, found])


def proof(name, node="node-3"):
    """What a shipped playbook asks Prometheus after it acted on ``node``."""
    playbook = yaml.safe_load((PROMETHEUS.parents[1] / "playbooks" / f"{name}.yaml").read_text())
    return playbook["verify"]["query"].replace("${target.name}", node)


FINE = {"labels": "{}", "value": 3}
"""Three who measure it."""


@pytest.mark.prometheus
@pytest.mark.parametrize("rule", [PLAIN, "as in the docs"])
@pytest.mark.parametrize("answered", ["0+60x60", "5x60"])
def test_neither_a_slow_nor_a_silent_node_is_proved_well(tmp_path, rule, answered):
    own = in_the_docs("node-latency") if rule != PLAIN else [{"record": "network_pair_latency_seconds", "expr": PLAIN}]
    asked = [{"expr": proof("node-latency"), "eval_time": "15m", "exp_samples": []}]
    recorded(tmp_path, own, pinged(answered), promql_expr_test=asked)
    quick = [{**one, "values": "0+60x60"} if "0.0016" in one["series"] else one for one in pinged("0+60x60")]
    recorded(tmp_path, own, quick, promql_expr_test=[{**asked[0], "exp_samples": [FINE]}])


@pytest.mark.prometheus
@pytest.mark.parametrize(("answered", "proved"), [("0+60x60", [FINE]), ("0+50x60", []), ("5x60", [])])
def test_loss_is_proved_over_by_the_rule_in_the_docs(tmp_path, answered, proved):
    asked = [{"expr": proof("node-packet-loss"), "eval_time": "15m", "exp_samples": proved}]
    recorded(tmp_path, in_the_docs("node-packet-loss"), pinged(answered), promql_expr_test=asked)
    unsent = [{**one, "values": "0x60"} for one in pinged("0x60")]
    recorded(tmp_path, in_the_docs("node-packet-loss"), unsent, promql_expr_test=[{**asked[0], "exp_samples": []}])


@pytest.mark.prometheus
@pytest.mark.parametrize(
    ("own", "others", "pods", "proved"),
    [(0, (0, 0, 1), 1, True), (0, (1, 1, 0), 1, False), (1, (0, 0, 0), 1, False), (0, (0, 0, 0), 0, False), (1, (1, 1, 1), 1, False)],
)
def test_a_health_endpoint_is_proved_by_those_who_miss_none(tmp_path, own, others, pods, proved):
    misses = dict(zip(("node-3", "node-1", "node-2", "node-4"), (own, *others), strict=True))
    series = [
        {"series": f'cilium_unreachable_health_endpoints{{node="{node}"}}', "values": f"{value}x60"} for node, value in misses.items()
    ]
    pinging = [{"series": f'network_pair_loss_ratio{{node="{node}",target_node="node-3"}}', "values": "0x60"} for node in misses]
    pair = [{"series": f'probe_success{{probe="pod-pair",node="{n}",target_node="node-3"}}', "values": f"{pods}x60"} for n in misses]
    asked = [{"expr": proof("cilium-endpoints-unreachable"), "eval_time": "15m", "exp_samples": [FINE] if proved else []}]
    recorded(tmp_path, in_the_docs("cilium-endpoints-unreachable"), [*series, *pinging, *pair], promql_expr_test=asked)


@pytest.mark.prometheus
def test_the_example_of_probes_is_a_configuration():
    assert "SUCCESS" in run("promtool", "check", "config", "prometheus.yaml")


@pytest.mark.prometheus
def test_each_probe_has_the_labels_that_the_rules_read():
    found = json.loads(run("promtool", "check", "service-discovery", "--timeout=1s", "prometheus.yaml", "remediator-probes"))
    labels = [target["labels"] for target in found]
    assert len(labels) == 22
    assert all(each["__address__"] == "blackbox-exporter.monitoring:9115" for each in labels)
    unbound = [each for each in labels if each.get("service") == "unbound"]
    assert {each["__param_module"] for each in unbound} == {"dns_udp", "dns_tcp"}
    assert {(each["instance"], each["__param_target"], each["deployment"]) for each in unbound} == {
        ("10.25.150.252:53", "10.25.150.252:53", "unbound")
    }


ALERTMANAGER = PROMETHEUS.parent / "alertmanager"


@pytest.mark.alertmanager
def test_the_example_of_alertmanager_is_a_configuration():
    assert "SUCCESS" in run("amtool", "check-config", "example.yml", cwd=ALERTMANAGER, package="prometheus-alertmanager")


@pytest.mark.alertmanager
@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (["alertname=NodeFailure", "kind=node"], "remediator,people"),
        (["alertname=RemediatorStuck", "kind=remediator"], "people"),
        (["alertname=RemediatorWatchdog", "kind=remediator"], "remediator"),
        (["alertname=Other"], "people"),
    ],
)
def test_alerts_reach_people_and_remediator_those_about_itself_only_people_and_its_beat_nobody_else(labels, told):
    route = ("config", "routes", "test", "--config.file=example.yml", *labels)
    assert run("amtool", *route, cwd=ALERTMANAGER, package="prometheus-alertmanager").strip() == told


@pytest.mark.alertmanager
def test_a_common_cause_inhibits_alerts_about_nodes_and_no_others(alertmanager):
    rules = yaml.safe_load((ALERTMANAGER / "example.yml").read_text())["inhibit_rules"]
    running = alertmanager(inhibit_rules=rules)

    def alert(name, kind, severity="critical", **more):
        return {"alertname": name, "kind": kind, "severity": severity, **more}

    def muted(*alerts, until):
        """Post them, and wait until just those are inhibited; a cause is taken note of in the background."""
        running.post(*alerts)
        deadline = time.monotonic() + 20
        while True:
            found = sorted(each["labels"]["alertname"] for each in running.alerts() if each["status"]["inhibitedBy"])
            if found == sorted(until):
                return
            assert time.monotonic() < deadline, found
            time.sleep(0.05)

    nodes = [
        alert("NodeLatencyCritical", "latency", target_node="node-3"),
        alert("NodeLatencyWarning", "latency", "warning", target_node="node-3"),
        alert("NodeLatencyWarning", "latency", "warning", target_node="node-4"),
        alert("NodeFailure", "node", node="node-1"),
        alert("CiliumAgentDown", "agent", node="node-1"),
        alert("CiliumAgentDown", "agent", node="node-2"),
    ]
    muted(*nodes, until=["NodeLatencyWarning", "CiliumAgentDown"])
    services = [
        alert("GatewayProbeFailing", "gateway", gateway="external"),
        alert("ServiceEndpointDown", "service", service="grafana", gateway="external"),
        alert("ServiceEndpointDown", "service", service="proxmox"),
        alert("UnboundDown", "dns", service="unbound"),
    ]
    muted(*services, until=["NodeLatencyWarning", "CiliumAgentDown", "ServiceEndpointDown"])
    names = [
        alert("CoreDnsAllUpstreamsBroken", "dns", namespace="kube-system"),
        alert("CoreDnsServfail", "dns", namespace="kube-system"),
        alert("CoreDnsPodsMissing", "dns", namespace="kube-system"),
    ]
    muted(*names, until=["NodeLatencyWarning", "CiliumAgentDown", "ServiceEndpointDown", "CoreDnsServfail"])
    muted(
        alert("NetworkPartitionSuspected", "partition"),
        until=[each["alertname"] for each in nodes] + ["ServiceEndpointDown", "CoreDnsServfail"],
    )
