"""What the playbooks have to work with here: rights, kinds, the version of Cilium, metrics. For the status and the log; it refuses nothing.

In: the world. Out: words, as things stood at the last look. What cannot be asked stays as it was, and the next look asks again. No look
holds up the start, and each question has a deadline.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from remediator.cilium.version import read_versions
from remediator.errors import KubeError, MonitoringError
from remediator.proofs import unmeasured
from remediator.rights import lacking
from remediator.server.service import Unavailable

if TYPE_CHECKING:
    from remediator.world import World

__all__ = ["Surroundings"]

log = structlog.get_logger(__name__)
_FOR_METRICS = 60.0
"""Real seconds for the questions about the metrics of all playbooks."""


class Surroundings:
    """How things stood when somebody last looked."""

    def __init__(self, world: World) -> None:
        self.lacks: dict[str, str] = {}
        """Playbook -> the rights that our account lacks for it."""
        self.absent: dict[str, str] = {}
        """Playbook -> the kinds that it needs and the cluster does not serve."""
        self.cilium = "not asked yet"
        self._world = world
        self._measured = ""
        """The revision of the playbooks whose metrics were asked for."""

    @property
    def unavailable(self) -> tuple[Unavailable, ...]:
        """Playbooks that cannot work, for the status."""
        names = sorted(self.lacks.keys() | self.absent.keys())
        return tuple(Unavailable(playbook=name, missing=self.lacks.get(name, ""), absent=self.absent.get(name, "")) for name in names)

    async def look(self) -> None:
        """At all of it."""
        await self.look_at_rights()
        await self._look_at_cilium()
        await self._look_at_metrics()

    async def look_at_rights(self) -> None:
        """Which playbooks lack a right or a kind; the gate asks for rights by itself."""
        rights, playbooks = self._world.rights, self._world.library.playbooks
        if rights is None:
            return
        try:
            found = {one.name: lacking(await rights.missing(one)) for one in playbooks}
            kinds = {one.name: ", ".join(await rights.absent(one)) for one in playbooks}
        except KubeError as error:
            log.warning("what our account may do could not be asked", error=str(error))
            return
        lacks = {name: words for name, words in found.items() if words}
        for name in sorted(lacks.keys() - self.lacks.keys()):
            log.warning("a playbook cannot work: our account lacks rights", playbook=name, missing=lacks[name])
        absent = {name: words for name, words in kinds.items() if words}
        for name in sorted(absent.keys() - self.absent.keys()):
            log.warning("a playbook cannot work: the cluster does not serve its kinds", playbook=name, absent=absent[name])
        self.lacks, self.absent = lacks, absent

    async def _look_at_cilium(self) -> None:
        """Told when it is not what it was at the last look."""
        where = self._world.cilium
        try:
            found = await read_versions(self._world.kube, where.namespace, where.agent_selector)
        except KubeError as error:
            words, trouble = f"its version cannot be read: {error}", True
        else:
            words, trouble = str(found), bool(found.trouble)
            self._world.agents = found.agents
        words = self._world.redact.text(words)
        if words != self.cilium:
            tell = log.warning if trouble else log.info
            tell("version of Cilium", cilium=words)
        self.cilium = words

    async def _look_at_metrics(self) -> None:
        """Which playbooks could prove nothing: once for each set of playbooks, as soon as Prometheus answers."""
        prometheus, library = self._world.prometheus, self._world.library
        if prometheus is None or self._measured == library.revision:
            return
        try:
            async with asyncio.timeout(_FOR_METRICS):
                found = await unmeasured(prometheus, library.playbooks)
        except (MonitoringError, TimeoutError) as error:
            words = str(error) or f"no answer to all questions within {_FOR_METRICS:g} s"
            log.warning("Prometheus could not be asked for the metrics that playbooks need", error=words)
            return
        self._measured = library.revision
        for name, metrics in found.items():
            log.warning("a playbook could prove nothing here: Prometheus has none of its metrics", playbook=name, metrics=list(metrics))
