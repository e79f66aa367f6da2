"""Jobs: pods until enough of them succeeded, too many failed, or time is up; an ended one goes when its TTL is over.

In come Jobs and their pods; out come pods and statuses. How their containers end is told beforehand (``Jobs.tell``); after one that failed
a new pod comes at once, without the pause of the real controller.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from remediator.sim.controllers.templates import new_pod
from remediator.sim.deletion import Deletion, start_deletion
from remediator.sim.objects import condition, controller_of, dig, key_of, namespace_of, parse_rfc3339, rfc3339, set_condition

if TYPE_CHECKING:
    from collections.abc import Iterable

    from remediator.sim.cluster import Cluster
    from remediator.sim.objects import Obj
    from remediator.sim.store import Change

__all__ = ["JobController", "JobEnd", "Jobs"]

_JOBS, _PODS = ("batch", "jobs"), ("", "pods")


@dataclass(frozen=True)
class JobEnd:
    """How the containers of a Job's pods end."""

    after: timedelta | None = timedelta(seconds=5)
    """Since their start; None: never."""
    exit_code: int = 0
    log: tuple[str, ...] = ()
    """Lines that each of them writes."""


@dataclass
class Jobs:
    """What somebody told beforehand, by glob of a Job's name; the newest word counts."""

    told: list[tuple[str, JobEnd]] = field(default_factory=list)

    def tell(self, named: str, end: JobEnd) -> None:
        """From now on pods of such Jobs end so."""
        self.told.insert(0, (named, end))

    def end_of(self, pod: Obj) -> JobEnd | None:
        """How a pod ends; None for one that belongs to no Job."""
        owner = controller_of(pod)
        if owner is None or owner["kind"] != "Job":
            return None
        return next((end for named, end in self.told if fnmatchcase(str(owner["name"]), named)), JobEnd())


class JobController:
    """Keeps the pods of Jobs."""

    tables = (_JOBS, _PODS)

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def keys(self, change: Change) -> Iterable[tuple[str, str]]:
        """The Job itself or that of a pod."""
        if change.table == _JOBS:
            return (key_of(change.obj),) if change.kind != "DELETED" else ()
        owner = controller_of(change.obj)
        return ((namespace_of(change.obj), owner["name"]),) if owner and owner["kind"] == "Job" else ()

    def reconcile(self, key: tuple[str, str]) -> None:
        """Make missing pods, or end it; write the status."""
        job = self.cluster.store.get(_JOBS, key[1], key[0])
        if job is None or "deletionTimestamp" in job["metadata"] or dig(job, "spec.suspend"):
            return
        now = self.cluster.clock.now()
        if ended := condition(job, "Complete") or condition(job, "Failed"):
            self._retire(job, ended)
            return
        pods = self.cluster.indexes.owned_by(job["metadata"]["uid"], _PODS)
        succeeded, failed = (sum(dig(pod, "status.phase") == phase for pod in pods) for phase in ("Succeeded", "Failed"))
        active = [p for p in pods if "deletionTimestamp" not in p["metadata"] and dig(p, "status.phase") in ("Pending", "Running")]
        began = parse_rfc3339(dig(job, "status.startTime") or rfc3339(now))
        longest = dig(job, "spec.activeDeadlineSeconds")
        if not dig(job, "status.startTime") and longest is not None:
            self.cluster.loop.after(timedelta(seconds=longest), self.cluster.loop.enqueue, self, key)
        why = None
        if failed > dig(job, "spec.backoffLimit", 6):
            why = "BackoffLimitExceeded", "Job has reached the specified backoff limit"
        elif longest is not None and now - began >= timedelta(seconds=longest):
            why = "DeadlineExceeded", "Job was active longer than specified deadline"
        complete = succeeded >= dig(job, "spec.completions", 1)
        if why or complete:
            for pod in active:
                start_deletion(self.cluster.store, self.cluster.kind("Pod"), pod, Deletion())
            active = []
        missing = 0 if why or complete else min(dig(job, "spec.parallelism", 1), dig(job, "spec.completions", 1) - succeeded) - len(active)
        for _ in range(missing):
            active.append(self.cluster.create_pod(new_pod(job, {})))
        self._write(job, began=rfc3339(began), active=active, succeeded=succeeded, failed=failed, why=why, complete=complete)

    def _write(
        self, job: Obj, *, began: str, active: list[Obj], succeeded: int, failed: int, why: tuple[str, str] | None, complete: bool
    ) -> None:
        now = self.cluster.clock.now()
        copy = self.cluster.store.edit(self.cluster.kind("Job"), job)
        ready = sum((condition(pod, "Ready") or {}).get("status") == "True" for pod in active)
        counts = {"active": len(active), "succeeded": succeeded, "failed": failed}
        kept = {key: dig(job, f"status.{key}") for key in ("conditions", "completionTime") if dig(job, f"status.{key}")}
        copy["status"] = {"startTime": began, "ready": ready, "terminating": 0, **{k: v for k, v in counts.items() if v}, **kept}
        if why:
            for kind in ("FailureTarget", "Failed"):
                set_condition(copy, kind, "True", now, lastProbeTime=rfc3339(now), reason=why[0], message=why[1])
        elif complete:
            message = "Reached expected number of succeeded pods"
            for kind in ("SuccessCriteriaMet", "Complete"):
                set_condition(copy, kind, "True", now, lastProbeTime=rfc3339(now), reason="CompletionsReached", message=message)
            copy["status"]["completionTime"] = rfc3339(now)
        self.cluster.store.replace(self.cluster.kind("Job"), copy)

    def _retire(self, job: Obj, ended: Obj) -> None:
        ttl = dig(job, "spec.ttlSecondsAfterFinished")
        if ttl is None:
            return
        left = parse_rfc3339(ended["lastTransitionTime"]) + timedelta(seconds=ttl) - self.cluster.clock.now()
        if left <= timedelta(0):
            start_deletion(self.cluster.store, self.cluster.kind("Job"), job, Deletion(propagation="Background"))
        else:
            self.cluster.loop.after(left, self.cluster.loop.enqueue, self, key_of(job))
