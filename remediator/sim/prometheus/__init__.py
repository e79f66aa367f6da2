"""A small Prometheus: it scrapes the simulated cluster on the simulated clock and answers a subset of PromQL over its query API."""

from __future__ import annotations

from remediator.sim.prometheus.evaluate import evaluate
from remediator.sim.prometheus.parse import QueryError, parse
from remediator.sim.prometheus.series import Sample, SeriesStore

__all__ = ["QueryError", "Sample", "SeriesStore", "evaluate", "parse"]
