"""Starts daemons and simulated clusters as processes of their own, without paying for the imports again at every start.

Run as a program. It imports everything once and then forks: each child is a whole process that can be killed at any moment, and differs
from ``python -m remediator`` and ``python -m remediator.sim`` only in that its modules were read before. In come JSON lines, out goes one
JSON line for each: ``{"call": "module:function", "args": [...], "cwd": ..., "env": {...}, "output": file}`` starts a child and is answered
with its ``pid``; ``{"poll": pid}`` is answered with its exit ``status``, null while it runs. At the end of its input it kills what is left.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import signal
import ssl
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import remediator
from remediator.actions import actions
from remediator.gates import gates
from remediator.playbook import Library, shipped

if TYPE_CHECKING:
    from collections.abc import Iterator

OTHERS = ("alembic.command", "alembic.config", "anyio._backends._asyncio", "anyio.to_thread", "dbos._sys_db_sqlite", "uvloop")
OTHERS += ("google.protobuf.struct_pb2", "google.protobuf.wrappers_pb2")
"""What remediator imports when it is needed."""


def start(order: dict) -> int:
    # The output goes through a pipe, so that a limit on the size of files that a test sets for the child does not concern it.
    reading, writing = os.pipe()
    with Path(order["output"]).open("ab") as file:
        subprocess.Popen(["cat"], stdin=reading, stdout=file)
    os.close(reading)
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid
    try:
        become(order, writing)
    except SystemExit as end:
        sys.stdout.flush()
        os._exit(end.code if isinstance(end.code, int) else int(end.code is not None))
    except BaseException:  # noqa: BLE001 - the child reports whatever ended it, as an interpreter would
        sys.excepthook(*sys.exc_info())
        os._exit(70)
    os._exit(0)


def become(order: dict, output: int) -> None:
    empty = os.open(os.devnull, os.O_RDONLY)
    for old, new in ((empty, 0), (output, 1), (output, 2)):
        os.dup2(old, new)
    os.close(output)
    os.close(empty)
    sys.stdin, sys.stdout = open(0), open(1, "w")  # noqa: SIM115 - a process's own streams stay open
    sys.stderr = open(2, "w", buffering=1)  # noqa: SIM115 - as above
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    sys.argv = [order["call"], *order["args"]]
    module, _, function = order["call"].partition(":")
    sys.exit(getattr(importlib.import_module(module), function)())


def poll(pid: int, ended: dict[int, int]) -> int | None:
    if pid not in ended:
        done, status = os.waitpid(pid, os.WNOHANG)
        if not done:
            return None
        ended[pid] = os.waitstatus_to_exitcode(status)
    return ended[pid]


def modules() -> Iterator[str]:
    """All of remediator's, but for those that do something when they are imported."""
    for found in pkgutil.walk_packages(remediator.__path__, "remediator."):
        if found.name != "remediator.__main__" and ".migrations." not in found.name:
            yield found.name


def warm_up() -> None:
    """What libraries remember once they have read playbooks, such as compiled patterns and what CEL may name."""
    Library.load((shipped(),), actions=actions(), gates=gates())


def main() -> None:
    sys.path.append(str(Path(__file__).parent.parent))  # of calls that are the tests' own
    ssl.SSLContext.load_default_certs = lambda *_: None  # as in conftest.py
    for module in (*modules(), *OTHERS):
        importlib.import_module(module)
    warm_up()
    gc.collect()
    gc.freeze()  # what nobody's collector looks at stays shared
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "only a process of one thread may fork"
    ended: dict[int, int] = {}
    started: list[int] = []
    print(json.dumps({"ready": True}), flush=True)  # noqa: T201 - its answers are its output
    for line in sys.stdin:
        order = json.loads(line)
        if "poll" in order:
            answer = {"status": poll(order["poll"], ended)}
        else:
            started.append(start(order))
            answer = {"pid": started[-1]}
        print(json.dumps(answer), flush=True)  # noqa: T201 - as above
    for pid in started:
        with contextlib.suppress(ProcessLookupError):
            if poll(pid, ended) is None:
                os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
