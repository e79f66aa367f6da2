"""How long the API server is waited for: each fact a while, one that every pod is read for longer, as long as others get answers."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from types import SimpleNamespace

import pytest

from remediator.bgp.model import Metrics
from remediator.clock import SystemClock
from remediator.decide import Decider
from remediator.episodes import Episodes
from remediator.errors import Refused, Unreadable
from remediator.facts import Facts, patience
from remediator.gates import Fact, Unread
from remediator.kube import Listing, kinds
from remediator.kube.errors import Forbidden, NotFound
from remediator.model import Target

LONG = timedelta(hours=1)


@pytest.fixture
def facts():
    return Facts(SimpleNamespace(kube=None), deadline=timedelta(milliseconds=10))


async def unanswered(facts):
    with pytest.raises(Unreadable, match="no answer within"):
        await facts.of_kubernetes(asyncio.Event().wait())


async def test_a_rehearsals_world_has_more_patience_or_less():
    with pytest.raises(Unreadable, match=r"no answer within 0\.02 s"):
        await Facts(SimpleNamespace(kube=None, patience=timedelta(milliseconds=20))).of_kubernetes(asyncio.Event().wait())


async def test_a_patient_question_outlives_the_time_of_the_others(facts):
    answered = asyncio.Event()
    patient = asyncio.create_task(facts.of_kubernetes(answered.wait(), patience=LONG))
    await unanswered(Facts(SimpleNamespace(kube=None), deadline=timedelta(milliseconds=50)))
    answered.set()
    assert await patient


async def test_it_ends_as_soon_as_another_got_no_answer(facts):
    patient = asyncio.create_task(facts.of_kubernetes(asyncio.Event().wait(), patience=LONG))
    await unanswered(facts)
    with pytest.raises(Unreadable, match=r"no answer within 0\.01 s"):
        await patient


async def test_after_that_nobody_waits(facts):
    await unanswered(facts)
    with pytest.raises(Unreadable):
        await facts.of_kubernetes(asyncio.Event().wait(), patience=LONG)


@pytest.mark.parametrize(("agents", "nodes", "pods"), [(0, 0, 10), (1_000, 0, 10), (5_000, 9.5, 18)])
def test_in_a_large_cluster_lists_of_all_nodes_and_of_all_pods_have_more_time(agents, nodes, pods):
    seconds = {fact: patience(fact, agents).total_seconds() for fact in Fact}
    assert {seconds.pop(fact) for fact in (Fact.LOAD, Fact.ROUTES)} == {pods}
    assert {seconds.pop(fact) for fact in (Fact.CLUSTER, Fact.CILIUM, Fact.VIEW)} == {nodes}
    assert set(seconds.values()) == {0}, "whatever else is asked has the usual time"


class Slow:
    """A door that takes its time for lists, and has nothing in them."""

    def __init__(self):
        self.answered = asyncio.Event()

    async def list(self, kind, namespace="", **_):
        await self.answered.wait()
        return Listing([], "1")

    async def get(self, *_):
        raise NotFound("nothing is here", call="GET", status=404)

    async def create(self, *_, **__):
        pass


def of(fact):
    """What asks for that one fact."""
    return SimpleNamespace(target=Target(kind="Node", name="node-3"), playbook=""), [SimpleNamespace(needs=lambda _: {fact})]


def surroundings(kube, **more):
    cilium = SimpleNamespace(namespace="kube-system", agent_selector="k8s-app=cilium", health_port=4240)
    return SimpleNamespace(kube=kube, clock=SystemClock(), cilium=cilium, journal=None, agents=5_000, **more)


@pytest.mark.parametrize("fact", [Fact.VIEW, Fact.ROUTES])
async def test_what_lists_all_nodes_of_a_large_cluster_is_waited_for(fact, monkeypatch):
    monkeypatch.setenv("NODE_NAME", "node-1")
    slow = Slow()
    facts = Facts(surroundings(slow, prometheus=None), deadline=timedelta(milliseconds=10))
    read = asyncio.create_task(facts.snapshot(*of(fact)))
    await unanswered(Facts(SimpleNamespace(kube=None), deadline=timedelta(milliseconds=50)))
    slow.answered.set()
    assert not isinstance((await read).facts[fact], Unread)


@pytest.mark.parametrize(("deadline", "most"), [(timedelta(milliseconds=10), LONG), (LONG, timedelta(milliseconds=10))])
async def test_a_prometheus_that_does_not_tell_of_sessions_is_not_taken_for_kubernetes(deadline, most, monkeypatch):
    """Nor right before a step, where a fact has as long as all pods have."""
    monkeypatch.setattr("remediator.facts._OF_THEM_PROMETHEUS", most)
    kube, prometheus = Slow(), SimpleNamespace(query=lambda _: asyncio.Event().wait())
    kube.answered.set()
    facts = Facts(surroundings(kube, prometheus=prometheus), deadline=deadline)
    routes = (await facts.snapshot(*of(Fact.ROUTES))).routes
    assert (routes.metrics, routes.metrics_detail) == (Metrics.UNREADABLE, "Prometheus gave no answer within 0.01 s")
    assert await facts.of_kubernetes(asyncio.sleep(0, "an answer")) == "an answer"


async def test_who_is_to_blame_in_a_large_cluster_waits_for_its_nodes_and_then_reads_the_pairs(monkeypatch):
    slow, found = Slow(), SimpleNamespace(kind="node", node="node-3")

    async def find(*_):
        for _ in range(5):
            await asyncio.sleep(0)  # a deadline that is over would end it here
        return found, ()

    monkeypatch.setattr("remediator.blame.find", find)
    facts = Facts(surroundings(slow, alertmanager=None), deadline=timedelta(milliseconds=10))
    read = asyncio.create_task(facts.finding(SimpleNamespace(symptom="latency", limit=0.1), None))
    await unanswered(Facts(SimpleNamespace(kube=None), deadline=timedelta(milliseconds=50)))
    slow.answered.set()
    assert await read is found


async def test_so_does_an_alert_that_names_its_node_by_the_address_alone():
    slow = Slow()
    world = surroundings(slow)
    spec = SimpleNamespace(kinds=("Node",), name=None, namespace=None, culprit=None)
    alert = SimpleNamespace(name="AgentDown", labels={"instance": "10.0.0.1:9962"}, annotations={})
    facts = Facts(world, deadline=timedelta(milliseconds=10))
    aim = Decider(world, Episodes()).aim(SimpleNamespace(when=SimpleNamespace(target=spec)), spec, alert, facts)
    aimed = asyncio.create_task(aim)
    await unanswered(Facts(SimpleNamespace(kube=None), deadline=timedelta(milliseconds=50)))
    slow.answered.set()
    with pytest.raises(Refused, match=r"no node has the name or InternalIP '10\.0\.0\.1'"):
        await aimed


class Cluster:
    """Nodes by name, each with its label; what was asked for is kept."""

    def __init__(self, **hostnames):
        self.hostnames = hostnames
        self.asked = []

    def _node(self, name):
        return {"metadata": {"name": name, "uid": f"uid of {name}", "labels": {"kubernetes.io/hostname": self.hostnames[name]}}}

    async def get(self, kind, name, namespace):
        self.asked.append(("get", name))
        if name not in self.hostnames:
            raise NotFound("no such node", call="GET", status=404)
        return self._node(name)

    async def list(self, kind, *, labels):
        self.asked.append(("list", labels))
        wanted = labels.removeprefix("kubernetes.io/hostname in (").removesuffix(")").split(",")
        return Listing([self._node(name) for name, hostname in self.hostnames.items() if hostname in wanted], "1")


class Histories:
    def __init__(self):
        self.asked = []

    async def histories(self, targets, since):
        self.asked.append(sorted(targets))
        return {target: [f"run on {target}"] for target in targets}


def several(cluster):
    world = SimpleNamespace(kube=cluster, journal=Histories(), clock=SystemClock())
    return Facts(world, deadline=LONG), world.journal


def nodes(*names):
    return [Target(kind="Node", name=name) for name in names]


async def test_many_targets_are_read_with_one_list_and_one_question_to_the_journal():
    names = [f"node-{number}" for number in range(10)]
    cluster = Cluster(**{name: name for name in names})
    facts, journal = several(cluster)
    await facts.look_ahead(nodes(*names, *names))
    assert [verb for verb, _ in cluster.asked] == ["list"]
    assert [await facts.seen.get(kinds.NODE, name, "") for name in names] == [cluster._node(name) for name in names]
    assert len(cluster.asked) == 1, "nothing is asked again"
    assert journal.asked == [sorted(f"Node/{name}" for name in names)]


async def test_few_are_asked_for_by_name():
    cluster = Cluster(a="a", b="b")
    facts, _ = several(cluster)
    await facts.look_ahead(nodes("a", "b"))
    assert sorted(cluster.asked) == [("get", "a"), ("get", "b")]


async def test_who_has_another_label_than_its_name_is_still_found_by_its_name():
    names = [f"node-{number}" for number in range(10)]
    cluster = Cluster(**{name: name for name in names} | {"node-3": "node-4.example.org", "node-5": "node-6"})
    facts, _ = several(cluster)
    await facts.look_ahead(nodes(*names))
    for name in names:
        assert (await facts.seen.get(kinds.NODE, name, ""))["metadata"]["uid"] == f"uid of {name}"
    with pytest.raises(NotFound):
        await facts.seen.get(kinds.NODE, "node-6.example.org", "")


async def test_a_list_that_is_refused_leaves_the_question_to_each_case():
    names = [f"node-{number}" for number in range(10)]
    cluster = Cluster(**{name: name for name in names})
    facts, _ = several(cluster)

    async def forbidden(kind, *, labels):
        raise Forbidden("may not list nodes", call="GET", status=403)

    cluster.list = forbidden
    await facts.look_ahead(nodes(*names))
    assert (await facts.seen.get(kinds.NODE, "node-1", ""))["metadata"]["name"] == "node-1"


async def test_it_is_told_whether_a_question_got_no_answer(facts):
    assert not facts.silent
    await unanswered(facts)
    assert facts.silent
