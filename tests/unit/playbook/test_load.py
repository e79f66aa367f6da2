from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import timedelta

import pytest

from remediator.errors import DocumentError, Unreadable
from remediator.model import Mode
from remediator.playbook import KINDS, load_library

FULL = """\
# a comment that belongs to the text
apiVersion: remediator.dev/v1
kind: Playbook
metadata:
  name: cilium-agent-down
  summary: restart the agent
  runbook: https://example.org/runbook
parameters:
  ready_for: {type: duration, default: 30s, help: how long}
  patience: {type: duration, default: 5m}
  force: {type: bool, default: false}
  names: {type: list, default: [a, b]}
  share: {type: number, default: 1}
when:
  alerts: ['alertname=~"CiliumAgentDown|CiliumAgentMissing"', severity!="info"]
  target: {kind: Pod, name: "${alert.labels.pod}", namespace: "${alert.labels.namespace}"}
mode: auto
gates:
  cooldown: 30m
  attempts: {max: 2, per: target, within: 6h}
ladder:
- name: look
  steps:
  - ask: {action: prometheus.query, query: 'up{node="${target.name}"} == $${x}', expect: some}
  - settle: {action: wait, for: 10s, timeout: 1m}
- name: restart
  steps:
  - restart: {action: cilium.restart_agent, ready_for: "${parameters.ready_for}", timeout: "${parameters.patience}"}
  - evict:
      action: node.evict
      force: ${parameters.force}
      allow: ${parameters.names}
      share: ${parameters.share * 0.5}
      budgets: [{name: "pdb-${target.name}", least: 1}]
verify:
  query: up{node="${target.name}"} == 1
  kube: {kind: Pod, namespace: "${cilium.namespace}", labels: "${cilium.agent_selector}", fields: "spec.nodeName=${target.name}"}
  holds: size(objects) == 1 && objects[0].status.phase == 'Running'
  within: 10m
  hold: 1m
  every: 10s
on_resolved: undo
on_failure: keep
deadline: 2h
"""


def test_everything_of_a_full_playbook_arrives(load):
    playbook = load(FULL)
    assert (playbook.name, playbook.summary, playbook.runbook) == ("cilium-agent-down", "restart the agent", "https://example.org/runbook")
    assert [str(m) for m in playbook.when.alerts] == ['alertname=~"CiliumAgentDown|CiliumAgentMissing"', 'severity!="info"']
    assert playbook.when.target.kind == "Pod"
    assert playbook.mode is Mode.AUTO
    assert playbook.gates["cooldown"].root == timedelta(minutes=30)
    assert playbook.gates["attempts"].max == 2
    assert [(rung.name, [(s.name, s.action) for s in rung.steps]) for rung in playbook.ladder] == [
        ("look", [("ask", "prometheus.query"), ("settle", "wait")]),
        ("restart", [("restart", "cilium.restart_agent"), ("evict", "node.evict")]),
    ]
    verify = playbook.verify
    assert (verify.within, verify.hold, verify.every) == (timedelta(minutes=10), timedelta(minutes=1), timedelta(seconds=10))
    assert (playbook.on_resolved, playbook.on_failure, playbook.deadline) == ("undo", "keep", timedelta(hours=2))
    assert playbook.disruptive
    assert playbook.text == FULL
    assert playbook.source == "example.yaml"


def test_defaults_are_the_careful_ones(load, valid):
    playbook = load(valid)
    assert playbook.mode is Mode.SUGGEST
    assert (playbook.on_resolved, playbook.on_failure, playbook.deadline) == ("keep", "keep", timedelta(hours=1))
    assert playbook.ladder[0].steps[0].timeout == timedelta(minutes=5)
    assert (playbook.verify.hold, playbook.verify.every) == (timedelta(minutes=1), timedelta(seconds=5))


