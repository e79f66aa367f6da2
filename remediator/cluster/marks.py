"""Marks by which people and other tools forbid acting on an object. Pure: an object in, the mark in words out, empty if there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["forbidden", "marks"]

_MARKS = ("remediator.dev/protected", "remediation.medik8s.io/exclude-from-remediation")
"""Ours, and that of medik8s' node maintenance operator while a node is under maintenance."""


def forbidden(thing: Mapping[str, Any] | None) -> str:
    """``remediator.dev/protected=true``: the first mark on ``thing`` that forbids acting on it."""
    found = marks(thing)
    return next((f"{mark}={found[mark]}" for mark in _MARKS if found.get(mark, "false").lower() != "false"), "")


def marks(thing: Mapping[str, Any] | None) -> dict[str, str]:
    """Labels and annotations alike: people put such marks in either place."""
    metadata = (thing or {}).get("metadata") or {}
    return {**(metadata.get("labels") or {}), **(metadata.get("annotations") or {})}
