"""What each write does to the store, in the order and with the refusals of the real API server.

In come a resource, a body and options; out come the HTTP code and the object that the client sees. Refusals are ``ApiError``. All of it
runs without awaiting, so every write is atomic. Reading and watching are in ``reading``; who may write is not judged here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from remediator.sim import managed, status
from remediator.sim.convert import inward, outward
from remediator.sim.defaults import complete, refill, select_by_uid, tidy
from remediator.sim.deletion import Deletion, finish_deletion, start_deletion
from remediator.sim.kinds import Kinds, Resource, resource_of_crd
from remediator.sim.managed import Manager
from remediator.sim.objects import Obj, clone, dig, encode, key_of, rfc3339
from remediator.sim.patches import json_patch, merge_patch, strategic_patch
from remediator.sim.status import Cause
from remediator.sim.validate import check_meta, check_object, check_types, type_fault

if TYPE_CHECKING:
    from remediator.sim.store import Store

__all__ = ["APPLY_PATCH", "JSON_PATCH", "MERGE_PATCH", "STRATEGIC_PATCH", "Options", "Registry"]

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
_POD_RULE = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
_FROM_OLD = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "generateName")


@dataclass(frozen=True)
class Options:
    """What a write's query string says."""

    dry_run: bool = False
    manager: str = "unknown"
    force: bool = False


