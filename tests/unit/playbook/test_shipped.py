"""The playbooks that come with the program, and the example in the docs, load without a problem."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

from remediator.errors import DocumentError
from remediator.model import Mode
from remediator.playbook import files_of, load_library, shipped

ROOT = Path(__file__).parents[3]


@pytest.fixture
def library(actions, gates):
    return load_library([shipped()], actions=actions, gates=gates)


def test_they_load_with_the_real_actions_and_gates():
    actions = pytest.importorskip("remediator.actions", exc_type=ImportError).actions()
    gates = pytest.importorskip("remediator.gates", exc_type=ImportError).gates()
    assert load_library([shipped()], actions=actions, gates=gates).playbooks


def test_those_that_only_look_and_tell_are_these(library):
    """Nobody is asked before one of them begins, so one more of them is worth a thought."""
    assert {playbook.name for playbook in library.playbooks if playbook.looks} == {
        "bgp-last-speaker",
        "bgp-session-operator",
        "bgp-session-warning",
        "dns-outside",
        "dns-warning",
        "gateway-warning",
        "hubble-lost-events",
        "mtu",
        "network-partition",
        "node-latency-warning",
        "node-packet-loss-warning",
        "policy",
        "pressure-lbipam",
        "pressure-warning",
        "service-endpoint-outside",
        "storage-path-down",
    }


def test_each_is_named_as_its_file_and_described(library):
    for playbook in library.playbooks:
        assert Path(playbook.source).stem == playbook.name
        assert playbook.summary
        assert playbook.mode is Mode.SUGGEST
        page = ROOT / playbook.runbook
        assert page.name == f"{playbook.name}.md"
        text = page.read_text()
        for heading in ("Symptom", "What it checks", "What it does", "What it never does", "By hand", "Sources"):
            assert f"**{heading}" in text, f"{page} says nothing about: {heading}"


def test_each_file_names_its_schema_for_editors():
    for file in files_of(shipped()):
        first = file.read_text().splitlines()[0]
        assert first == "# yaml-language-server: $schema=../docs/schema/playbook.schema.json"


AGENT_ALERTS = ["CiliumAgentDown", "CiliumAgentMissing", "CiliumAgentNotReadyTaint", "CiliumAgentScrapeDown"]


@pytest.mark.parametrize("alert", AGENT_ALERTS)
def test_cilium_agent_down_takes_its_alerts(library, alert):
    taking = [playbook.name for playbook in library.playbooks if playbook.matches({"alertname": alert})]
    assert taking == ["cilium-agent-down"]


def test_cilium_agent_down_acts_on_the_node_that_the_usual_labels_name(library):
    """Which those are, target_node before node, is shown where targets are resolved."""
    target = library.by_name("cilium-agent-down").when.target
    assert (target.kind, target.name) == ("Node", None)


READY = {"metadata": {}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}
UNREADY = {"metadata": {}, "status": {"conditions": [{"type": "Ready", "status": "False"}]}}
LEAVING = {"metadata": {"deletionTimestamp": "2026-01-05T10:00:00Z"}, "status": READY["status"]}
PENDING = {"metadata": {}, "status": {"phase": "Pending"}}


@pytest.mark.parametrize(
    ("objects", "holds"),
    [([READY], True), ([UNREADY], False), ([LEAVING], False), ([PENDING], False), ([], False), ([READY, UNREADY], False)],
)
@pytest.mark.parametrize("name", ["cilium-agent-down", "restart-agent"])
def test_a_restart_is_proved_by_one_ready_agent(library, values, name, objects, holds):
    verify = library.by_name(name).verify
    assert verify.holds.evaluate({**values, "objects": objects}) is holds
    assert verify.kube.render(values)["fields"] == "spec.nodeName=node-3"


def test_before_a_cooldown_of_half_an_hour_and_two_attempts_a_day(library):
    gates = library.by_name("cilium-agent-down").gates
    assert gates["cooldown"].root == timedelta(minutes=30)
    assert (gates["attempts"].max, gates["attempts"].within) == (2, timedelta(hours=24))


ATTRIBUTED = [
    ("node-latency", ("NodeLatencyCritical", "CiliumHealthLatencyCritical", "CiliumPairLatencyCritical"), ("latency", 0.020)),
    ("node-latency-warning", ("NodeLatencyWarning", "CiliumHealthLatencyWarning"), ("latency", 0.005)),
    (
        "node-packet-loss",
        ("NodePacketLossCritical", "CiliumDatapathDropRatioCritical", "NodeNicErrors", "NodeTcpRetransmitsHigh"),
        ("loss", 0.01),
    ),
    ("node-packet-loss-warning", ("NodePacketLossWarning", "CiliumDatapathDropRatioWarning"), ("loss", 0.001)),
]


@pytest.mark.parametrize(("name", "alerts", "culprit"), ATTRIBUTED)
def test_what_is_seen_between_nodes_is_attributed_and_warnings_touch_nothing(library, name, alerts, culprit):
    for alert in alerts:
        assert [one.name for one in library.playbooks if one.matches({"alertname": alert, "node": "node-3"})] == [name]
    playbook = library.by_name(name)
    found = playbook.when.target.culprit
    assert ((found.of, found.limit), playbook.disruptive) == (culprit, not name.endswith("-warning"))


def test_the_symptoms_of_playbooks_are_those_that_attribution_knows(load, valid):
    from remediator.attribution import Symptom

    for symptom in Symptom:
        text = valid.replace("{kind: Node, ", f"{{kind: Node, culprit: {symptom}, ")
        assert 0 < load(text).when.target.culprit.limit < symptom.total
    with pytest.raises(DocumentError, match=f"known are {', '.join(Symptom)}"):
        load(valid.replace("{kind: Node, ", "{kind: Node, culprit: xyz, "))


def test_restart_agent_is_for_people(library):
    playbook = library.by_name("restart-agent")
    assert playbook.when is None
    assert playbook.verify.query is None
    assert playbook.fill({"timeout": "3m"}) == {"timeout": "3m", "ready_for": "1m", "exec": False}


def examples(page):
    return re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def test_the_examples_in_the_reference_load(load):
    whole = [text for text in examples(ROOT / "docs" / "playbooks.md") if "kind: Playbook" in text]
    assert whole
    for text in whole:
        load(text, source="docs/playbooks.md")
