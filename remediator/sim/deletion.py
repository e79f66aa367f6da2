"""How objects go: grace periods, finalizers, preconditions, propagation.

In come an object and the client's DeleteOptions; out comes the object as it is left, marked or gone. Failed preconditions are refused
with 409. What follows (kubelets, garbage collection, emptying a namespace) is done by the controllers.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from remediator.sim import status
from remediator.sim.objects import Obj, clone, dig, parse_rfc3339, rfc3339

if TYPE_CHECKING:
    from remediator.sim.kinds import Resource
    from remediator.sim.store import Store

__all__ = ["Deletion", "check_preconditions", "finish_deletion", "remove_finalizer", "start_deletion"]

_FOREGROUND, _ORPHAN = "foregroundDeletion", "orphan"


@dataclass(frozen=True)
class Deletion:
    """What a client asked for."""

    grace: int | None = None
    uid: str = ""
    version: str = ""
    propagation: str = ""

    @classmethod
    def of(cls, options: Obj) -> Deletion:
        """Read a DeleteOptions object. Raises ApiError 400 for wrong types."""
        grace = options.get("gracePeriodSeconds")
        if grace is not None and (not isinstance(grace, int) or isinstance(grace, bool)):
            raise status.bad_request("json: cannot unmarshal value into Go struct field DeleteOptions.gracePeriodSeconds of type int64")
        policy = str(options.get("propagationPolicy") or ("Orphan" if options.get("orphanDependents") else ""))
        if policy not in ("", "Foreground", "Background", "Orphan"):
            message = f'Unsupported value: "{policy}": supported values: "Foreground", "Background", "Orphan", "nil"'
            raise status.invalid_options("DeleteOptions", status.Cause("propagationPolicy", message, "FieldValueNotSupported"))
        return cls(grace, str(dig(options, "preconditions.uid") or ""), str(dig(options, "preconditions.resourceVersion") or ""), policy)


def start_deletion(store: Store, resource: Resource, obj: Obj, deletion: Deletion, *, dry_run: bool = False) -> Obj:
    """Delete as far as can be done at once. Raises ApiError 409 if a precondition does not hold."""
    check_preconditions(resource, obj, deletion)
    if "deletionTimestamp" in obj["metadata"]:
        return _again(store, resource, obj, deletion, dry_run=dry_run)
    grace = _grace(resource, obj, deletion)
    finalizers = _finalizers(obj, deletion.propagation or ("Orphan" if resource.kind == "Job" else ""))
    if grace == 0 and not finalizers and resource.kind != "Namespace":
        return _gone(store, resource, obj, dry_run=dry_run)
    marked: Obj = clone(obj)
    _mark(marked, store, grace)
    if finalizers:
        marked["metadata"]["finalizers"] = finalizers
    if resource.kind == "Namespace":
        marked["metadata"].pop("deletionGracePeriodSeconds")
        marked["status"] = {**(marked.get("status") or {}), "phase": "Terminating"}
    return marked if dry_run else store.replace(resource, marked)


def finish_deletion(store: Store, resource: Resource, obj: Obj) -> Obj:
    """Remove an object that is marked, whose grace is over and whose last finalizer has gone."""
    meta = obj["metadata"]
    if "deletionTimestamp" not in meta or meta.get("finalizers") or resource.kind == "Namespace":
        return obj
    if meta.get("deletionGracePeriodSeconds"):
        return obj
    store.remove(resource, obj)
    return obj


def remove_finalizer(store: Store, resource: Resource, obj: Obj, finalizer: str) -> None:
    """Take one finalizer off, which may be what the object waited for."""
    copy = store.edit(resource, obj)
    left = [f for f in copy["metadata"].get("finalizers") or () if f != finalizer]
    copy["metadata"]["finalizers"] = left
    if not left:
        del copy["metadata"]["finalizers"]
    finish_deletion(store, resource, store.replace(resource, copy))


def check_preconditions(resource: Resource, obj: Obj, deletion: Deletion) -> None:
    """Raises ApiError 409 if the object is not the one that was meant, or not as it was."""
    meta = obj["metadata"]
    if deletion.uid and deletion.uid != meta["uid"]:
        raise status.name_conflict(
            resource,
            meta["name"],
            f"the UID in the precondition ({deletion.uid}) does not match the UID in record ({meta['uid']}). "
            "The object might have been deleted and then recreated",
        )
    if deletion.version and deletion.version != meta["resourceVersion"]:
        raise status.name_conflict(
            resource,
            meta["name"],
            f"the ResourceVersion in the precondition ({deletion.version}) does not match the ResourceVersion in record "
            f"({meta['resourceVersion']}). The object might have been modified",
        )


def _grace(resource: Resource, obj: Obj, deletion: Deletion) -> int:
    if resource.kind != "Pod":
        return 0
    if not dig(obj, "spec.nodeName") or dig(obj, "status.phase") in ("Succeeded", "Failed"):
        return 0
    if deletion.grace is not None:
        return deletion.grace if deletion.grace >= 0 else 1
    return int(dig(obj, "spec.terminationGracePeriodSeconds", 30))


def _finalizers(obj: Obj, propagation: str) -> list[str] | None:
    present = list(obj["metadata"].get("finalizers") or ())
    wanted = {"Foreground": _FOREGROUND, "Orphan": _ORPHAN}.get(propagation)
    return [*present, wanted] if wanted and wanted not in present else present or None


def _mark(obj: Obj, store: Store, grace: int) -> None:
    meta = obj["metadata"]
    meta["deletionTimestamp"] = rfc3339(store.clock.now() + timedelta(seconds=grace))
    meta["deletionGracePeriodSeconds"] = grace
    if meta.get("generation"):
        meta["generation"] += 1


def _gone(store: Store, resource: Resource, obj: Obj, *, dry_run: bool) -> Obj:
    last: Any = obj if dry_run else store.remove(resource, obj)
    if resource.kind != "Pod":
        return dict(last)
    shown: Obj = clone(last)
    shown["metadata"].setdefault("deletionTimestamp", rfc3339(store.clock.now()))
    shown["metadata"]["deletionGracePeriodSeconds"] = 0
    if "deletionTimestamp" not in obj["metadata"]:
        shown["metadata"]["generation"] = shown["metadata"].get("generation", 0) + 1
    return shown


def _again(store: Store, resource: Resource, obj: Obj, deletion: Deletion, *, dry_run: bool) -> Obj:
    """A second delete may shorten the grace period, never lengthen it."""
    granted = obj["metadata"].get("deletionGracePeriodSeconds") or 0
    wanted = _grace(resource, obj, deletion)
    if wanted == 0 and resource.kind == "Pod" and not obj["metadata"].get("finalizers"):
        return _gone(store, resource, obj, dry_run=dry_run)
    if wanted >= granted:
        return obj
    began = parse_rfc3339(obj["metadata"]["deletionTimestamp"]) - timedelta(seconds=granted)
    shortened: Obj = clone(obj)
    shortened["metadata"]["deletionTimestamp"] = rfc3339(began + timedelta(seconds=wanted))
    shortened["metadata"]["deletionGracePeriodSeconds"] = wanted
    return shortened if dry_run else store.replace(resource, shortened)