class Registry:
    """The writes of the API on one store."""

    def __init__(self, store: Store, kinds: Kinds) -> None:
        self.store = store
        self.kinds = kinds

    def stored(self, resource: Resource) -> Resource:
        """The resource in the version (and group) that the store keeps."""
        group, plural = resource.table
        return next(r for r in self.kinds.all() if (r.group, r.plural) == (group, plural))

    def existing(self, resource: Resource, name: str, namespace: str) -> Obj:
        """The stored object. Raises ApiError 404."""
        found = self.store.get(resource, name, namespace if resource.namespaced else "")
        if found is None:
            raise status.not_found(resource, name)
        return found

    # --- create ------------------------------------------------------------------------------------------------------

    def create(self, resource: Resource, namespace: str, body: Obj, options: Options) -> Obj:
        """POST of a new object."""
        self._check_kind(resource, body)
        obj = clone(body)
        meta = obj.setdefault("metadata", {})
        check_types(resource, obj)
        if resource.namespaced:
            if meta.get("namespace") not in (None, "", namespace):
                raise status.bad_request("the namespace of the provided object does not match the namespace sent on the request")
            meta["namespace"] = namespace
        else:
            meta.pop("namespace", None)
        if not meta.get("name") and meta.get("generateName"):
            meta["name"] = self.store.new_name(meta["generateName"])
        self.check_namespace(resource, namespace, str(meta.get("name", "")))
        return self._insert(resource, obj, options, operation="Update")

    def _insert(self, resource: Resource, obj: Obj, options: Options, operation: str) -> Obj:
        if obj["metadata"].get("resourceVersion"):
            raise status.ApiError(500, "", "resourceVersion should not be set on objects to be created")
        tidy(resource, obj)
        for field in ("uid", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "selfLink"):
            obj["metadata"].pop(field, None)
        check_meta(resource, obj)
        check_object(resource, obj)
        if operation == "Update":
            obj["metadata"].pop("managedFields", None)
            written = {key: value for key, value in obj.items() if key != "status" or not resource.has_status}
            managed.own_changes(None, written, self._manager(resource, options, operation), self._now())
            obj["metadata"] = written["metadata"]
        stored = self.stored(resource)
        obj = inward(resource, obj, stored)
        obj["kind"] = resource.kind
        complete(stored, obj, self.store)
        if self.store.get(stored, *reversed(key_of(obj))) is not None:
            raise status.already_exists(resource, obj["metadata"]["name"])
        self.store.stamp(obj)
        if stored.kind == "Job":
            select_by_uid(obj)
        if options.dry_run:
            if stored.counts_generation:
                obj["metadata"]["generation"] = 1
            return outward(resource, obj)
        return outward(resource, self._added(stored, self.store.add(stored, obj)))

    def _added(self, resource: Resource, obj: Obj) -> Obj:
        if resource.kind == "CustomResourceDefinition":
            self.kinds.add(resource_of_crd(obj))
            copy = self.store.edit(resource, obj)
            accepted = [{"type": t, "status": "True", "reason": "Accepted", "message": ""} for t in ("NamesAccepted", "Established")]
            copy["status"] = {"conditions": accepted, "acceptedNames": copy["spec"]["names"], "storedVersions": []}
            return self.store.replace(resource, copy)
        return obj

    def _check_kind(self, resource: Resource, body: Any) -> None:
        if not isinstance(body, dict):
            raise status.bad_request(f"the object provided is unrecognized (must be of type {resource.kind})")
        if resource.custom and not (body.get("kind") and body.get("apiVersion")):
            shown = encode(body)[:40].decode(errors="replace")
            raise status.bad_request(
                f"the object provided is unrecognized (must be of type {resource.kind}): Object 'Kind' is missing in '{shown}'"
            )
        kind, version = body.get("kind") or resource.kind, body.get("apiVersion") or resource.api_version()
        if (kind, version) != (resource.kind, resource.api_version()):
            raise status.bad_request(
                f'{kind} in version "{version}" cannot be handled as a {resource.kind}: '
                f'no kind "{kind}" is registered for version "{version}" in this server'
            )

    def check_namespace(self, resource: Resource, namespace: str, name: str) -> None:
        """Nothing is created in a namespace that does not exist or is being deleted, not even an Eviction. Raises ApiError."""
        if not resource.namespaced:
            return
        found = self.store.get(("", "namespaces"), namespace)
        if found is None:
            raise status.ApiError(404, "NotFound", f'namespaces "{namespace}" not found', {"name": namespace, "kind": "namespaces"})
        if dig(found, "status.phase") == "Terminating":
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            message = f"namespace {namespace} is being terminated"
            cause = {"reason": "NamespaceTerminating", "message": message, "field": "metadata.namespace"}
            raise status.forbidden(resource, name, why, [cause])

    # --- update ------------------------------------------------------------------------------------------------------

    def update(self, resource: Resource, namespace: str, name: str, body: Obj, options: Options, subresource: str = "") -> tuple[int, Obj]:
        """PUT."""
        self._check_kind(resource, body)
        new = clone(body)
        meta = new.setdefault("metadata", {})
        check_types(resource, new)
        if resource.namespaced and meta.get("namespace") not in (None, "", namespace):
            raise status.bad_request("the namespace of the provided object does not match the namespace sent on the request")
        new |= {"apiVersion": resource.api_version(), "kind": resource.kind}
        if meta.get("name") != name:
            raise _name_mismatch(str(meta.get("name", "")), name)
        current = self.store.get(resource, name, namespace if resource.namespaced else "")
        if current is None and resource.create_on_update and not subresource:
            return 201, self.create(resource, namespace, {**body, "metadata": {**body["metadata"], "resourceVersion": ""}}, options)
        current = outward(resource, self.existing(resource, name, namespace))
        uid = meta.get("uid")
        if uid and uid != current["metadata"]["uid"]:
            key = "/".join(part for part in ("/registry", resource.plural, namespace, name) if part)
            why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {current['metadata']['uid']}"
            storage = f"StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: {why}"
            raise status.conflict(resource, name, storage)
        if resource.update_needs_version and not meta.get("resourceVersion"):
            cause = Cause.bad_value("metadata.resourceVersion", 0, "must be specified for an update")
            error = status.invalid(resource, name, [cause])
            error.message = error.message.replace(resource.qualified_kind, resource.qualified, 1)
            error.details = {**(error.details or {}), "kind": resource.plural}
            raise error
        return 200, self._change(resource, current, new, options, subresource)

    def _change(self, resource: Resource, current: Obj, new: Obj, options: Options, subresource: str, operation: str = "Update") -> Obj:
        """The common end of PUT and PATCH: ``new`` is the whole wanted object."""
        name, old = current["metadata"]["name"], current["metadata"]
        _check_version(resource, name, new["metadata"].get("resourceVersion"), old["resourceVersion"])
        new = _limit(resource, current, new, subresource)
        meta = new["metadata"]
        for field in _FROM_OLD:
            meta.pop(field, None)
            if field in old:
                meta[field] = old[field]
        meta["resourceVersion"] = old["resourceVersion"]
        if resource.namespaced:
            meta["namespace"] = old["namespace"]
        tidy(resource, new)
        check_meta(resource, new)
        check_object(resource, new)
        refill(resource, new)
        if resource.kind == "Pod" and not subresource:
            _check_pod_update(resource, current, new)
        if operation == "Update":
            meta.pop("managedFields", None)
            if "managedFields" in old:
                meta["managedFields"] = old["managedFields"]
            managed.own_changes(current, new, self._manager(resource, options, operation, subresource), self._now())
        return self._save(resource, current, new, options)

    def _save(self, resource: Resource, current: Obj, new: Obj, options: Options) -> Obj:
        stored = self.stored(resource)
        if _same_but_ownership(current, new):
            return current
        internal = inward(resource, new, stored)
        if options.dry_run:
            return new
        saved = self.store.replace(stored, internal)
        return outward(resource, finish_deletion(self.store, stored, saved))

    # --- patch -------------------------------------------------------------------------------------------------------

    def patch(
        self, resource: Resource, namespace: str, name: str, kind: str, patch: Any, options: Options, subresource: str = ""
    ) -> tuple[int, Obj]:
        """PATCH of any type; ``kind`` is its media type."""
        if kind == APPLY_PATCH:
            return self._apply(resource, namespace, name, patch, options, subresource)
        _check_patch(resource, kind, patch)
        current = outward(resource, self.existing(resource, name, namespace))
        if kind == JSON_PATCH:
            new = json_patch(current, patch)
        elif kind == MERGE_PATCH:
            new = merge_patch(current, patch)
        else:
            new = strategic_patch(current, patch)
        new = clone(new)
        _check_patched(resource, current, new)
        return 200, self._change(resource, current, new, options, subresource)

    def _apply(self, resource: Resource, namespace: str, name: str, config: Any, options: Options, subresource: str) -> tuple[int, Obj]:
        if not isinstance(config, dict) or not config.get("kind") or not config.get("apiVersion"):
            raise status.bad_request("invalid object type: /, Kind=")
        self._check_kind(resource, config)
        named = dig(config, "metadata.name")
        stored = self.store.get(resource, name, namespace if resource.namespaced else "")
        if stored is None and subresource:
            raise status.not_found(resource, name)
        if named is None and stored is None:
            raise status.bad_request(f"the name of the object ({name} based on URL) was undeterminable: name must be provided")
        if named not in (None, name):
            raise _name_mismatch(str(named), name)
        check_types(resource, config)
        manager = self._manager(resource, options, "Apply", subresource)
        current = outward(resource, stored) if stored else None
        new = managed.apply(current, config, manager, self._now(), force=options.force)
        if current is None:
            new |= {"apiVersion": resource.api_version(), "kind": resource.kind}
            new["metadata"]["name"] = name
            if resource.namespaced:
                new["metadata"]["namespace"] = namespace
            self.check_namespace(resource, namespace, name)
            return 201, self._insert(resource, new, options, operation="Apply")
        if dig(config, "metadata.resourceVersion"):
            new["metadata"]["resourceVersion"] = config["metadata"]["resourceVersion"]
        return 200, self._change(resource, current, new, options, subresource, operation="Apply")

    # --- delete ------------------------------------------------------------------------------------------------------

    def delete(self, resource: Resource, namespace: str, name: str, deletion: Deletion, options: Options) -> Obj:
        """DELETE: the object if it lives on for a while or its kind answers with it, else a Status."""
        current = self.existing(resource, name, namespace)
        stored = self.stored(resource)
        left = start_deletion(self.store, stored, current, deletion, dry_run=options.dry_run)
        if stored.kind == "CustomResourceDefinition" and not options.dry_run:
            self.kinds.remove(current["spec"]["group"], current["spec"]["names"]["plural"])
        if resource.returns_deleted or "deletionTimestamp" in left["metadata"]:
            return outward(resource, left)
        meta = current["metadata"]
        details: Obj = {"name": meta["name"]}
        if resource.group:
            details["group"] = resource.group
        return status.success(**details, kind=resource.plural, uid=meta["uid"])

    # --- helpers -----------------------------------------------------------------------------------------------------

    def _manager(self, resource: Resource, options: Options, operation: str, subresource: str = "") -> Manager:
        return Manager(options.manager, operation, resource.api_version(), subresource)

    def _now(self) -> str:
        return rfc3339(self.store.clock.now())


