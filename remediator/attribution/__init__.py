"""Which one node explains what is seen between pairs of nodes, or that none does. Pure, except ``read``, which asks Prometheus.

``read.matrix`` gathers the observations, ``hints_of`` what other open episodes tell, ``vote.judge`` says who is to blame: a node, or
the fabric, a zone, a link, a partition, or nobody. Only the finding ``node`` names somebody to act on. ``account`` is what a record keeps
of it. docs/attribution.md tells how it votes. ``read`` is not imported here, so that gates, which may know no door, can take a Finding.
"""

from __future__ import annotations

from remediator.attribution.account import Account, account
from remediator.attribution.hints import hints_of
from remediator.attribution.model import Ballot, Finding, Hint, Kind, Matrix, Observation, Place, Rules, Sought, Symptom, Table
from remediator.attribution.vote import judge

__all__ = [
    "Account",
    "Ballot",
    "Finding",
    "Hint",
    "Kind",
    "Matrix",
    "Observation",
    "Place",
    "Rules",
    "Sought",
    "Symptom",
    "Table",
    "account",
    "hints_of",
    "judge",
]
