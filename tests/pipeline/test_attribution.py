"""Whom a run acts on where the playbook asks for the culprit: from a webhook body through the real pipeline, on the simulated network."""

from __future__ import annotations

from datetime import timedelta

import pytest

from remediator.attribution.account import account_in
from remediator.kube import kinds
from remediator.model import TriggerKind
from remediator.monitoring import Prometheus, Sample

CORDON = {"cordon": {"action": "node.cordon"}}
RESTART = {"restart": {"action": "cilium.restart_agent", "ready_for": "2s", "metrics": False, "timeout": "20m"}}
SLOW = {"of": "latency", "above": "20ms"}


def blaming(text, *, steps=(CORDON,), culprit=SLOW, **more):
    """A playbook that takes PairSlow and acts on whoever is to blame."""
    when = {"alerts": ['alertname="PairSlow"'], "target": {"kind": "Node", "culprit": culprit}}
    return text(alert=None, when=when, steps=list(steps), gates={"cooldown": "1s"}, **more)


@pytest.fixture
def rate():
    """Decisions wait for nothing; so slow, no sample and no answer grows old on a busy machine."""
    return 1


@pytest.fixture(autouse=True)
def scraped_at_once(symptom):
    """Every question to Prometheus is answered from a scrape of that moment."""


@pytest.fixture(autouse=True)
async def patient(stage, monkeypatch):
    """A busy machine is no hanging Prometheus, also in mid-run; that one is shown with the other slow answers."""
    slow = timedelta(minutes=1)
    monkeypatch.setattr("remediator.run.IN_MID_RUN", slow)
    monkeypatch.setattr("remediator.facts._DEADLINE", slow)
    world, url = stage.world, stage.simulation.prometheus_url
    door = Prometheus(url, timeout=slow, max_age=timedelta(hours=1), clock=world.clock)
    before, world.prometheus = world.prometheus, door
    yield
    world.prometheus = before
    await door.close()


@pytest.fixture
def network(stage):
    return stage.cluster.network


@pytest.fixture
def blame(deciding, text):
    deciding.load(blaming(text))
    return deciding


def told(record):
    found = account_in(record.evidence)
    assert found is not None
    return found


def refusing(record):
    return {verdict.gate for verdict in record.gates if not verdict.allowed}


