"""``playbooks``, ``actions`` and ``gates``: what the daemon has loaded; without a daemon the actions and gates that this program has."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from remediator.cli import complete
from remediator.cli.exits import say
from remediator.cli.frame import connects, group
from remediator.cli.output import Column, formatted, put_data, put_page
from remediator.cli.session import ask, daemon_is_named, me
from remediator.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from remediator.cli.output import Form
    from remediator.model import Page

__all__ = ["actions", "gates", "playbooks"]

Item = dict[str, Any]


def _text(key: str) -> Any:
    """The item's text under ``key``, on one line."""
    return lambda item: " ".join(str(item.get(key) or "").split())


def _when(item: Item, key: str) -> Any:
    """A part of ``when``; empty for a playbook that runs by hand only."""
    return (item.get("when") or {}).get(key) or {}


def _listed(value: Any) -> str:
    """A kind, or any of several."""
    return " or ".join(map(str, value)) if isinstance(value, list) else str(value)


def _mode(item: Item) -> str:
    """The mode in force; a daemon that is older than this CLI knows only the file's."""
    mode = str(item.get("mode_in_force") or item.get("mode") or "")
    mode = f"{mode} (demoted)" if item.get("demoted") else mode
    return f"{mode} (unavailable)" if item.get("missing_rights") or item.get("missing_kinds") else mode


_PLAYBOOKS: tuple[Column[Item], ...] = (
    Column("NAME", _text("name")),
    Column("MODE", _mode),
    Column("TARGET", lambda item: _listed(_when(item, "target").get("kind") or "")),
    Column("RUNGS", lambda item: str(len(item.get("ladder") or ()))),
    Column("SUMMARY", _text("summary")),
    Column("ALERTS", lambda item: ", ".join(_when(item, "alerts")) or "by hand only", wide=True),
    Column("VERIFIES", lambda item: "yes" if item.get("verify") else "no", wide=True),
    Column("REVISION", _text("revision"), wide=True),
    Column("SOURCE", _text("source"), wide=True),
)
_ACTIONS: tuple[Column[Item], ...] = (
    Column("NAME", _text("name")),
    Column("DISRUPTIVE", lambda item: "yes" if item.get("disruptive") else "no"),
    Column("SUMMARY", _text("summary")),
    Column("CHANGES", _text("changes"), wide=True),
    Column("UNDONE BY", _text("undone_by"), wide=True),
    Column("GATES", lambda item: ", ".join(item.get("gates") or ()), wide=True),
)
_GATES: tuple[Column[Item], ...] = (
    Column("NAME", _text("name")),
    Column("KEY", _text("key")),
    Column("SUMMARY", _text("summary")),
)
_OWN = "No daemon named (--server, --config): this is what this version of remediator has."


@group(name="playbooks", examples=["remediator playbooks list", "remediator playbooks show cilium-agent-down"])
def playbooks() -> None:
    """List and show the loaded playbooks; let a demoted one act again."""


@playbooks.command(name="list", examples=["remediator playbooks list -o wide"])
@connects
@formatted
def list_playbooks(form: Form) -> None:
    """List the playbooks in force, in the order in which an alert is offered to them."""
    put_page(form, ask(lambda c: c.playbooks()), _PLAYBOOKS, _text("name"), "playbooks")


@playbooks.command(name="show", examples=["remediator playbooks show cilium-agent-down", "remediator playbooks show node-down -o json"])
@click.argument("name", metavar="NAME", shell_complete=complete.playbooks)
@connects
@formatted
def show_playbook(form: Form, name: str) -> None:
    """Show one playbook: what it takes, its parameters, and its text."""
    found = ask(lambda c: c.playbook(name))
    put_data(form, found, lambda _: _playbook(found), lambda: [name])