def test_steps_render_with_types_kept(load, values):
    ask, settle, restart, evict = [step for rung in load(FULL).ladder for step in rung.steps]
    values["parameters"] = {"ready_for": "1m", "patience": "7m", "force": True, "names": ["x"], "share": 1.0}
    assert ask.render(values) == {"query": 'up{node="node-3"} == ${x}', "expect": "some"}
    assert settle.render(values) == {"for": "10s"}
    assert restart.render(values) == {"ready_for": "1m"}
    assert restart.timeout == timedelta(minutes=5)
    assert restart.timeout_for(values) == timedelta(minutes=7)
    assert settle.timeout_for({}) == timedelta(minutes=1)
    assert evict.render(values) == {"force": True, "allow": ["x"], "share": 0.5, "budgets": [{"name": "pdb-node-3", "least": 1}]}


def test_a_missing_value_never_renders_as_something(load):
    restart = load(FULL).ladder[1].steps[0]
    with pytest.raises(Unreadable):
        restart.render({"parameters": {}})
    with pytest.raises(Unreadable):
        restart.timeout_for({})


def test_a_timeout_that_only_a_person_gives_is_bounded_by_the_deadline(load, valid):
    head, tail = valid[: valid.index("when:")], valid[valid.index("ladder:") :]
    manual = head + "parameters: {patience: {type: duration}}\ndeadline: 2h\n" + tail
    playbook = load(manual.replace("restart_agent}", 'restart_agent, timeout: "${parameters.patience}"}'))
    step = playbook.ladder[0].steps[0]
    assert step.timeout == timedelta(hours=2)
    assert step.timeout_for({"parameters": {"patience": "3m"}}) == timedelta(minutes=3)
    for nothing in ("0s", "soon", None):
        with pytest.raises(Unreadable):
            step.timeout_for({"parameters": {"patience": nothing}})


def test_a_value_cannot_change_the_query_around_it(load, values):
    ask = load(FULL).ladder[0].steps[0]
    values["target"]["name"] = 'x"} or vector(1) #'
    with pytest.raises(Unreadable, match="could change the text around it"):
        ask.render(values)
    with pytest.raises(Unreadable):
        load(FULL).verify.query.render(values)


def test_the_target_comes_from_the_alert_alone(load):
    target = load(FULL).when.target
    alert = {"name": "x", "labels": {"pod": "cilium-x", "namespace": "kube-system"}, "annotations": {}}
    assert (target.name.render({"alert": alert}), target.namespace.render({"alert": alert})) == ("cilium-x", "kube-system")
    with pytest.raises(Unreadable, match="key not found"):
        target.name.render({"alert": {**alert, "labels": {}}})


def test_verify_looks_at_objects(load, values):
    verify = load(FULL).verify
    assert verify.query.render(values) == 'up{node="node-3"} == 1'
    assert verify.kube.render(values) == {
        "kind": "Pod",
        "namespace": "kube-system",
        "labels": "k8s-app=cilium",
        "fields": "spec.nodeName=node-3",
    }
    assert verify.holds.evaluate({**values, "objects": [{"status": {"phase": "Running"}}]}) is True
    assert verify.holds.evaluate({**values, "objects": []}) is False
    with pytest.raises(Unreadable):
        verify.holds.evaluate({**values, "objects": [{"status": {}}]})


@pytest.mark.parametrize(
    ("labels", "takes"),
    [
        ({"alertname": "CiliumAgentDown", "severity": "critical"}, True),
        ({"alertname": "CiliumAgentDown"}, True),
        ({"alertname": "CiliumAgentDown", "severity": "info"}, False),
        ({"alertname": "Watchdog"}, False),
        ({}, False),
    ],
)
def test_all_matchers_must_fit(load, labels, takes):
    assert load(FULL).matches(labels) is takes


def test_a_playbook_without_when_takes_no_alert_and_needs_no_cooldown(load, valid):
    text = valid[: valid.index("when:")] + valid[valid.index("ladder:") :]
    playbook = load(text)
    assert playbook.when is None
    assert not playbook.matches({"alertname": "CiliumAgentDown"})


