"""The judgement on networks that a person can draw: who is blamed, and above all who is not."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import pytest

from remediator.attribution import Hint, Kind, Matrix, Observation, Place, Rules, Symptom, judge
from remediator.model import encode, from_json
from remediator.reasons import Reason

AT = datetime(2026, 1, 5, 10, tzinfo=UTC)
SLOW, FAST, GREY = 0.040, 0.0005, 0.015


def names(count):
    return [f"node-{number}" for number in range(1, count + 1)]


def mesh(count, bad, *, slow=SLOW, zones=(), without=(), symptom=Symptom.LATENCY, limit=0.020, other=()):
    """Everybody measures everybody; ``bad(a, b)`` says whether a finds b slow; ``without`` are (observer, peer) that are missing."""
    nodes = names(count)
    seen = [
        Observation(observer=a, peer=b, value=dict(other).get((a, b), slow if bad(a, b) else FAST), at=AT, source="test")
        for a, b in itertools.permutations(nodes, 2)
        if (a, b) not in without
    ]
    places = tuple(Place(name=name, zone=zones[i] if zones else "") for i, name in enumerate(nodes))
    return Matrix(symptom=symptom, limit=limit, nodes=places, observations=tuple(seen), at=AT)


def at(*bad):
    """Every pair that one of ``bad`` takes part in."""
    return lambda a, b: a in bad or b in bad


def link(one, other):
    return lambda a, b: {a, b} == {one, other}


def between(*group):
    """Every pair with one end inside and one outside."""
    return lambda a, b: (a in group) != (b in group)


class TestOneNode:
    def test_the_six_nodes_of_the_reference(self):
        finding = judge(mesh(6, at("node-3")))
        assert (finding.kind, finding.node, finding.reason, finding.matrix) == (Kind.NODE, "node-3", None, None)
        assert finding.confidence == 1.0
        (ballot,) = finding.ballots
        assert ballot.against == ("node-1", "node-2", "node-4", "node-5", "node-6")
        assert ballot.reports == 10
        assert finding.words == (
            "5 of 5 sound nodes that voted say that node-3 is bad, and they are fine with one another: 5 of 5 other nodes are sound"
        )

    @pytest.mark.parametrize("count", [3, 4, 5, 20, 200])
    def test_of_any_number(self, count):
        assert judge(mesh(count, at("node-2"))).node == "node-2"

    def test_two_nodes_never_tell_which_of_them(self):
        assert judge(mesh(2, at("node-2"))).kind is Kind.NOBODY

    def test_a_node_that_no_longer_reports_is_found_by_the_others(self):
        silent = {("node-3", name) for name in names(6)}
        finding = judge(mesh(6, at("node-3"), without=silent))
        assert (finding.node, finding.ballots[0].reports) == ("node-3", 5)

    def test_one_voter_who_disagrees_does_not_save_it_and_lowers_the_confidence(self):
        good = {("node-1", "node-3"): FAST, ("node-3", "node-1"): FAST}
        finding = judge(mesh(6, at("node-3"), other=good.items()))
        assert finding.node == "node-3"
        assert finding.confidence == 0.8
        assert finding.ballots[0].favour == ("node-1",)

    def test_two_of_five_who_disagree_do(self):
        good = {pair: FAST for name in ("node-1", "node-2") for pair in ((name, "node-3"), ("node-3", name))}
        assert judge(mesh(6, at("node-3"), other=good.items())).kind is Kind.NOBODY


class TestEvidence:
    """What is not enough."""

    def test_values_between_clear_and_limit_say_nothing(self):
        grey = {pair: GREY for pair in itertools.permutations(names(6), 2) if "node-3" in pair}
        finding = judge(mesh(6, lambda *_: False, other=grey.items()))
        assert finding.kind is Kind.NOBODY
        assert [(ballot.node, ballot.heard) for ballot in finding.ballots] == [("node-3", 0)]
        assert judge(mesh(6, lambda *_: False, other=grey.items(), limit=0.010)).node == "node-3"

    def test_three_nodes_with_a_silent_one_need_a_hint(self):
        silent = {("node-3", "node-1"), ("node-3", "node-2")}
        matrix = mesh(3, at("node-3"), without=silent)
        finding = judge(matrix)
        assert (finding.kind, finding.reason) == (Kind.NOBODY, Reason.NO_CULPRIT)
        assert "only 2 reports speak against it; 4 are needed" in finding.words
        assert judge(matrix, [Hint(node="node-1", alert="NodeNicErrors")]).kind is Kind.NOBODY
        assert judge(matrix, [Hint(node="node-3", alert="CiliumAgentDown")]).node == "node-3"

    def test_three_nodes_need_every_report(self):
        """A bad link, and one stray value beside it whose counterpart is missing, look like this."""
        assert judge(mesh(3, at("node-3"), without={("node-3", "node-1")})).kind is Kind.NOBODY
        assert judge(mesh(3, at("node-3"), without={("node-1", "node-2")})).kind is not Kind.NODE

    def test_what_only_the_accused_reports_is_no_vote_but_fills_a_gap(self):
        missing = {("node-1", "node-3")}
        finding = judge(mesh(4, at("node-3"), without=missing))
        assert (finding.node, finding.ballots[0].against, finding.ballots[0].own) == ("node-3", ("node-2", "node-4"), 1)
        finding = judge(mesh(4, at("node-3"), without=missing | {("node-3", "node-1")}))
        assert finding.kind is Kind.NOBODY
        assert "only 2 of 3 other nodes voted" in finding.words

    def test_more_than_half_of_the_cluster_must_have_a_say(self):
        voters = {"node-1", "node-2", "node-4"}
        unseen = {(name, "node-3") for name in names(12) if name not in voters} | {("node-3", name) for name in names(12)}
        finding = judge(mesh(12, at("node-3"), without=unseen))
        assert finding.kind is Kind.NOBODY
        assert "only 3 of 11 other nodes voted" in finding.words

    def test_trouble_among_the_others_is_allowed_up_to_a_share(self):
        matrix = mesh(8, lambda a, b: "node-3" in (a, b) or link("node-1", "node-2")(a, b))
        assert judge(matrix).node == "node-3"
        finding = judge(matrix, rules=Rules(stray=0.04))
        assert finding.kind is Kind.NOBODY
        assert "1 of 21 pairs among the others are bad, too" in finding.words

    def test_a_node_that_is_fine_with_two_of_four_is_no_witness_and_not_cleared(self):
        """Two of six are cut off, and two stray values make the second one look fine with two: the first is not blamed for it."""
        far = {(a, b) for a in ("node-1", "node-2") for b in names(6)}
        stray = {("node-3", "node-2"): 0.0, ("node-4", "node-2"): 0.0}
        cut = between("node-1", "node-2")
        finding = judge(mesh(6, cut, slow=1.0, symptom=Symptom.REACHABILITY, limit=0.5, without=far, other=stray.items()))
        assert finding.kind is Kind.NOBODY
        assert "node-2 cannot be cleared" in finding.words

    def test_four_nodes_take_silence_for_evidence(self):
        silent = {("node-3", name) for name in names(4)}
        finding = judge(mesh(4, at("node-3"), without=silent | {("node-1", "node-3")}))
        assert (finding.node, finding.ballots[0].beside, finding.ballots[0].reports) == ("node-3", ("mute",), 2)

    def test_a_hint_alone_blames_nobody(self):
        hints = [Hint(node="node-3", alert=alert) for alert in ("NodeNicErrors", "NodeFailure", "CiliumAgentDown")]
        assert judge(mesh(6, lambda *_: False), hints).kind is Kind.NOBODY
        assert judge(mesh(6, link("node-3", "node-4")), hints).kind is Kind.LINK

    def test_what_a_node_says_of_itself_is_no_vote(self):
        only_itself = {(a, "node-3") for a in names(6)}
        finding = judge(mesh(6, at("node-3"), without=only_itself))
        assert (finding.kind, finding.node) == (Kind.NOBODY, None)

    def test_without_a_majority_of_sound_nodes_we_may_be_on_the_wrong_side(self):
        unseen = {pair for pair in itertools.permutations(names(6), 2) if {"node-4", "node-5", "node-6"} & set(pair)}
        finding = judge(mesh(6, at("node-3"), without=unseen), rules=Rules(unclear=1, reports=1))
        assert finding.kind is Kind.NOBODY
        assert "wrong side" in finding.words

    def test_nodes_that_cannot_be_cleared_hold_it_back(self):
        unseen = {pair for pair in itertools.permutations(names(6), 2) if "node-6" in pair}
        finding = judge(mesh(6, at("node-3"), without=unseen))
        assert finding.kind is Kind.NOBODY
        assert "node-6 cannot be cleared" in finding.words

    def test_nothing_observed(self):
        places = tuple(Place(name=name) for name in names(3))
        finding = judge(Matrix(symptom=Symptom.LOSS, limit=0.01, nodes=places, observations=(), at=AT))
        assert (finding.kind, finding.words) == (Kind.NOBODY, "nothing was observed between any two nodes")

    def test_an_observer_over_all_its_peers_is_named_and_not_blamed(self):
        places = tuple(Place(name=name) for name in names(5))
        seen = tuple(
            Observation(observer=name, peer=None, value=10.0 if name == "node-2" else FAST, at=AT, source="cilium per observer")
            for name in names(5)
        )
        finding = judge(Matrix(symptom=Symptom.LATENCY, limit=0.02, nodes=places, observations=seen, at=AT))
        assert (finding.kind, finding.nodes) == (Kind.NOBODY, ("node-2",))
        assert "an observer is named, not a culprit" in finding.words

    def test_unordered_observations_count_as_said_by_both_ends_and_as_one_report(self):
        places = tuple(Place(name=name) for name in names(5))
        seen = tuple(
            Observation(observer=a, peer=b, value=SLOW if "node-2" in (a, b) else FAST, at=AT, source="test", ordered=False)
            for a, b in itertools.combinations(names(5), 2)
        )
        finding = judge(Matrix(symptom=Symptom.LATENCY, limit=0.02, nodes=places, observations=seen, at=AT))
        assert (finding.node, finding.ballots[0].reports) == ("node-2", 4)

    def test_both_ends_that_contradict_one_another_are_no_vote(self):
        """Everybody finds node-3 slow, and it finds nobody slow: a round trip is the same from both ends, so something else is wrong."""
        assert judge(mesh(6, lambda _, b: b == "node-3")).kind is Kind.NOBODY
        denied = {("node-3", name): FAST for name in ("node-4", "node-5", "node-6")}
        finding = judge(mesh(6, at("node-3"), other=denied.items()))
        assert finding.kind is Kind.NOBODY
        assert finding.ballots[0].unsure == ("node-4", "node-5", "node-6")

    def test_sources_that_contradict_one_another_are_no_vote(self):
        matrix = mesh(6, at("node-3"))
        second = tuple(
            Observation(observer=o.observer, peer=o.peer, value=FAST, at=AT, source="other")
            for o in matrix.observations
            if o.peer == "node-3"
        )
        both = Matrix(symptom=matrix.symptom, limit=matrix.limit, nodes=matrix.nodes, observations=matrix.observations + second, at=AT)
        assert judge(both).kind is Kind.NOBODY


class TestVictims:
    def test_a_bad_link_is_a_link(self):
        finding = judge(mesh(6, link("node-2", "node-5")))
        assert (finding.kind, finding.nodes, finding.reason) == (Kind.LINK, ("node-2", "node-5"), Reason.NO_CULPRIT)

    @pytest.mark.parametrize("count", [3, 4, 5])
    def test_so_it_is_in_small_clusters(self, count):
        assert judge(mesh(count, link("node-1", "node-2"))).kind is Kind.LINK

    def test_two_bad_links_of_one_node_are_not_the_node(self):
        for count in (4, 5, 6):
            finding = judge(mesh(count, lambda a, b: link("node-1", "node-2")(a, b) or link("node-1", "node-3")(a, b)))
            assert finding.node is None

    @pytest.mark.parametrize("count", [3, 6, 20])
    def test_an_observer_who_alone_complains_is_not_blamed_and_neither_are_its_peers(self, count):
        finding = judge(mesh(count, lambda a, _: a == "node-2"))
        assert (finding.kind, finding.nodes) == (Kind.NOBODY, ("node-2",))
        assert "its own prober is suspect" in finding.words

    def test_two_bad_nodes(self):
        finding = judge(mesh(6, at("node-2", "node-5")))
        assert (finding.kind, finding.nodes) == (Kind.NOBODY, ("node-2", "node-5"))
        assert "2 nodes are bad at the same time" in finding.words

    def test_two_bad_nodes_of_three_do_not_make_the_third_one_bad(self):
        unseen = {("node-1", "node-2"), ("node-2", "node-1")}
        assert judge(mesh(3, at("node-1", "node-2"), without=unseen)).node is None


class TestGroups:
    def test_everything_is_bad(self):
        finding = judge(mesh(6, lambda *_: True))
        assert (finding.kind, finding.words) == (Kind.FABRIC, "15 of 15 pairs are bad, all over the cluster")

    def test_a_zone(self):
        finding = judge(mesh(6, between("node-1", "node-2"), zones="aabbcc"))
        assert (finding.kind, finding.zone, finding.nodes) == (Kind.ZONE, "a", ("node-1", "node-2"))

    def test_a_zone_of_which_one_node_is_not_seen_does_not_become_the_other_one(self):
        unseen = {pair for pair in itertools.permutations(names(20), 2) if "node-2" in pair}
        finding = judge(mesh(20, between("node-1", "node-2"), zones="aa" + "bbbbbbbbbcccccccccc"[:18], without=unseen))
        assert finding.kind is Kind.NOBODY
        assert "no other node of zone a is seen to reach the other zones" in finding.words

    def test_one_path_between_two_groups_that_are_no_zone(self):
        assert judge(mesh(6, between("node-1", "node-2", "node-3"))).kind is Kind.FABRIC

    def test_a_node_alone_in_the_other_of_two_zones_is_not_told_from_the_path_to_it(self):
        finding = judge(mesh(5, at("node-5"), zones="aaaab"))
        assert finding.kind is Kind.NOBODY
        assert "alone in zone b" in finding.words
        assert judge(mesh(5, at("node-5"), zones="aaccb")).node == "node-5"

    def test_a_partition(self):
        cut = between("node-1", "node-2")
        finding = judge(mesh(6, cut, slow=1.0, symptom=Symptom.REACHABILITY, limit=0.5))
        assert (finding.kind, finding.nodes) == (Kind.PARTITION, ("node-1", "node-2"))

    def test_its_far_side_is_not_told_from_dead_nodes_when_it_does_not_report(self):
        far = {(a, b) for a in ("node-1", "node-2") for b in names(6)}
        finding = judge(mesh(6, between("node-1", "node-2"), slow=1.0, symptom=Symptom.REACHABILITY, limit=0.5, without=far))
        assert finding.kind is Kind.NOBODY
        assert "dead nodes and the far side of a partition look alike" in finding.words

    def test_from_its_small_side(self):
        far = {(a, b) for a in names(6)[2:] for b in names(6)}
        finding = judge(mesh(6, between("node-1", "node-2"), slow=1.0, symptom=Symptom.REACHABILITY, limit=0.5, without=far))
        assert (finding.kind, finding.node) == (Kind.PARTITION, None)

    def test_or_from_where_most_are_slow_and_silent(self):
        far = {(a, b) for a in names(6)[2:] for b in names(6)}
        finding = judge(mesh(6, between("node-1", "node-2"), without=far))
        assert (finding.kind, finding.nodes) == (Kind.NOBODY, ("node-3", "node-4", "node-5", "node-6"))

    def test_from_a_side_of_one_node(self):
        far = {(a, b) for a in names(6)[1:] for b in names(6)}
        finding = judge(mesh(6, at("node-1"), slow=1.0, symptom=Symptom.REACHABILITY, limit=0.5, without=far))
        assert finding.node is None


class TestRecord:
    def test_nobody_comes_with_the_matrix_and_goes_through_json(self):
        finding = judge(mesh(6, link("node-2", "node-5")))
        assert finding.matrix is not None
        row = finding.matrix.rows[finding.matrix.nodes.index("node-2")]
        assert row == (FAST, None, FAST, FAST, SLOW, FAST)
        assert from_json(encode(finding), type(finding)) == finding

    def test_the_matrix_of_a_large_cluster_is_cut_to_the_nodes_that_matter(self):
        finding = judge(mesh(100, link("node-99", "node-98")))
        assert finding.matrix is not None
        assert {"node-98", "node-99"} <= set(finding.matrix.nodes)
        assert (len(finding.matrix.nodes), finding.matrix.left_out) == (40, 60)
        assert len(encode(finding)) < 20_000
