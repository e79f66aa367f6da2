"""``rbac``: the Roles that the daemon's account needs for some playbooks, and no more. Asks nobody: neither the daemon nor the cluster."""

from __future__ import annotations

import re
import textwrap
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from remediator.cli.frame import command, configured, flags
from remediator.cli.output import Column, formatted, put_list
from remediator.cli.params import PLAYBOOKS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from remediator.cli.output import Form
    from remediator.rights import Grant

__all__ = ["rbac"]

_WIDTH = 140
_COLUMNS: tuple[Column[Any], ...] = (
    Column("NAMESPACE", lambda rule: rule.namespace or "(cluster)"),
    Column("GROUP", lambda rule: rule.group or "core"),
    Column("RESOURCES", lambda rule: ", ".join(rule.resources) + (f" ({', '.join(rule.names)})" if rule.names else "")),
    Column("VERBS", lambda rule: ", ".join(rule.verbs)),
    Column("NEEDED BY", lambda rule: ", ".join(rule.needed_by)),
)


@command(
    name="rbac",
    examples=[
        "remediator rbac -o yaml | kubectl apply -f -",
        "remediator rbac playbooks/drain-node.yaml",
        "remediator rbac --medik8s -o yaml",
        "remediator rbac mine/ --name remediator-mine -o yaml",
    ],
)
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=PLAYBOOKS)
@click.option("--medik8s", is_flag=True, help="only what the leases of medik8s take; for clusters that have their namespace")
@click.option(
    "--account", metavar="NAMESPACE/NAME", default="remediator/remediator", show_default=True, help="ServiceAccount that is bound"
)
@click.option("--name", metavar="NAME", default="", help="of the Roles and their bindings; else the account's")
@configured
@formatted
def rbac(form: Form, paths: tuple[Path, ...], account: str, name: str, medik8s: bool) -> None:
    """Print the least Roles for playbooks, each rule with who needs it.

    PATH is a file or a folder of playbooks, or the word shipped. Without PATH: those of the settings file of --config or REMEDIATOR_CONFIG,
    or else the shipped ones. Where these settings say election.enabled, the right on its Lease is among them. With -o yaml it is what
    kubectl apply takes: ClusterRole, Roles in the namespaces where that is enough, and their bindings. Rights add up: under another --name
    they stand beside those that are installed.
    """
    from remediator.cluster.read import LEASES
    from remediator.errors import UsageError

    where, slash, who = account.partition("/")
    if not (where and slash and who) or "/" in who:
        raise UsageError(f'--account: write NAMESPACE/NAME, not "{account}"')
    if name and not re.fullmatch(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", name):
        raise UsageError(f'--name: "{name}" is no name of an object; write for example remediator-mine')
    rules = [rule for rule in _rules(paths, where) if (rule.namespace == LEASES) is medik8s]
    if form == "yaml":
        click.echo(manifests(rules, where, who, name or who), nl=False)
        return
    put_list(form, {"items": rules}, rules, _COLUMNS, lambda rule: ", ".join(rule.resources), "rules")


def _rules(paths: tuple[Path, ...], namespace: str) -> tuple[Grant, ...]:
    from remediator.actions import Cilium, actions
    from remediator.gates import gates
    from remediator.playbook import Library, shipped
    from remediator.rights import election, grants, needed
    from remediator.settings import load_settings

    config = flags().config
    settings = load_settings(Path(config)) if config else None
    cilium = Cilium(namespace=settings.cilium.namespace) if settings else Cilium()
    library = Library.load(paths or (settings.playbooks if settings else ()) or (shipped(),), actions=actions(), gates=gates())
    needs = needed(library.playbooks, cilium, events=settings.kubernetes.events if settings else True)
    if settings is not None and settings.election.enabled:
        needs |= election(settings.election.namespace or namespace, settings.election.lease)
    return grants(needs)


def manifests(rules: Iterable[Grant], namespace: str, account: str, name: str) -> str:
    """The rules as YAML documents. The names in them come from our own code and from what check has let through."""
    return "---\n".join(_role(where, list(these), namespace, account, name) for where, these in groupby(rules, lambda rule: rule.namespace))


def _role(where: str, rules: list[Grant], namespace: str, account: str, name: str) -> str:
    kind = "Role" if where else "ClusterRole"
    head = f"metadata:\n  name: {name}\n" + (f"  namespace: {where}\n" if where else "")
    return (
        f"apiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}\n{head}rules:\n{''.join(map(_rule, rules))}---\n"
        f"apiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}Binding\n{head}"
        f"roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: {kind}, name: {name}}}\n"
        f"subjects:\n- {{kind: ServiceAccount, name: {account}, namespace: {namespace}}}\n"
    )


def _rule(rule: Grant) -> str:
    comment = textwrap.fill(_who(rule.needed_by), _WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
    resources, verbs = ", ".join(rule.resources), ", ".join(rule.verbs)
    names = f"resourceNames: [{', '.join(rule.names)}], " if rule.names else ""
    line = f'- {{apiGroups: ["{rule.group}"], resources: [{resources}], {names}verbs: [{verbs}]}}'
    if len(line) > _WIDTH:
        listed = "".join(f"  - {resource}\n" for resource in rule.resources)
        line = f'- apiGroups: ["{rule.group}"]\n  resources:\n{listed}  verbs: [{verbs}]'
    return f"{comment}\n{line}\n"


def _who(names: Iterable[str]) -> str:
    """``action a, action b, gate c, x`` as ``actions a, b; gate c; x``."""
    parts = []
    for sort, these in groupby(sorted(names, key=_sort), _sort):
        found = [name.removeprefix(sort).strip() for name in these]
        parts.append(f"{sort}{'s' if len(found) > 1 else ''} {', '.join(found)}" if sort else "; ".join(found))
    return "; ".join(parts)


def _sort(name: str) -> str:
    return next((sort for sort in ("action", "gate") if name.startswith(f"{sort} ")), "")