class TestDecisions:
    async def test_the_node_that_is_to_blame_and_not_the_one_that_the_alert_names(self, blame, outside, network, stage):
        network.degrade_node("node-3", latency=0.040)
        (decision,) = await blame.decide(outside.fire("PairSlow", node="node-1", target_node="node-2"))
        assert (decision.decision, decision.target.key) == ("run", "Node/node-3")
        assert decision.target.uid == stage.cluster.get("Node", "node-3")["metadata"]["uid"]
        (run,) = blame.runs
        stored = await blame.world.journal.run(run.id)
        assert (stored.target, stored.alert.labels["target_node"]) == (decision.target, "node-2")
        found = told(stored)
        assert (found.node, found.symptom, found.limit, found.sound, found.matrix) == ("node-3", "latency", 0.02, 4, None)
        assert [(votes.node, votes.against, votes.of, votes.share) for votes in found.votes] == [("node-3", 4, 4, 1.0)]
        assert found == told(decision)

    @pytest.mark.parametrize("of", ["loss", "reachability"])
    async def test_by_the_symptom_that_the_playbook_names(self, deciding, outside, network, stage, text, of):
        network.degrade_node("node-2", latency=0.040)
        network.degrade_node("node-4", loss=1.0)
        deciding.load(blaming(text, culprit=of))
        (decision,) = await deciding.decide(outside.fire("PairSlow", node="node-1"))
        assert decision.target.key == "Node/node-4", decision.detail

    async def test_six_alerts_on_healthy_nodes_are_one_run(self, blame, outside, network):
        network.degrade_node("node-3", latency=0.040)
        decisions = await blame.decide(*(outside.fire("PairSlow", node=f"node-{n}") for n in (1, 2, 4, 5)))
        assert [(d.decision, d.target.key) for d in decisions] == [("run", "Node/node-3"), *[("refused", "Node/node-3")] * 3]
        assert all("target_busy" in refusing(decision) for decision in decisions[1:])

    async def test_a_link_is_no_nodes_fault(self, blame, outside, network):
        network.degrade_link("node-2", "node-5", latency=0.040)
        first, second = await blame.decide(*(outside.fire("PairSlow", node=node) for node in ("node-2", "node-5")))
        assert (first.decision, first.reason, blame.runs) == ("refused", "no_culprit", [])
        assert refusing(first) == {"no_culprit"}
        assert "link: only the link between node-2 and node-5 is bad" in first.detail
        found = told(first)
        assert (found.kind, found.nodes, found.node) == ("link", ("node-2", "node-5"), None)
        row = dict(zip(found.matrix.nodes, found.matrix.rows[found.matrix.nodes.index("node-2")], strict=True))
        assert row["node-5"] > 0.02 > row["node-3"]
        assert (told(second).matrix, told(second).matrix_in) == (None, first.id)

    async def test_neither_is_a_zone(self, blame, outside, network):
        network.degrade_zone("zone-b", latency=0.040)
        (decision,) = await blame.decide(outside.fire("PairSlow", node="node-1"))
        assert (decision.reason, blame.runs) == ("no_culprit", [])
        assert (told(decision).kind, told(decision).zone) == ("zone", "zone-b")

    async def test_a_network_in_which_all_is_well_blames_nobody(self, blame, outside):
        (decision,) = await blame.decide(outside.fire("PairSlow", node="node-1"))
        assert (decision.reason, told(decision).kind) == ("no_culprit", "nobody")

    async def test_an_alert_that_names_no_node_is_refused_for_the_pairs_and_not_for_its_labels(self, blame, outside, network):
        network.degrade_link("node-2", "node-5", latency=0.040)
        (decision,) = await blame.decide(outside.fire("PairSlow", node=""))
        assert (decision.decision, decision.reason, decision.target) == ("refused", "no_culprit", None)
        assert told(decision).matrix is not None

    async def test_and_is_acted_on_if_they_blame_a_node(self, blame, outside, network):
        network.degrade_node("node-3", latency=0.040)
        (decision,) = await blame.decide(outside.fire("PairSlow", node=""))
        assert (decision.decision, decision.target.key) == ("run", "Node/node-3")

    async def test_a_node_that_has_been_away_for_long_does_not_hold_the_others_back(self, blame, outside, network, stage, later):
        network.degrade_node("node-3", latency=0.040)
        network.degrade_node("node-5", loss=1.0)
        (decision,) = await blame.decide(outside.fire("PairSlow", node="node-1"))
        assert decision.reason == "no_culprit", "two nodes are bad at the same time"
        away = {"type": "Ready", "status": "Unknown", "lastTransitionTime": "2020-01-01T00:00:00Z"}
        stage.cluster.kubelet_alive = lambda _node: True
        node = stage.cluster.get("Node", "node-5")
        rest = [c for c in node["status"]["conditions"] if c["type"] != "Ready"]
        kind = stage.cluster.kind("Node")
        copy = stage.cluster.store.edit(kind, stage.cluster.store.get(kind, "node-5"))
        copy["status"]["conditions"] = [*rest, away]
        stage.cluster.store.replace(kind, copy)
        (decision,) = await blame.decide(outside.fire("PairSlow", node="node-2"))
        assert (decision.decision, decision.target.key) == ("run", "Node/node-3"), decision.detail


class TestUnreadable:
    async def refused(self, blame, outside):
        (decision,) = await blame.decide(outside.fire("PairSlow", node="node-1"))
        assert (decision.decision, decision.evidence, blame.runs) == ("refused", (), [])
        (verdict,) = [verdict for verdict in decision.gates if verdict.gate == "no_culprit"]
        assert verdict.reason == "unreadable"
        return verdict.detail

    async def test_prometheus_says_no(self, blame, outside, network, stage):
        network.degrade_node("node-3", latency=0.040)
        stage.cluster.fail(path="^/prometheus", status=503, count=None)
        assert "503" in await self.refused(blame, outside)

    async def test_prometheus_takes_no_samples(self, blame, outside, network, stage, later):
        network.degrade_node("node-3", latency=0.040)
        stage.simulation.prometheus.scraping = False
        later(hours=3)
        assert "sample" in await self.refused(blame, outside)

    async def test_prometheus_is_not_set(self, blame, outside):
        blame.world.prometheus = None
        assert "prometheus.url" in await self.refused(blame, outside)


