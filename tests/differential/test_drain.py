"""The real ``kubectl drain`` and ``node.drain`` on a real control plane, the same pods gone, the same left, the same refused

Each state is made of its seed alone; the variable DRAIN_SEEDS="17 18" plays those only. All are one test, so that of several workers one
plays them. What may differ stands in ``differences.py``. Beside them, the real kubectl
drains the simulated cluster: there nothing may differ.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from differential.cluster import Cluster, connected
from differential.compare import Case, compare, explain
from differential.differences import DIFFERENCES
from differential.generate import SEEDS
from differential.oracle import Kubectl
from differential.ours import Ours
from differential.play import Played, play

from remediator.clock import SystemClock
from remediator.sim import Simulation, Timing

if TYPE_CHECKING:
    from collections.abc import Iterable

pytestmark = [pytest.mark.controlplane, pytest.mark.long, pytest.mark.timeout(600)]


async def _play(plane: Any, seeds: Iterable[int]) -> dict[int, Played]:
    kubectl = str(plane.assets / "kubectl")
    timing = Timing(pod_start=timedelta(milliseconds=200), pod_stop=timedelta(milliseconds=200))  # as kwok
    with tempfile.TemporaryDirectory() as folder:
        async with (
            Simulation(clock=SystemClock(), timing=timing, cilium=False) as simulation,
            connected(Cluster.of(plane)) as real,
            connected(Cluster(simulation.url)) as simulated,
            Ours.working(real, kubeconfig=plane.remediator, folder=Path(folder)) as ours,
        ):
            elsewhere = [f"--server={simulation.url}", "--kubeconfig=/dev/null", f"--cache-dir={folder}/cache"]
            drainers = {
                "kubectl": Kubectl(kubectl, [f"--kubeconfig={plane.kubeconfig}"], real),
                "ours": ours,
                "simulated": Kubectl(kubectl, elsewhere, simulated),
            }
            return await play(seeds, drainers)


def test_every_state(control_plane, subtests):
    wanted = [int(word) for word in os.environ.get("DRAIN_SEEDS", "").split()] or SEEDS
    played = asyncio.run(_play(control_plane, wanted))
    for seed, this in played.items():
        with subtests.test("remediator drains as kubectl does", seed=seed):
            case = Case(this.state, this.by("kubectl"), this.by("ours"))
            unexplained = [str(finding) for finding, listed in explain(case, DIFFERENCES) if listed is None]
            assert not unexplained, "\n".join([*unexplained, str(case), case.kubectl.said, case.ours.said])
        with subtests.test("the simulated cluster is drained as the real one", seed=seed):
            real, simulated = this.by("kubectl"), this.by("simulated")
            found = [str(one).replace("ours", "simulated").replace("kubectl", "real") for one in compare(Case(this.state, real, simulated))]
            assert not found, "\n".join([*found, str(this.state), str(real), str(simulated), real.said, simulated.said])
    if wanted is not SEEDS:
        return  # what follows is about all of them
    cases = [Case(this.state, this.by("kubectl"), this.by("ours")) for this in played.values()]
    with subtests.test("every listed difference occurs"):
        seen = {listed.name for case in cases for _, listed in explain(case, DIFFERENCES) if listed is not None}
        assert seen == {difference.name for difference in DIFFERENCES}
    with subtests.test("most states are the same without any difference"):
        assert len([case for case in cases if not compare(case)]) >= len(SEEDS) // 2
