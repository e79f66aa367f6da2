"""Asks an agent inside of its container, where that is wanted and allowed. In: the door, the agent's pod. Out: what is pending, in words.

What may mend itself (no answer yet, a kubelet that is away) is pending; a missing right never does, so it fails (StepFailed) at once.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

from remediator.cilium import inside
from remediator.errors import Refused, StepFailed
from remediator.kube.errors import CallFailed, Forbidden
from remediator.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Collection

    from remediator.kube import Kube
    from remediator.kube.execute import Executed
    from remediator.kube.records import Pod

__all__ = ["VERBS", "pending", "require_right"]

VERBS = ("get", "create")
"""On pods/exec: a websocket begins with a GET; from 1.35 on the API server asks for create as well (KEP-4006, kubernetes#136550)."""
_LONGEST = timedelta(seconds=60)
"""cilium-dbg itself gives up after 30 s; a probe of every node takes a little longer."""
_RIGHT = "it is apart from the other rights (actions show cilium.restart_agent), and exec: false does without it"


async def require_right(kube: Kube, namespace: str) -> None:
    """Raises Refused where the API server would not let us ask; better known before a pod is deleted than after."""
    allowed = await asyncio.gather(*(kube.may(verb, "pods", namespace, subresource="exec") for verb in VERBS))
    missing = [verb for verb, yes in zip(VERBS, allowed, strict=True) if not yes]
    if missing:
        raise Refused(Reason.UNREADABLE, f"exec: true needs the right to {' and '.join(missing)} pods/exec in {namespace}; {_RIGHT}")


async def pending(kube: Kube, pod: Pod, *, nodes: Collection[str], down: Collection[str], within: timedelta) -> str:
    """What the agent says is wrong: with itself, or else with its way to ``nodes`` (``down`` ones excused). Raises StepFailed."""
    try:
        words = inside.says_ok(await _ask(kube, pod, inside.STATUS, within))
        return words or inside.reaches(await _ask(kube, pod, inside.HEALTH, within), nodes, down=down)
    except Forbidden as error:
        raise StepFailed(f"the agent could not be asked: {error}; {_RIGHT}") from error
    except CallFailed as error:
        if not error.retryable:
            raise
        return f"the agent could not be asked: {error}"


async def _ask(kube: Kube, pod: Pod, argv: tuple[str, ...], within: timedelta) -> Executed:
    timeout = max(timedelta(seconds=1), min(_LONGEST, within))
    return await kube.exec(pod.name, pod.namespace, inside.CONTAINER, argv, timeout=timeout, limit=inside.LONGEST)
