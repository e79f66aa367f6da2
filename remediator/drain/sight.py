"""What a drain sees: one watch on the pods of the node, one on the budgets, one on the node itself, instead of a GET a second for each pod.

In: a Kube, a node's name. Out: pods by uid, budgets, the node; ``woken`` is set at every change. A re-list that the caller asks for from
time to time is the safety net for a watch that missed something: uids never come back, so what a list lacks is gone.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import TYPE_CHECKING, Self

from remediator.drain.budgets import key_of
from remediator.errors import KubeError
from remediator.kube import Handlers, Reflector, kinds
from remediator.kube.errors import Timeout
from remediator.kube.records import Node, Pod
from remediator.kube.workloads import PodDisruptionBudget

if TYPE_CHECKING:
    from types import TracebackType

    from remediator.clock import Clock
    from remediator.kube import Kube

__all__ = ["Sight"]

_FIRST = timedelta(seconds=60)
"""For the first lists, on the clock."""


class Sight:
    """Used as ``async with``; entered once pods and budgets were listed. ``follow_node`` begins the third watch."""

    def __init__(self, kube: Kube, clock: Clock, node: str) -> None:
        self.woken = asyncio.Event()
        self.pods: dict[str, Pod] = {}
        """By uid."""
        self.listed_at = clock.now()
        """When the API server last told all of the node's pods."""
        self._kube = kube
        self._clock = clock
        self._node = node
        self._fields = f"spec.nodeName={node}"
        self._pods = Reflector(kube, kinds.POD, Pod, clock=clock, fields=self._fields)
        self._budgets = Reflector(kube, kinds.PDB, PodDisruptionBudget, clock=clock)
        self._nodes = Reflector(kube, kinds.NODE, Node, clock=clock, fields=f"metadata.name={node}")
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._pods.subscribe(Handlers(added=self._put, updated=lambda _, pod: self._put(pod), deleted=self._drop))
        self._budgets.subscribe(Handlers(added=self._wake, updated=lambda _, budget: self._wake(budget), deleted=self._wake))
        self._nodes.subscribe(Handlers(added=self._wake, updated=lambda _, node: self._wake(node), deleted=self._wake))
        try:
            await self._start(self._pods, self._budgets)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._stack.aclose()

    async def follow_node(self) -> None:
        """Watch the node, from how it is now on."""
        await self._start(self._nodes)

    @property
    def node(self) -> Node | None:
        """As last seen; None if it was deleted. Only after ``follow_node``."""
        return self._nodes.get(self._node)

    @property
    def budgets(self) -> dict[str, PodDisruptionBudget]:
        """By namespace/name."""
        return {key_of(budget): budget for budget in self._budgets.items.values()}

    @property
    def budgets_are_fresh(self) -> bool:
        """Whether the budgets here can be relied on."""
        return self._budgets.stale_since is None

    async def list_again(self) -> None:
        """Ask for all pods of the node and follow what the answer says. Raises KubeError."""
        asked = self._clock.now()
        listing = await self._kube.list(kinds.POD, fields=self._fields, decode=Pod)
        now = {pod.uid: pod for pod in listing.items}
        for uid in self.pods.keys() - now.keys():
            del self.pods[uid]
        for uid, pod in now.items():
            known = self.pods.get(uid)
            if known is None or (pod.terminating and not known.terminating):
                self.pods[uid] = pod
        self.listed_at = asked
        self.woken.set()

    async def _start(self, *reflectors: Reflector[Pod] | Reflector[PodDisruptionBudget] | Reflector[Node]) -> None:
        for reflector in reflectors:
            await self._stack.enter_async_context(reflector)
        for reflector in reflectors:
            await self._first_list(reflector)

    async def _first_list(self, reflector: Reflector[Pod] | Reflector[PodDisruptionBudget] | Reflector[Node]) -> None:
        """Wait for it; what the server refuses for good is raised at once."""
        until = self._clock.now() + _FIRST
        while not reflector.synced.is_set():
            error = reflector.error
            if isinstance(error, KubeError) and not error.retryable:
                raise error
            if self._clock.now() >= until:
                raise error or Timeout(f"no list of {reflector.kind.plural} in time")
            waits = [asyncio.ensure_future(reflector.synced.wait()), asyncio.ensure_future(self._clock.sleep(timedelta(milliseconds=200)))]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()

    def _put(self, pod: Pod) -> None:
        self.pods[pod.uid] = pod
        self.woken.set()

    def _drop(self, pod: Pod) -> None:
        self.pods.pop(pod.uid, None)
        self.woken.set()

    def _wake(self, _: object) -> None:
        self.woken.set()
