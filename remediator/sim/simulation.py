"""The whole simulation: cluster, Prometheus, Alertmanager and the HTTP server in front of them.

In come the number of nodes, a clock and a seed; out come three URLs. Everything is timed by that clock; ``settle`` and ``run_for`` let a
test drive a ManualClock.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from aiohttp import web

from remediator.clock import ManualClock
from remediator.errors import UsageError
from remediator.sim.alerting import Alertmanager, Receiver, RuleEngine
from remediator.sim.alerting.server import AlertmanagerApi
from remediator.sim.cluster import Cluster, Timing
from remediator.sim.control import Control
from remediator.sim.door import Door
from remediator.sim.prometheus.server import Prometheus

if TYPE_CHECKING:
    from datetime import timedelta

    from remediator.clock import Clock
    from remediator.sim.scenarios import Scenario

__all__ = ["Simulation"]

_TURNS = 50


class Simulation:
    """One simulated cluster with its monitoring, served over HTTP."""

    def __init__(
        self,
        *,
        nodes: int = 5,
        clock: Clock,
        seed: int = 0,
        timing: Timing | None = None,
        token: str | None = None,
        cilium: bool = True,
        history: int = 2000,
        pods: int = 0,
    ) -> None:
        self.clock = clock
        self.cluster = Cluster(clock, nodes, seed, timing or Timing(), history, cilium, pods)
        self.prometheus = Prometheus(self.cluster)
        self.alertmanager = Alertmanager(clock, self.cluster.loop.after)
        self.rules = RuleEngine(self.cluster, self.prometheus, self.alertmanager)
        self.url = self.prometheus_url = self.alertmanager_url = ""
        self._token = token
        self._runner: web.AppRunner | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Fill the cluster, let it run, and serve. Port 0 takes a free one."""
        self.cluster.start()
        self.prometheus.start()
        app = web.Application(client_max_size=64 * 1024**2)
        Control(self).add_routes(app)
        door = Door(self.cluster, self.prometheus, AlertmanagerApi(self.alertmanager), self._token)
        app.router.add_route("*", "/{path:.*}", door.handle)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        self.url = f"http://{host}:{self._runner.addresses[0][1]}"
        self.prometheus_url, self.alertmanager_url = f"{self.url}/prometheus", f"{self.url}/alertmanager"

    async def stop(self) -> None:
        """Stop serving and moving; may be called again."""
        await self.cluster.stop()
        await self.alertmanager.stop()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def add_receiver(self, receiver: Receiver) -> None:
        """Let the Alertmanager post to one more webhook."""
        self.alertmanager.add_receiver(receiver)

    async def play(self, scenario: Scenario) -> None:
        """Let something go wrong."""
        self.rules.rules += [rule for rule in scenario.rules if rule not in self.rules.rules]
        await scenario.play(self)

    async def settle(self) -> None:
        """Let everything happen that is due now."""
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        self.cluster.loop.drain()
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    async def run_for(self, duration: timedelta) -> None:
        """Move a ManualClock on, stopping wherever something is due. Raises UsageError for another clock."""
        clock = self.clock
        if not isinstance(clock, ManualClock):
            raise UsageError("only a ManualClock can be moved")
        end = clock.now() + duration
        await self.settle()
        while (due := clock.next_deadline()) is not None and due <= end:
            clock.advance(due - clock.now())
            await self.settle()
        clock.advance(end - clock.now())
        await self.settle()
