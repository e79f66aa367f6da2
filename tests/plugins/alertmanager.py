"""PYTEST_DONT_REWRITE. The real Alertmanager (Debian's prometheus-alertmanager), alone or as cluster peers, posting to a webhook.

``alertmanager(webhook, token=...)`` starts one; ``alertmanager(webhook, cluster=True)`` and then ``alertmanager(webhook, peers=[first])``
start two that gossip. Tests that use it carry the marker ``alertmanager`` and are skipped where the program is absent.
"""

from __future__ import annotations

import json
import shutil
import time
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

HOST = "127.0.0.1"


@dataclass
class RunningAlertmanager:
    """One Alertmanager that answers."""

    url: str
    cluster: str
    """``host:port`` for its peers, empty if it stands alone."""
    config: Path
    program: Any
    began: datetime | None = None
    """The start of what was posted last; the same episode is resolved by it."""

    def post(self, *labels: dict[str, str], annotations: dict[str, str] | None = None, starts_at: datetime | None = None) -> None:
        """As Prometheus does for firing alerts; they fire for an hour unless told otherwise.

        The start is always named: Alertmanager takes endsAt for a start that is missing.
        """
        self.began = starts_at or datetime.now(UTC)
        self._alerts(labels, annotations, self.began, datetime.now(UTC) + timedelta(hours=1))

    def resolve(self, *labels: dict[str, str], starts_at: datetime | None = None) -> None:
        """As Prometheus does when alerts stop to fire."""
        self._alerts(labels, None, starts_at or self.began, datetime.now(UTC))

    def silence(self, **matchers: str) -> str:
        """Mute what has these labels; returns the id of the silence."""
        now = datetime.now(UTC)
        wanted = [{"name": name, "value": value, "isRegex": False, "isEqual": True} for name, value in matchers.items()]
        times = {"startsAt": now.isoformat(), "endsAt": (now + timedelta(hours=1)).isoformat()}
        return self._call("/api/v2/silences", {"matchers": wanted, **times, "createdBy": "test", "comment": "test"})["silenceID"]

    def alerts(self) -> list[dict[str, Any]]:
        """Everything that it holds as firing."""
        return self._call("/api/v2/alerts")

    def peers(self) -> int:
        """How many members its cluster has, itself included."""
        return len(self._call("/api/v2/status")["cluster"].get("peers") or [])

    def wait_for_peers(self, count: int, *, seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while self.peers() < count:
            assert time.monotonic() < deadline, f"{self.peers()} of {count} peers after {seconds:g} s\n{self.program.output()[-2000:]}"
            time.sleep(0.05)

    def stop(self) -> None:
        self.program.stop()

    def _alerts(self, labels: Sequence[dict[str, str]], annotations: Any, starts_at: datetime | None, ends_at: datetime) -> None:
        common: dict[str, Any] = {
            "endsAt": ends_at.isoformat(),
            "annotations": annotations or {},
            "generatorURL": "http://prometheus.test/graph",
        }
        if starts_at is not None:
            common["startsAt"] = starts_at.isoformat()
        self._call("/api/v2/alerts", [{"labels": one, **common} for one in labels])

    def _call(self, path: str, body: Any = None) -> Any:
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as reply:
            text = reply.read()
        return json.loads(text) if text else None


def _config(webhook: str, token_file: Path | None, settings: dict[str, Any]) -> dict[str, Any]:
    http: dict[str, Any] = {}
    if token_file is not None:
        http["http_config"] = {"authorization": {"type": "Bearer", "credentials_file": str(token_file)}}
    hook = {"url": webhook, "send_resolved": settings.pop("send_resolved"), "max_alerts": settings.pop("max_alerts"), **http}
    inhibit = settings.pop("inhibit_rules")
    return {
        "route": {"receiver": "remediator", **settings},
        "receivers": [{"name": "remediator", "webhook_configs": [hook]}],
        "inhibit_rules": inhibit,
    }


@pytest.fixture
def alertmanager(processes: Any) -> Callable[..., RunningAlertmanager]:
    binary = shutil.which("prometheus-alertmanager")
    if binary is None:
        pytest.skip("prometheus-alertmanager is not installed (Debian package prometheus-alertmanager)")
    count = 0

    def start(
        webhook: str = "http://127.0.0.1:9/",
        *,
        token: str | None = None,
        cluster: bool = False,
        peers: Sequence[RunningAlertmanager] = (),
        peer_timeout: str = "1s",
        group_by: Sequence[str] = ("alertname",),
        group_wait: str = "200ms",
        group_interval: str = "1s",
        repeat_interval: str = "1h",
        send_resolved: bool = True,
        max_alerts: int = 0,
        inhibit_rules: Sequence[dict[str, Any]] = (),
        written: str = "",
    ) -> RunningAlertmanager:
        """``written``: the text of a whole configuration instead of what the other arguments make, with WEBHOOK and TOKEN_FILE in it."""
        nonlocal count
        count += 1
        folder = processes.folder / f"alertmanager-{count}"
        folder.mkdir()
        token_file = folder / "token" if token is not None else None
        if token_file is not None:
            token_file.write_text(token or "")
        settings = {
            "group_by": list(group_by),
            "group_wait": group_wait,
            "group_interval": group_interval,
            "repeat_interval": repeat_interval,
            "send_resolved": send_resolved,
            "max_alerts": max_alerts,
            "inhibit_rules": list(inhibit_rules),
        }
        config = folder / "alertmanager.yml"
        made = json.dumps(_config(webhook, token_file, settings))  # JSON is YAML
        config.write_text(written.replace("WEBHOOK", webhook).replace("TOKEN_FILE", str(token_file)) or made)
        together = cluster or bool(peers)

        def argv(ports: list[int]) -> list[str]:
            gossip = [
                f"--cluster.listen-address={HOST}:{ports[1]}",
                f"--cluster.advertise-address={HOST}:{ports[1]}",
                *(f"--cluster.peer={peer.cluster}" for peer in peers),
                f"--cluster.peer-timeout={peer_timeout}",
                "--cluster.settle-timeout=2s",
                "--cluster.gossip-interval=50ms",
                "--cluster.pushpull-interval=1s",
                "--cluster.reconnect-interval=1s",
            ]
            return [
                binary,
                f"--config.file={config}",
                f"--storage.path={folder / 'data'}",
                f"--web.listen-address={HOST}:{ports[0]}",
                *(gossip if together else ["--cluster.listen-address="]),
            ]

        program, ports = processes.start("alertmanager", 2, argv, lambda ports: f"http://{HOST}:{ports[0]}/-/ready")
        return RunningAlertmanager(f"http://{HOST}:{ports[0]}", f"{HOST}:{ports[1]}" if together else "", config, program)

    return start
