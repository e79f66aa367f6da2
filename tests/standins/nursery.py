"""Starts daemons and simulated clusters as processes of their own, without paying for the imports again at every start.

Run as a program. It imports everything once and then forks: each child is a whole process that can be killed at any moment, and differs
from ``python -m remediator`` and ``python -m remediator.sim`` only in that its modules were read before. In come JSON lines, out goes one
JSON line for each: ``{"call": "module:function", "args": [...], "cwd": ..., "env": {...}, "output": file}`` starts a child and is answered
with its ``pid`` (``input`` and ``errors`` name files for those streams; without them there is no input, and errors are output);
``{"poll": pid}`` is answered with its exit ``status``, null while it runs. At the end of its input it kills what is left.
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
import tempfile
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
    streams = [os.open(order.get("input", os.devnull), os.O_RDONLY)]
    if "errors" in order:
        streams += [os.open(order[name], os.O_WRONLY | os.O_CREAT | os.O_APPEND) for name in ("output", "errors")]
    else:
        streams += [through_a_pipe(Path(order["output"]))] * 2
    pid = os.fork()
    if pid:
        for one in set(streams):
            os.close(one)
        return pid
    try:
        become(order, streams)
    except SystemExit as end:
        sys.stdout.flush()
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
        os._exit(end.code if isinstance(end.code, int) else int(end.code is not None))
    except BaseException:  # noqa: BLE001 - the child reports whatever ended it, as an interpreter would
        sys.excepthook(*sys.exc_info())
        os._exit(70)
    os._exit(0)


def through_a_pipe(path: Path) -> int:
    """Where to write: a limit on the size of files that a test sets for the child does not concern its output."""
    reading, writing = os.pipe()
    with path.open("ab") as file:
        subprocess.Popen(["cat"], stdin=reading, stdout=file)
    os.close(reading)
    return writing


def become(order: dict, streams: list[int]) -> None:
    for new, old in enumerate(streams):
        os.dup2(old, new)
    for old in set(streams):
        os.close(old)
    sys.stdin, sys.stdout = open(0), open(1, "w")  # noqa: SIM115 - a process's own streams stay open
    sys.stderr = open(2, "w", buffering=1)  # noqa: SIM115 - as above
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    tempfile.tempdir = None  # which the environment may name
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
