"""Fixtures of the recovery tests; what they give is in rig.py, between.py and life.py."""

from __future__ import annotations

import contextlib
import signal

import aiohttp
import pytest
from recovery.between import Between
from recovery.rig import RATE, Cluster, Rig
from standins.forks import fork

PLAYBOOK = """
apiVersion: remediator.dev/v1
kind: Playbook
metadata: {{name: {name}, summary: A playbook of the recovery tests}}
when:
  alerts: [alertname="{alert}"]
  target: {{kind: Node}}
mode: auto
gates:
  attempts: {{max: 100, per: target, within: 1m}}
  recurrence: {{stop_at: 100, within: 1s}}
on_failure: undo
on_resolved: undo
ladder:
- name: only
  steps: [{steps}]
verify:
  kube:
    kind: Pod
    namespace: ${{cilium.namespace}}
    labels: ${{cilium.agent_selector}},k8s-app
    fields: spec.nodeName=${{target.name}}
  holds: >-
    size(objects) == 1
    && has(objects[0].status.conditions)
    && objects[0].status.conditions.exists(c, c.type == "Ready" && c.status == "True")
  within: {patience}
  hold: {hold}
  every: {every}
"""


@pytest.fixture(scope="session")
def playbook_texts():
    """Two playbooks: ``AgentHung`` restarts the agent; ``AgentHungBadly`` cordons the node first. With times to wait for."""

    def make(*, patience: str, hold: str, every: str, ready_for: str) -> tuple[str, str]:
        cordon = f"cordon: {{action: node.cordon, timeout: {patience}}}"
        restart = f"restart: {{action: cilium.restart_agent, timeout: {patience}, ready_for: {ready_for}}}"
        times = {"patience": patience, "hold": hold, "every": every}
        return (
            PLAYBOOK.format(name="restart", alert="AgentHung", steps=f"{{{restart}}}", **times),
            PLAYBOOK.format(name="cordon-and-restart", alert="AgentHungBadly", steps=f"{{{cordon}}}, {{{restart}}}", **times),
        )

    return make


@pytest.fixture
async def make_rig(playbook_texts, tmp_path):
    """Builds a rig whose cluster runs and whose daemon is not started yet."""
    async with contextlib.AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)))

        async def make(name: str = "rig", *, ready_for: str = "0s", **settings) -> Rig:
            folder = tmp_path / name
            folder.mkdir()
            simulation = ["--port", "0", "--rate", str(RATE), "--nodes", "5"]
            child = fork("remediator.sim.__main__:main", *simulation, output=folder / "cluster.log")
            stack.push_async_callback(child.kill)
            cluster = Cluster(child, session)
            await cluster.up()
            between = await stack.enter_async_context(Between(cluster.url))
            rig = Rig(folder, cluster, between, session)
            stack.push_async_callback(_end, rig)
            rig.configure(*playbook_texts(patience="90s", hold="300ms", every="100ms", ready_for=ready_for), **settings)
            return rig

        yield make


async def _end(rig: Rig) -> None:
    if rig.daemon is not None:
        rig.daemon.send_signal(signal.SIGKILL)


@pytest.fixture
async def rig(make_rig) -> Rig:
    """A rig whose daemon is ready."""
    rig = await make_rig()
    await rig.up()
    return rig
