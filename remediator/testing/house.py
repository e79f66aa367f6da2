"""The daemon in this process, on a simulated cluster, with its files in a folder, as a user would have it.

In: a running simulation, a clock, a folder. Out: an open House with the daemon's address and a client. What it logs goes to a file there.
"""

from __future__ import annotations

import json
import secrets
import sys
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from remediator.client import Client
from remediator.daemon import Daemon
from remediator.settings import load_settings
from remediator.telemetry import configure_logging
from remediator.testing.prober import SimulatedProber

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from remediator.clock import Clock
    from remediator.sim import Simulation

__all__ = ["House"]

_SETTINGS: dict[str, Any] = {
    "apiVersion": "remediator.dev/v1",
    "kind": "Settings",
    "server": {
        "listen": "127.0.0.1:0",
        "webhook_token_file": "webhook.token",
        "read_token_file": "read.token",
        "write_token_file": "write.token",
    },
    "store": {"url": "sqlite:///journal.db"},
    "mode": "auto",
    "modes": {"*": "auto"},  # shipped playbooks only suggest, until somebody trusts them
}
_PATIENCE = timedelta(seconds=10)
"""Real time, in which nothing happens on a clock that leaps: a rehearsal is slower on a busy machine and does not end otherwise."""


class House:
    """Use it as an async context manager; leaving it stops the daemon."""

    def __init__(self, simulation: Simulation, clock: Clock, folder: Path, settings: Mapping[str, Any] | None = None) -> None:
        """``settings``: sections of the settings file that differ from the usual ones."""
        self.folder = folder
        self.tokens = {scope: secrets.token_urlsafe(24) for scope in ("webhook", "read", "write")}
        self.log = folder / "daemon.log"
        self.daemon: Daemon
        self.client: Client
        self._simulation = simulation
        self._clock = clock
        self._settings = {"modes": {"*": "auto"}, **(settings or {})}
        self._stack = AsyncExitStack()

    @property
    def webhook(self) -> str:
        """Where Alertmanager posts."""
        return f"{self.daemon.url}/api/v1/alerts"

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            log = stack.enter_context(self.log.open("w", encoding="utf-8"))
            stack.callback(configure_logging, stream=sys.stderr)
            configure_logging(json=False, stream=log)
            probe = SimulatedProber(self._simulation)
            self.daemon = await Daemon.build(load_settings(self._files(), env={}), clock=self._clock, probe=probe)
            self.daemon.world.patience = _PATIENCE
            stack.push_async_callback(self.daemon.stop)
            await self.daemon.start()
            self.client = await stack.enter_async_context(Client(self.daemon.url, token=self.tokens.get))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def _files(self) -> Path:
        """Write tokens and settings; the path of the settings."""
        for scope, token in self.tokens.items():
            path = self.folder / f"{scope}.token"
            path.touch(mode=0o600)
            path.write_text(token + "\n", encoding="utf-8")
        settings = self.folder / "settings.yaml"
        sections = {
            **_SETTINGS,
            "kubernetes": {"server": self._simulation.url},
            "prometheus": {"url": self._simulation.prometheus_url},
            "alertmanager": {"url": self._simulation.alertmanager_url},
            **self._settings,
        }
        settings.write_text(json.dumps(sections), encoding="utf-8")  # JSON is YAML
        return settings
