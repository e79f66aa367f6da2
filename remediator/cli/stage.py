"""Where the demo plays: a simulated cluster, a real daemon, and between them nothing but HTTP, all in this process.

Comes in: a scenario. Goes out: lines for the audience on stdout and an exit code. Files (settings, tokens, journal, log) live in a folder
that goes when the demo ends.
"""

from __future__ import annotations

import asyncio
import signal
import tempfile
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from remediator import words
from remediator.cli.exits import Exit
from remediator.cli.live import follow, outcome_code
from remediator.cli.text import safe
from remediator.errors import ServerError
from remediator.model import DecisionKind
from remediator.sim import Simulation
from remediator.sim.alerting import Receiver
from remediator.testing.house import House

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from remediator.client import Client
    from remediator.model import Decision, Delivery
    from remediator.sim import Scenario

__all__ = ["perform"]

T = TypeVar("T")
_NODES = 5
_RATE = 15
"""How much faster than real time the demo goes; an incident of five minutes takes twenty seconds."""
_HEAD_START = timedelta(minutes=5)
"""The demo's time begins so long ago that it has about caught up when the incident is over."""
_PATIENCE = 30.0
"""Real seconds for each thing that has to happen by itself."""
_LOOK = 0.05


class _Clock:
    """Runs fast until ``settle``, then like any other clock, so that what stays up behaves as on a real day."""

    def __init__(self) -> None:
        self._rate = _RATE
        self._base, self._began = datetime.now(UTC) - _HEAD_START, time.monotonic()

    def now(self) -> datetime:
        """See Clock."""
        return self._base + timedelta(seconds=(time.monotonic() - self._began) * self._rate)

    async def sleep(self, duration: timedelta) -> None:
        """See Clock. In pieces, since the rate may change meanwhile."""
        until = self.now() + duration
        await asyncio.sleep(0)
        while until > self.now():  # noqa: ASYNC110 - this is the clock; there is nothing to wait for but time
            await asyncio.sleep(min((until - self.now()).total_seconds() / self._rate, 1.0))

    def settle(self) -> None:
        """From here on, one second takes one second."""
        self._base, self._began, self._rate = self.now(), time.monotonic(), 1


