"""Processes to measure: started on a free port of 127.0.0.1, looked at through /proc, and ended whatever happens."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["ROOT", "TOKEN", "Daemon", "Process", "SimulatedCluster", "free_port", "program"]

ROOT = Path(__file__).resolve().parents[1]
TOKEN = "token-of-a-benchmark"  # of a server that lives for seconds on the loopback interface
SETTINGS = """\
apiVersion: remediator.dev/v1
kind: Settings
server: {{listen: '127.0.0.1:{port}', webhook_token_file: token, read_token_file: token, write_token_file: token}}
store: {{url: '{store}'}}
kubernetes: {{server: '{kubernetes}'}}
{more}
"""
NOWHERE = "http://127.0.0.1:1"
"""Nobody listens there, which a client is told at once."""
_TICK = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def program(name: str) -> str:
    """A console script of the environment that runs this."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise RuntimeError(f"{name} is not installed beside {sys.executable}")
    return found


class Process:
    """A server in a process of its own. As ``with``: it is killed at the end if it still runs."""

    def __init__(self, command: list[str], port: int, log: Path) -> None:
        self.port = port
        self.began = time.perf_counter()
        self._log = log
        with log.open("wb") as out:
            self._process = subprocess.Popen(command, stdout=out, stderr=out, cwd=ROOT)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()

    def kill(self) -> None:
        """SIGKILL: nothing of what it meant to do later is done."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self, seconds: float = 30) -> float:
        """SIGTERM; how many seconds it took to end."""
        began = time.perf_counter()
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(seconds)
        return time.perf_counter() - began

    def descriptors(self) -> int:
        """Open files, sockets among them."""
        return len(list(Path(f"/proc/{self._process.pid}/fd").iterdir()))

    def threads(self) -> int:
        return len(list(Path(f"/proc/{self._process.pid}/task").iterdir()))

    def pause(self) -> None:
        """Let it stand still, so that it takes nothing from what is measured now."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def wait_until_open(self, seconds: float = 60) -> float:
        """Seconds from its start until the port takes connections."""
        return self._until(self._open, seconds, "listen")

    def memory(self, what: str = "VmRSS") -> float:
        """MB (10^6 bytes) of it, from the kernel."""
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(what + ":")) * 1024 / 1e6

    def cpu(self) -> float:
        """Seconds of CPU time that it used so far, all threads, user and system."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICK

    def _until(self, done: Any, seconds: float, what: str) -> float:
        while time.perf_counter() < self.began + seconds:
            if self._process.poll() is not None:
                told = self._log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"the server ended with code {self._process.returncode} before it was to {what}:\n{told}")
            if done():
                return time.perf_counter() - self.began
            time.sleep(0.005)
        raise RuntimeError(f"the server does not {what} after {seconds:g} s")

    def _open(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True


class SimulatedCluster(Process):
    """The simulated cluster in a process of its own, so that the daemon's memory and time are measured alone."""

    def __init__(self, folder: Path, *, nodes: int, pods: int = 0, bare: bool = False, rate: float = 1) -> None:
        port = free_port()
        words = ["--port", str(port), "--nodes", str(nodes), "--pods", str(pods), "--rate", str(rate), *(["--bare"] if bare else [])]
        super().__init__([sys.executable, "-m", "remediator.sim", *words], port, folder / "cluster.log")
        self.url = f"http://127.0.0.1:{port}"


class Daemon(Process):
    """``remediator serve`` with its journal in ``folder``; the same folder again is a restart."""

    def __init__(self, folder: Path, *, kubernetes: str = NOWHERE, more: str = "", store: str = "") -> None:
        """``store``: its URL, where the journal is not that of ``folder``."""
        self.database = folder / "journal.db"
        port = free_port()
        (folder / "token").write_text(TOKEN)
        settings = folder / "settings.yaml"
        store = store or f"sqlite:///{self.database}"
        settings.write_text(SETTINGS.format(port=port, store=store, kubernetes=kubernetes, more=more))
        super().__init__([program("remediator"), "serve", "--config", str(settings)], port, folder / "daemon.log")

    def wait_until_ready(self, seconds: float = 60) -> float:
        """Seconds from its start until ``/-/ready`` answers 200."""
        return self._until(self._ready, seconds, "be ready")

    def call(self, method: str, path: str, body: Any = None, *, seconds: float = 60) -> bytes:
        """One call of its HTTP API, with the token. Raises OSError, HTTPError among them."""
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            return bytes(answer.read())

    def metric(self, name: str) -> float:
        """The sum of a metric's samples over all labels."""
        pattern = rf"^{re.escape(name)}(?:\{{[^}}]*\}})? (\S+)$"
        return sum(float(value) for value in re.findall(pattern, self.call("GET", "/metrics").decode(), re.MULTILINE))

    def undecided(self) -> int:
        """Deliveries on disk that wait for their decisions."""
        return self.ask("SELECT count(*) FROM delivery WHERE decided_at IS NULL")

    def ask(self, query: str) -> int:
        """One whole number from the journal's file; 0 for none."""
        return int(self.rows(query)[0][0] or 0)

    def rows(self, query: str) -> list[Any]:
        """What a query of the journal's file finds."""
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=30)) as connection:
            return connection.execute(query).fetchall()

    def wait_until_decided(self, seconds: float) -> float:
        """Seconds until no delivery waits for its decisions, at most ``seconds``."""
        began = time.perf_counter()
        while self.undecided() and time.perf_counter() < began + seconds:
            time.sleep(0.1)
        return time.perf_counter() - began

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:  # HTTPError, a 503, is one too
            return False
