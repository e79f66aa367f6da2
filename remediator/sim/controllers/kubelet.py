"""The kubelets: start the pods of their node, report on them, and remove those that are deleted.

In come bound pods; out come their statuses. A node whose kubelet is dead does nothing: pods stay as they are. How long things take is in
``Timing``; an annotation on the pod overrides it. Agent pods ask ``Cluster.agents`` whether the agent in them works.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from remediator.sim.objects import condition, dig, key_of, rfc3339, set_condition
from remediator.units import parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from remediator.sim.cluster import Cluster
    from remediator.sim.objects import Obj
    from remediator.sim.store import Change

__all__ = ["START_AFTER", "STOP_AFTER", "Kubelets", "report_running"]

START_AFTER = "controlplane/start-after"
STOP_AFTER = "controlplane/stop-after"
RUNS_FOR = "controlplane/runs-for"
"""Annotations; that of stopping is known to the real control plane's test bed (kwok) too, the last is about pods of Jobs."""
_STATES = ("PodScheduled", "Initialized", "ContainersReady", "Ready")


def report_running(pod: Obj, now: datetime, address: str, host: str, *, ready: bool) -> None:
    """Write into a clone that the pod's containers were started, and whether they are ready."""
    state = pod["status"]
    state.update(phase="Running", startTime=rfc3339(now), podIP=address, podIPs=[{"ip": address}])
    state.update(hostIP=host, hostIPs=[{"ip": host}])
    state["containerStatuses"] = [
        {
            "name": c["name"],
            "state": {"running": {"startedAt": rfc3339(now)}},
            "lastState": {},
            "ready": ready,
            "restartCount": 0,
            "image": c["image"],
            "imageID": "",
            "started": ready,
        }
        for c in pod["spec"]["containers"]
    ]
    for kind in _STATES:
        set_condition(pod, kind, str(ready or kind in ("PodScheduled", "Initialized")), now, lastProbeTime=None)