def _name_mismatch(found: str, url: str) -> status.ApiError:
    return status.bad_request(f"the name of the object ({found}) does not match the name on the URL ({url})")


def _check_version(resource: Resource, name: str, wanted: Any, found: str) -> None:
    if not wanted:
        return
    if not str(wanted).isdigit():
        raise status.ApiError(500, "", f'strconv.ParseUint: parsing "{wanted}": invalid syntax')
    if wanted != found:
        raise status.modified(resource, name)


def _limit(resource: Resource, current: Obj, new: Obj, subresource: str) -> Obj:
    """Keep what this door may not change: status at the main one, everything else at the status one."""
    if not resource.has_status:
        return new
    if subresource != "status":
        limited = {key: value for key, value in new.items() if key != "status"}
        return {**limited, "status": clone(current["status"])} if "status" in current else limited
    kept = clone({key: value for key, value in current.items() if key not in ("metadata", "status")})
    meta = clone(current["metadata"]) if resource.custom else new["metadata"]
    meta["resourceVersion"] = new["metadata"].get("resourceVersion")
    limited = {**kept, "metadata": meta}
    return {**limited, "status": new["status"]} if "status" in new else limited


def _check_pod_update(resource: Resource, current: Obj, new: Obj) -> None:
    def fixed(obj: Obj) -> Obj:
        spec = {k: v for k, v in obj.get("spec", {}).items() if k not in ("activeDeadlineSeconds", "tolerations")}
        for field in ("containers", "initContainers"):
            if field in spec:
                spec[field] = [{k: v for k, v in container.items() if k != "image"} for container in spec[field]]
        return spec

    old, wanted = (dig(obj, "spec.tolerations") or [] for obj in (current, new))
    if fixed(current) != fixed(new) or any(t not in wanted for t in old):
        raise status.invalid(resource, current["metadata"]["name"], [Cause.forbidden("spec", _POD_RULE)])


