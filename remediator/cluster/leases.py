"""Our own lease on a node, by which other tools see that it is being worked on (the convention of medik8s: ``node-NAME``).

In: a run that is about to disturb a node. Out: the lease, renewed until the run ends or it is lost. Refused: a node another tool holds.
Where the namespace of these leases does not exist nobody would look for one, and none is taken. A daemon that dies renews nothing, so its
lease ends by itself.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import structlog

from remediator.cluster.lease import HOLDER, valid
from remediator.cluster.read import LEASES
from remediator.errors import KubeError, NotLeading
from remediator.kube import kinds, records
from remediator.kube.errors import AlreadyExists, Conflict, NotFound

if TYPE_CHECKING:
    from datetime import datetime

    from remediator.clock import Clock
    from remediator.kube import Kube

__all__ = ["Leases"]

log = structlog.get_logger(__name__)

_LASTS = timedelta(minutes=5)
"""So long after its last renewal a dead daemon still holds a node."""
_EVERY = _LASTS / 3
_TRIES = 3


class _Hold:
    """One node that a run holds."""

    def __init__(self, kube: Kube, clock: Clock, node: str) -> None:
        self.kube, self.clock, self.node = kube, clock, node
        self.renewed = clock.now()
        self.version = ""
        self.lost = ""
        self.task: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        return f"node-{self.node}"

    async def patch(self, spec: dict[str, Any]) -> None:
        """Only if nobody touched it since. Raises Conflict, NotFound and other KubeErrors."""
        body = {"metadata": {"resourceVersion": self.version}, "spec": spec}
        stored = await self.kube.patch(kinds.LEASE, self.name, body, LEASES, type="merge")
        self.version = stored["metadata"]["resourceVersion"]

    async def take(self) -> str:
        """Empty once it is ours, else who holds it."""
        for _ in range(_TRIES):
            try:
                return await self._take()
            except (AlreadyExists, Conflict, NotFound):
                continue  # somebody was faster; look again
        return f"others are after the lease {LEASES}/{self.name} too"

    async def _take(self) -> str:
        now = self.clock.now()
        fresh = {"holderIdentity": HOLDER, "leaseDurationSeconds": int(_LASTS.total_seconds()), "renewTime": _micro(now)}
        try:
            found = await self.kube.get(kinds.LEASE, self.name, LEASES, decode=records.Lease)
        except NotFound:
            metadata = {"name": self.name, "namespace": LEASES}
            stored = await self.kube.create(kinds.LEASE, {"metadata": metadata, "spec": {**fresh, "acquireTime": _micro(now)}}, LEASES)
            self.version = stored["metadata"]["resourceVersion"]
            self.renewed = now
            return ""
        if words := _foreign(found.spec, now):
            return words
        self.version = found.metadata.resource_version
        mine = found.spec.holder_identity == HOLDER
        await self.patch(
            fresh if mine else {**fresh, "acquireTime": _micro(now), "leaseTransitions": found.spec.lease_transitions + 1},
        )
        self.renewed = now
        return ""

    async def _renew(self) -> str:
        """Empty, or why it is ours no more: whoever had it meanwhile may have left the node in any state."""
        now = self.clock.now()
        try:
            await self.patch({"renewTime": _micro(now)})
        except (Conflict, NotFound):
            try:
                found = await self.kube.get(kinds.LEASE, self.name, LEASES, decode=records.Lease)
            except NotFound:
                return "somebody deleted the lease on the node"
            if found.spec.holder_identity != HOLDER:
                return f"{found.spec.holder_identity or 'nobody'} holds the lease on the node"
            self.version = found.metadata.resource_version
            await self.patch({"renewTime": _micro(now)})
        self.renewed = now
        return ""

    async def keep(self) -> None:
        """Renew it until it is lost."""
        while not self.lost:
            await self.clock.sleep(_EVERY)
            try:
                self.lost = await self._renew()
            except (KubeError, NotLeading) as error:
                log.warning("the lease on the target could not be renewed", node=self.node, error=str(error))

    def why_lost(self) -> str:
        """Empty while it is ours."""
        if not self.lost and self.clock.now() > self.renewed + _LASTS:
            return "it could not be renewed in time"
        return self.lost


class Leases:
    """What the runs of this process hold."""

    def __init__(self) -> None:
        self._held: dict[str, _Hold] = {}

    async def take(self, kube: Kube, clock: Clock, node: str, run: str) -> str:
        """Hold ``node`` for ``run`` until ``release``; empty if it does (or need not), else why not. Raises KubeError."""
        if run in self._held:
            return self.lost(run)
        try:
            await kube.get(kinds.NAMESPACE, LEASES)
        except NotFound:
            return ""
        hold = _Hold(kube, clock, node)
        words = await hold.take()
        if not words:
            hold.task = asyncio.create_task(hold.keep(), name=f"lease of {run}")
            self._held[run] = hold
        return words

    def holds(self, run: str) -> bool:
        """Whether it took one, lost or not."""
        return run in self._held

    def lost(self, run: str) -> str:
        """Why ``run`` must send nothing more; empty while it may."""
        hold = self._held.get(run)
        return hold.why_lost() if hold is not None else ""

    async def release(self, run: str) -> None:
        """The run ended: let it lapse, unless somebody else has it."""
        hold = self._held.pop(run, None)
        if hold is None:
            return
        await _ended(hold)
        if hold.why_lost():
            return
        try:
            await hold.patch({"holderIdentity": None, "renewTime": _micro(hold.clock.now() - 2 * _LASTS)})
        except (KubeError, NotLeading) as error:
            log.warning("the lease on the target was not given back; it ends by itself", node=hold.node, error=str(error))

    async def close(self) -> None:
        """The daemon stops: what its runs hold goes on for as long as it lasts, so that the next start finds it."""
        for hold in self._held.values():
            await _ended(hold)
        self._held.clear()


async def _ended(hold: _Hold) -> None:
    if hold.task is not None:
        hold.task.cancel()
        await asyncio.wait([hold.task])


def _foreign(spec: records.LeaseSpec, now: datetime) -> str:
    renewed, seconds = spec.renew_time or spec.acquire_time, spec.lease_duration_seconds
    if spec.holder_identity in (None, "", HOLDER):
        return ""
    if renewed is not None and seconds is not None and not valid(renewed, timedelta(seconds=seconds), now):
        return ""
    return f"{spec.holder_identity} holds the lease on the node"


def _micro(moment: datetime) -> str:
    """MicroTime has exactly six digits."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