class Kubelets:
    """The kubelets of all nodes."""

    tables = (("", "pods"),)

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._busy: set[tuple[str, str]] = set()
        """(uid, what) of timers under way, so that each is set once."""

    def keys(self, change: Change) -> Iterable[tuple[str, str]]:
        """Every bound pod that changed."""
        return (key_of(change.obj),) if change.kind != "DELETED" and dig(change.obj, "spec.nodeName") else ()

    def reconcile(self, key: tuple[str, str]) -> None:
        """Start or stop one pod, if its kubelet lives."""
        pod = self._pod(key)
        if pod is None or not self.cluster.kubelet_alive(pod["spec"].get("nodeName", "")):
            return
        if "deletionTimestamp" in pod["metadata"]:
            if not pod["metadata"].get("finalizers"):
                self._later(pod, "stop", self._stop_time(pod), self._stop)
        elif dig(pod, "status.phase") == "Pending":
            self._later(pod, "start", self._time(pod, START_AFTER, self.cluster.timing.pod_start), self._start)

    def wake(self, node: str) -> None:
        """Look at every pod of a node again; for a kubelet that came back."""
        for pod in self.cluster.indexes.pods_on(node):
            if (condition(pod, "Ready") or {}).get("reason") == "NodeNotReady":
                self.set_ready(pod, ready=all(c.get("ready") for c in dig(pod, "status.containerStatuses") or ()))
            self.reconcile(key_of(pod))

    # --- starting ----------------------------------------------------------------------------------------------------

    def _start(self, pod: Obj) -> None:
        if dig(pod, "status.phase") != "Pending" or "deletionTimestamp" in pod["metadata"]:
            return
        copy = self.cluster.store.edit(self.cluster.kind("Pod"), pod)
        now = self.cluster.clock.now()
        agent = self.cluster.is_agent(pod)
        report_running(copy, now, self._address(pod), self.cluster.node_address(pod["spec"]["nodeName"]), ready=not agent)
        saved = self.cluster.store.replace(self.cluster.kind("Pod"), copy)
        if agent:
            self._later(saved, "ready", self.cluster.timing.agent_start, self._probe)
        if (end := self.cluster.jobs.end_of(saved)) is not None and end.after is not None:
            self._later(saved, "end", self._time(saved, RUNS_FOR, end.after), self._end)

    def _end(self, pod: Obj) -> None:
        """The containers of a Job's pod exit by themselves."""
        end = self.cluster.jobs.end_of(pod)
        if end is None or dig(pod, "status.phase") != "Running" or "deletionTimestamp" in pod["metadata"]:
            return
        now = self.cluster.clock.now()
        copy = self.cluster.store.edit(self.cluster.kind("Pod"), pod)
        copy["status"]["phase"] = "Failed" if end.exit_code else "Succeeded"
        reason = "Error" if end.exit_code else "Completed"
        for container in copy["status"]["containerStatuses"]:
            ended = {"exitCode": end.exit_code, "reason": reason, "finishedAt": rfc3339(now), "startedAt": copy["status"]["startTime"]}
            container.update(state={"terminated": ended}, ready=False, started=False)
            self.cluster.logs[pod["metadata"]["uid"], container["name"]] = [f"{rfc3339(now)} {line}" for line in end.log]
        for kind in ("ContainersReady", "Ready"):
            set_condition(copy, kind, "False", now, lastProbeTime=None, reason="PodFailed" if end.exit_code else "PodCompleted")
        self.cluster.store.replace(self.cluster.kind("Pod"), copy)

    def _probe(self, pod: Obj) -> None:
        """The first readiness probe of an agent."""
        fault = self.cluster.agents.fault_of(pod)
        if fault == "crash_loop":
            self.crash(pod)
        elif fault is None:
            self.set_ready(pod, ready=True)

    def _address(self, pod: Obj) -> str:
        if dig(pod, "spec.hostNetwork"):
            return self.cluster.node_address(pod["spec"]["nodeName"])
        return self.cluster.next_pod_address(pod["spec"]["nodeName"])

    # --- running -----------------------------------------------------------------------------------------------------

    def set_ready(self, pod: Obj, *, ready: bool) -> None:
        """Report a pod's containers ready or not."""
        copy = self.cluster.store.edit(self.cluster.kind("Pod"), pod)
        for kind in ("ContainersReady", "Ready"):
            why = {} if ready else {"reason": "ContainersNotReady"}
            set_condition(copy, kind, str(ready), self.cluster.clock.now(), lastProbeTime=None, **why)
            if ready:
                (condition(copy, kind) or {}).pop("reason", None)
        for container in copy["status"].get("containerStatuses") or ():
            container["ready"] = ready
            container["started"] = ready or container.get("started", False)
        self.cluster.store.replace(self.cluster.kind("Pod"), copy)

    def crash(self, pod: Obj) -> None:
        """Let the containers exit; the kubelet restarts them after a growing pause, as long as they are made to crash."""
        current = self._pod(key_of(pod))
        if current is None or current["metadata"]["uid"] != pod["metadata"]["uid"] or "deletionTimestamp" in current["metadata"]:
            return
        if not self.cluster.kubelet_alive(pod["spec"]["nodeName"]):
            return
        now = rfc3339(self.cluster.clock.now())
        copy = self.cluster.store.edit(self.cluster.kind("Pod"), current)
        restarts = 0
        for container in copy["status"].get("containerStatuses") or ():
            restarts = container["restartCount"] = container["restartCount"] + 1
            container["state"] = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off restarting failed container"}}
            container["lastState"] = {"terminated": {"exitCode": 1, "reason": "Error", "finishedAt": now}}
        saved = self.cluster.store.replace(self.cluster.kind("Pod"), copy)
        self.set_ready(saved, ready=False)
        pause = min(self.cluster.timing.crash_backoff * 2 ** min(restarts, 10), timedelta(minutes=5))
        self.cluster.loop.after(pause, self._restart, saved)

    def _restart(self, pod: Obj) -> None:
        current = self._pod(key_of(pod))
        if current is None or current["metadata"]["uid"] != pod["metadata"]["uid"]:
            return
        if self.cluster.agents.fault_of(current) == "crash_loop":
            self.crash(current)
            return
        copy = self.cluster.store.edit(self.cluster.kind("Pod"), current)
        for container in copy["status"].get("containerStatuses") or ():
            container["state"] = {"running": {"startedAt": rfc3339(self.cluster.clock.now())}}
        saved = self.cluster.store.replace(self.cluster.kind("Pod"), copy)
        self._later(saved, "ready", self.cluster.timing.agent_start, self._probe)

    # --- stopping ----------------------------------------------------------------------------------------------------

    def _stop_time(self, pod: Obj) -> timedelta:
        grace = timedelta(seconds=pod["metadata"].get("deletionGracePeriodSeconds") or 0)
        return min(self._time(pod, STOP_AFTER, self.cluster.timing.pod_stop), grace)

    def _stop(self, pod: Obj) -> None:
        if "deletionTimestamp" in pod["metadata"] and not pod["metadata"].get("finalizers"):
            self.cluster.store.remove(self.cluster.kind("Pod"), pod)

    # --- helpers -----------------------------------------------------------------------------------------------------

    def _pod(self, key: tuple[str, str]) -> Obj | None:
        return self.cluster.store.get(("", "pods"), key[1], key[0])

    def _time(self, pod: Obj, annotation: str, default: timedelta) -> timedelta:
        text = (pod["metadata"].get("annotations") or {}).get(annotation)
        return parse_duration(text) if text else default

    def _later(self, pod: Obj, what: str, delay: timedelta, action: Any) -> None:
        token = pod["metadata"]["uid"], what
        if self.cluster.booting:
            action(pod)
        elif token not in self._busy:
            self._busy.add(token)
            self.cluster.loop.after(delay, self._due, key_of(pod), token, action)

    def _due(self, key: tuple[str, str], token: tuple[str, str], action: Any) -> None:
        self._busy.discard(token)
        pod = self._pod(key)
        if pod is None or pod["metadata"]["uid"] != token[0]:
            return
        if self.cluster.kubelet_alive(pod["spec"]["nodeName"]):
            action(pod)
