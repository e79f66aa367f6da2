"""What Tab gives: ids and names of the running daemon, and nothing that a shell would act on."""

from __future__ import annotations

import pytest
from click.shell_completion import BashComplete

from remediator.cli import cli
from remediator.cli.frame import Flags
from remediator.cli.params import OPEN_STATES


@pytest.fixture
def tab(environment):
    """tab("runs", "show", "01") -> what fits the last word, with its help."""

    def press(*words):
        found = BashComplete(cli, {"obj": Flags()}, "remediator", "_REMEDIATOR_COMPLETE").get_completions(list(words[:-1]), words[-1])
        return {item.value: item.help for item in found}

    return press


@pytest.fixture
def asked(tab, api):
    """``tab`` with the stand-in's address before the command."""
    return lambda *words: tab("--server", api.url, *words)


@pytest.fixture
def one_run(api, runs):
    api.page("/api/v1/runs", runs.one())


@pytest.mark.parametrize(
    ("verb", "wanted"),
    [
        ("show", ()),
        ("watch", OPEN_STATES),
        ("cancel", OPEN_STATES),
        ("approve", ["awaiting_approval"]),
        ("reject", ["awaiting_approval"]),
    ],
)
def test_ids_of_runs_that_the_command_takes(asked, api, runs, one_run, verb, wanted):
    assert asked("runs", verb, "") == {runs.id: "cilium-agent-down on Node/node-3, healed"}
    assert api.states == [list(wanted)]


def test_only_what_begins_so(asked, runs, one_run):
    assert asked("runs", "show", runs.id[:6]).keys() == {runs.id}
    assert asked("runs", "show", "zz") == {}


def test_what_can_be_undone_has_left_something_behind(asked, api, runs):
    api.page("/api/v1/changes", runs.change, {**runs.change, "id": "01ke6sjv78000000000000000a"})
    assert asked("runs", "undo", "").keys() == {runs.id}


@pytest.mark.parametrize(
    "words",
    [
        ("run",),
        ("playbooks", "show"),
        ("playbooks", "reinstate"),
        ("pause", "--playbook"),
        ("resume", "--playbook"),
        ("runs", "list", "--playbook"),
        ("report", "effect", "--playbook"),
        ("match", "--verify"),
    ],
)
def test_names_of_playbooks(asked, api, words):
    api.page("/api/v1/playbooks", {"name": "node-down", "summary": "A node is gone"}, {"name": "dns", "summary": "\x1b[31m" + "x" * 100})
    found = asked(*words, "")
    assert found["node-down"] == "A node is gone"
    assert found["dns"].startswith("\\x1b[31mxxx")
    assert len(found["dns"]) == 60
    assert asked(*words, "no").keys() == {"node-down"}


def test_names_of_actions_and_scenarios(asked, tab, api):
    api.page("/api/v1/actions", {"name": "node.cordon", "summary": "mark the target node unschedulable"})
    assert asked("actions", "show", "node") == {"node.cordon": "mark the target node unschedulable"}
    assert tab("demo", "--scenario", "agent-d") == {"agent-down": "A Cilium agent hangs until its pod is replaced"}


@pytest.mark.parametrize("words", [("run", "restart-agent", "--target"), ("pause", "--target"), ("runs", "list", "--target")])
def test_targets_are_nodes_and_what_was_acted_on(asked, api, one_run, words):
    api.answer("GET", "/api/v1/cluster", {"nodes": [{"name": "node-3"}, {"name": "node-4"}]})
    assert asked(*words, "").keys() == {"Node/node-3", "Node/node-4"}
    assert asked(*words, "Node/node-4").keys() == {"Node/node-4"}


def test_targets_without_a_cluster_that_can_be_read(asked, api, one_run):
    api.refuse("GET", "/api/v1/cluster", 502, "Bad gateway", "the API server does not answer")
    assert asked("pause", "--target", "") == {"Node/node-3": "cilium-agent-down, healed"}


def test_why_takes_alerts_targets_and_runs(asked, api, runs, one_run):
    labels = {"alertname": "CiliumAgentDown"}
    times = dict.fromkeys(("starts_at", "first_seen", "last_seen"), "2026-01-05T10:00:00Z")
    api.page("/api/v1/alerts", {"fingerprint": "00f1", "name": "CiliumAgentDown", "labels": labels, "decision": "run", **times})
    assert asked("why", "").keys() == {"CiliumAgentDown", "Node/node-3", runs.id}


@pytest.mark.parametrize("name", ["$(reboot)", "a b", "a;b", "`id`", "-rf", "a\nb", "", "ä"])
def test_what_a_shell_could_read_as_more_than_a_word_is_left_out(asked, api, name):
    api.page("/api/v1/playbooks", {"name": name, "summary": ""}, {"name": "fine", "summary": ""})
    assert asked("run", "").keys() == {"fine"}


def test_deliveries_by_their_alerts(asked, api, runs):
    delivery = {"id": "01ke6sjt800000000000000002", "received_at": "2026-01-05T10:00:00Z", "status": "firing"}
    delivery |= {"receiver": "remediator", "group_key": "{}", "truncated": 0, "alerts": [runs.alert]}
    api.page("/api/v1/deliveries", delivery)
    assert asked("deliveries", "show", "") == {"01ke6sjt800000000000000002": "CiliumAgentDown"}


def test_without_a_daemon_nothing_is_completed_and_nothing_is_said(tab, capfd, tmp_path):
    assert tab("runs", "show", "") == {}
    assert tab("runs", "show", "--server", "http://127.0.0.1:9", "") == {}
    assert tab("--config", str(tmp_path / "none.yaml"), "run", "") == {}
    assert tab("--server", "http://127.0.0.1:9", "--token-file", str(tmp_path / "none"), "run", "") == {}
    assert capfd.readouterr() == ("", "")


def test_a_problem_of_the_daemon_completes_nothing(asked, api):
    api.refuse("GET", "/api/v1/runs", 401, "Unauthorized", "which token?")
    assert asked("runs", "show", "") == {}
    api.answer("GET", "/api/v1/runs", raw="no JSON")
    assert asked("runs", "show", "") == {}


def test_by_the_environment_in_a_process(process, api, runs, one_run):
    env = {
        "_REMEDIATOR_COMPLETE": "bash_complete",
        "COMP_WORDS": "remediator runs show 01",
        "COMP_CWORD": "3",
        "REMEDIATOR_SERVER": api.url,
    }
    done = process(env=env)
    assert (done.stdout.decode().split(), done.stderr) == ([f"plain,{runs.id}"], b"")
