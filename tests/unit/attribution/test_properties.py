"""What holds for every generated cluster of 3 to 200 nodes, whatever is wrong with it and however it was measured."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.attribution_cases import RIGHT, SMALLEST, Noise, case
from remediator.attribution import Kind, judge
from remediator.model import evolve

seeds = st.integers(0, 2**32)
sizes = st.integers(3, 12) | st.integers(3, 40)
few = settings(max_examples=25, deadline=None)


@pytest.mark.parametrize("what", RIGHT)
@few
@given(seed=seeds, nodes=sizes)
def test_nobody_is_blamed_who_is_not_bad(what, seed, nodes):
    of = case(Random(seed), what, nodes)
    finding = judge(of.matrix, of.hints)
    assert finding.node is None or finding.node in of.bad
    assert (finding.node is not None) == (finding.kind is Kind.NODE) == (finding.reason is None)


@pytest.mark.parametrize("what", RIGHT)
@settings(max_examples=2, deadline=None)
@given(seed=seeds)
def test_so_it_is_with_two_hundred_nodes(what, seed):
    of = case(Random(seed), what, 200)
    finding = judge(of.matrix, of.hints)
    assert finding.node is None or finding.node in of.bad


@few
@given(seed=seeds, nodes=sizes)
def test_one_bad_node_is_found_where_everybody_reports(seed, nodes):
    of = case(Random(seed), "one node", nodes, Noise())
    finding = judge(of.matrix)
    others = {place.zone for place in of.matrix.nodes}
    silent = len({o.observer for o in of.matrix.observations}) < len(of.matrix.nodes)
    if not (nodes == 3 and silent) and len(others) != 2:
        assert {finding.node} == of.bad


@pytest.mark.parametrize("what", [what for what in RIGHT if what not in ("partition", "fabric", "one node")])
@few
@given(seed=seeds, nodes=st.integers(6, 30))
def test_other_faults_are_named_where_everybody_reports(what, seed, nodes):
    of = case(Random(seed), what, nodes, Noise())
    finding = judge(of.matrix)
    if what == "two nodes" and finding.kind is Kind.ZONE:
        assert of.bad == set(finding.nodes)  # they are a whole zone, and it looks like one
    else:
        assert finding.kind in RIGHT[what]


@pytest.mark.parametrize("what", ["one node", "link", "zone", "two nodes"])
@few
@given(seed=seeds, nodes=st.integers(3, 20), share=st.floats(0, 1))
def test_samples_that_go_missing_never_lead_to_another_node(what, seed, nodes, share):
    random = Random(seed)
    of = case(random, what, nodes, Noise())
    left = tuple(o for o in of.matrix.observations if random.random() >= share)
    finding = judge(evolve(of.matrix, observations=left))
    assert finding.node is None or finding.node in of.bad


@few
@given(seed=seeds, what=st.sampled_from(sorted(RIGHT)), nodes=st.integers(3, 20))
def test_neither_the_order_of_the_samples_nor_that_of_the_nodes_matters(seed, what, nodes):
    random = Random(seed)
    of = case(random, what, max(nodes, SMALLEST.get(what, 3)))
    observations, places = list(of.matrix.observations), list(of.matrix.nodes)
    random.shuffle(observations)
    random.shuffle(places)
    shuffled = evolve(of.matrix, observations=tuple(observations), nodes=tuple(places))
    assert judge(shuffled, of.hints) == judge(of.matrix, of.hints)


@few
@given(seed=seeds, nodes=st.integers(3, 20))
def test_a_node_that_is_not_listed_is_never_blamed(seed, nodes):
    of = case(Random(seed), "one node", nodes, Noise())
    places = tuple(place for place in of.matrix.nodes if place.name not in of.bad)
    assert judge(evolve(of.matrix, nodes=places)).node is None
