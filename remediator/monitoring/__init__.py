"""The only doors to Prometheus and Alertmanager. Importing this is cheap: their clients come with the first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from remediator.monitoring import errors
from remediator.monitoring.answers import ActiveAlert, Match, Sample, Silence

if TYPE_CHECKING:
    from remediator.monitoring.alertmanager import Alertmanager
    from remediator.monitoring.prometheus import Prometheus

__all__ = ["ActiveAlert", "Alertmanager", "Match", "Prometheus", "Sample", "Silence", "errors"]

_LATE = {"Alertmanager": "remediator.monitoring.alertmanager", "Prometheus": "remediator.monitoring.prometheus"}


def __getattr__(name: str) -> Any:
    """The doors on first use, so that ``remediator --help`` does not pay for metrics and logs."""
    if name in _LATE:
        return getattr(importlib.import_module(_LATE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
