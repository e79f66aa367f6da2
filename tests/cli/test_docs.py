"""docs/cli.md names every command, with its options, and every exit code."""

from __future__ import annotations

import re

import click
import pytest

from remediator.cli import cli
from remediator.cli.exits import Exit


def commands(command=cli, path=()):
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        if isinstance(found, click.Group):
            yield from commands(found, (*path, name))
        else:
            yield (*path, name), found


@pytest.fixture(scope="module")
def page(root):
    return (root / "docs" / "cli.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("path", "command"), list(commands()), ids=lambda value: " ".join(value) if isinstance(value, tuple) else "")
def test_every_command_and_its_own_options(page, path, command):
    told = " ".join(page.split())
    assert re.search(rf"\b{' '.join(path)}\b", told)
    everywhere = {"--server", "--token-file", "--config", "--verbose", "--output", "--help"}
    for param in command.params:
        if isinstance(param, click.Option) and not everywhere & set(param.opts):
            assert max(param.opts, key=len) in told


def test_exit_codes(page):
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)} == set(Exit)
