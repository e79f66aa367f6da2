r"""DeleteOptions in Kubernetes' protobuf envelope, which kubectl sends with its deletes whatever else it speaks.

In come bytes that begin with ``k8s\0``; out comes the DeleteOptions as a dict. Anything else in the envelope is refused with 400.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remediator.sim.status import bad_request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from remediator.sim.objects import Obj

__all__ = ["is_protobuf", "read_delete_options"]

_MAGIC = b"k8s\x00"
_VARINT, _BYTES = 0, 2
_POLICY = {"gracePeriodSeconds": 1, "preconditions": 2, "orphanDependents": 3, "propagationPolicy": 4, "dryRun": 5}


def is_protobuf(raw: bytes) -> bool:
    """Whether it carries the envelope's magic."""
    return raw.startswith(_MAGIC)


def read_delete_options(raw: bytes) -> Obj:
    """The options within an envelope ``Unknown{typeMeta, raw}``. Raises ApiError 400."""
    try:
        envelope = dict(_fields(raw[len(_MAGIC) :]))
        type_meta = dict(_fields(_bytes(envelope.get(1, b""))))
        if type_meta.get(2) not in (b"DeleteOptions", None):
            raise bad_request("the object provided is unrecognized (must be of type DeleteOptions)")
        return _delete_options(list(_fields(_bytes(envelope.get(2, b"")))))
    except IndexError:
        raise bad_request("couldn't get version/kind; protobuf: unexpected EOF") from None


def _delete_options(fields: list[tuple[int, int | bytes]]) -> Obj:
    found: Obj = {"kind": "DeleteOptions"}
    for number, value in fields:
        if number == _POLICY["gracePeriodSeconds"]:
            found["gracePeriodSeconds"] = value
        elif number == _POLICY["preconditions"]:
            names = {1: "uid", 2: "resourceVersion"}
            found["preconditions"] = {names[n]: _bytes(v).decode(errors="replace") for n, v in _fields(_bytes(value)) if n in names}
        elif number == _POLICY["orphanDependents"]:
            found["orphanDependents"] = bool(value)
        elif number == _POLICY["propagationPolicy"]:
            found["propagationPolicy"] = _bytes(value).decode(errors="replace")
        elif number == _POLICY["dryRun"]:
            found.setdefault("dryRun", []).append(_bytes(value).decode(errors="replace"))
    return found


def _bytes(value: int | bytes) -> bytes:
    return value if isinstance(value, bytes) else b""


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield number, value
        elif wire == _BYTES:
            length, at = _varint(data, at)
            yield number, data[at : at + length]
            at += length
        else:
            raise bad_request("couldn't get version/kind; protobuf: unexpected wire type")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at
