from __future__ import annotations

from remediator.gates import Limits
from remediator.model import Mode, RunState, Target, evolve
from remediator.reasons import Reason


def elsewhere(a_run, name, **fields):
    return a_run(target=Target(kind="Node", name=name), state=RunState.RUNNING, ended_at=None, **fields)


def test_one_disruptive_run_at_a_time_by_default(judge, case, snapshot, a_run):
    verdict = judge("concurrency", case, snapshot(open_runs=(elsewhere(a_run, "node-4"),)))
    assert verdict.reason is Reason.CONCURRENCY
    assert "agent on Node/node-4" in verdict.detail


def test_harmless_runs_only_count_for_the_whole(judge, case, snapshot, a_run):
    harmless = tuple(elsewhere(a_run, f"node-{n}", disruptive=False) for n in range(3))
    assert judge("concurrency", case, snapshot(open_runs=harmless)).allowed
    one_more = (*harmless, elsewhere(a_run, "node-9", disruptive=False))
    assert not judge("concurrency", case, snapshot(open_runs=one_more)).allowed


def test_limits_come_from_the_settings(judge, case, snapshot, a_run):
    wide = evolve(case, limits=Limits(concurrent_runs=10, concurrent_disruptive=2))
    one, two = elsewhere(a_run, "node-4"), elsewhere(a_run, "node-5")
    assert judge("concurrency", wide, snapshot(open_runs=(one,))).allowed
    assert not judge("concurrency", wide, snapshot(open_runs=(one, two))).allowed


def test_dry_runs_are_counted_apart(judge, case, snapshot, a_run):
    assert judge("concurrency", case, snapshot(open_runs=(elsewhere(a_run, "node-4", dry_run=True),))).allowed


def test_people_are_not_asked_more_than_they_can_answer(judge, case, snapshot, a_run, a_question):
    state = {"state": RunState.AWAITING_APPROVAL, "ended_at": None, "approvals": (a_question(),)}
    two = tuple(a_run(target=Target(kind="Node", name=f"node-{n}"), **state) for n in (7, 8))
    case = evolve(case, limits=Limits(waiting=2))
    suggest = evolve(case, mode=Mode.SUGGEST)
    assert judge("concurrency", suggest, snapshot(open_runs=two)).reason is Reason.CONCURRENCY
    assert judge("concurrency", suggest, snapshot(open_runs=two[:1])).allowed
    assert judge("concurrency", case, snapshot(open_runs=two)).allowed, "whoever acts by itself is not held up by questions"
    assert judge("concurrency", evolve(suggest, run=two[0].id), snapshot(open_runs=two)).allowed, "nor is a run that got its yes"


def test_a_run_that_waits_for_people_before_its_beginning_holds_nothing_up(judge, case, snapshot, a_run, a_question):
    waiting = {"state": RunState.AWAITING_APPROVAL, "ended_at": None}
    limits = Limits(concurrent_runs=1, concurrent_disruptive=1)
    before, within = (a_run(**waiting, approvals=(a_question(step=step),)) for step in (None, 1))
    assert judge("concurrency", evolve(case, limits=limits), snapshot(open_runs=(before,))).allowed
    assert not judge("concurrency", evolve(case, limits=limits), snapshot(open_runs=(within,))).allowed


class TestZones:
    """Only looked at where more runs may disturb in all than in one zone."""

    WIDE = Limits(concurrent_runs=9, concurrent_disruptive=3)

    @staticmethod
    def zoned(**names):
        from remediator.cluster.model import Cluster, Node

        at = {"node-3": "a", "node-4": "a", "node-5": "b", **names}
        return Cluster(nodes=tuple(Node(name=n, labels={"topology.kubernetes.io/zone": z} if z else {}) for n, z in at.items()))

    def test_one_in_each_zone(self, judge, case, snapshot, a_run):
        wide = evolve(case, limits=self.WIDE)
        near, far = elsewhere(a_run, "node-4"), elsewhere(a_run, "node-5")
        verdict = judge("concurrency", wide, snapshot(open_runs=(near, far), cluster=self.zoned()))
        assert verdict.reason is Reason.CONCURRENCY
        assert verdict.detail == "2 other runs are open, 2 of them may disturb, 1 in a; concurrent_per_zone is 1"
        assert judge("concurrency", wide, snapshot(open_runs=(far,), cluster=self.zoned())).allowed
        more = evolve(case, limits=evolve(self.WIDE, concurrent_per_zone=2))
        assert judge("concurrency", more, snapshot(open_runs=(near, far), cluster=self.zoned())).allowed

    def test_a_node_in_no_zone(self, judge, case, snapshot, a_run):
        wide = evolve(case, limits=self.WIDE)
        verdict = judge("concurrency", wide, snapshot(open_runs=(elsewhere(a_run, "node-4"),), cluster=self.zoned(**{"node-3": ""})))
        assert verdict.allowed
        assert "node-3 is in no zone" in verdict.detail

    def test_the_cluster_is_read_only_where_zones_matter(self, case):
        from remediator.gates import Fact, gates

        gate = gates()["concurrency"]()
        assert Fact.CLUSTER not in gate.needs(case)
        assert Fact.CLUSTER in gate.needs(evolve(case, limits=self.WIDE))
        assert Fact.CLUSTER not in gate.needs(evolve(case, limits=self.WIDE, disruptive=False))