def _playbook(found: Item) -> str:
    from remediator.cli.text import safe, table
    from remediator.cli.views import block, record_lines
    from remediator.model import from_json
    from remediator.promotion import Record

    facts = block(
        [
            ("Playbook", _text("name")(found)),
            ("Summary", _text("summary")(found)),
            ("Runbook", _text("runbook")(found)),
            ("Mode", f"{_mode(found)} (its file says {found.get('mode')})"),
            ("Demoted", _why_demoted(found.get("demoted"))),
            ("Missing", _missing(found)),
            ("Source", f"{found.get('source')}, revision {found.get('revision')}"),
            *(("Alerts", matcher) for matcher in _when(found, "alerts") or ["none: it runs by hand only"]),
            ("Target", " ".join(_listed(part) for part in _when(found, "target").values() if part) if found.get("when") else ""),
            ("Approval", _plain_approval(found.get("approval") or {})),
            ("Gates", "; ".join(f"{key}: {_plain(value)}" for key, value in (found.get("gates") or {}).items())),
            ("Deadline", _text("deadline")(found)),
            ("On resolved", _text("on_resolved")(found)),
            ("On failure", _text("on_failure")(found)),
        ]
    )
    parts = [facts]
    if lines := record_lines(from_json(found.get("record") or {"playbook": ""}, Record)):
        parts.append("".join(f"{line}\n" for line in ("In the last 30 days:", *(f"  {line}" for line in lines))))
    rows = [(name, *_parameter(value)) for name, value in (found.get("parameters") or {}).items()]
    if rows:
        parts.append(table(("PARAMETER", "TYPE", "DEFAULT", "HELP"), rows))
    applying = [(gate["gate"], gate["by"], _settings(gate.get("settings"))) for gate in found.get("in_force") or ()]
    if applying:
        parts.append(table(("GATE", "APPLIES BY", "SETTINGS"), applying))
    parts.append("".join(safe(line) + "\n" for line in str(found.get("text") or "").splitlines()))
    return "\n".join(parts)


def _settings(value: Any) -> str:
    return "" if value is None else _plain(value)


def _missing(item: Item) -> str:
    rights, absent = item.get("missing_rights"), item.get("missing_kinds")
    parts = [f"our account may not {rights}" if rights else "", f"the cluster does not serve {absent}" if absent else ""]
    return "; ".join(part for part in parts if part)


def _why_demoted(demotion: Item | None) -> str:
    if not demotion:
        return ""
    lift = f"remediator playbooks reinstate {demotion['playbook']}"
    return f"since {demotion['at']}, because of runs {', '.join(demotion['runs'])}; to lift it: {lift}"


def _plain_approval(approval: Item) -> str:
    """Empty where the playbook leaves everything to the settings."""
    parts = [f"expires after {approval['expires']}" if approval.get("expires") else "", f"{approval.get('people', 1)} people"]
    return ", ".join(part for part in parts if part and part != "1 people")


@playbooks.command(name="reinstate", examples=['remediator playbooks reinstate cilium-agent-down --reason "the selector is right now"'])
@click.argument("name", metavar="NAME", shell_complete=complete.playbooks)
@click.option("--reason", default="", metavar="TEXT", help="Why; it goes on record.")
@connects
@formatted
def reinstate(form: Form, name: str, reason: str) -> None:
    """Let a playbook act by itself again that was demoted because it failed several times in a row."""
    lifted = ask(lambda c: c.reinstate(name, by=me(), reason=reason))
    put_data(form, lifted, lambda _: f"playbook {lifted.playbook} may act again, as its file and the settings say\n", lambda: [name])


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _parameter(value: Item) -> tuple[str, str, str]:
    default = value.get("default")
    return str(value.get("type") or ""), "" if default is None else _plain(default), " ".join(str(value.get("help") or "").split())


@group(name="actions", examples=["remediator actions list", "remediator actions show cilium.restart_agent"])
def actions() -> None:
    """List and show the actions that steps may use."""


