"""Daemons, simulated clusters and commands as processes of their own that were forked, not started: see nursery.py.

``fork("remediator.cli:main", "serve", ..., output=file)`` gives one as Child, ``run("remediator.cli:main", "status")`` waits for its end.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from standins import nursery

if TYPE_CHECKING:
    from collections.abc import Mapping

Done: TypeAlias = "subprocess.CompletedProcess[str]"
PATIENCE = 60.0
"""Seconds for what should take one or two: the machine may be busy with other things."""
LOOK = 0.05
_SOON = 0.01


class Nursery:
    """The process that forks; it begins with the first order and ends with this one."""

    def __init__(self) -> None:
        self._process: Any = None
        self._lock = threading.Lock()

    def ask(self, **order: Any) -> Any:
        with self._lock:
            if self._process is None:
                self._begin()
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())

    def fork(self, call: str, *args: str, output: Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Child:
        """``call``: ``module:function``. In the folder of its output, if no other is named."""
        where = {"cwd": str(cwd or output.parent), "output": str(output), "env": dict(os.environ if env is None else env)}
        return Child(self, self.ask(call=call, args=args, **where)["pid"], output)

    def run(self, call: str, *args: str, env: Mapping[str, str] | None = None, given: bytes = b"", seconds: float = 180) -> Done:
        """To its end, in this folder, as ``subprocess.run`` does; ``given`` is its input. ``seconds`` is how long it may take."""
        with tempfile.TemporaryDirectory() as folder:
            files = {name: Path(folder) / name for name in ("input", "output", "errors")}
            files["input"].write_bytes(given)
            where = {name: str(path) for name, path in files.items()}
            order = {"call": call, "args": args, "cwd": str(Path.cwd()), "env": dict(os.environ if env is None else env)}
            child = Child(self, self.ask(**order, **where)["pid"], files["output"])
            try:
                status = child.wait(seconds, look=_SOON)
            finally:
                child.send_signal(signal.SIGKILL)
            output, errors = (files[name].read_text() for name in ("output", "errors"))
        return subprocess.CompletedProcess([call, *args], status, output, errors)

    def _begin(self) -> None:
        argv = [sys.executable, "-P", nursery.__file__]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert json.loads(self._process.stdout.readline()) == {"ready": True}
        atexit.register(self._end)

    def _end(self) -> None:
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()


class Child:
    """One process."""

    def __init__(self, nursery: Nursery, pid: int, output: Path) -> None:
        self._nursery = nursery
        self.pid = pid
        self._output = output
        self._status: int | None = None

    @property
    def status(self) -> int | None:
        """Its exit status, None while it runs; -9 after SIGKILL."""
        if self._status is None:
            self._status = self._nursery.ask(poll=self.pid)["status"]
        return self._status

    def output(self) -> str:
        return self._output.read_text(errors="replace")

    def poll(self) -> int | None:
        """As ``status``; with ``wait`` and ``send_signal`` by the names that Popen has for them."""
        return self.status

    def send_signal(self, number: int) -> None:
        if self.status is None:
            os.kill(self.pid, number)

    async def ended(self, *, seconds: float = PATIENCE) -> int:
        return await asyncio.to_thread(self.wait, seconds)

    async def kill(self) -> None:
        """As a crash would."""
        self.send_signal(signal.SIGKILL)
        await self.ended()

    def wait(self, seconds: float, *, look: float = LOOK) -> int:
        """Its exit status, once there is one; TimeoutExpired after so many seconds. ``look``: seconds between two looks."""
        deadline = time.monotonic() + seconds
        while (status := self.status) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(f"process {self.pid}", seconds, self.output()[-3000:])
            time.sleep(look)
        return status

    def let_files_grow(self, *, to: int = resource.RLIM_INFINITY) -> None:
        """With a small number every write to a file fails, as on a full disk; without one all is well again."""
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (to, resource.RLIM_INFINITY))


_NURSERY = Nursery()
fork = _NURSERY.fork
run = _NURSERY.run
