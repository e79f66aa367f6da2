"""``schema``: JSON Schema for editors, made of the same models that read the files."""

from __future__ import annotations

from typing import Literal

import click

from remediator.cli.frame import command
from remediator.cli.output import to_text, to_yaml

__all__ = ["schema"]


@command(
    name="schema",
    examples=["remediator schema playbook > playbook.schema.json", "remediator schema settings -o yaml"],
)
@click.argument("what", type=click.Choice(("playbook", "settings", "test")))
@click.option("-o", "--output", "form", type=click.Choice(("json", "yaml")), default="json", show_default=True, help="Form of the output.")
def schema(what: str, form: Literal["json", "yaml"]) -> None:
    """Print the JSON Schema of playbooks, settings or playbook tests.

    It is draft 7. An editor with yaml-language-server takes it from the first line of a file: "# yaml-language-server:
    $schema=playbook.schema.json".
    """
    if what == "playbook":
        from remediator.actions import actions
        from remediator.gates import gates
        from remediator.playbook import schema_playbook

        data = schema_playbook(actions(), gates())
    elif what == "test":
        from remediator.testing.cases import schema_test

        data = schema_test()
    else:
        from remediator.settings import settings_schema

        data = settings_schema()
    click.echo(to_text(data) if form == "json" else to_yaml(data), nl=form == "json")
