"""Writes docs/playbook-reference.md: every key of a playbook, gate settings and action parameters, from the models that read them.

``python docs/playbook_reference.py`` (or ``make reference``). A test keeps the page equal to it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from remediator.actions import actions
from remediator.gates import gates
from remediator.playbook import schema_playbook
from remediator.playbook.schema import KINDS

PAGE = Path(__file__).resolve().parent / "playbook-reference.md"
_HEAD = """\
# Playbook reference

Every key of a playbook, with its type, its default and its limits, as the models have them. What the keys are for and how they work
together: [playbooks.md](playbooks.md). The same for editors: `remediator schema playbook`. A value of a step may be a `${...}` instead of
what stands here ([expressions](playbooks.md#expressions)). This page is made by `make reference`.
"""
_PARTS = {
    "Metadata": "metadata",
    "Parameter": "parameters.NAME",
    "When": "when",
    "TargetSpec": "when.target",
    "ApprovalSpec": "approval",
    "RungFile": "ladder[]",
    "Verify": "verify",
    "KubeLook": "verify.kube",
}
_TEMPLATE = r"\$\{.+\}"


def page() -> str:
    """The whole page."""
    schema = schema_playbook(actions(), gates())
    defined = schema["definitions"]
    lines = [_HEAD, "## Playbook\n", schema["description"] + "\n", *_table(schema, defined)]
    for name, where in _PARTS.items():
        lines += [f"\n## {where}\n", _sentence(defined[name]), *_table(defined[name], defined)]
    lines += ["\n## gates\n", "Gates without settings apply anyway: [gates.md](gates.md).\n"]
    for key in schema["properties"]["gates"]["properties"]:
        lines += _settings(key, defined)
    lines += ["\n## Steps\n", "Every step has `action` and may have `timeout` (5m if absent); the rest belongs to its action.\n"]
    for name, action in sorted(actions().items()):
        own = defined[f"action.{name}"]
        more = {key: value for key, value in own["properties"].items() if key not in ("action", "timeout")}
        said = f"{own['description']}. " + ("It disturbs." if action.disruptive else "It does not disturb.")
        lines += [f"\n### {name}\n", f"{said[0].upper()}{said[1:]} [Changes, undo, gates](actions.md).\n"]
        lines += _table({**own, "properties": more}, defined) if more else ["No parameters.\n"]
    lines += ["\n## Kinds\n", "Of objects that a playbook may name: " + ", ".join(f"`{kind}`" for kind in KINDS) + "."]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip("\n") + "\n"


def _settings(key: str, defined: dict[str, Any]) -> list[str]:
    """One gate's settings, and those of its parts."""
    own = defined[f"gate.{key}"]
    lines = [f"\n### gates.{key}\n", f"{_sentence(own)}"]
    lines += _table(own, defined) if "properties" in own else [f"A value: {_kind(own, defined)}.\n"]
    for part in (name for name in defined if name.startswith(f"gate.{key}.")):
        lines += [f"\n`{part.rpartition('.')[2]}`: {_sentence(defined[part])}", *_table(defined[part], defined)]
    return lines


def _sentence(of: dict[str, Any]) -> str:
    return of.get("description", "").replace("``", "`").rstrip() + "\n"


def _table(of: dict[str, Any], defined: dict[str, Any]) -> list[str]:
    needed = of.get("required", ())
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for key, value in of.get("properties", {}).items():
        default = "**required**" if key in needed else _default(value)
        lines.append(f"| `{key}` | {_cell(_kind(value, defined))} | {default} | {_cell(value.get('description', ''))} |")
    return lines


def _default(of: dict[str, Any]) -> str:
    absent = of.get("default")
    return "" if absent in (None, "", [], {}) else f"`{absent if isinstance(absent, str) else json.dumps(absent)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _kind(of: dict[str, Any], defined: dict[str, Any]) -> str:
    """In words what a value may be."""
    ways = {"$ref": _reference, "const": _constant, "enum": _one_of, "anyOf": _choice, "oneOf": _choice}
    way = next((say for key, say in ways.items() if key in of), _plain)
    return way(of, defined)


def _reference(of: dict[str, Any], defined: dict[str, Any]) -> str:
    name = of["$ref"].rpartition("/")[2]
    if "properties" not in defined[name]:
        return _kind(defined[name], defined)
    if name in _PARTS:
        return f"`{_PARTS[name]}`"
    return f"`{name.rpartition('.')[2]}`" if name.startswith("gate.") else "[step](#steps)"


def _constant(of: dict[str, Any], _: dict[str, Any]) -> str:
    return f"`{of['const']}`"


def _one_of(of: dict[str, Any], _: dict[str, Any]) -> str:
    if set(of["enum"]) >= KINDS.keys():
        return "a [kind](#kinds)"
    return "one of " + " ".join(f"`{one}`" for one in of["enum"] if one)


def _choice(of: dict[str, Any], defined: dict[str, Any]) -> str:
    choices = of.get("anyOf") or of["oneOf"]
    kinds = [_kind(one, defined) for one in choices if one.get("type") != "null" and one.get("pattern") != _TEMPLATE]
    return " or ".join(dict.fromkeys(kinds))


def _plain(of: dict[str, Any], defined: dict[str, Any]) -> str:
    kind = of.get("type", "any value")
    if kind == "array":
        return f"list of {_kind(of['items'], defined)}{_bounds(of, 'Items')}"
    if kind == "object":
        inner = of.get("additionalProperties")
        return f"name → {_kind(inner, defined)}" if isinstance(inner, dict) else "object"
    if "5m" in of.get("examples", ()):
        return "duration"
    return f"{kind}{_bounds(of, 'imum')}{_bounds(of, 'Length')}"


def _bounds(of: dict[str, Any], end: str) -> str:
    """``end`` is what a bound's name ends in: Length of text, Items of a list, imum of a number."""
    what = {"Length": " characters", "Items": " items"}.get(end, "")
    words = {f"min{end}": "at least", f"max{end}": "at most", "exclusiveMinimum": "more than", "exclusiveMaximum": "less than"}
    said = [f"{word} {of[key]}{what}" for key, word in words.items() if key in of and not (what and key.startswith("exclusive"))]
    return "".join(f", {one}" for one in said)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
