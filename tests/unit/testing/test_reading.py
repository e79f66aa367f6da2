"""Playbook test files: what is accepted, and what bad ones are told, with line and column."""

from __future__ import annotations

import textwrap

import pytest

from remediator.errors import DocumentError
from remediator.playbook import files_of
from remediator.testing.read import check_tests, read_file, test_files

HEAD = """\
apiVersion: remediator.dev/v1
kind: PlaybookTest
playbooks: [look.yaml]
tests:
"""
PLAYBOOK = """\
apiVersion: remediator.dev/v1
kind: Playbook
metadata: {name: look, summary: Look}
ladder:
- {name: look, steps: [{look: {action: kube.get, kind: Node, name: "${target.name}", timeout: 1m}}]}
"""
GOOD = """\
- name: looks
  when: [{at: 0s, run: {playbook: look, target: Node/node-1}}]
  then: {runs: [{state: done}]}
"""


@pytest.fixture
def write(tmp_path):
    (tmp_path / "look.yaml").write_text(PLAYBOOK)

    def write(tests, head=HEAD):
        path = tmp_path / "look.test.yaml"
        path.write_text(head + textwrap.dedent(tests))
        return path

    return write


def problems(path):
    with pytest.raises(DocumentError) as caught:
        read_file(path)
    return [f"{one.line}:{one.column} {one.message}" for one in caught.value.problems]


def test_a_good_one(write):
    file = read_file(write(GOOD))
    assert [case.name for case in file.cases.tests] == ["looks"]
    assert (file.line(0), file.chosen) == (5, (0,))


@pytest.mark.parametrize(
    ("test", "told"),
    [
        ("when: [{at: 0s, agent_hang: node-1}], then: {calls: []}", '5:29 tests[0].when[0]: unknown key "agent_hang"; did you mean'),
        ("when: [{at: 5, agent_hangs: node-1}], then: {calls: []}", '5:21 tests[0].when[0].at: "5" has no unit'),
        ("when: [{agent_hangs: node-1}], then: {calls: []}", 'needs either "at" or "after_call"'),
        ("when: [{at: 0s}], then: {calls: []}", "says nothing that happens; known are alert, resolve"),
        ("when: [{at: 0s, cordon: node-1, uncordon: node-2}], then: {calls: []}", "says 2 things: cordon, uncordon"),
        ("when: [{at: 0s, alert: {node: node-1}}], then: {calls: []}", "an alert needs the label alertname"),
        ("when: [{at: 0s, alert: {alertname: X, node: 3}}], then: {calls: []}", "must be a string"),
        ("when: [{at: 0s, slow_node: {node: node-1, loss: 5}}], then: {calls: []}", "is no share of packets; write for example 5%"),
        (
            "when: [{at: 0s, run: {playbook: lock, target: Node/node-1}}], then: {calls: []}",
            'no playbook named "lock" is loaded; did you mean "look"?',
        ),
        ("when: [{at: 0s, run: {playbook: look, target: Nod/node-1}}], then: {calls: []}", 'did you mean "Node"?'),
        ("when: [{at: 0s, run: {playbook: look, target: Pod/x}}], then: {calls: []}", "a Pod is written Pod/namespace/name"),
        ("WHEN, then: {runs: [{state: heald}]}", '"heald" is no state; did you mean "healed"?'),
        ("WHEN, then: {runs: [{reason: heald}]}", '"heald" is no reason; did you mean "healed"?'),
        ("WHEN, then: {decisions: [{decision: refuse}]}", 'did you mean "refused"?'),
        ("WHEN, then: {decisions: [{refused_by: [cooldwn]}]}", 'unknown gate "cooldwn"; did you mean "cooldown"?'),
        ("WHEN, then: {calls: [delete the pod]}", "is no call; write for example"),
        ("WHEN, then: {cluster: [{kind: Node, holds: 'size(object) == 1'}]}", 'undeclared name "object"'),
        ("WHEN, then: {}", "expects nothing; name at least one of decisions"),
        ("when: [], then: {calls: []}", "tests[0].when"),
        ("given: {settings: {limits: {concurent_runs: 2}}}, WHEN", 'unknown key "concurent_runs"; did you mean "concurrent_runs"?'),
        ("given: {nodes: 0}, WHEN", "tests[0].given.nodes: must be at least 1"),
        ("given: {metrics: [{series: 'a{b=c}', value: 1}]}, WHEN", "is no series"),
        ("given: {objects: [{kind: Node}]}, WHEN", "is no object: it needs apiVersion, kind and metadata"),
        ("given: {objects: [absent.yaml]}, WHEN", "no such file or folder"),
        ("when: [{at: 0s, fails: {path: '('}}]", "not a regular expression"),
        ("at: 2026-01-05T10:00:00, WHEN", "tests[0].at"),
        ("- {name: a, WHEN}\n- {name: a, WHEN}", 'two tests are named "a"'),
        ("when: [{at: 0s, cordon: }]", "is empty; fill it or leave the key out"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_where_it_stands(write, test, told):
    whole = test if test.startswith("- ") else f"- {{name: a, {test}}}"
    found = problems(write(whole.replace("WHEN", "when: [{at: 0s, cordon: node-1}]")))
    assert [one for one in found if told in one], found


def test_every_problem_at_once(write):
    bad = "- {name: a, when: [{at: 5, cordon: node-1}, {at: 0s, cordn: node-1}]}"
    assert len(problems(write(bad))) >= 2


def test_a_playbook_that_is_not_there(write):
    assert problems(write(GOOD, HEAD.replace("look.yaml", "lock.yaml"))) == ["3:13 playbooks[0]: there is no lock.yaml beside this file"]


def test_a_playbook_that_is_wrong_is_told_at_its_own_place(write, tmp_path):
    path = write(GOOD)
    (tmp_path / "look.yaml").write_text(PLAYBOOK.replace("kube.get", "kube.gett"))
    assert any("unknown action" in one for one in problems(path))


def test_a_playbook_is_no_test(tmp_path, write):
    write(GOOD)
    assert problems(tmp_path / "look.yaml") == ["2:1 kind: is no file of tests; it begins with kind: PlaybookTest"]


def test_tests_are_found_beside_playbooks_and_in_folders_named_tests_and_are_no_playbooks(tmp_path, write):
    beside = write(GOOD)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "more.yaml").write_text("broken: [")
    (tmp_path / "tests" / "fixtures").mkdir()
    (tmp_path / "tests" / "fixtures" / "node.yaml").write_text("kind: Node")
    assert test_files(tmp_path) == [beside, tmp_path / "tests" / "more.yaml"]
    assert files_of(tmp_path) == [tmp_path / "look.yaml"], "a broken test must not keep a daemon from loading its playbooks"
    assert [one.path for one in check_tests([tmp_path])] == [str(tmp_path / "tests" / "more.yaml")]


def test_a_folder_without_tests(tmp_path):
    with pytest.raises(DocumentError, match=r"holds no tests: no \*\.test\.yaml"):
        test_files(tmp_path)