async def perform(scenario: Scenario, *, once: bool) -> int:
    """Play the scenario; the exit code. SIGINT and SIGTERM end it and leave nothing behind."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    with tempfile.TemporaryDirectory(prefix="remediator-demo-") as folder:
        demo = _Demo(scenario, Path(folder))
        playing = asyncio.create_task(demo.play(once=once))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({playing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if playing.done():
            return playing.result()
        playing.cancel()
        await asyncio.wait({playing})
        return Exit.INTERRUPTED if demo.result is None else demo.result


class _Demo:
    """One performance."""

    def __init__(self, scenario: Scenario, folder: Path) -> None:
        self.result: int | None = None
        """Set when the incident is over."""
        self._scenario = scenario
        self._folder = folder
        self._clock = _Clock()

    async def play(self, *, once: bool) -> int:
        """Set the stage, let it happen, tell it, and stay up unless it is to be ``once``."""
        async with AsyncExitStack() as stack:
            simulation = await stack.enter_async_context(Simulation(nodes=_NODES, clock=self._clock, seed=1))
            self._say(f"A simulated cluster of {_NODES} nodes is up, where time runs {_RATE} times as fast.")
            house = await stack.enter_async_context(House(simulation, self._clock, self._folder))
            self._say(f"The daemon is up at {house.daemon.url}.")
            if not once:
                self._say(f"Its page is there too; sign in with {house.tokens['write']}")
            self.result = await self._incident(simulation, house)
            if not once:
                self._clock.settle()
                self._invite(simulation, house)
                await asyncio.Event().wait()
            return self.result

    async def _incident(self, simulation: Simulation, house: House) -> int:
        client = house.client
        simulation.add_receiver(Receiver(url=house.webhook, token=house.tokens["webhook"]))
        await simulation.play(self._scenario)
        self._say(self._scenario.broken)
        decision = await self._decision(client) if self._scenario.truth.alerts else None
        started = await (self._asked(client, decision) if self._scenario.asks else self._alerted(client, decision))
        if started is None:
            return Exit.PROBLEMS
        run = await follow(client, started, "table", data=True)
        code = outcome_code(run)
        if code is Exit.FINE:
            if decision is not None:
                await self._until("the alert did not resolve", lambda: _closed(client))
                self._say("Alertmanager posted that the alert is resolved; its episode is closed.")
            self._say(f"The cluster itself says: {'whole again' if self._scenario.healed(simulation) else 'STILL BROKEN'}.")
        await self._why(client, run.id)
        return code

    async def _decision(self, client: Client) -> Decision:
        """What the daemon made of the alert."""
        delivery = await self._until("no alert arrived", lambda: _newest(client))
        names = ", ".join(sorted({alert.name for alert in delivery.alerts}))
        self._say(f"Alertmanager posted {names}, and has its 200: delivery {delivery.id} is on disk.")
        return await self._until("the alert was not decided", lambda: _decided(client, delivery.id))

    async def _alerted(self, client: Client, decision: Decision | None) -> str | None:
        """The run that the alert led to, or None."""
        if decision is not None and decision.decision is DecisionKind.RUN and decision.run is not None:
            return decision.run
        if decision is not None:
            self._say(f"Nothing was started. {words.because(decision.reason, decision.detail)}")
            await self._why(client, decision.id)
        return None

    async def _asked(self, client: Client, decision: Decision | None) -> str:
        """The run that a person asks for, with or without an alert that no playbook takes."""
        truth, why = self._scenario.truth, self._scenario.asks
        if decision is not None:
            self._say(f"Decided: {words.because(decision.reason, decision.detail)} So the person on call acts.")
        self._say(f'$ remediator run {truth.playbook} --target {truth.target} --wait --reason "{why}"')
        return (await client.trigger({"playbook": truth.playbook, "target": truth.target, "reason": why, "by": "demo"})).id

    async def _until(self, otherwise: str, look: Callable[[], Awaitable[T | None]]) -> T:
        """What ``look`` finds, once it finds something. Raises ServerError."""
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            if (found := await look()) is not None:
                return found
            await asyncio.sleep(_LOOK)
        raise ServerError(f"{otherwise} within {_PATIENCE:g} seconds")

    async def _why(self, client: Client, ref: str) -> None:
        story = await client.why(ref)
        click.echo(f"\n$ remediator why {ref}\n")
        for line in story.lines:
            click.echo(safe(line))

    def _say(self, text: str) -> None:
        now = self._clock.now()
        click.echo(f"{words.moment(now, now)}  {safe(text)}")

    def _invite(self, simulation: Simulation, house: House) -> None:
        name = (self._scenario.truth.alerts or (self._scenario.truth.target,))[0]
        token = self._folder / "write.token"
        click.echo(
            _INVITATION.format(
                daemon=house.daemon, simulation=simulation, token=token, secret=house.tokens["write"], log=house.log, name=name
            )
        )


async def _newest(client: Client) -> Delivery | None:
    page = await client.deliveries(limit=1)
    return page.items[0] if page.items else None


async def _decided(client: Client, delivery: str) -> Decision | None:
    page = await client.decisions(delivery=delivery)
    return next((one for one in page.items if one.run is not None), page.items[0] if page.items else None)


async def _closed(client: Client) -> bool | None:
    return None if (await client.alerts()).items else True


_INVITATION = """
Everything stays up until ctrl-C.

The page:  {daemon.url}/
Sign in:   {secret}   (of this demo only)

In another terminal:

  export REMEDIATOR_SERVER={daemon.url}
  export REMEDIATOR_TOKEN_FILE={token}
  remediator status
  remediator runs list -o wide
  remediator why {name}
  remediator run restart-agent --target Node/node-2 --wait --reason "just to see it"
  kubectl --server {simulation.url} get pods --all-namespaces -o wide

The daemon writes its log to {log}."""
