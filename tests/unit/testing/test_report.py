"""What is made of a test that was played: differences, JUnit, and the file with what was seen in it."""

from __future__ import annotations

from datetime import timedelta
from xml.etree import ElementTree as ET

import pytest
import yaml

from remediator.errors import DocumentError, Problem
from remediator.testing.cases import Case
from remediator.testing.expect import differences, snapshot
from remediator.testing.junit import junit
from remediator.testing.read import read_file
from remediator.testing.rehearsal import Made, Seen
from remediator.testing.splice import spliced
from remediator.testing.suite import Result

WHEN = [{"at": "0s", "cordon": "node-1"}]


def case(**then):
    return Case.model_validate({"name": "a", "when": WHEN, "then": then})


def made(*calls):
    return [Made(timedelta(seconds=10 * number), call) for number, call in enumerate(calls)]


@pytest.mark.parametrize(
    ("patterns", "calls"),
    [
        (["delete Pod/a/*"], ["delete Pod/a/b"]),
        (["evict Pod/a/* ...", "patch Node/n"], ["evict Pod/a/b", "evict Pod/a/c", "patch Node/n"]),
        ([], []),
    ],
)
def test_calls_that_fit(patterns, calls):
    assert differences(case(calls=patterns), Seen(calls=made(*calls))) == []


@pytest.mark.parametrize(
    ("patterns", "calls", "first"),
    [
        (["delete Pod/a/*"], [], "calls[0]: expected delete Pod/a/*, got no more"),
        ([], ["patch Node/n"], "calls[0]: expected no more, got patch Node/n, after 0s"),
        (["patch Node/n"], ["patch Node/n", "patch Node/n"], "calls[1]: expected no more, got patch Node/n, after 10s"),
        (["evict Pod/a/* ..."], ["evict Pod/b/c"], "calls[0]: expected evict Pod/a/* ..., got evict Pod/b/c, after 0s"),
    ],
)
def test_calls_that_do_not(patterns, calls, first):
    (difference,) = differences(case(calls=patterns), Seen(calls=made(*calls)))
    assert difference.splitlines()[0] == first


def test_what_must_never_be_called():
    found = differences(case(never=["* Node/*"]), Seen(calls=made("patch Node/n", "delete Pod/a/b")))
    assert found == ["never: * Node/* was called: patch Node/n, after 0s"]


def test_what_could_not_happen_is_a_difference():
    assert differences(case(calls=[]), Seen(mishaps=[(0, "there is no node node-9")])) == [
        "when[0] could not happen: there is no node node-9"
    ]


def test_expecting_nothing_is_a_difference():
    assert "expects nothing yet" in differences(Case.model_validate({"name": "a", "when": WHEN}), Seen())[0]


def test_a_run_that_was_not_expected_and_one_that_was():
    (extra,) = differences(case(runs=[{"state": "healed", "target": "Node/node-1"}]), Seen())
    assert extra == "runs[0]: expected target Node/node-1, state healed, got no more"


def test_a_snapshot_leaves_open_what_controllers_make_up():
    seen = snapshot(
        Seen(calls=made("evict Pod/apps/web-6d5f9c-abcde", "evict Pod/apps/web-6d5f9c-fghij", "delete Pod/kube-system/cilium-x2x4x"))
    )
    assert seen["calls"] == ["evict Pod/apps/web-* ...", "delete Pod/kube-system/cilium-*"]


RESULTS = [
    Result("a.yaml", 3, 0, "fine", 1.5, story=("told",)),
    Result("a.yaml", 9, 1, 'bad <&"> \x1b', 0.5, wrong=("one\nmore", "two \x00"), story=("\ud800",)),
    Result("b.yaml", 3, 0, "fine", 0.25),
]


def test_junit_is_well_formed_and_counts():
    root = ET.fromstring(junit(RESULTS, [Problem("c.yaml", 1, 2, "broken"), Problem("c.yaml", 2, 2, "more")]).encode())
    assert root.attrib == {"name": "remediator test", "tests": "4", "failures": "1", "errors": "1", "skipped": "0", "time": "2.250"}
    assert [(suite.get("name"), suite.get("tests"), suite.get("failures"), suite.get("errors")) for suite in root] == [
        ("a.yaml", "2", "1", "0"), ("b.yaml", "1", "0", "0"), ("c.yaml", "1", "0", "1"),
    ]  # fmt: skip
    failure = root.find("./testsuite/testcase[@line='9']/failure")
    assert (failure.get("message"), failure.text) == ("one", "one\nmore\ntwo \ufffd")
    assert root.find(".//error").text == "c.yaml:1:2: broken\nc.yaml:2:2: more"


TESTS = """\
# what stands here stays
apiVersion: remediator.dev/v1
kind: PlaybookTest
playbooks: [look.yaml]   # and this
tests:
- name: first
  when:
  - {at: 0s, cordon: node-1}   # this too
  then:
    calls: [patch Node/*]
    never: [delete Node/*]

# about the second
- when:
  - {at: 0s, cordon: node-1}
  name: second
  # why there is a third
-   name: third
    then: {calls: []}
    when: [{at: 0s, cordon: node-1}]
"""
PLAYBOOK = """\
apiVersion: remediator.dev/v1
kind: Playbook
metadata: {name: look, summary: Look}
ladder:
- {name: look, steps: [{look: {action: kube.get, kind: Node, name: "${target.name}", timeout: 1m}}]}
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "look.yaml").write_text(PLAYBOOK)

    def file(text):
        (tmp_path / "a.test.yaml").write_text(text)
        return read_file(tmp_path / "a.test.yaml")

    return file


def test_what_was_seen_goes_into_the_file_and_all_else_stays(file):
    new = spliced(file(TESTS), TESTS, {0: {"calls": ["patch Node/node-1"]}, 1: {"calls": []}, 2: {"runs": [{"state": "healed"}]}})
    data = yaml.safe_load(new)["tests"]
    assert [test["then"] for test in data] == [
        {"calls": ["patch Node/node-1"], "never": ["delete Node/*"]}, {"calls": []}, {"runs": [{"state": "healed"}]},
    ]  # fmt: skip
    kept = [line for line in TESTS.splitlines() if "then" not in line and "calls" not in line and "never" not in line]
    assert [line for line in new.splitlines() if line in kept] == kept


def test_only_the_chosen_ones_are_written(file):
    new = spliced(file(TESTS), TESTS, {2: {"calls": ["patch Node/node-1"]}})
    assert new.startswith(TESTS[: TESTS.index("    then: {calls: []}")])


def test_a_test_in_braces_is_left_alone(file):
    text = TESTS[: TESTS.index("- name: first")] + "- {name: a, when: [{at: 0s, cordon: node-1}]}\n"
    with pytest.raises(DocumentError, match="one key a line"):
        spliced(file(text), text, {0: {"calls": []}})
