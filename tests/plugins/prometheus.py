"""PYTEST_DONT_REWRITE. The real Prometheus (Debian's), scraping a small exporter that the test controls.

``exporter.set("up_to", {"node": "node-3"}, 7)`` and then ``prometheus_server(exporter)``; a scrape follows every second.
Tests that use it carry the marker ``prometheus`` and are skipped where the program is absent.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
import urllib.parse
import urllib.request
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

HOST = "127.0.0.1"


class Exporter:
    """Serves ``/metrics`` in a thread of its own, so that a test may block and is scraped all the same."""

    def __init__(self) -> None:
        self.failing = False
        """True: every scrape answers 503, as a dead agent's would fail."""
        self.scrapes = 0
        self._values: dict[tuple[str, tuple[tuple[str, str], ...]], str] = {}
        self._lock = threading.Lock()
        exporter = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                exporter.scrapes += 1
                body = b"" if exporter.failing else exporter.text().encode()
                self.send_response(503 if exporter.failing else 200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """``host:port``, as a scrape config names it."""
        return f"{HOST}:{self._server.server_address[1]}"

    def set(self, name: str, labels: dict[str, str] | None = None, value: float = 1.0, *, at: datetime | None = None) -> None:
        """Export ``name{labels} value`` from now on; with ``at`` as a sample of that moment, which then gets older and older."""
        stamp = f" {round(at.timestamp() * 1000)}" if at is not None else ""
        with self._lock:
            self._values[name, tuple(sorted((labels or {}).items()))] = f"{value}{stamp}"

    def remove(self, name: str, labels: dict[str, str] | None = None) -> None:
        """No longer export that series; Prometheus marks it stale at the next scrape."""
        with self._lock:
            self._values.pop((name, tuple(sorted((labels or {}).items()))), None)

    def text(self) -> str:
        with self._lock:
            values = dict(self._values)
        lines = []
        for (name, labels), value in values.items():
            inside = ",".join(f"{key}={json.dumps(text, ensure_ascii=False)}" for key, text in labels)
            lines.append(f"{name}{{{inside}}} {value}\n")
        return "".join(lines)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


@dataclass
class RunningPrometheus:
    """One Prometheus that answers."""

    url: str
    config: Path
    program: Any

    def query(self, promql: str) -> list[dict[str, Any]]:
        """What its API says, past the product's own door."""
        with urllib.request.urlopen(f"{self.url}/api/v1/query?" + urllib.parse.urlencode({"query": promql}), timeout=10) as reply:
            return json.loads(reply.read())["data"]["result"]

    def wait_for(self, promql: str, *, seconds: float = 20) -> list[dict[str, Any]]:
        """The first non-empty result of ``promql``."""
        deadline = time.monotonic() + seconds
        while not (found := self.query(promql)):
            assert time.monotonic() < deadline, f"no sample of {promql} after {seconds:g} s\n{self.program.output()[-2000:]}"
            time.sleep(0.05)
        return found

    def reload(self) -> None:
        """Read the config file again."""
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/-/reload", method="POST"), timeout=10).close()

    def stop(self) -> None:
        self.program.stop()


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    exporter = Exporter()
    yield exporter
    exporter.close()


@pytest.fixture
def prometheus_server(processes: Any) -> Callable[..., RunningPrometheus]:
    binary = shutil.which("prometheus")
    if binary is None:
        pytest.skip("prometheus is not installed (Debian package prometheus)")
    count = 0

    def start(
        *targets: Exporter | str,
        job: str = "test",
        interval: str = "1s",
        rules: Sequence[dict[str, Any]] = (),
        alertmanagers: Sequence[str] = (),
        flags: Sequence[str] = (),
        bearer: str = "",
    ) -> RunningPrometheus:
        """``targets``: exporters or ``host:port``; ``rules``: alerting rules as in a rule file; ``alertmanagers``: their URLs."""
        nonlocal count
        count += 1
        folder = processes.folder / f"prometheus-{count}"
        folder.mkdir()
        addresses = [target if isinstance(target, str) else target.address for target in targets]
        (folder / "rules.yml").write_text(json.dumps({"groups": [{"name": "test", "rules": list(rules)}]}))
        scrape = {"job_name": job, "honor_labels": True, "static_configs": [{"targets": addresses}]}
        if bearer:
            scrape["authorization"] = {"credentials": bearer}
        config = folder / "prometheus.yml"
        config.write_text(
            json.dumps(
                {
                    "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
                    "scrape_configs": [scrape],
                    "rule_files": [str(folder / "rules.yml")],
                    "alerting": {
                        "alertmanagers": [{"static_configs": [{"targets": [url.removeprefix("http://") for url in alertmanagers]}]}]
                    },
                }
            )
        )

        def argv(ports: list[int]) -> list[str]:
            return [
                binary,
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={HOST}:{ports[0]}",
                "--web.enable-lifecycle",
                "--log.level=warn",
                *flags,
            ]

        program, ports = processes.start("prometheus", 1, argv, lambda ports: f"http://{HOST}:{ports[0]}/-/ready")
        return RunningPrometheus(f"http://{HOST}:{ports[0]}", config, program)

    return start
