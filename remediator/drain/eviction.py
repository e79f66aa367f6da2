"""One eviction: sent once, with the pod's uid, and its answer turned into a named one.

In: a Context and a pod. Out: a ``Reply``. Raised: what stops the whole step (cancelled, paused, no time left, nobody can say whether it
took effect). The meaning of each code is the API server's (registry/core/pod/storage/eviction.go), confirmed on 1.36.3.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

from remediator.errors import KubeError, StepFailed
from remediator.kube import kinds
from remediator.kube.errors import Conflict, Forbidden, NotFound, SeveralBudgets, TooManyRequests
from remediator.kube.records import Pod
from remediator.model import Noun, Resource
from remediator.reasons import Reason

if TYPE_CHECKING:
    from remediator.actions import Context
    from remediator.kube import Kube

__all__ = ["Answer", "Reply", "evict", "gone", "read", "resource_of"]


class Answer(StrEnum):
    """What the API server said."""

    ACCEPTED = "accepted"
    GONE = "gone"
    """There is no such pod any more, or another one has its name or runs elsewhere."""
    BUDGET = "budget"
    """A budget does not allow it now."""
    SEVERAL = "several"
    """More than one budget; that never yields."""
    ENDING = "ending"
    """Its namespace is being deleted, and the pod will be with it."""
    THROTTLED = "throttled"
    """429 without a budget: the API server has too much to do, or a webhook moves the pod itself (KubeVirt) and says so until it went."""
    BUSY = "busy"
    """A server's failure that may pass."""
    AWAY = "away"
    """Nothing was sent, since the API server did not even tell whether it may be."""
    FORBIDDEN = "forbidden"
    FAILED = "failed"


class Reply(Noun, frozen=True, kw_only=True):
    """The answer, in words too; ``after``: seconds that the server asks to wait, where that means something."""

    answer: Answer
    words: str = ""
    after: float = 0.0


def resource_of(pod: Pod) -> Resource:
    """The pod as the object of a change."""
    return Resource(kind="Pod", namespace=pod.namespace, name=pod.name, uid=pod.uid)


async def evict(ctx: Context, pod: Pod, *, grace: int | None, claims: tuple[str, ...]) -> Reply:
    """Ask once. A lost answer is looked into; since the uid goes along, a second request could only hit the same pod."""

    async def call(request_id: str, dry_run: bool) -> Any:  # noqa: FBT001 - the shape that ctx.change calls
        return await ctx.kube.evict(pod.name, pod.namespace, uid=pod.uid, grace=grace, dry_run=dry_run, request_id=request_id)

    before: dict[str, Any] = {"node": pod.node_name}
    if pod.controller is not None:
        before["controller"] = pod.controller.uid
    if claims:
        before["volumes"] = list(claims)
    try:
        await ctx.change("evict", resource_of(pod), call, before=before, undoable=False, repeatable=True)
    except StepFailed as error:
        if error.unknown or not isinstance(error.__cause__, KubeError):
            raise
        if error.reason is Reason.UNREADABLE and error.__cause__.retryable:
            return Reply(answer=Answer.AWAY, words=error.detail)
        return await read(ctx.kube, pod, error.__cause__)
    return Reply(answer=Answer.ACCEPTED)


async def read(kube: Kube, pod: Pod, error: KubeError) -> Reply:
    """What a refusal means for this pod."""
    words = getattr(error, "message", str(error))
    if isinstance(error, NotFound):
        return Reply(answer=Answer.GONE)
    if isinstance(error, Conflict):
        return await _after_conflict(kube, pod, words)
    if isinstance(error, TooManyRequests):
        if error.budget is not None:
            return Reply(answer=Answer.BUDGET, words=error.budget)  # whatever Retry-After says: the budget is watched
        return Reply(answer=Answer.THROTTLED, words=words, after=error.retry_after or 0.0)
    return Reply(answer=_lasting(error), words=words)


def _lasting(error: KubeError) -> Answer:
    if isinstance(error, SeveralBudgets):
        return Answer.SEVERAL
    if isinstance(error, Forbidden):
        return Answer.FORBIDDEN if error.cause("NamespaceTerminating") is None else Answer.ENDING
    return Answer.BUSY if error.retryable else Answer.FAILED


async def _after_conflict(kube: Kube, pod: Pod, words: str) -> Reply:
    """409: the uid is another one's. Only a fresh look says whether ours is gone (kubernetes/kubernetes#138229)."""
    try:
        still_here = not await gone(kube, pod)
    except KubeError as error:
        return Reply(answer=Answer.BUSY, words=str(error))
    return Reply(answer=Answer.BUSY, words=words) if still_here else Reply(answer=Answer.GONE)


async def gone(kube: Kube, pod: Pod) -> bool:
    """Whether this very pod is not on its node any more."""
    try:
        now = await kube.get(kinds.POD, pod.name, pod.namespace, decode=Pod)
    except NotFound:
        return True
    return now.uid != pod.uid or now.node_name != pod.node_name