class Pairs:
    """A Prometheus that knows of recorded pairs only: seconds by observer and peer."""

    max_age = timedelta(minutes=2)

    def __init__(self, clock, seen):
        self._clock, self._seen = clock, seen

    async def require_fresh(self, *_selectors):
        pass

    async def query(self, promql, *, nan="refuse"):
        if not promql.startswith("(network_pair_latency_seconds)"):
            return []
        at = self._clock.now()
        return [Sample(labels={"node": a, "target_node": b}, value=value, at=at) for (a, b), value in self._seen.items()]


class TestHints:
    """Three reports speak against node-3, and four are needed; an episode of the node itself counts as two."""

    @pytest.fixture
    def few(self, blame):
        fine = {(f"node-{a}", f"node-{b}"): 0.001 for a in (1, 2, 4, 5) for b in (1, 2, 4, 5) if a != b}
        bad = {(f"node-{a}", f"node-{b}"): 0.050 for a, b in ((1, 3), (2, 3), (4, 3), (3, 5))}
        blame.world.prometheus = Pairs(blame.world.clock, fine | bad)
        return blame

    async def test_an_open_episode_of_the_node_itself_is_heard(self, few, outside):
        (decision,) = await few.decide(outside.fire("PairSlow", node="node-1"))
        assert decision.reason == "no_culprit", decision.detail
        await few.decide(outside.fire("NodeNicErrors", node="node-3"))
        (decision,) = await few.decide(outside.fire("PairSlow", node="node-2"))
        assert (decision.decision, decision.target.key) == ("run", "Node/node-3"), decision.detail
        assert [(hint.alert, hint.node) for hint in told(decision).hints] == [("NodeNicErrors", "node-3")]

    async def test_one_that_alertmanager_no_longer_holds_is_not(self, few, outside):
        await few.decide(outside.fire("NodeNicErrors", node="node-3", known=False))
        (decision,) = await few.decide(outside.fire("PairSlow", node="node-1"))
        assert (decision.reason, told(decision).hints) == ("no_culprit", ())

    async def test_neither_is_the_alerts_own(self, few, outside, text):
        when = {"alerts": ['alertname="NodeNicErrors"'], "target": {"kind": "Node", "culprit": SLOW}}
        few.load(text(alert=None, when=when, steps=[CORDON], gates={"cooldown": "1s"}))
        alert = outside.fire("NodeNicErrors", node="node-3")
        for _ in range(2):  # the second time its episode is in the journal
            (decision,) = await few.decide(alert)
            assert (decision.reason, told(decision).hints) == ("no_culprit", ())


class TestPeople:
    async def test_whom_they_name_unless_the_pairs_blame_another(self, blame, network):
        from remediator.match import find
        from remediator.model import Trigger

        (playbook,) = blame.world.library.playbooks
        asked = Trigger(kind=TriggerKind.MANUAL, by="anna", reason="to see")

        async def ask(node):
            target = await find("Node", node, "", blame.world.kube)
            return (await blame.decider.person(playbook, target, asked)).decision

        network.degrade_node("node-3", latency=0.040)
        refused = await ask("node-1")
        assert (refused.decision, refused.reason) == ("refused", "no_culprit")
        assert "node-3 is to blame, not node-1" in refused.detail
        network.heal()
        allowed = await ask("node-1")
        assert (allowed.decision, allowed.target.key) == ("run", "Node/node-1"), allowed.detail


