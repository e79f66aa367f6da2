"""Who set a field, as the API server keeps it in ``metadata.managedFields``. Pure: an object as it was read, names of field managers out.

A manager owns a field from the write by which it got its value until somebody changes or removes it; a write that changes nothing gives
nobody anything, but for a server-side apply, which owns beside others what it names. An object that was read without managedFields, or
whose oldest entries the API server has thrown together (``ancient-changes``, beyond ten of them), says nothing of its field.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["managers_of"]


def managers_of(thing: Mapping[str, Any], *path: str) -> frozenset[str]:
    """The managers that own the field at ``path``, as ``managers_of(node, "spec", "unschedulable")``; empty where nothing says so."""
    return frozenset(
        str(entry.get("manager", "")) for entry in thing["metadata"].get("managedFields") or () if _owns(entry.get("fieldsV1"), path)
    )


def _owns(fields: Any, path: tuple[str, ...]) -> bool:
    for name in path:
        if not isinstance(fields, dict) or f"f:{name}" not in fields:
            return False
        fields = fields[f"f:{name}"]
    return True
