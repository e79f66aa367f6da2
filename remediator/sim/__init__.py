"""The simulated cluster: a Kubernetes API, a Prometheus and an Alertmanager on one port, with things that go wrong on request.

It talks to the product only as the world does, over HTTP; the product never knows that it is simulated.
"""

from __future__ import annotations

from remediator.sim.cluster import Cluster, Timing
from remediator.sim.scenarios import Scenario, Truth, all_scenarios, scenario
from remediator.sim.simulation import Simulation

__all__ = ["Cluster", "Scenario", "Simulation", "Timing", "Truth", "all_scenarios", "scenario"]
