"""BGP sessions of one node, as far as a restart of its agent breaks them and must bring them back. Pure.

In: a CiliumBGPNodeConfig as the API has it. Out: its sessions; words about those that are not back. Only the node's agent writes the
status, so after its death it goes on saying ``established``: a session counts as back only once its ``establishedTime`` moved.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

__all__ = ["Sessions", "established", "not_back", "peer_configs"]

Sessions = Mapping[str, str]
"""``instance/peer`` of each established session -> its establishedTime, empty where the status has none."""
_JITTER = timedelta(seconds=2)
"""The agent computes establishedTime from the session's uptime, in whole seconds."""


def established(config: dict[str, Any] | None) -> dict[str, str]:
    """The established sessions of the status."""
    return {
        f"{instance.get('name', '')}/{peer.get('name', '')}": str(peer.get("establishedTime") or "")
        for instance in _instances(config, "status")
        for peer in instance.get("peers") or ()
        if peer.get("peeringState") == "established"
    }


def peer_configs(config: dict[str, Any] | None) -> dict[str, str]:
    """``instance/peer`` -> the name of its CiliumBGPPeerConfig, as the spec wants it."""
    return {
        f"{instance.get('name', '')}/{peer.get('name', '')}": str((peer.get("peerConfigRef") or {}).get("name") or "")
        for instance in _instances(config, "spec")
        for peer in instance.get("peers") or ()
    }


def _instances(config: dict[str, Any] | None, part: str) -> list[dict[str, Any]]:
    return list(((config or {}).get(part) or {}).get("bgpInstances") or ())


def not_back(before: Sessions, now: dict[str, Any] | None) -> list[str]:
    """Which sessions of ``before`` are not established anew; those that were down before are nobody's promise."""
    current = established(now)
    return sorted(name for name, since in before.items() if name not in current or not _later(current[name], since))


def _later(now: str, before: str) -> bool:
    """Whether the session is another one than before; where no time is told, its state must do."""
    if not now or not before:
        return True
    return datetime.fromisoformat(now) - datetime.fromisoformat(before) > _JITTER
