"""What the Kubernetes API can say other than yes, as one tree below KubeError.

In: an HTTP answer that is not 2xx (``from_answer``), or a call that got none (``Timeout``, ``Unreachable``, raised by the connection).
Out: an error that keeps what decisions need: status, reason, message, causes, whether the same call may succeed later (``retryable``),
how long the server asks to wait (``retry_after``) and whether a write may have taken effect all the same (``maybe_applied``).
Bodies and messages are cut at 256 characters; nothing that was sent (tokens, bodies) is kept.

Confirmed on kube-apiserver 1.36.3: a JSON patch whose ``test`` fails is 422, a stale resourceVersion or uid is 409, a budget that does not
yield is 429 with cause DisruptionBudget and no Retry-After, two budgets on one pod are 500 without a reason.
"""

# ruff: noqa: N818 - each is named after the API's own reason (NotFound, Conflict, ...), which reads better than an Error suffix
from __future__ import annotations

from typing import ClassVar

import msgspec

from remediator.errors import KubeError

__all__ = [
    "AlreadyExists",
    "BadKubeconfig",
    "CallFailed",
    "Conflict",
    "Forbidden",
    "Gone",
    "Invalid",
    "Malformed",
    "NotFound",
    "SeveralBudgets",
    "Timeout",
    "TooManyRequests",
    "Unauthorized",
    "Unavailable",
    "Unreachable",
    "cut",
    "from_answer",
]

LONGEST = 256
"""Characters of a message or a body that are kept."""
_TAIL = 100
_MOST_CAUSES = 16
_SEVERAL_BUDGETS = "more than one PodDisruptionBudget"


class BadKubeconfig(KubeError):
    """The kubeconfig, or the pod's service account, does not say how to reach a cluster."""


class CallFailed(KubeError):
    """Base of every call that did not succeed. ``call`` is ``GET /api/v1/nodes/node-3``."""

    default_reason: ClassVar[str] = "Failed"

    def __init__(
        self,
        message: str,
        *,
        call: str = "",
        status: int = 0,
        reason: str = "",
        causes: tuple[tuple[str, str], ...] = (),
        retry_after: float | None = None,
        maybe_applied: bool = False,
    ) -> None:
        self.call = call
        self.status = status
        self.reason = reason or self.default_reason
        self.message = cut(message)
        self.causes = causes
        self.retry_after = retry_after
        self.maybe_applied = maybe_applied
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        head = f"{self.call}: " if self.call else ""
        code = f"{self.status} " if self.status else ""
        tail = "; it may have taken effect all the same" if self.maybe_applied else ""
        return f"{head}{code}{self.reason}: {self.message}{tail}"

    def cause(self, reason: str) -> str | None:
        """The message of the cause with this reason (``DisruptionBudget``, ``NamespaceTerminating``), or None."""
        return next((message for name, message in self.causes if name == reason), None)


class NotFound(CallFailed):
    """404: there is no such object, or no such kind in this cluster. Also for a name that no object can have; then nothing was sent."""

    default_reason = "NotFound"


class Conflict(CallFailed):
    """409: the object changed since it was read (resourceVersion), or is another one of the same name (uid)."""

    default_reason = "Conflict"


class AlreadyExists(Conflict):
    """409 on create: there is an object of that name."""

    default_reason = "AlreadyExists"


class Forbidden(CallFailed):
    """403: RBAC, admission, or a namespace on its way out (cause ``NamespaceTerminating``)."""

    default_reason = "Forbidden"


class Unauthorized(CallFailed):
    """401, also with a freshly read token."""

    default_reason = "Unauthorized"


class Invalid(CallFailed):
    """422, 400 and the other 4xx: the request itself is wrong, or the ``test`` of a JSON patch failed. Nothing changed."""

    default_reason = "Invalid"


class Gone(CallFailed):
    """410: the resourceVersion or the continue token is too old; list again."""

    default_reason = "Expired"


