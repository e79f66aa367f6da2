"""An object as another served version or group shows it: apiVersion for custom kinds, the field names of the two Event groups.

In comes a stored or received object, out comes a shallow copy in the asked-for shape. Nothing is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from remediator.sim.kinds import Resource
    from remediator.sim.objects import Obj

__all__ = ["inward", "outward"]

# field of core/v1 -> field of events.k8s.io/v1
_EVENT = {
    "involvedObject": "regarding",
    "message": "note",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
    "reportingComponent": "reportingController",
}
_BACK = {new: old for old, new in _EVENT.items()}


def outward(resource: Resource, obj: Obj) -> Obj:
    """As a client of ``resource``'s group and version sees a stored object."""
    api_version = resource.api_version()
    if resource.shared_with:
        renamed = {_EVENT.get(key, key): value for key, value in obj.items()}
        kept = {
            key: value for key, value in renamed.items() if value or key == "eventTime" or not key.startswith(("reporting", "deprecatedC"))
        }
        return {**kept, "apiVersion": api_version}
    if obj.get("apiVersion") != api_version:
        return {**obj, "apiVersion": api_version}
    return obj


def inward(resource: Resource, obj: Obj, stored: Resource) -> Obj:
    """As the store keeps an object that came in through ``resource``'s group and version."""
    if resource.shared_with:
        return {**{_BACK.get(key, key): value for key, value in obj.items()}, "apiVersion": "v1"}
    return {**obj, "apiVersion": stored.api_version()}
