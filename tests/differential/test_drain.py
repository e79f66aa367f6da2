"""The real ``kubectl drain`` and ``node.drain`` on a real control plane, the same pods gone, the same left, the same refused

Each state is made of its seed alone; ``-k "[17]"`` plays one. What may differ stands in ``differences.py``. Beside them, the real kubectl
drains the simulated cluster: there nothing may differ.
"""

from __future__ import annotations

import asyncio
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


@pytest.fixture(scope="module")
def played(control_plane, request):
    """Every state whose tests are to run, played once."""
    wanted = {item.callspec.params["seed"] for item in request.session.items if item.path == request.path and hasattr(item, "callspec")}
    return asyncio.run(_play(control_plane, sorted(wanted) or SEEDS))


@pytest.mark.parametrize("seed", SEEDS)
def test_remediator_drains_as_kubectl_does(played, seed):
    this = played[seed]
    case = Case(this.state, this.by("kubectl"), this.by("ours"))
    unexplained = [str(finding) for finding, listed in explain(case, DIFFERENCES) if listed is None]
    assert not unexplained, "\n".join([*unexplained, str(case), case.kubectl.said, case.ours.said])


@pytest.mark.parametrize("seed", SEEDS)
def test_the_simulated_cluster_is_drained_as_the_real_one(played, seed):
    this = played[seed]
    real, simulated = this.by("kubectl"), this.by("simulated")
    found = [str(finding).replace("ours", "simulated").replace("kubectl", "real") for finding in compare(Case(this.state, real, simulated))]
    assert not found, "\n".join([*found, str(this.state), str(real), str(simulated), real.said, simulated.said])


def test_every_listed_difference_occurs(played):
    if set(played) != set(SEEDS):
        pytest.skip("only some states were played")
    cases = [Case(p.state, p.by("kubectl"), p.by("ours")) for p in played.values()]
    seen = {listed.name for case in cases for _, listed in explain(case, DIFFERENCES) if listed is not None}
    assert seen == {difference.name for difference in DIFFERENCES}


def test_most_states_are_the_same_without_any_difference(played):
    if set(played) != set(SEEDS):
        pytest.skip("only some states were played")
    same = [p for p in played.values() if not compare(Case(p.state, p.by("kubectl"), p.by("ours")))]
    assert len(same) >= len(SEEDS) // 2
