"""How a command ends: errors become one line on stderr and an exit code, never a traceback unless ``-v`` asks for it.

====  ==================================================
0     fine
1     found problems, or not healed
2     usage: the command makes no sense as asked
3     the daemon cannot be reached
4     refused by a gate
130   interrupted
====  ==================================================
"""

from __future__ import annotations

import os
import sys
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import click

from remediator.cli.text import safe
from remediator.errors import DocumentError, InputError, Refused, RemediatorError, ServerRefused, ServerUnreachable

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Exit", "guarded", "say"]


class Exit(IntEnum):
    """The exit codes, by name."""

    FINE = 0
    PROBLEMS = 1
    USAGE = 2
    UNREACHABLE = 3
    REFUSED = 4
    INTERRUPTED = 130


_HINTS = {
    401: "Give the file of the token with --token-file or REMEDIATOR_TOKEN_FILE.",
    403: "The token does not allow this: looking takes the read token, acting the write token.",
}
_USAGE = (400, 404, 405, 413, 422)


def say(text: str) -> None:
    """One message for a person, on stderr."""
    click.echo(text, err=True)


def guarded(call: Callable[[], Any], verbose: Callable[[], bool]) -> int:
    """Run a command to its exit code. What it returns is the code if it is a number."""
    _forgiving_streams()
    try:
        result = call()
    except click.Abort:
        return Exit.INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except RemediatorError as error:
        if verbose():
            _trace()
        return _explain(error)
    except Exception as error:  # noqa: BLE001 - the outermost boundary: a defect is told in one line, its traceback with -v
        if verbose():
            _trace()
        say(f"error: {type(error).__name__}: {safe(str(error))}\nThis is a defect in remediator; -v shows where.")
        return Exit.PROBLEMS
    return result if isinstance(result, int) else Exit.FINE


def _trace() -> None:
    import traceback

    traceback.print_exc()


def _explain(error: RemediatorError) -> int:
    """Say what is wrong, in the form of its kind; returns the exit code."""
    if isinstance(error, DocumentError):
        for problem in error.problems:
            say(safe(str(problem)))
        return Exit.PROBLEMS
    say(f"error: {safe(str(error))}")
    match error:
        case ServerUnreachable():
            say("Is the daemon running? Its address comes from --server, REMEDIATOR_SERVER or the settings file.")
            return Exit.UNREACHABLE
        case ServerRefused():
            if error.status in _HINTS:
                say(_HINTS[error.status])
            return Exit.USAGE if error.status in _USAGE and error.status != 404 else Exit.PROBLEMS
        case Refused():
            return Exit.REFUSED
        case InputError():
            return Exit.USAGE
        case _:
            return Exit.PROBLEMS


def _forgiving_streams() -> None:
    """A terminal that cannot show a character gets an escape for it, not an exception."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None and os.environ.get("PYTHONIOENCODING", "").find(":") < 0:
            reconfigure(errors="backslashreplace")
