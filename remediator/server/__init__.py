"""The HTTP side: webhook, API, streams and the first page. In: a Service (the daemon) and the tokens; out: an aiohttp application.

The names that pull in aiohttp and the store are imported on first use: the CLI's client needs only the nouns of ``server.service``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from remediator.server.service import (
    Intervention,
    ManualRequest,
    MatchReport,
    MatchRequest,
    NearMiss,
    PauseRequest,
    ReloadReport,
    Service,
    Status,
)

if TYPE_CHECKING:
    from remediator.server.app import build_app
    from remediator.server.auth import Named, Scope, Tokens
    from remediator.server.proxy import Proxy

__all__ = [
    "Intervention",
    "ManualRequest",
    "MatchReport",
    "MatchRequest",
    "Named",
    "NearMiss",
    "PauseRequest",
    "Proxy",
    "ReloadReport",
    "Scope",
    "Service",
    "Status",
    "Tokens",
    "build_app",
]

_LATER = {
    "Named": "remediator.server.auth",
    "Proxy": "remediator.server.proxy",
    "Scope": "remediator.server.auth",
    "Tokens": "remediator.server.auth",
    "build_app": "remediator.server.app",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(_LATER[name]), name)
