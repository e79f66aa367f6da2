"""What a test file says that happens, done to a running simulation.

In: one Happening and the simulation. Out: nothing; the simulation is different. What people ask of the daemon is not done here, but over
HTTP (rehearsal.py). Refused with UsageError: a node or an object that is not there.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from remediator.errors import UsageError
from remediator.sim import happenings as sim_happenings
from remediator.sim.alerting.alert import Alert
from remediator.sim.alerting.rules import Rule
from remediator.sim.controllers import JobEnd
from remediator.sim.objects import Obj, clone
from remediator.sim.patches import merge_patch
from remediator.sim.prometheus.parse import QueryError, parse
from remediator.sim.prometheus.series import Sample
from remediator.sim.status import ApiError
from remediator.testing.cases import labels_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from remediator.sim import Simulation
    from remediator.sim.cluster import Cluster
    from remediator.sim.prometheus.server import Prometheus
    from remediator.testing.cases import Failing, Fires, Happening, JobEnds, OneLink, OneNode, OneSession, OneZone

__all__ = ["World", "of_people"]

_PEOPLE = frozenset({"run", "approve", "reject", "cancel", "undo", "pause", "resume"})
_FAR = timedelta(days=30)
"""From now until the end of an alert that nobody has ended yet."""


def of_people(happening: Happening) -> bool:
    """Whether it is something that a person says to the daemon."""
    return happening.what[0] in _PEOPLE


class World:
    """What a test does to its simulated cluster."""

    def __init__(self, simulation: Simulation) -> None:
        self._sim = simulation
        self._cluster = simulation.cluster
        self._metrics: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        simulation.rules.rules.clear()  # only what the test says fires
        simulation.prometheus.extra.append(self._samples)

    def create(self, obj: Obj) -> None:
        """An object that is there before anything happens, or that somebody creates. Raises UsageError."""
        try:
            self._cluster.create(clone(obj), manager="people")
        except (ApiError, KeyError, TypeError, AttributeError) as error:
            what = f"{obj.get('kind', 'an object')} {(obj.get('metadata') or {}).get('name', '')}".rstrip()
            raise UsageError(f"{what} cannot be created: {error}") from error

    def measure(self, series: str, value: float | None) -> None:
        """From the next scrape on a series has that value; None: it ends."""
        name, labels = labels_of(series) or (series, {})
        key = name, tuple(sorted(labels.items()))
        if value is None:
            self._metrics.pop(key, None)
        else:
            self._metrics[key] = value

    def do(self, happening: Happening) -> None:
        """Let it happen now. Raises UsageError."""
        name = happening.what[0]
        _DEEDS[name](self, getattr(happening, name))

    # --- alerts ------------------------------------------------------------------------------------------------------

    def fire(self, fires: Fires) -> None:
        """Raise an alert; where it depends on a query, from the first evaluation on that gives anything."""
        if fires.query is not None:
            self._sim.rules.rules.append(_while(fires, fires.query))
            self._sim.rules.evaluate()
            return
        now = self._cluster.clock.now()
        self._sim.alertmanager.receive([Alert(fires.labels, fires.annotations, now, now + _FAR, now)])

    def resolve(self, labels: dict[str, str]) -> None:
        """End what carries these labels. Raises UsageError if nothing does."""
        now = self._cluster.clock.now()
        ended = [one for one in self._sim.alertmanager.open_alerts() if labels.items() <= one.labels.items()]
        if not ended:
            raise UsageError(f"no alert with the labels {labels} fires")
        self._sim.alertmanager.receive([Alert(one.labels, one.annotations, one.starts_at, now, now) for one in ended])

    # --- the cluster -------------------------------------------------------------------------------------------------

    def node(self, name: str) -> str:
        """The name, if there is such a node. Raises UsageError."""
        if name not in self._cluster.node_names():
            raise UsageError(f"there is no node {name}; there are {', '.join(self._cluster.node_names())}")
        return name

    def existing(self, ref: str) -> tuple[Any, Obj]:
        """The resource and the stored object. Raises UsageError."""
        kind, *namespace, name = ref.split("/")
        resource = self._cluster.kind(kind)
        found = self._cluster.store.get(resource, name, *namespace)
        if found is None:
            raise UsageError(f"there is no {ref}")
        return resource, found

    def edit(self, ref: str, merge: dict[str, Any]) -> None:
        """A merge patch by somebody else."""
        resource, found = self.existing(ref)
        self._cluster.store.replace(resource, {**merge_patch(self._cluster.store.edit(resource, found), merge)})

    def end_jobs(self, end: JobEnds) -> None:
        """How Jobs end from now on."""
        self._cluster.jobs.tell(end.named, JobEnd(None if end.after == "never" else end.after, end.exit_code, end.log))

    def remove(self, ref: str) -> None:
        """Somebody else deletes an object, and nothing holds it back."""
        resource, found = self.existing(ref)
        self._cluster.store.remove(resource, found)

    def hang_envoy(self, node: str) -> None:
        """The Envoy pod of a node is not ready any more; a new one is. Raises UsageError."""
        metadata = [(pod, pod["metadata"]) for pod in self._cluster.indexes.pods_on(self.node(node))]
        envoys = [pod for pod, data in metadata if _is_envoy(data.get("labels") or {}) and "deletionTimestamp" not in data]
        if not envoys:
            raise UsageError(f"there is no cilium-envoy on {node}")
        self._cluster.kubelets.set_ready(envoys[0], ready=False)

    def cut_off(self, nodes: Iterable[str]) -> None:
        """A partition."""
        self._cluster.partition(*(self.node(node) for node in nodes))

    def slow_node(self, how: OneNode) -> None:
        """See Network.degrade_node."""
        self._cluster.network.degrade_node(self.node(how.node), **_worse(how))

    def slow_link(self, how: OneLink) -> None:
        """See Network.degrade_link."""
        one, other = how.between
        self._cluster.network.degrade_link(self.node(one), self.node(other), **_worse(how))

    def slow_zone(self, how: OneZone) -> None:
        """See Network.degrade_zone. Raises UsageError for a zone without nodes."""
        zones = set(self._cluster.node_zones().values())
        if how.zone not in zones:
            raise UsageError(f"there is no zone {how.zone}; there are {', '.join(sorted(zones))}")
        self._cluster.network.degrade_zone(how.zone, **_worse(how))

    def fail_session(self, which: OneSession) -> None:
        """That node, or every one, and the router do not reach each other. Raises UsageError for a router that nobody speaks with."""
        self._cluster.bgp.cut.add(self._session(which))

    def return_session(self, which: OneSession) -> None:
        """They do again. Raises UsageError if they did all the time."""
        session = self._session(which)
        if session not in self._cluster.bgp.cut:
            raise UsageError(f"the session of {which.node or 'every node'} with {which.router} has not failed")
        self._cluster.bgp.cut.remove(session)

    def _session(self, which: OneSession) -> tuple[str, str]:
        routers = self._cluster.bgp.routers()
        if which.router not in routers:
            raise UsageError(f"there is no router {which.router}; there are {', '.join(routers)}")
        return (self.node(which.node) if which.node else "*", which.router)

    def hold_budget(self, ref: str) -> None:
        """A budget that never yields."""
        self.existing(ref)
        _, namespace, name = ref.split("/")
        self._cluster.hold_budget(name, namespace)

    def recover(self, _: bool) -> None:  # noqa: FBT001 - the value of the key, which can only be true
        """Take back every fault of cluster, network and Prometheus."""
        self._cluster.heal()
        self._sim.prometheus.unreachable.clear()
        self._sim.prometheus.scraping = True

    def stop_scraping(self, _: bool) -> None:  # noqa: FBT001 - as above
        """What Prometheus knows grows old."""
        self._sim.prometheus.scraping = False

    def unscrapable(self, node: str) -> None:
        """Prometheus cannot scrape that node."""
        self._sim.prometheus.unreachable.add(("*", self.node(node)))

    def fail(self, how: Failing) -> None:
        """Requests are answered with an error."""
        self._cluster.fail(verb=how.verb, path=how.path, status=how.status, count=how.times)

    def happen(self, happening: Callable[[str], Callable[[Simulation], Any]], node: str) -> None:
        """One of the words that scenarios are written with."""
        happening(self.node(node))(self._sim)

    def _samples(self) -> Iterator[Sample]:
        for (name, labels), value in self._metrics.items():
            yield Sample(name, dict(labels), value)

    @property
    def cluster(self) -> Cluster:
        """The simulated cluster."""
        return self._cluster


def _is_envoy(labels: dict[str, str]) -> bool:
    return labels.get("k8s-app") == "cilium-envoy"


def _worse(how: OneNode | OneLink | OneZone) -> dict[str, float]:
    return {"latency": how.latency.total_seconds() if how.latency else 0.0, "loss": how.loss or 0.0}


def _while(fires: Fires, query: str) -> Rule:
    """A rule that holds while the query gives anything; the alert has the labels that the test says, not those of the result."""
    try:
        parse(query)
    except QueryError as error:
        raise UsageError(f"the simulated Prometheus cannot evaluate {query}: {error}") from error

    def condition(_cluster: Cluster, prometheus: Prometheus) -> Iterator[dict[str, str]]:
        if prometheus.query(query):
            yield {name: value for name, value in fires.labels.items() if name != "alertname"}

    return Rule(fires.labels["alertname"], condition, annotations=fires.annotations)


def _in_network(world: World, node: str) -> None:
    world.cluster.network.restore_node(world.node(node))


_DEEDS: dict[str, Callable[[World, Any], None]] = {
    "alert": World.fire,
    "resolve": World.resolve,
    "agent_hangs": lambda world, node: world.happen(sim_happenings.agent_hangs, node),
    "agent_crash_loops": lambda world, node: world.happen(lambda name: sim_happenings.agent_hangs(name, "crash_loop"), node),
    "agent_recovers": lambda world, node: world.happen(sim_happenings.agent_recovers, node),
    "envoy_hangs": World.hang_envoy,
    "kubelet_dies": lambda world, node: world.happen(sim_happenings.kubelet_dies, node),
    "kubelet_returns": lambda world, node: world.cluster.start_kubelet(world.node(node)),
    "partition": World.cut_off,
    "slow_node": World.slow_node,
    "slow_link": World.slow_link,
    "slow_zone": World.slow_zone,
    "node_network_recovers": _in_network,
    "everything_recovers": World.recover,
    "uplink_lossy": lambda world, node: world.happen(sim_happenings.lossy_uplink, node),
    "session_fails": World.fail_session,
    "session_returns": World.return_session,
    "budget_stuck": World.hold_budget,
    "scrape_fails": World.unscrapable,
    "scraping_stops": World.stop_scraping,
    "jobs_end": World.end_jobs,
    "fails": World.fail,
    "works_again": lambda world, _: world.cluster.faults.clear(),
    "metric": lambda world, metric: world.measure(metric.series, metric.value),
    "metric_ends": lambda world, series: world.measure(series, None),
    "create": World.create,
    "edit": lambda world, edit: world.edit(edit.target, edit.merge),
    "delete": World.remove,
    "cordon": lambda world, node: world.happen(sim_happenings.people_cordon, node),
    "uncordon": lambda world, node: world.happen(sim_happenings.people_uncordon, node),
}