@actions.command(name="list", examples=["remediator actions list -o wide"])
@connects
@formatted
def list_actions(form: Form) -> None:
    """List the actions that the steps of a playbook may use."""
    page = ask(lambda c: c.actions()) if daemon_is_named() else _page(_own_actions().values())
    put_page(form, page, _ACTIONS, _text("name"), "actions")


@actions.command(name="show", examples=["remediator actions show node.cordon"])
@click.argument("name", metavar="NAME", shell_complete=complete.actions)
@connects
@formatted
def show_action(form: Form, name: str) -> None:
    """Show one action: what it changes, how it is undone, its parameters and the rights it needs."""
    found = ask(lambda c: c.action(name)) if daemon_is_named() else _own_action(name)
    put_data(form, found, lambda _: _action(found), lambda: [name])


def _own_actions() -> dict[str, Item]:
    from remediator.actions import actions as known

    say(_OWN)
    return {name: action.describe() for name, action in known().items()}


def _own_action(name: str) -> Item:
    from difflib import get_close_matches

    own = _own_actions()
    if name not in own:
        near = get_close_matches(name, own, n=1)
        raise UsageError(f"there is no action {name}; {f'did you mean {near[0]}?' if near else 'see remediator actions list'}")
    return own[name]


def _page(items: Iterable[Item]) -> Page[Item]:
    from remediator.model import Page

    return Page(items=tuple(items))


def _action(found: Item) -> str:
    from remediator.cli.text import table
    from remediator.cli.views import block

    facts = block(
        [
            ("Action", _text("name")(found)),
            ("Summary", _text("summary")(found)),
            ("Changes", _text("changes")(found)),
            ("Undone by", _text("undone_by")(found)),
            ("Disruptive", "yes: every gate is asked again right before it" if found.get("disruptive") else "no"),
            ("Brings gates", ", ".join(found.get("gates") or ())),
        ]
    )
    schema = found.get("parameters") or {}
    needed = schema.get("required") or ()
    parts = [facts]
    rows = [(name, "yes" if name in needed else "no", *_field(field)) for name, field in (schema.get("properties") or {}).items()]
    if rows:
        parts.append(table(("PARAMETER", "REQUIRED", "TYPE", "DEFAULT", "HELP"), rows))
    rules = [_rule(rule) for rule in found.get("rbac") or ()]
    if rules:
        parts.append(table(("RBAC GROUPS", "RESOURCES", "VERBS", "SCOPE"), rules))
    optional = [(parameter, *_rule(rule)) for parameter, rules in (found.get("optional_rbac") or {}).items() for rule in rules]
    if optional:
        parts.append(table(("ONLY FOR", "RBAC GROUPS", "RESOURCES", "VERBS", "SCOPE"), optional))
    return "\n".join(parts)


def _field(field: Item) -> tuple[str, str, str]:
    kinds = [field] if "type" in field or "enum" in field else field.get("anyOf") or []
    kind = " or ".join(
        "|".join(map(str, one["enum"])) if "enum" in one else str(one.get("format") or one.get("type") or "") for one in kinds
    )
    default = field.get("default")
    return kind, "" if default is None else json.dumps(default), " ".join(str(field.get("description") or "").split())


def _rule(rule: Item) -> tuple[str, str, str, str]:
    groups = ", ".join(group or "core" for group in rule.get("groups") or ())
    return groups, ", ".join(rule.get("resources") or ()), ", ".join(rule.get("verbs") or ()), str(rule.get("scope") or "")


@group(name="gates", examples=["remediator gates list"])
def gates() -> None:
    """List the gates that every run passes."""


@gates.command(name="list", examples=["remediator gates list", "remediator gates list -o json"])
@connects
@formatted
def list_gates(form: Form) -> None:
    """List the gates; those with a key take settings under a playbook's gates."""
    page = ask(lambda c: c.gates()) if daemon_is_named() else _own_gates()
    put_page(form, page, _GATES, _text("name"), "gates")


def _own_gates() -> Page[Item]:
    from remediator.gates import gates as known

    say(_OWN)
    return _page(gate.describe() for gate in known().values())
