from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from remediator.document import read_documents
from remediator.playbook import files_of, schema_playbook, shipped

ROOT = Path(__file__).parents[3]
COMMITTED = ROOT / "docs" / "schema" / "playbook.schema.json"


@pytest.fixture
def validator(actions, gates):
    schema = schema_playbook(actions, gates)
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


def errors(validator, text):
    return [error.message for error in validator.iter_errors(read_documents("x", text)[0].data)]


CULPRITS = ["latency", "reachability", "{of: loss}", "{of: latency, above: 5ms}", "{of: loss, above: 0.1%}"]


@pytest.mark.parametrize("culprit", CULPRITS)
def test_every_form_of_a_culprit_fits_the_schema_and_loads(validator, valid, load, culprit):
    text = valid.replace("{kind: Node, ", f"{{kind: Node, culprit: {culprit}, ")
    assert errors(validator, text) == []
    assert load(text).when.target.culprit is not None


@pytest.mark.parametrize("culprit", ["latancy", "{of: jitter}", "{of: loss, over: 1%}", "{above: 5ms}", "{of: latency, above: 20}"])
def test_what_is_no_culprit_is_marked(validator, valid, culprit):
    assert errors(validator, valid.replace("{kind: Node, ", f"{{kind: Node, culprit: {culprit}, "))


def test_what_loads_fits_the_schema(validator, valid):
    assert errors(validator, valid) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("gates:", "gtes:"),
        ("cooldown: 30m", "cooldwn: 30m"),
        ("cooldown: 30m", "cooldown: 30"),
        ("cilium.restart_agent", "cilium.restart"),
        ("cilium.restart_agent}", "cilium.restart_agent, ready: 1m}"),
        ("cilium.restart_agent}", "cilium.restart_agent, ready_for: soon}"),
        ("cilium.restart_agent}", "cilium.restart_agent, timeout: 5}"),
        ("- restart: {", "- {"),
        ("kind: Node", "kind: Nod"),
        ("within: 10m", "within: 10"),
        ("gates:", "mode: automatic\ngates:"),
        ("gates:", "parameters: {a: {type: time}}\ngates:"),
        ("[alertname=", "[alertname"),
    ],
)
def test_the_schema_sees_what_an_editor_should_mark(validator, valid, old, new):
    assert old in valid
    assert errors(validator, valid.replace(old, new))


def test_templates_may_stand_for_values_of_any_type(validator, valid):
    step = "{action: node.evict, force: '${parameters.f}', allow: '${parameters.l}', share: '${parameters.s}', grace_period: null}"
    assert errors(validator, valid.replace("{action: cilium.restart_agent}", step)) == []
    nested = "{action: node.evict, budgets: [{name: a, least: 1}]}"
    assert errors(validator, valid.replace("{action: cilium.restart_agent}", nested)) == []
    assert errors(validator, valid.replace("{action: cilium.restart_agent}", nested.replace("least", "most")))


def test_every_reference_leads_somewhere(actions, gates):
    schema = schema_playbook(actions, gates)

    def references(part):
        if isinstance(part, dict):
            if "$ref" in part:
                yield part["$ref"]
            for item in part.values():
                yield from references(item)
        elif isinstance(part, list):
            for item in part:
                yield from references(item)

    found = set(references(schema))
    assert found
    assert {ref.removeprefix("#/definitions/") for ref in found} <= schema["definitions"].keys()


def test_the_committed_schema_is_current():
    registries = (
        pytest.importorskip("remediator.actions", exc_type=ImportError),
        pytest.importorskip("remediator.gates", exc_type=ImportError),
    )
    schema = schema_playbook(registries[0].actions(), registries[1].gates())
    assert json.loads(COMMITTED.read_text()) == schema, f"run: python -m remediator schema playbook > {COMMITTED.relative_to(ROOT)}"


def test_no_action_has_a_parameter_that_a_step_could_not_say():
    actions = pytest.importorskip("remediator.actions", exc_type=ImportError).actions()
    for name, action in actions.items():
        said = {field.alias or key for key, field in action.Parameters.model_fields.items()}
        assert not said & {"action", "timeout"}, f"{name}: these keys belong to the step"


def test_shipped_playbooks_fit_the_committed_schema():
    validator = jsonschema.Draft7Validator(json.loads(COMMITTED.read_text()))
    files = files_of(shipped())
    assert files
    for file in files:
        assert errors(validator, file.read_text()) == [], file
