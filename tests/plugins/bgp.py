"""A cluster that announces services by BGP, with real sessions: see ``standins``.

``bgp_network`` is one of them, as after its start for each test. Which CRDs it has, the test says: ``@with_crds("1.17.0", "1.20.2")``.
With those of 1.17 (v2alpha1) Cilium's own operator decides who speaks, with later ones (v2) a stand-in does. Tests that use it carry the
markers ``controlplane`` and ``gobgp``; they are skipped where gobgpd, the right to make network namespaces, or the control plane is absent.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest
from plugins.controlplane import running
from standins.cilium_operator import CiliumOperator
from standins.fabric import Fabric, missing, sweep
from standins.network import Network

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


REAL = "1.17.0"
"""The CRDs that Cilium's own operator of the control plane knows."""


def with_crds(*versions: str) -> pytest.MarkDecorator:
    """Run a test once with the CRDs of each of these releases of Cilium; :data:`REAL` first, so that tests share what runs."""
    return pytest.mark.parametrize("bgp_cluster", versions, indirect=True)


@contextmanager
def running_network(home: Path, crds: str) -> Iterator[Network]:
    """All of it, taken away again however far it came."""
    if reason := missing():
        pytest.skip(f"no BGP fabric: {reason}")
    sweep()
    real = crds == REAL
    with ExitStack() as stack:
        plane = stack.enter_context(running(home, crds=f"cilium-{crds}", flags=["--cilium-operator"] if real else []))
        folder = home / "fabric"
        folder.mkdir()
        fabric = Fabric(folder)
        stack.callback(fabric.close)
        network = Network(plane, fabric, "v2alpha1" if real else "v2", None if real else CiliumOperator(plane.of("cilium")))
        stack.callback(network.close)
        network.open()
        yield network


@pytest.fixture(scope="module")
def bgp_cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with running_network(tmp_path_factory.mktemp("bgp"), request.param) as network:
        yield network


@pytest.fixture
def bgp_network(bgp_cluster: Network) -> Iterator[Network]:
    yield bgp_cluster
    bgp_cluster.reset()
    assert not bgp_cluster.failures, bgp_cluster.failures
