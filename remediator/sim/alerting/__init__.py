"""Alerting rules over the simulated cluster, and an Alertmanager that groups their alerts and posts them to receivers."""

from __future__ import annotations

from remediator.sim.alerting.alertmanager import Alertmanager, Receiver
from remediator.sim.alerting.rules import Rule, RuleEngine

__all__ = ["Alertmanager", "Receiver", "Rule", "RuleEngine"]
