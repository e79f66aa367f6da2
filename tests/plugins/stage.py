"""An action on the simulated cluster, with the real doors and a real journal, on a fast clock and in this process.

``await stage.step("cilium.restart_agent", node="node-3")`` makes a run with that one step and carries the step to its end.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PLAYBOOK = """\
apiVersion: remediator.dev/v1
kind: Playbook
metadata: {{name: one-step}}
gates: {{cooldown: 1s}}
ladder:
- name: the step
  steps:
  - it: {{action: {action}, timeout: {timeout}{parameters}}}
verify:
  kube: {{kind: Node, fields: 'metadata.name=${{target.name}}'}}
  holds: size(objects) == 1
  within: 1m
  hold: 0s
"""


COOLDOWN = timedelta(seconds=1)
"""That of the playbook."""


class Stage:
    """One simulated cluster and what it takes to run a step on it."""

    def __init__(self, simulation: Any, world: Any) -> None:
        self.simulation = simulation
        self.cluster = simulation.cluster
        self.world = world
        self.lasting = "3m"
        """What a step may take where a test does not say; more for steps that wait for minutes, since a busy machine adds to them."""

    def playbook(self, action: str, *, lasting: str = "", files: dict[str, str] | None = None, **parameters: Any) -> Any:
        """``files``: those beside the playbook, by name."""
        from remediator.playbook.attached import bundled

        more = "".join(f", {name}: {value!r}" for name, value in parameters.items())
        text = PLAYBOOK.format(action=action, timeout=lasting or self.lasting, parameters=more)
        return self.world.load_revision(bundled(text, files or {}))

    async def begin(self, playbook: Any, *, node: str, dry_run: bool = False) -> Any:
        """A run as a decision would leave it: in the journal, nothing done yet."""
        from remediator.match import find
        from remediator.model import Run, RunState, Trigger, TriggerKind, new_id
        from remediator.run import planned_steps

        now = self.world.clock.now()
        run = Run(
            id=new_id(now),
            playbook=playbook.name,
            revision=playbook.revision,
            trigger=Trigger(kind=TriggerKind.MANUAL, by="test", reason="to see"),
            dry_run=dry_run,
            target=await find("Node", node, "", self.world.kube),
            state=RunState.RUNNING,
            started_at=now,
            deadline=now + timedelta(hours=1),
            disruptive=playbook.disruptive,
            steps=planned_steps(playbook),
        )
        await self.world.journal.keep_revision(playbook.revision, playbook.name, playbook.text)
        await self.world.journal.decide(None, [], runs=[run])
        return run

    async def carry(self, playbook: Any, run: Any) -> Any:
        """Enter the run's one step, also again; what it ended as, and the run as the journal has it."""
        from remediator.run import run_step

        stored = await self.world.journal.run(run.id)
        ending = await run_step(self.world, playbook, stored, stored.steps[0], playbook.ladder[0].steps[0])
        return SimpleNamespace(end=ending.end, reason=ending.reason, detail=ending.detail, run=await self.world.journal.run(run.id))

    async def step(self, action: str, *, node: str = "node-3", dry_run: bool = False, lasting: str = "", **parameters: Any) -> Any:
        playbook = self.playbook(action, lasting=lasting, **parameters)
        return await self.carry(playbook, await self.begin(playbook, node=node, dry_run=dry_run))

    async def over(self, run: Any) -> None:
        """The run is at its end and its cooldown over, so it does not stand in the way of the next one."""
        from remediator.model import RunState, evolve

        ended = self.world.clock.now()
        await self.world.journal.save_run(evolve(run, state=RunState.CANCELLED, ended_at=ended))
        await self.until(lambda: self.world.clock.now() > ended + COOLDOWN)

    def wide(self) -> None:
        """Let the gates that count over the whole cluster pass, for a test of what the action itself sees there."""
        from remediator.gates import Limits
        from remediator.settings import Share

        self.world.limits = Limits(max_disturbed=Share(percent=100))

    def writes(self) -> list[tuple[str, str]]:
        """What reached the API and was meant to change something: verb and path. Events are only notes about it."""
        return [(w.verb, w.path) for w in self.cluster.writes() if w.resource.partition(".")[0] != "events"]

    def agents(self) -> dict[str, str]:
        return {name: self.cluster.agent_pod(name)["metadata"]["uid"] for name in self.cluster.node_names()}

    async def until(self, look: Any, *, minutes: float = 10) -> Any:
        """The first truthy result of ``look`` on the simulated clock."""
        deadline = self.world.clock.now() + timedelta(minutes=minutes)
        while not (found := look()):
            assert self.world.clock.now() < deadline, "it never came about"
            await self.world.clock.sleep(timedelta(seconds=1))
        return found


@pytest.fixture
def rate() -> float:
    """How much faster than real time the stage's clock goes. A module whose actions have to be in time overrides it."""
    return 60


@pytest.fixture
async def stage(tmp_path: Path, rate: float) -> AsyncIterator[Stage]:
    from remediator.actions import Cilium, actions
    from remediator.clock import FastClock
    from remediator.gates import Limits, gates
    from remediator.journal import Journal, Redactor
    from remediator.kube import Kube
    from remediator.model import Mode
    from remediator.monitoring import Alertmanager, Prometheus
    from remediator.playbook import Library, load_playbook
    from remediator.sim import Simulation
    from remediator.testing.prober import SimulatedProber
    from remediator.world import World

    clock = FastClock(rate)
    simulation = Simulation(nodes=5, clock=clock)
    await simulation.start()
    journal = await Journal.open(f"sqlite:///{tmp_path}/stage.db", clock=clock)
    kube = await Kube.connect(server=simulation.url)
    prometheus = Prometheus(simulation.prometheus_url, timeout=timedelta(seconds=10), max_age=timedelta(minutes=5), clock=clock)
    alertmanager = Alertmanager(simulation.alertmanager_url, timeout=timedelta(seconds=10))
    world = World(
        clock=clock,
        journal=journal,
        kube=kube,
        prometheus=prometheus,
        alertmanager=alertmanager,
        redact=Redactor(),
        cilium=Cilium(),
        limits=Limits(),
        dry_run=False,
        mode_of=lambda _: Mode.AUTO,
        library=Library(),
        probe=SimulatedProber(simulation),
        load_revision=partial(load_playbook, actions=actions(), gates=gates()),
    )
    yield Stage(simulation, world)
    await alertmanager.close()
    await prometheus.close()
    await kube.close()
    await journal.close()
    await simulation.stop()