class TooManyRequests(CallFailed):
    """429: a budget does not allow the eviction (cause ``DisruptionBudget``), or the server throttles. Nothing changed."""

    retryable = True
    default_reason = "TooManyRequests"

    @property
    def budget(self) -> str | None:
        """What the PodDisruptionBudget says, or None if it is throttling or a webhook's answer."""
        return self.cause("DisruptionBudget")


class Unavailable(CallFailed):
    """5xx: the server or something before it (load balancer, webhook) failed. A write may have taken effect."""

    retryable = True
    default_reason = "ServiceUnavailable"


class SeveralBudgets(CallFailed):
    """500 on an eviction: more than one PodDisruptionBudget covers the pod. Never yields by itself; nothing changed."""

    default_reason = "SeveralPodDisruptionBudgets"


class Timeout(CallFailed):
    """No answer within the deadline. A write may have taken effect, unless no connection came about."""

    retryable = True
    default_reason = "Timeout"


class Unreachable(CallFailed):
    """No connection, or it was lost. A write may have taken effect, unless no connection came about."""

    retryable = True
    default_reason = "Unreachable"


class Malformed(CallFailed):
    """2xx or 3xx, but not an answer of a Kubernetes API: a login page, a redirect, cut JSON, an object without what we need."""

    default_reason = "Malformed"


class _Cause(msgspec.Struct):
    reason: str = ""
    message: str = ""


class _Details(msgspec.Struct, rename="camel"):
    causes: list[_Cause] | None = None
    retry_after_seconds: float | None = None


class _Status(msgspec.Struct):
    """What a Kubernetes API answers with when it says no (meta/v1 Status)."""

    kind: str = ""
    reason: str = ""
    message: str = ""
    details: _Details | None = None


_DECODER = msgspec.json.Decoder(_Status)
_CLASSES: dict[int, type[CallFailed]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    429: TooManyRequests,
}
_SERVER_ERROR = 500


def cut(text: str) -> str:
    """``text`` on one line, at most 256 characters: beginning and end, since the API quotes whole objects before it says what is wrong."""
    flat = " ".join(text.split())
    return flat if len(flat) <= LONGEST else f"{flat[: LONGEST - _TAIL - 5]} ... {flat[-_TAIL:]}"


def from_answer(
    body: bytes, *, status: int, call: str = "", phrase: str = "", retry_after: str | None = None, write: bool = False, evict: bool = False
) -> CallFailed:
    """The error for an answer that is not 2xx; ``body`` may be anything (a Status, HTML, nothing, half of it), ``phrase`` is HTTP's."""
    told = _decode(body)
    details = told.details or _Details()
    quoted = "" if told.kind else body[: 4 * LONGEST].decode("utf-8", "replace")
    message = cut(told.message) or cut(quoted) or "no further word"
    reason = told.reason or phrase.replace(" ", "")
    kind = _class(status, reason, message if evict else "")
    return kind(
        message,
        call=call,
        status=status,
        reason=cut(reason),
        causes=tuple((cut(c.reason), cut(c.message)) for c in (details.causes or [])[:_MOST_CAUSES]),
        retry_after=_seconds(retry_after, details.retry_after_seconds),
        maybe_applied=write and kind is Unavailable,
    )


def _decode(body: bytes) -> _Status:
    try:
        told = _DECODER.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return _Status()
    return told if told.kind == "Status" else _Status()


def _class(status: int, reason: str, eviction_message: str) -> type[CallFailed]:
    if _SEVERAL_BUDGETS in eviction_message and status == _SERVER_ERROR:
        return SeveralBudgets
    if reason == "AlreadyExists":
        return AlreadyExists
    if reason == "Expired":
        return Gone
    return _CLASSES.get(status, Unavailable if status >= _SERVER_ERROR else Invalid)


def _seconds(header: str | None, told: float | None) -> float | None:
    """Retry-After as the API sends it, in seconds; a date (proxies may send one) or nonsense counts as not given."""
    try:
        value = float(header) if header else told
    except ValueError:
        value = told
    return value if value is not None and 0 <= value < float("inf") else None
