"""``node.drain`` as a run takes it: through ``run_step``, with a journal on disk, gates judged again, and every change written down first.

In comes a copy of a state; out comes an ``Outcome``. What it refused is read from the step's end and from its evidence, as people read it.
"""

from __future__ import annotations

import re
import time
from contextlib import asynccontextmanager
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from differential.outcome import Before, Outcome, in_time, look
from plugins.stage import Stage

from remediator.actions import Cilium, actions
from remediator.clock import SystemClock
from remediator.errors import DocumentError
from remediator.gates import Limits, gates
from remediator.journal import Journal, Redactor
from remediator.kube import Kube
from remediator.model import Mode
from remediator.playbook import Library, load_playbook
from remediator.run import StepEnd
from remediator.settings import Breaker, Share
from remediator.world import World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from differential.cluster import Cluster
    from differential.copies import Copy
    from differential.states import Flags

__all__ = ["Ours", "parameters", "refusals"]

_KEY = re.compile(r"[\w.-]+/[\w.-]+")
_PART = re.compile(r"(?:^|; |^evictable: )(pdb|unmanaged_pods|local_storage): ")
_ENDS = {
    "blocked_by_pdb": "pdb",
    "multi_pdb": "pdb",
    "stuck_terminating": "deadline",
    "leaving": "deadline",
    "left": "deadline",
    "forbidden": "step_failed",
    "failed": "step_failed",
}


def parameters(flags: Flags) -> dict[str, Any]:
    """kubectl's flags as the action's parameters; what is not asked for is not named."""
    given = {"force": flags.force, "delete_emptydir_data": flags.delete_emptydir_data, "grace_period": flags.grace_period}
    return {name: value for name, value in given.items() if value not in (None, False) or (name == "grace_period" and value == 0)}


def refusals(reason: str, detail: str, results: list[dict[str, Any]], workload: dict[str, str]) -> frozenset[tuple[str, str]]:
    """(reason code, workload) of everything that kept the step from its end.

    ``results``: the step's evidence ``pods``, there once it began to change something; before that its words name the pods.
    """
    found = {(_ENDS[one["outcome"]], workload[one["pod"]]) for one in results if one["outcome"] in _ENDS and one["pod"] in workload}
    if not results:
        parts = _PART.split(detail)
        for code, words in zip(parts[1::2], parts[2::2], strict=True):
            found |= {(code, workload[key]) for key in _KEY.findall(words) if key in workload}
    return frozenset(found or {(reason, "")})


WIDE = Limits(
    concurrent_runs=100,
    concurrent_disruptive=100,
    concurrent_per_zone=100,
    disruptive_per_hour=10_000,
    max_disturbed=Share(percent=100),
    breaker=Breaker(failures=1000, runs=10_000),
)
"""kubectl knows nothing of what else goes on in the cluster, and here it is many drains at once."""


class Ours:
    """Remediator as one of those who drain."""

    def __init__(self, cluster: Cluster, stage: Stage) -> None:
        self.cluster = cluster
        self._stage = stage

    @classmethod
    @asynccontextmanager
    async def working(cls, cluster: Cluster, *, kubeconfig: Path, folder: Path) -> AsyncIterator[Ours]:
        """With the doors and the journal that it takes."""
        clock = SystemClock()
        journal = await Journal.open(f"sqlite:///{folder}/ours.db", clock=clock)
        kube = await Kube.connect(kubeconfig=kubeconfig)
        world = World(
            clock=clock,
            journal=journal,
            kube=kube,
            prometheus=None,
            alertmanager=None,
            redact=Redactor(),
            cilium=Cilium(),
            limits=WIDE,
            dry_run=False,
            mode_of=lambda _: Mode.AUTO,
            library=Library(),
            load_revision=partial(load_playbook, actions=actions(), gates=gates()),
        )
        try:
            yield cls(cluster, Stage(SimpleNamespace(cluster=None), world))
        finally:
            await kube.close()
            await journal.close()

    async def drain(self, copy: Copy, before: Before) -> Outcome:
        """Carry the step to its end; what it did, and what it said."""
        began = time.monotonic()
        flags = copy.state.flags
        try:
            ended = await self._stage.step("node.drain", node=copy.home, lasting=f"{flags.timeout}s", **parameters(flags))
        except DocumentError as error:  # the playbook is refused before there is a run
            return await self._outcome(copy, before, began, drained=False, refusals=frozenset({("parameters", "")}), said=str(error))
        said = f"{ended.end} {ended.reason}: {ended.detail}"
        if ended.end is StepEnd.SUCCEEDED:
            return await self._outcome(copy, before, began, drained=True, refusals=frozenset(), said=said)
        assert ended.end in (StepEnd.FAILED, StepEnd.REFUSED), said  # by itself, or by its gate
        results = next((e.data for e in ended.run.steps[0].evidence if e.name == "pods"), [])
        no = refusals(str(ended.reason), ended.detail, results, dict(before.workload))
        return await self._outcome(copy, before, began, drained=False, refusals=no, said=said)

    async def _outcome(self, copy: Copy, before: Before, began: float, **ended: Any) -> Outcome:
        seconds = time.monotonic() - began
        fates, cordoned = await look(self.cluster, copy, before)
        kept = in_time(seconds, copy.state.flags)
        return Outcome(fates=fates, cordoned=cordoned, seconds=seconds, in_time=kept, **ended)
