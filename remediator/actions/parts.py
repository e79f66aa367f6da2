"""Pieces of evidence as they come: what was read is attached, what could not be read is named with its reason.

In: readings of the cluster. Out: evidence of the step, each of bounded size. A reading that fails stops nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remediator.errors import KubeError, MonitoringError, Refused, StepFailed, UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from remediator.actions import Context
    from remediator.kube.records import Pod

__all__ = ["Parts", "logs_of", "outline", "sickest_first"]

_LOG_BYTES = 24 * 1024
"""Of one container: two of them fit into one piece of evidence."""
_NOT_READ = (KubeError, MonitoringError, Refused, StepFailed, UsageError)


class Parts:
    """Pieces of evidence as they come, and what could not be read."""

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self.got: list[str] = []
        self.missing: dict[str, str] = {}

    async def keep(self, name: str, reading: Awaitable[Any]) -> Any:
        """Attach what ``reading`` gives; None if it cannot be read."""
        found = await self.read(name, reading)
        if name not in self.missing:
            self.ctx.evidence(name, found)
            self.got.append(name)
        return found

    async def read(self, name: str, reading: Awaitable[Any]) -> Any:
        """As ``keep``, for what is looked at further before it is kept."""
        try:
            return await reading
        except _NOT_READ as error:
            self.missing[name] = str(error)
            return None

    def said(self) -> str:
        """In one sentence, with what is missing kept as evidence."""
        if self.missing:
            self.ctx.evidence("not collected", self.missing)
        words = f"collected {', '.join(self.got) or 'nothing'}"
        return words + (f"; not: {', '.join(self.missing)}" if self.missing else "")


def outline(pod: Pod) -> dict[str, Any]:
    """What is worth keeping of a pod."""
    exits = {one.name: one.state.terminated.exit_code for one in pod.statuses if one.state.terminated is not None}
    return {
        "name": pod.name,
        "namespace": pod.namespace,
        "uid": pod.uid,
        "node": pod.node_name,
        "phase": pod.phase,
        "ready": pod.ready,
        "terminating": pod.terminating,
        "restarts": pod.restarts,
        "waiting": [one for one in pod.waiting if one],
        **({"exit codes": exits} if exits else {}),
    }


def sickest_first(pods: Sequence[Pod]) -> list[Pod]:
    """Those that are not ready, then those that were restarted most."""
    return sorted(pods, key=lambda pod: (pod.ready, -pod.restarts, pod.name))


async def logs_of(parts: Parts, pod: Pod, lines: int) -> None:
    """The last ``lines`` of every container, and of the one before where it was restarted."""
    for container in pod.spec.containers:
        status = next((one for one in pod.statuses if one.name == container.name), None)
        for previous in (False, True) if status is not None and status.restart_count else (False,):
            what = f"log {pod.name}/{container.name}{' (previous)' if previous else ''}"
            await parts.keep(
                what,
                parts.ctx.kube.logs(pod.name, pod.namespace, container.name, lines=lines, limit=_LOG_BYTES, previous=previous),
            )
