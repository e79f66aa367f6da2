"""The shipped alert rules: whole, tested each, and the same in both forms. What they evaluate to, promtool says (tests/contract)."""

from __future__ import annotations

import re
import runpy

import pytest
import yaml

BEAT = "RemediatorWatchdog"
"""Always fires."""


def load(path):
    return yaml.load(path.read_text(), Loader=yaml.CSafeLoader)


def minutes(text):
    return int(text.removesuffix("m"))


@pytest.fixture(scope="module")
def folder(root):
    return root / "deploy" / "prometheus"


@pytest.fixture(scope="module")
def groups(folder):
    return load(folder / "rules.yaml")["groups"]


@pytest.fixture(scope="module")
def alerts(groups):
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


@pytest.fixture(scope="module")
def own(folder):
    """The alerts about remediator itself."""
    return {rule["alert"]: rule for group in load(folder / "self.yaml")["groups"] for rule in group["rules"]}


def test_both_forms_are_equal(folder, groups):
    there = runpy.run_path(str(folder / "prometheusrule.py"))
    for source, (made, _) in there["MADE"].items():
        assert (folder / made).read_text() == there["prometheusrule"]((folder / source).read_text(), source), "run make rules"
        assert load(folder / made)["spec"]["groups"] == load(folder / source)["groups"]
    names = [load(folder / made)["metadata"]["name"] for made, _ in there["MADE"].values()]
    assert len(set(names)) == len(names) == 2
    assert load(folder / "prometheusrule.yaml")["spec"]["groups"] == groups


def test_alerts_about_ourselves_are_for_people_and_have_a_page_that_says_what_to_do(root, own):
    page = (root / "docs" / "self-alerts.md").read_text()
    assert re.findall(r"^## (Remediator\w+)$", page, re.MULTILINE) == list(own)
    for name, rule in own.items():
        assert rule["labels"]["kind"] == "remediator", name
        assert rule["annotations"]["runbook_url"].endswith(f"/self-alerts.md#{name.lower()}")
        assert rule["annotations"]["no_playbook"], name
        assert rule["labels"]["severity"] in ("warning", "critical") or name == BEAT
        assert rule.get("for") or name == BEAT


def test_alerts_about_ourselves_ask_for_metrics_that_exist(own):
    from remediator.telemetry import METRICS

    named = {name for rule in own.values() for name in re.findall(r"\bremediator_[a-z_]+", rule["expr"])}
    there = {f"{family.name}{end}" for family in METRICS.registry.collect() for end in ("", "_total", "_bucket", "_info")}
    assert len(named) > 12
    assert named <= there


def test_runbooks_are_set_by_one_command(folder):
    there = runpy.run_path(str(folder / "prometheusrule.py"))["with_runbooks"]
    text = (folder / "rules.yaml").read_text()
    moved = there(there(text, "https://git.example/a/"), "https://b.example")
    found = re.findall(r"runbook_url: (\S+)", moved)
    assert {url.rsplit("/", 1)[0] for url in found} == {"https://b.example", "https://b.example/playbooks"}
    assert len(found) == text.count("runbook_url:")
    quoted = 'runbook_url: "https://a/playbooks/x.md"'
    assert there(quoted, "https://b") == 'runbook_url: "https://b/playbooks/x.md"'


def test_every_alert_says_what_people_and_playbooks_need(alerts):
    for name, rule in alerts.items():
        assert rule["labels"]["severity"] in ("warning", "critical"), name
        assert rule["labels"]["kind"], name
        assert {"summary", "description", "runbook_url"} <= set(rule["annotations"]), name
        assert rule["for"], name


def test_recording_rules_come_first(groups):
    for group in groups:
        kinds = ["record" in rule for rule in group["rules"]]
        assert kinds == sorted(kinds, reverse=True), group["name"]


def test_no_alert_carries_a_pod(groups):
    """A pod that is replaced would end its alert with nothing healed."""
    for group in groups:
        for rule in group["rules"]:
            if "alert" not in rule:
                continue
            outer = re.sub(r"on \([^)]*\)|max by \(namespace, pod[^)]*\)", "", rule["expr"])
            assert not re.search(r"by \([^)]*\bpod\b", outer), rule["alert"]
            assert " by (" in rule["expr"] or re.search(r"[a-z_]+:[a-z_]+:|^sum\(|max\(", rule["expr"]), rule["alert"]