def test_the_revision_is_of_the_text(load, valid):
    first = load(valid)
    assert len(first.revision) == 12
    assert load(valid).revision == first.revision
    assert load(valid + "# more\n").revision != first.revision


def test_the_kept_text_gives_the_same_playbook_again(load, actions, gates, tmp_path, valid):
    file = tmp_path / "two.yaml"
    second = FULL.replace("name: cilium-agent-down", "name: second").replace("CiliumAgentDown|CiliumAgentMissing", "Other")
    file.write_text(f"\ufeff{valid}---\n{second}---\n# nothing more\n")
    library = load_library([file], actions=actions, gates=gates)
    for playbook in library.playbooks:
        again = load(playbook.text, source=playbook.source)
        assert again.revision == playbook.revision
        assert again.describe() == playbook.describe()


def test_describe_is_plain_json(load):
    described = json.loads(json.dumps(load(FULL).describe()))
    assert described["gates"] == {"cooldown": "30m", "attempts": {"max": 2, "per": "target", "within": "6h"}}
    assert described["verify"]["within"] == "10m"
    assert described["when"]["alerts"][1] == 'severity!="info"'
    assert described["ladder"][1]["steps"][0]["parameters"] == {"ready_for": "${parameters.ready_for}"}
    assert "text" not in described


def test_one_playbook_means_one(load, valid):
    with pytest.raises(DocumentError, match="there are 2 documents"):
        load(f"{valid}---\n{valid}")
    with pytest.raises(DocumentError, match="Settings is not a Playbook"):
        load("apiVersion: remediator.dev/v1\nkind: Settings\n")


@pytest.mark.parametrize(
    "change",
    [
        ("{action: cilium.restart_agent}", '{action: cilium.restart_agent, ready_for: "${target.uid}"}'),  # only a run can know
        ("{action: cilium.restart_agent}", "{action: node.evict, grace_period: null}"),  # null where the action takes it
        ("within: 10m}", "within: 10m, hold: 0s}"),
        ('name: "${alert.labels.node}"', "name: \"${has(alert.labels.a) ? alert.labels.a : 'b'}\""),
        ('name: "${alert.labels.node}"', "name: '${alert.labels.?a.orValue(alert.labels.node)}'"),
        (', name: "${alert.labels.node}"', ""),
        ('{kind: Node, name: "${alert.labels.node}"}', "{kind: [Deployment, StatefulSet]}"),
        ('up{node="${target.name}"}', 'up{${target.label}="${target.name}"}'),
        ("== 1'", "== 1 # {[(\"'"),
        ("== 1'", 'and on() vector(1) != "("\''),
        ("metadata: {name: example}", "metadata: {name: example, runbook: docs/x.md}"),
    ],
)
def test_what_is_right_is_not_complained_about(load, valid, change):
    assert change[0] in valid
    load(valid.replace(*change))


def test_a_hundred_playbooks_load_fast(actions, gates, tmp_path):
    for number in range(50):
        text = FULL.replace("name: cilium-agent-down", f"name: p{number}").replace("CiliumAgentMissing", f"Other{number}")
        (tmp_path / f"{number:02}.yaml").write_text(text.replace("alertname=~", f'cluster="{number}", alertname=~', 0))
    began = time.perf_counter()
    library = load_library([tmp_path], actions=actions, gates=gates)
    assert len(library.playbooks) == 50
    assert time.perf_counter() - began < 5  # it takes about 0.3 s; the bound only catches something quadratic


def test_the_language_imports_nothing_heavy():
    code = (
        "import sys, remediator.playbook; print([m for m in ('kubernetes_asyncio', 'aiohttp', 'sqlalchemy', 'dbos') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_the_kinds_are_those_that_the_kubernetes_door_knows():
    kinds = pytest.importorskip("remediator.kube.kinds")
    assert {kind.kind: kind.namespaced for kind in kinds.known()} == dict(KINDS)
