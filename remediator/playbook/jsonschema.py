"""JSON Schema (draft 7) of playbook files, from the models that read them, for editors' completion and marks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remediator.document import draft7
from remediator.playbook.schema import PlaybookFile

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

    from remediator.playbook.check import ActionInfo, GateInfo

__all__ = ["schema_playbook"]

_TEMPLATE = {"type": "string", "pattern": r"\$\{.+\}"}


def schema_playbook(actions: Mapping[str, ActionInfo], gates: Mapping[str, GateInfo]) -> dict[str, Any]:
    """The schema with the names and parameters of these actions, and the keys and settings of these gates."""
    schema = draft7(PlaybookFile, title="remediator playbook")
    definitions: dict[str, Any] = schema["definitions"]
    settable = {gate.key: gate.Settings for gate in gates.values() if gate.key is not None and gate.Settings is not None}
    schema["properties"]["gates"] |= {
        "additionalProperties": False,
        "properties": {key: _included(definitions, f"gate.{key}", model) for key, model in sorted(settable.items())},
    }
    common = definitions["StepFile"]["properties"]
    definitions["StepFile"] = _step(definitions, common, actions)
    steps = definitions["RungFile"]["properties"]["steps"]
    steps["items"] |= {
        "minProperties": 1,
        "maxProperties": 1,
        "propertyNames": {"pattern": "^[a-z][-_a-z0-9]{0,62}$", "not": {"const": "action"}},
    }
    return schema


def _step(definitions: dict[str, Any], common: dict[str, Any], actions: Mapping[str, ActionInfo]) -> dict[str, Any]:
    """One branch an action: which parameters are allowed depends on it."""
    branches = []
    for name, action in sorted(actions.items()):
        definitions[f"action.{name}"] = _action(definitions, name, common, action)
        branches.append({"if": {"properties": {"action": {"const": name}}}, "then": {"$ref": f"#/definitions/action.{name}"}})
    return {
        "description": "What a step does: the action, its time-out, and the action's own parameters beside them.",
        "type": "object",
        "required": ["action"],
        "properties": {"action": {"enum": sorted(actions)}, "timeout": common["timeout"]},
        "allOf": branches,
    }


def _action(definitions: dict[str, Any], name: str, common: dict[str, Any], action: ActionInfo) -> dict[str, Any]:
    parameters = _hoisted(definitions, f"action.{name}", action.Parameters)
    properties = {key: _or_template(value) for key, value in parameters.get("properties", {}).items()}
    return {
        "description": getattr(action, "summary", ""),
        "type": "object",
        "properties": {"action": {"const": name}, "timeout": common["timeout"], **properties},
        "required": ["action", *parameters.get("required", [])],
        "additionalProperties": False,
    }


def _or_template(value: dict[str, Any]) -> dict[str, Any]:
    """Any value may be a ``${...}`` instead; what editors show stays outside of the choice."""
    shown: dict[str, Any] = {key: value[key] for key in ("description", "default") if key in value}
    rest = {key: item for key, item in value.items() if key not in shown}
    return value if rest == {"type": "string"} else shown | {"anyOf": [rest, _TEMPLATE]}


def _included(definitions: dict[str, Any], name: str, model: type[BaseModel]) -> dict[str, Any]:
    definitions[name] = _hoisted(definitions, name, model)
    return {"$ref": f"#/definitions/{name}"}


def _hoisted(definitions: dict[str, Any], name: str, model: type[BaseModel]) -> dict[str, Any]:
    """The model's schema, its own definitions moved to the top under names that no other model has."""
    schema = draft7(model, prefix=f"{name}.", strict=False)
    for key, value in schema.pop("definitions", {}).items():
        definitions[f"{name}.{key}"] = value
    return {key: value for key, value in schema.items() if key not in ("$schema", "title")}
