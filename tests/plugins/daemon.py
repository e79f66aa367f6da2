"""The daemon as users run it: ``remediator serve`` as a process of its own, with settings and tokens in files.

``daemon(kubernetes=..., ...)`` writes the files, starts it and waits until it is ready. It can be killed and started again on its files.
"""

from __future__ import annotations

import json
import socket
import sys
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from standins import prepared
from standins.forks import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from standins.forks import Done

TOKENS = {"webhook": "webhook-token-of-the-test", "read": "read-token-of-the-test", "write": "write-token-of-the-test"}


class RunningDaemon:
    """One daemon on its own folder."""

    def __init__(self, processes: Any, folder: Path, flags: list[str], port: int) -> None:
        self.folder = folder
        self.port = port
        self._processes = processes
        self._flags = flags
        self.program: Any = None
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def token_file(self) -> Path:
        return self.folder / "write"

    def start(self) -> None:
        """On the same port as before, since Alertmanager knows it."""
        known = self.port

        def argv(ports: list[int]) -> list[str]:
            self.port = known or ports[0]
            listen = f"127.0.0.1:{self.port}"
            settings = str(self.folder / "settings.yaml")
            return [sys.executable, "-m", "remediator", "serve", "--config", settings, "--listen", listen, *self._flags]

        self.program, _ = self._processes.start("daemon", 1, argv, lambda _: f"{self.url}/-/ready")

    def call(self, method: str, path: str, body: Any = None, *, token: str = "write") -> Any:
        """JSON in, JSON out; an HTTP error is raised as urllib's HTTPError."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
        headers = {"Authorization": f"Bearer {TOKENS[token]}", "Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=20) as reply:
            text = reply.read()
        return json.loads(text) if text else None

    def metrics(self) -> str:
        """What it tells Prometheus."""
        request = urllib.request.Request(f"{self.url}/metrics", headers={"Authorization": f"Bearer {TOKENS['read']}"})
        with urllib.request.urlopen(request, timeout=20) as reply:
            return str(reply.read().decode())

    def get(self, path: str) -> Any:
        return self.call("GET", path)

    def send(self, payload: Any) -> Any:
        """A webhook call."""
        return self.call("POST", "/api/v1/alerts", payload, token="webhook")

    def why(self, ref: str) -> str:
        return "\n".join(self.get(f"/api/v1/why?ref={ref}")["lines"])

    def cli(self, *args: str) -> Done:
        return run("remediator.cli:main", "--server", self.url, "--token-file", str(self.token_file), *args)

    def wait_for(self, what: str, look: Callable[[], Any], *, seconds: float = 60) -> Any:
        """The first truthy result of ``look``."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                found = look()
            except (urllib.error.URLError, ConnectionError):
                found = None
            if found:
                return found
            assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s\n{self.program.output()[-4000:]}"
            time.sleep(0.1)

    def run_that_ended(self, *, seconds: float = 120, **filters: str) -> dict[str, Any]:
        """The one run there is, once it ended."""
        query = "&".join(f"{name}={value}" for name, value in filters.items())

        def look() -> Any:
            runs = self.get(f"/api/v1/runs?{query}")["items"]
            return runs[0] if runs and runs[0]["ended_at"] else None

        return self.wait_for("a run that ended", look, seconds=seconds)

    def decisions(self, count: int = 1, *, seconds: float = 30, **filters: str) -> list[dict[str, Any]]:
        """The decisions that fit, once there are ``count``."""
        query = "&".join(f"{name}={value}" for name, value in filters.items())

        def look() -> Any:
            found = self.get(f"/api/v1/decisions?limit=500&{query}")["items"]
            return found if len(found) >= count else None

        return self.wait_for(f"{count} decisions", look, seconds=seconds)

    def kill(self) -> None:
        self.program.kill()

    def stop(self) -> None:
        self.program.stop()


def _quoted(value: Any) -> str:
    return json.dumps(value)  # JSON is YAML


@pytest.fixture
def free_port() -> int:
    """A port that nobody listened on a moment ago, for whoever has to be named before the daemon starts."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture
def daemon(processes: Any) -> Callable[..., RunningDaemon]:
    count = 0

    def start(
        *, playbooks: Iterable[str] = (), paths: Iterable[str] = (), flags: Iterable[str] = (), port: int = 0, **settings: Any
    ) -> RunningDaemon:
        """``playbooks``: texts of files; else ``paths`` names what there is; else the shipped ones. ``settings``: sections of the file."""
        nonlocal count
        count += 1
        folder = processes.folder / f"daemon-{count}"
        folder.mkdir()
        prepared.engine_beside(folder / "remediator.db")
        for name, token in TOKENS.items():
            (folder / name).write_text(token)
        texts = list(playbooks)
        if texts:
            (folder / "playbooks").mkdir()
            for index, text in enumerate(texts):
                (folder / "playbooks" / f"{index}.yaml").write_text(text)
            settings["playbooks"] = ["playbooks"]
        elif named := list(paths):
            settings["playbooks"] = named
        server = {f"{name}_token_file": name for name in TOKENS}
        document = {
            "apiVersion": "remediator.dev/v1",
            "kind": "Settings",
            "server": {"listen": "127.0.0.1:0", **server},
            "store": {"url": "sqlite:///remediator.db"},
            **settings,
        }
        (folder / "settings.yaml").write_text("".join(f"{key}: {_quoted(value)}\n" for key, value in document.items()))
        return RunningDaemon(processes, folder, list(flags), port)

    return start
