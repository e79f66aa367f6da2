"""Who of several replicas leads: a Lease that the leader renews by a write, and that another takes once it stood still for its duration.

In: the lease's name, and who we are. Out: whether we lead, right now. Refused: nothing; an API server that does not answer leaves a standby
a standby, and makes a leader stop in time.

A lease has expired when it was not seen to change for as long as it lasts, on our own clock: what other machines write into ``renewTime``
is never compared with ours. A leader leads from the moment before it asked for its last successful write, for ``STOPS`` and no longer; the
others wait ``LASTS`` from the moment they saw that write, which is later. So there are never two, unless clocks run at speeds that differ
by half. The clock for it counts while the process or the machine stands still, and nobody sets it.
"""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import structlog

from remediator.errors import KubeError
from remediator.kube import kinds, records
from remediator.kube.errors import AlreadyExists, Conflict, NotFound

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from remediator.clock import Clock
    from remediator.kube.client import Kube

__all__ = ["EVERY", "LASTS", "STOPS", "Elector"]

log = structlog.get_logger(__name__)

LASTS = timedelta(seconds=12)
"""So long after its last write that was seen a leader is taken for gone."""
STOPS = timedelta(seconds=8)
"""So long after its last write a leader takes itself for one."""
EVERY = timedelta(seconds=2)
"""Between two looks or writes."""
_CALL = timedelta(seconds=4)
"""Real time that one look or write may take."""


def _ticks() -> float:
    """Seconds that also count what the machine slept through."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Elector:
    """One candidate. ``campaign`` until it leads, then ``keep`` until it does not, then no more of it: a loser makes a new one.

    ``identity`` must be another one in each life of a process, so that a restarted one does not take its own old lease for held.
    """

    def __init__(self, kube: Kube, clock: Clock, *, name: str, namespace: str, identity: str, ticks: Callable[[], float] = _ticks) -> None:
        self.identity = identity
        self.holder = ""
        """Who leads, as far as we last saw; empty: nobody."""
        self._kube = kube
        self._clock = clock
        self._name = name
        self._namespace = namespace
        self._ticks = ticks
        self._until: float | None = None
        self._version = ""
        self._seen: tuple[str, float] = ("", 0.0)
        """The version of the lease that was last seen, and since when."""
        self._trouble = ""

    @property
    def leads(self) -> bool:
        """Whether we lead at this moment. Once it was lost it does not come back."""
        return self._until is not None and self._ticks() < self._until

    async def campaign(self, fit: Callable[[], bool] = lambda: True) -> None:
        """Return when we lead. What cannot be asked or written is tried again. Whoever is not ``fit`` leaves it to others."""
        while True:
            try:
                if fit():
                    await self._within(self._try_to_take)
            except (KubeError, TimeoutError) as error:
                self._say(error)
            if self.leads:
                return
            await self._clock.sleep(EVERY)

    async def keep(self) -> str:
        """Renew until it is lost; in words, why."""
        while True:
            await self._clock.sleep(EVERY)
            if not self.leads:
                return self._lose(f"it could not be renewed in time{': ' if self._trouble else ''}{self._trouble}")
            try:
                lost = await self._within(self._renew)
            except (KubeError, TimeoutError) as error:
                self._say(error)
                continue
            if lost:
                return self._lose(lost)

    async def release(self) -> None:
        """Let another one lead at once. For a leader that does nothing any more; whoever lost it changes nothing."""
        if not self.leads:
            return
        self._until = None
        spec = {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _micro(self._clock.now())}
        try:
            async with asyncio.timeout(_CALL.total_seconds()):
                await self._patch(spec)
        except (KubeError, TimeoutError) as error:
            log.warning("the leader's lease was not given back; it ends by itself", lease=self._name, error=str(error))

    async def _within(self, work: Callable[[], Awaitable[str]]) -> str:
        async with asyncio.timeout(_CALL.total_seconds()):
            return await work()

    def _say(self, error: Exception) -> None:
        told = str(error) or "no answer in time"
        if told != self._trouble:
            log.warning("the leader's lease cannot be read or written", lease=f"{self._namespace}/{self._name}", error=told)
        self._trouble = told

    def _lose(self, why: str) -> str:
        self._until = None
        return why

    async def _try_to_take(self) -> str:
        began = self._ticks()
        now = self._clock.now()
        fresh = {**self._fresh(now), "acquireTime": _micro(now)}
        try:
            found = await self._kube.get(kinds.LEASE, self._name, self._namespace, decode=records.Lease)
        except NotFound:
            if not self._stood_still("none", LASTS.total_seconds()):
                return ""  # whoever held one that was deleted may not know it yet
            body = {"metadata": {"name": self._name, "namespace": self._namespace}, "spec": {**fresh, "leaseTransitions": 0}}
            try:
                stored = await self._kube.create(kinds.LEASE, body, self._namespace)
            except AlreadyExists:
                return ""
            return self._wrote(stored, began)
        self._version = found.metadata.resource_version
        self.holder = found.spec.holder_identity or ""
        self._trouble = ""
        lasts = found.spec.lease_duration_seconds
        # A shorter one would be somebody's edit: a leader of ours does not hear of it before it renews.
        still = self._stood_still(self._version, max(lasts or 0, LASTS.total_seconds()))
        if self.holder not in ("", self.identity) and not still:
            return ""
        transitions = found.spec.lease_transitions + (self.holder != self.identity)
        try:
            return self._wrote(await self._patch({**fresh, "leaseTransitions": transitions}), began)
        except (Conflict, NotFound):
            return ""  # somebody was faster

    def _stood_still(self, version: str, seconds: float) -> bool:
        """Whether the lease was seen at this version for so long."""
        if version != self._seen[0]:
            self._seen = (version, self._ticks())
        return self._ticks() - self._seen[1] >= seconds

    async def _renew(self) -> str:
        """Empty, or why it is ours no more."""
        began = self._ticks()
        try:
            self._wrote(await self._patch(self._fresh(self._clock.now())), began)
        except NotFound:
            return "somebody deleted the lease"
        except Conflict:
            try:
                found = await self._kube.get(kinds.LEASE, self._name, self._namespace, decode=records.Lease)
            except NotFound:
                return "somebody deleted the lease"
            self.holder = found.spec.holder_identity or ""
            if self.holder != self.identity:
                return f"{self.holder or 'nobody'} holds the lease"
            self._version = found.metadata.resource_version  # a write of ours whose answer was lost, or somebody's label
            began = self._ticks()
            try:
                self._wrote(await self._patch(self._fresh(self._clock.now())), began)
            except (Conflict, NotFound):
                return ""  # the next round looks again
        return ""

    def _fresh(self, now: datetime) -> dict[str, Any]:
        return {"holderIdentity": self.identity, "leaseDurationSeconds": int(LASTS.total_seconds()), "renewTime": _micro(now)}

    async def _patch(self, spec: dict[str, Any]) -> dict[str, Any]:
        """Only if nobody touched it since it was last seen. Raises Conflict, NotFound and other KubeErrors."""
        body = {"metadata": {"resourceVersion": self._version}, "spec": spec}
        return await self._kube.patch(kinds.LEASE, self._name, body, self._namespace, type="merge")

    def _wrote(self, stored: dict[str, Any], began: float) -> str:
        self._version = stored["metadata"]["resourceVersion"]
        if self._until is not None and not self.leads:
            return ""  # too late: whoever asked meanwhile was told that we lead no more, and acted on it
        self._until = began + STOPS.total_seconds()
        self.holder = self.identity
        self._trouble = ""
        return ""


def _micro(moment: datetime) -> str:
    """MicroTime has exactly six digits."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
