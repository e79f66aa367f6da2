"""The controllers, kubelets and agents of the simulated cluster: what makes it move by itself.

Each is a class with ``tables`` (whose changes concern it), ``keys`` (what to look at after a change) and ``reconcile`` (make it so).
"""

from __future__ import annotations

from remediator.sim.controllers.bgp import BgpAgents, BgpOperator
from remediator.sim.controllers.cilium import AgentController, OperatorController
from remediator.sim.controllers.daemonsets import DaemonSetController
from remediator.sim.controllers.endpoints import EndpointController
from remediator.sim.controllers.jobs import JobController, JobEnd, Jobs
from remediator.sim.controllers.kubelet import Kubelets
from remediator.sim.controllers.leaders import LeaderElection
from remediator.sim.controllers.loop import Controller, ControlLoop
from remediator.sim.controllers.nodes import NodeController
from remediator.sim.controllers.replicas import DeploymentController, ReplicaSetController, StatefulSetController
from remediator.sim.controllers.scheduler import Scheduler
from remediator.sim.controllers.upkeep import BudgetController, GarbageCollector, NamespaceController

__all__ = [
    "AgentController",
    "BgpAgents",
    "BgpOperator",
    "BudgetController",
    "ControlLoop",
    "Controller",
    "DaemonSetController",
    "DeploymentController",
    "EndpointController",
    "GarbageCollector",
    "JobController",
    "JobEnd",
    "Jobs",
    "Kubelets",
    "LeaderElection",
    "NamespaceController",
    "NodeController",
    "OperatorController",
    "ReplicaSetController",
    "Scheduler",
    "StatefulSetController",
]