class TestInMidRun:
    @pytest.fixture
    def rate(self):
        """A restart waits for two probe intervals, five minutes."""
        return 20

    @pytest.fixture
    def waits(self, line, network, text, gate):
        """A run on node-3 before its agent would be restarted; ``line.gate.set()`` lets it go on."""

        async def begin(**more):
            network.degrade_node("node-3", latency=0.040)
            line.load(blaming(text, steps=(gate, RESTART), verify={"query": "vector(1)", "within": "20s", "hold": "0s"}, **more))
            await line.start()
            run = await line.run_of(line.outside.fire("PairSlow", node="node-1"))
            await line.step_begins(run, "gate")
            return run

        return begin

    async def over(self, line, run):
        """The run's end, and whose agents were restarted."""
        before = line.stage.agents()
        line.gate.set()
        done = await line.ended(run)
        after = line.stage.agents()
        return done, [name for name in before if after[name] != before[name]]

    async def test_the_blame_stays_and_the_node_is_acted_on(self, line, waits):
        done, restarted = await self.over(line, await waits())
        assert (done.state, restarted) == ("healed", ["node-3"]), done.detail

    async def test_the_blame_moves_to_another_node(self, line, waits, network):
        run = await waits()
        network.heal()
        network.degrade_node("node-5", latency=0.040)
        done, restarted = await self.over(line, run)
        assert (done.state, done.reason, restarted) == ("cancelled", "no_culprit", [])
        assert "node-5 is to blame, not node-3" in done.detail
        assert told(done).node == "node-5"
        assert [str(step.state) for step in done.steps] == ["succeeded", "skipped"]

    async def test_nobody_is_to_blame_any_more(self, line, waits, network):
        run = await waits()
        network.heal()
        network.degrade_zone("zone-b", latency=0.040)
        done, restarted = await self.over(line, run)
        assert (done.state, done.reason, restarted) == ("cancelled", "no_culprit", [])
        assert told(done).matrix is not None

    async def test_the_pairs_cannot_be_read_any_more(self, line, waits, stage):
        run = await waits()
        stage.cluster.fail(path="^/prometheus", status=500, count=None)
        done, restarted = await self.over(line, run)
        assert (done.state, done.reason, restarted) == ("cancelled", "unreadable", [])


async def test_a_case_without_what_is_sought_refuses(blame, outside, network, monkeypatch):
    """Whoever judges such a playbook and forgets to say what is sought acts on nobody."""
    network.degrade_node("node-3", latency=0.040)
    monkeypatch.setattr("remediator.decide.sought_by", lambda _playbook: None)
    (decision,) = await blame.decide(outside.fire("PairSlow", node="node-1"))
    assert (decision.reason, refusing(decision)) == ("unreadable", {"no_culprit"})


async def test_a_warning_keeps_evidence_of_the_node_that_is_to_blame_and_touches_nothing(line, network, root):
    network.degrade_node("node-3", latency=0.008)
    line.load((root / "playbooks" / "node-latency-warning.yaml").read_text())
    await line.start()
    done = await line.ended(await line.run_of(line.outside.fire("NodeLatencyWarning", node="node-1")))
    assert (done.state, done.target.key) == ("done", "Node/node-3"), done.detail
    assert [len(step.evidence) for step in done.steps] == [1, 1, 1, 1]
    assert line.stage.writes() == []


async def test_match_shows_who_is_to_blame_and_what_was_considered(house, network, text, outside):
    house.put("remedy.yaml", blaming(text))
    await house.start(mode="auto")
    network.degrade_node("node-3", latency=0.040)
    ask = {"labels": outside.fire("PairSlow", node="node-1")["labels"]}
    status, report = await house.http("POST", "/api/v1/match", ask)
    assert (status, report["decision"], report["target"]["name"]) == (200, "run", "node-3"), report
    assert report["evidence"][0]["data"]["node"] == "node-3"
    network.heal()
    network.degrade_link("node-2", "node-5", latency=0.040)
    _, report = await house.http("POST", "/api/v1/match", ask)
    assert (report["decision"], report["reason"]) == ("refused", "no_culprit")
    assert report["evidence"][0]["data"]["matrix"]["nodes"] == [f"node-{n}" for n in range(1, 6)]
    assert (await house.stage.world.kube.get(kinds.NODE, "node-3"))["spec"].get("unschedulable") is None
