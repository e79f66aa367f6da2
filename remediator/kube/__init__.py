"""The only door to Kubernetes. Importing it is cheap: kubernetes-asyncio comes with ``Kube.connect``, structlog with Reflector."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from remediator.kube import errors, kinds, records, workloads
from remediator.kube.client import FIELD_MANAGER, Kube, Listing
from remediator.kube.kinds import Kind
from remediator.kube.wire import PatchType

if TYPE_CHECKING:
    from remediator.kube.reflector import Handlers, Reflector

__all__ = [
    "FIELD_MANAGER",
    "Handlers",
    "Kind",
    "Kube",
    "Listing",
    "PatchType",
    "Reflector",
    "errors",
    "kinds",
    "records",
    "workloads",
]


def __getattr__(name: str) -> Any:
    """The reflector on first use, so that ``remediator --help`` does not pay for it."""
    if name in ("Handlers", "Reflector"):
        return getattr(importlib.import_module("remediator.kube.reflector"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
