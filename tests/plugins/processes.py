"""PYTEST_DONT_REWRITE. Starts real programs for tests: on free loopback ports, with their output in a file, ended with the test.

``processes.start`` returns when the program answers at its readiness URL; a program that ends early or stays silent fails the test with
the end of its output. A port that somebody else took meanwhile is no reason to fail: another is tried. ``python -m remediator`` and
``python -m remediator.sim`` are forked (``standins/nursery.py``): their imports are most of what a start costs. With a PYTHONPATH they are
started, since that may lead to another release.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest
from standins.forks import Child, fork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HOST = "127.0.0.1"
_FORKED = {"remediator": "remediator.cli:main", "remediator.sim": "remediator.sim.__main__:main"}
_PATIENCE = 90.0
_TRIES = 3


def free_ports(count: int) -> list[int]:
    """Ports that nobody listened on a moment ago."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((HOST, 0))
        return [one.getsockname()[1] for one in sockets]


class Program:
    """One running program."""

    def __init__(self, argv: list[str], output: Path, cwd: Path, env: dict[str, str] | None = None) -> None:
        self.argv = argv
        self._output = output
        self._process: subprocess.Popen[bytes] | Child
        if argv[:2] == [sys.executable, "-m"] and argv[2] in _FORKED and "PYTHONPATH" not in (os.environ if env is None else env):
            self._process = fork(_FORKED[argv[2]], *argv[3:], output=output, cwd=cwd, env=env)
            return
        with output.open("ab") as file:
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=file, stderr=file, cwd=cwd, env=env)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def output(self) -> str:
        return self._output.read_text(errors="replace")

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if that is not enough."""
        if self.ended:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(10)

    def becomes_ready(self, url: str) -> bool:
        """Whether ``url`` answers 200 before the program ends or patience does."""
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline and not self.ended:
            if answers(url):
                return True
            time.sleep(0.05)
        return False


def answers(url: str) -> bool:
    """Whether ``url`` says 200 within two seconds."""
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:
            return reply.status == 200
    except (urllib.error.URLError, OSError):
        return False


class Programs:
    """All programs of one test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._programs: list[Program] = []

    def start(
        self, name: str, ports: int, argv: Callable[[list[int]], list[str]], ready: Callable[[list[int]], str]
    ) -> tuple[Program, list[int]]:
        """The program and the ports it got; ``argv`` and ``ready`` (a URL) are made from them."""
        said = ""
        for _ in range(_TRIES):
            numbers = free_ports(ports)
            program = Program(argv(numbers), self.folder / f"{name}-{len(self._programs)}.log", self.folder)
            self._programs.append(program)
            if program.becomes_ready(ready(numbers)):
                return program, numbers
            program.stop()
            said = program.output()
            if "address already in use" not in said:
                break
        pytest.fail(f"{name} did not become ready:\n{said[-3000:]}")

    def stop(self) -> None:
        for program in reversed(self._programs):
            program.stop()


@pytest.fixture
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Programs]:
    programs = Programs(tmp_path_factory.mktemp("processes"))
    yield programs
    programs.stop()