def test_every_alert_is_tested_both_ways(folder, alerts, own):
    alerts = alerts | {name: {"for": "0m", **rule} for name, rule in own.items()}
    fires, silent = set(), set()
    for path in sorted((folder / "tests").glob("*.yaml")):
        for test in load(path)["tests"]:
            for expected in test["alert_rule_test"]:
                name = expected["alertname"]
                early = minutes(expected["eval_time"]) < minutes(alerts[name]["for"])  # nothing can fire yet: that shows the for alone
                if expected["exp_alerts"]:
                    fires.add(name)
                elif not early:
                    silent.add(name)
    assert fires == set(alerts)
    assert silent == set(alerts) - {BEAT}


SUBDOMAINS = {
    *("adguard", "authelia", "grafana", "hubble", "jellyfin", "lidarr", "prowlarr", "prometheus", "radarr", "sonarr"),
    *("haos", "proxmox", "truenas", "argocd"),
}
ADDRESSES = {"10.25.150.252", "10.25.150.253", "10.25.150.225", "10.25.150.223"}


def test_the_example_probes_every_subdomain_and_address(folder):
    targets = load(folder / "targets.yaml")
    modules = load(folder / "blackbox.yaml")["modules"]
    hosts = [(re.sub(r"^https?://|:\d+$", "", host), each["labels"]) for each in targets for host in each["targets"]]
    assert {host.partition(".")[0] for host, labels in hosts if labels["probe"] == "service" and host.endswith(".pc-tips.se")} == SUBDOMAINS
    assert {host for host, _ in hosts if host.startswith("10.")} == ADDRESSES
    for host, labels in hosts:
        workload = {"deployment", "statefulset", "daemonset"} & set(labels)
        inside = labels["location"] == "cluster"
        assert len(workload) == inside, host
        assert ("namespace" in labels) == inside, host
        assert labels["module"] in modules, host
        assert f'probe="{labels["probe"]}"' in (folder / "rules.yaml").read_text(), host
    outside = {labels["service"] for _, labels in hosts if labels["location"] == "outside" and labels["probe"] == "service"}
    assert outside == {"home-assistant", "proxmox", "truenas"}
    assert {labels["service"] for _, labels in hosts if labels["probe"] == "dns"} == {"unbound", "adguard-dns"}


def test_the_page_has_every_alert_as_it_is(root, alerts):
    page = (root / "docs" / "alerts.md").read_text()
    rows = {row[0]: row for line in page.splitlines() if len(row := re.split(r" \| ", line.strip("| "))) == 7 and row[0].startswith("`")}
    assert list(rows) == [f"`{name}`" for name in alerts]
    for name, rule in alerts.items():
        _, _, _, wait, labels, playbook, _ = rows[f"`{name}`"]
        assert wait == rule["for"], name
        assert labels == f"{rule['labels']['severity']}, {rule['labels']['kind']}", name
        found = re.search(r"playbooks/([a-z-]+)\.md$", rule["annotations"]["runbook_url"])
        assert playbook == (f"`{found[1]}`" if found else f"none: {rule['annotations']['no_playbook']}"), name
        assert f"`{rule['labels']['kind']}`" in page, name


def test_the_page_names_every_metric_that_is_read(root, groups):
    page = (root / "docs" / "alerts.md").read_text()
    rules = [rule for group in groups for rule in group["rules"]]
    recorded = {rule["record"] for rule in rules if "record" in rule}
    read = set()
    for rule in rules:
        bare = re.sub(
            r'"[^"]*"|\{[^{}]*\}|\[[^\]]*\]|\b(?:by|on|group_left|group_right) \([^)]*\)', " ", re.sub(r'"[^"]*"', "", rule["expr"])
        )
        read |= set(re.findall(r"(?<![\w:])[a-z_:][\w:]*_[\w:]*(?!\w*\s?\()", bare))
    missing = {name for name in read - recorded if name.removesuffix("_bucket").removesuffix("_count") not in page.replace("`", "")}
    assert len(read) > 60
    assert missing == set()
