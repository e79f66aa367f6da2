"""Every incident of the simulated cluster, dealt with by the daemon and the shipped playbooks, on a clock that leaps."""

from __future__ import annotations

import pytest

from benchmarks.naive import Naive
from remediator.actions import Cilium, actions
from remediator.gates import gates
from remediator.model import evolve
from remediator.playbook import Library, shipped
from remediator.rights import Need, needed
from remediator.sim import all_scenarios, scenario
from remediator.sim.calls import RequestLog
from remediator.testing import START, Daemons, perform, rehearse

SAMPLE = ("agent-two-alerts", "partition-on-the-small-side", "control-plane-agent")


@pytest.fixture
def within_its_rights(monkeypatch, request):
    """Whatever the daemon asks of the API server is among what ``remediator rbac`` prints for the shipped playbooks."""
    asked, add = [], RequestLog.add
    monkeypatch.setattr(RequestLog, "add", lambda log, entry: (asked.append(entry), add(log, entry)))
    yield
    granted = needed(Library.load((shipped(),), actions=actions(), gates=gates()).playbooks, Cilium())
    used = {need_of(one) for one in asked if one.user_agent.startswith("remediator/") and one.resource and one.service == "kubernetes"}
    assert used or request.node.callspec.params["name"] == "alerts-truncated"  # of which only a part came, so it is held unread
    assert not {need for need in used if need not in granted and evolve(need, namespace="") not in granted}


def need_of(entry):
    resource, _, group = entry.resource.partition(".")
    whole = f"{resource}/{entry.subresource}" if entry.subresource else resource
    return Need(namespace=entry.namespace, group=group, resource=whole, verb=entry.verb)


def play(name, hands, folder):
    return rehearse(lambda clock: perform(scenario(name), hands, clock, folder), start=START)


def check(name, folder):
    done, truth = play(name, Daemons, folder), scenario(name).truth
    assert set(truth.alerts) <= done.alerts, done.told()
    assert done.score.wrong == (), done.told()
    assert done.score.claims == (), done.told()
    assert done.score.healed or not truth.healable, done.told()
    assert set(truth.says) <= done.reasons, done.told()


@pytest.mark.usefixtures("within_its_rights")
@pytest.mark.parametrize("name", SAMPLE)
def test_a_sample(name, tmp_path):
    check(name, tmp_path)


@pytest.mark.long
@pytest.mark.usefixtures("within_its_rights")
@pytest.mark.parametrize("name", [one.name for one in all_scenarios() if one.name not in SAMPLE])
def test_all_others(name, tmp_path):
    check(name, tmp_path)


def test_who_restarts_and_then_drains_does_wrong_where_it_is_wrong(tmp_path):
    """So that the judge is seen to find something, and the scenarios to be worth a look."""
    done = play("scrape-down", Naive, tmp_path)
    assert [(str(deed.act), deed.target) for deed in done.score.wrong][:2] == [("restart agent", "Node/node-3"), ("cordon", "Node/node-3")]


def test_who_restarts_heals_where_that_heals(tmp_path):
    done = play("agent-two-alerts", Naive, tmp_path)
    assert done.score.healed
    assert [str(deed.act) for deed in done.score.wrong] == ["restart agent"], "once for each alert"


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "gate"),
    [
        ("agent-own-node", "self"),
        ("agent-crash-looping", "crash_looping"),
        ("slow-link", "no_culprit"),
        ("maintenance-window", "maintenance"),
        ("upgrade-elsewhere", "disturbance_budget"),
    ],
)
def test_without_its_gate_something_wrong_is_done(name, gate, tmp_path, monkeypatch):
    """So that it is the gate that holds it back, and nothing by chance."""
    monkeypatch.setattr(gates()[gate], "judge", lambda self, _case, snapshot: self.allow(snapshot))
    assert play(name, Daemons, tmp_path).score.wrong


@pytest.mark.long
def test_a_pause_holds_without_its_gate_too(tmp_path, monkeypatch):
    """Each call that would change something looks at the mark itself; ``tests/pipeline/test_pause_before_each_call.py`` shows where."""
    monkeypatch.setattr(gates()["paused"], "judge", lambda self, _case, snapshot: self.allow(snapshot))
    assert play("node-paused", Daemons, tmp_path).score.wrong == ()