def _same_but_ownership(current: Obj, new: Obj) -> bool:
    def plain(obj: Obj) -> Obj:
        return {**obj, "metadata": {k: v for k, v in obj["metadata"].items() if k != "managedFields"}}

    def owned(obj: Obj) -> list[Obj]:
        return [{k: v for k, v in e.items() if k != "time"} for e in obj["metadata"].get("managedFields") or ()]

    return plain(current) == plain(new) and owned(current) == owned(new)


def _check_patch(resource: Resource, kind: str, patch: Any) -> None:
    if kind == STRATEGIC_PATCH and resource.custom:
        raise status.unsupported_media_type((JSON_PATCH, MERGE_PATCH, APPLY_PATCH))
    if kind == JSON_PATCH and not isinstance(patch, list):
        raise status.bad_request("error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp")
    if kind != JSON_PATCH and not isinstance(patch, dict):
        raise status.bad_request("error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}")


def _check_patched(resource: Resource, current: Obj, new: Obj) -> None:
    meta, old = new.get("metadata"), current["metadata"]
    fault = type_fault(resource, new) if isinstance(meta, dict) else "metadata is missing"
    if not fault and (new.get("kind"), new.get("apiVersion")) != (current["kind"], current["apiVersion"]):
        fault = f"the kind or apiVersion was changed to {new.get('kind')}, {new.get('apiVersion')}"
    if fault or not isinstance(meta, dict):
        message = f'Invalid value: "{encode(new).decode()}": {fault}'
        raise status.ApiError(
            422,
            "Invalid",
            f' "" is invalid: patch: {message}',
            {"causes": [{"reason": "FieldValueInvalid", "message": message, "field": "patch"}]},
        )
    if meta.get("name") != old["name"]:
        raise _name_mismatch(str(meta.get("name", "")), old["name"])
    if meta.get("uid") not in (None, old["uid"]):
        cause = Cause.bad_value("metadata.uid", meta["uid"], "field is immutable")
        raise status.invalid(resource, old["name"], [cause])
