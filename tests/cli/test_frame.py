"""The program as a whole: help, lazy imports, examples, exit codes, completion."""

from __future__ import annotations

import shlex
import subprocess
import sys

import click
import pytest

from remediator import __version__
from remediator.cli import cli
from remediator.cli.exits import guarded
from remediator.cli.frame import Command, Group
from remediator.cli.params import OPEN_STATES, RUN_STATES
from remediator.errors import DocumentError, JournalUnavailable, Problem, Refused, UsageError
from remediator.model import RunState
from remediator.reasons import Reason

HEAVY = ("aiohttp", "pydantic", "sqlalchemy", "kubernetes_asyncio", "dbos", "rich", "msgspec", "yaml", "structlog", "prometheus_client")


def leaves(command=cli, path=()):
    """Every command with its path, groups included."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from leaves(command.get_command(context, name), (*path, name))


ALL = dict(leaves())


def test_every_command_of_this_issue_is_there():
    groups = {
        "runs": "list show watch approve reject cancel undo",
        "alerts": "list",
        "bgp": "status",
        "deliveries": "list show",
        "playbooks": "list show reinstate",
        "actions": "list show",
        "gates": "list",
        "changes": "list",
        "journal": "verify export prune import",
        "report": "recurrence effect",
        "alert": "send",
        "breaker": "status reset",
        "scenarios": "list",
    }
    single = [
        *("serve", "demo", "run", "check", "match", "why", "pause", "resume", "status", "rbac", "schema", "test", "backtest"),
        *("version", "completion"),
    ]
    wanted = {(name,) for name in single} | {(group, name) for group, names in groups.items() for name in names.split()}
    assert wanted == {path for path, command in ALL.items() if not isinstance(command, click.Group)}


@pytest.mark.parametrize("path", [path for path in ALL if path])
def test_help_of_each_command_shows_examples_that_can_be_called(call, path):
    command = ALL[path]
    result = call(*path, "--help")
    assert (result.exit_code, result.stderr) == (0, "")
    assert isinstance(command, Command | Group)
    assert command.examples
    assert command.get_short_help_str(200)
    for line in command.examples:
        assert f"  {line}\n" in result.stdout
        program, *arguments = shlex.split(line.split(" > ")[0].split(" | ")[0])
        assert program == "remediator"
        parses(arguments, path)


def parses(arguments, path):
    """The arguments lead to a command below ``path``, and its options take them."""
    context, command, found = click.Context(cli, info_name="remediator"), cli, ()
    while isinstance(command, click.Group):
        name, command, arguments = command.resolve_command(context, arguments)
        found += (name,)
        context = command.make_context(name, list(arguments), parent=context) if not isinstance(command, click.Group) else context
    assert found[: len(path)] == path


@pytest.mark.parametrize("path", [path for path, command in ALL.items() if not isinstance(command, click.Group)])
def test_commands_that_print_data_take_o(path):
    forms = {option for param in ALL[path].params for option in param.opts if option in ("-o", "--output")}
    scripts_and_processes = {("serve",), ("demo",), ("completion",), ("journal", "export")}
    assert bool(forms) == (path not in scripts_and_processes)


def test_summaries_of_the_first_page_are_those_of_the_commands():
    for name, entry in cli.entries.items():
        assert ALL[name,].name == name
        assert ALL[name,].get_short_help_str(200) == entry.summary


def test_help_golden(call, golden):
    result = call("--help")
    golden(result.stdout)
    assert call("-h").stdout == result.stdout


@pytest.mark.parametrize(
    "arguments", [["--help"], ["version"], ["runs", "--help"], ["runs", "list", "--help"], ["completion", "fish"], ["serve", "-h"]]
)
def test_help_and_version_import_nothing_heavy(arguments):
    code = (
        "import sys\nfrom remediator.cli import cli\n"
        f"try:\n    cli.main({arguments!r}, prog_name='remediator')\nexcept SystemExit as end:\n    assert end.code == 0, end.code\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.strip() == "[]"


def test_only_the_module_of_the_command_is_imported():
    code = (
        "import sys\nfrom remediator.cli import cli\n"
        "try:\n    cli.main(['version'], prog_name='remediator')\nexcept SystemExit:\n    pass\n"
        "print(sorted(m for m in sys.modules if m.startswith('remediator.cli.')), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = {name.removeprefix("remediator.cli.") for name in eval(done.stderr)}
    assert loaded == {"about", "exits", "frame", "output", "text"}


@pytest.mark.parametrize(("word", "suggestion"), [("rnus", "Did you mean 'runs'?"), ("stauts", "Did you mean 'status'?"), ("xyzzy", "")])
def test_unknown_command(call, word, suggestion):
    result = call(word)
    assert result.exit_code == 2
    assert f"No such command '{word}'." in result.stderr
    assert suggestion in result.stderr
    assert result.stdout == ""


def test_unknown_subcommand_and_option(call):
    assert "Did you mean 'list'?" in call("runs", "lsit").stderr
    assert "--state" in call("runs", "list", "--stat", "x").stderr


def test_nothing_at_all_shows_the_help(call):
    result = call()
    assert result.exit_code == 2
    assert "Usage: remediator" in result.stderr


@pytest.mark.parametrize("arguments", [["version"], ["--version"]])
def test_version(call, arguments):
    assert call(*arguments).stdout == f"remediator {__version__}\n"


def test_version_forms(call):
    assert call("version", "-o", "name").stdout == f"{__version__}\n"
    assert f'"version": "{__version__}"' in call("version", "-o", "json").stdout
    assert f"version: {__version__}" in call("version", "-o", "yaml").stdout
    assert "Python 3" in call("version", "-o", "wide").stdout


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UsageError("no such thing"), 2, "error: no such thing\n"),
        (DocumentError([Problem("a.yaml", 1, 2, "x"), Problem("a.yaml", 3, 4, "y\x1b[2J")]), 1, "a.yaml:1:2: x\na.yaml:3:4: y\\x1b[2J\n"),
        (Refused(Reason.PAUSED, "by ana"), 4, "error: paused: by ana\n"),
        (JournalUnavailable("disk full"), 1, "error: disk full\n"),
        (click.Abort(), 130, ""),
        (ZeroDivisionError("x"), 1, "error: ZeroDivisionError: x\nThis is a defect in remediator; -v shows where.\n"),
    ],
)
@pytest.mark.parametrize("verbose", [False, True])
def test_errors_become_a_line_and_a_code(capsys, error, code, said, verbose):
    def fail():
        raise error

    assert guarded(fail, lambda: verbose) == code
    told = capsys.readouterr().err
    assert told.endswith(said)
    assert ("Traceback" in told) == (verbose and not isinstance(error, click.Abort))


@pytest.mark.parametrize(("result", "code"), [(None, 0), (0, 0), (1, 1), ("text", 0)])
def test_what_a_command_returns_is_the_exit_code(result, code):
    assert guarded(lambda: result, lambda: False) == code


def test_interrupted_process_exits_with_130(process):
    code = "import signal, os; from remediator.cli import cli; import remediator.cli.about as about\n"
    code += "about.version.callback = lambda **_: os.kill(os.getpid(), signal.SIGINT)\n"
    code += "cli.main(['version'], prog_name='remediator')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(call, shell):
    result = call("completion", shell)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "_REMEDIATOR_COMPLETE" in result.stdout


def test_completion_of_an_unknown_shell(call):
    assert call("completion", "tcsh").exit_code == 2


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("remediator pl", ["plain,playbooks"]),
        ("remediator runs ", ["plain,list", "plain,show", "plain,watch", "plain,approve", "plain,reject", "plain,cancel", "plain,undo"]),
        ("remediator runs list --st", ["plain,--state"]),
        ("remediator runs list -o y", ["plain,yaml"]),
    ],
)
def test_completion_in_bash(process, line, wanted):
    env = {"_REMEDIATOR_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    assert sorted(process(env=env).stdout.decode().split()) == sorted(wanted)


def test_states_are_those_of_the_model():
    assert tuple(RunState) == RUN_STATES
    assert tuple(state for state in RunState if state.open) == OPEN_STATES
