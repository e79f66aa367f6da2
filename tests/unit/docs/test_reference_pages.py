from __future__ import annotations

import re
import runpy

import pytest

from remediator.actions import actions
from remediator.gates import gates
from remediator.reasons import Reason, event_reason, sentence


def codes(page):
    return re.findall(r"^\| `([a-z_.]+)` \|", page, re.MULTILINE)


def test_reasons_page_has_every_code_with_its_sentence(root):
    page = (root / "docs" / "reasons.md").read_text()
    assert codes(page) == [reason.value for reason in Reason]
    assert all(f"| `{reason.value}` | {sentence(reason)} |" in page for reason in Reason)


def test_gates_page_has_every_gate(root):
    assert codes((root / "docs" / "gates.md").read_text()) == list(gates())


def test_actions_page_has_every_action(root):
    assert codes((root / "docs" / "actions.md").read_text()) == list(actions())


def test_events_spell_codes_in_camel_case():
    assert event_reason(Reason.TARGET_BUSY) == "TargetBusy"
    assert len({event_reason(reason) for reason in Reason}) == len(Reason)


def test_every_dependency_has_a_line(root):
    import tomllib

    project = tomllib.loads((root / "pyproject.toml").read_text())
    extras = [name for names in project["project"]["optional-dependencies"].values() for name in names]
    named = project["project"]["dependencies"] + extras + project["dependency-groups"]["dev"]
    page = (root / "docs" / "dependencies.md").read_text()
    missing = [name for name in (re.split(r"[\[>=<]", line)[0] for line in named) if name not in page]
    assert missing == []


def test_failures_page_names_tests_that_exist_and_all_that_show_a_fault(root):
    page = (root / "docs" / "failures.md").read_text()
    named = re.findall(r"\| `(tests/[\w/]+\.py)::(\w+)` \|$", page, re.MULTILINE)
    assert len(named) == len([line for line in page.splitlines() if line.startswith("| ")]) - 1
    missing = [f"{file}::{test}" for file, test in named if f"def {test}(" not in (root / file).read_text()]
    assert missing == []
    faults = "tests/pipeline/test_faults.py"
    shown = set(re.findall(r"def (test_\w+)\(", (root / faults).read_text()))
    assert shown == {test for file, test in named if file == faults}


def test_the_playbook_reference_is_the_one_of_the_models(root):
    made = runpy.run_path(str(root / "docs" / "playbook_reference.py"))["page"]()
    assert (root / "docs" / "playbook-reference.md").read_text(encoding="utf-8") == made, "make reference"
    assert all(f"### {name}\n" in made for name in actions())
    assert all(f"### gates.{gate.key}\n" in made for gate in gates().values() if gate.key and gate.Settings)


@pytest.mark.parametrize("name", ["security", "operations"])
def test_what_a_page_says_is_shown_by_tests_and_code_that_exist(root, name):
    page = (root / "docs" / f"{name}.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:tests|remediator|deploy)/[\w./-]+)(?:::(\w+))?`", page)
    assert len(named) >= 5
    missing = [path for path, _ in named if not (root / path).exists()]
    missing += [f"{path}::{test}" for path, test in named if test and not re.search(rf"def {test}\b", (root / path).read_text())]
    assert missing == []


def test_every_line_of_the_security_page_is_shown_by_something(root):
    page = (root / "docs" / "security.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ") and not re.search(r"\| shown by \|$", line)]
    assert len(rows) > 20
    assert [row for row in rows if not re.search(r"\| `tests/[\w/]+\.py(?:::test_\w+)?` \|$", row)] == []


def test_observing_page_has_every_metric_with_its_labels(root):
    page = (root / "docs" / "observing.md").read_text()
    shown = dict(re.findall(r"^\| `(remediator_\w+)` \| ([a-z, ]*)\|", page, re.MULTILINE))
    from remediator.telemetry import METRICS

    there = {}
    for metric in (m for m in vars(METRICS).values() if hasattr(m, "_labelnames")):
        suffix = {"counter": "_total", "info": "_info"}.get(metric._type, "")
        there[metric._name + suffix] = ", ".join(metric._labelnames) or ("version" if suffix == "_info" else "")
    assert {name: labels.strip() for name, labels in shown.items()} == there
