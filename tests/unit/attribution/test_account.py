"""What a record keeps of a finding, and how a person is told of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from remediator.attribution import Finding, Hint, Kind, Matrix, Observation, Place, Sought, Symptom, account, judge
from remediator.attribution.account import ATTRIBUTION, account_in, grid, kept_elsewhere, lines, value
from remediator.attribution.places import away
from remediator.model import Evidence, encode, to_json

AT = datetime(2026, 1, 5, 10, tzinfo=UTC)
SLOW = Sought(symptom=Symptom.LATENCY, limit=0.020)


def seen(nodes, bad, symptom=Symptom.LATENCY):
    """A full matrix in which the pairs of ``bad`` take 40 ms."""
    names = [f"node-{n}" for n in range(1, nodes + 1)]
    pairs = [(a, b) for a in names for b in names if a != b]
    found = [Observation(observer=a, peer=b, value=0.04 if bad(a, b) else 0.0005, at=AT, source="test") for a, b in pairs]
    places = tuple(Place(name=name) for name in names)
    return Matrix(symptom=symptom, limit=0.02, nodes=places, observations=tuple(found), at=AT, gaps=("goldpinger: 404",))


def link(a, b):
    return {a, b} == {"node-2", "node-5"}


def node(a, b):
    return "node-3" in (a, b)


def test_a_blamed_node_with_the_votes():
    told = account(judge(seen(6, node)), SLOW, [Hint(node="node-3", alert="NodeNicErrors")])
    assert (told.node, told.sound, told.matrix) == ("node-3", 5, None)
    assert [(v.node, v.against, v.of, v.share) for v in told.votes] == [("node-3", 5, 5, 1.0)]
    first, *rest = lines(told)
    assert first.startswith("node-3 is to blame for latency above 20ms (confidence 1): 5 of 5 sound nodes that voted say")
    assert rest == ["Beside the pairs: NodeNicErrors on node-3."]


def test_nobody_with_the_worst_pairs_and_what_could_not_be_seen():
    told = account(judge(seen(6, link)), SLOW)
    assert list(lines(told)) == [
        f"No node is to blame for latency above 20ms (link): {told.words}.",
        "Bad: node-2 to node-5, 40ms.",
        "Bad: node-5 to node-2, 40ms.",
        "Not seen: goldpinger: 404.",
    ]
    rows = {row[0]: row[1:] for row in grid(told.matrix)}
    assert rows["node-2"] == ["0.5ms", "", "0.5ms", "0.5ms", "40ms!", "0.5ms"]


def test_the_matrix_of_another_record_is_named():
    told = kept_elsewhere(account(judge(seen(6, link)), SLOW), "01abc")
    assert (told.matrix, told.matrix_in) == (None, "01abc")
    assert list(lines(told))[-1] == "The matrix stands in the record 01abc of the same moment."
    blamed = account(judge(seen(6, node)), SLOW)
    assert kept_elsewhere(blamed, "01abc") is blamed


@pytest.mark.parametrize("bad", [lambda a, b: True, lambda a, b: int(a[5:]) <= 100 or int(b[5:]) <= 100], ids=["all", "half"])
def test_it_stays_small_in_a_large_cluster(bad):
    told = account(judge(seen(200, bad)), SLOW, [Hint(node=f"node-{n}", alert="NodeFailure") for n in range(200)])
    assert told.matrix is not None
    assert len(encode(told)) < 20_000
    assert len(list(lines(told))) < 25


def test_a_record_is_read_back_and_what_is_none_is_left_alone():
    told = account(judge(seen(6, link)), SLOW)
    kept = Evidence(name=ATTRIBUTION, at=AT, data=to_json(told))
    other = Evidence(name="plan", at=AT, data=["x"])
    assert account_in([other, kept]) == told
    assert account_in([other]) is None
    assert account_in([Evidence(name=ATTRIBUTION, at=AT, data={"cut": "64 KiB"})]) is None


def test_values_as_people_write_them():
    assert [value(Symptom.LATENCY, s) for s in (0.0005, 0.04, 10.0)] == ["0.5ms", "40ms", "10s"]
    assert [value(Symptom.LOSS, s) for s in (0.001, 1.0)] == ["0.1%", "100%"]
    assert [value(Symptom.REACHABILITY, s) for s in (0.0, 1.0)] == ["reached", "lost"]
    lost = Finding(kind=Kind.NOBODY, words="nothing was observed")
    (line,) = lines(account(lost, Sought(symptom=Symptom.REACHABILITY, limit=0.5)))
    assert line == "No node is to blame for reachability (nobody): nothing was observed."


@pytest.mark.parametrize(
    ("status", "since", "is_away"),
    [("True", 100, False), ("False", 61, True), ("Unknown", 61, True), ("Unknown", 59, False), ("Unknown", None, False)],
)
def test_away_is_who_has_not_been_ready_for_an_hour(status, since, is_away):
    ready = {"type": "Ready", "status": status}
    if since is not None:
        ready["lastTransitionTime"] = (AT - timedelta(minutes=since)).strftime("%Y-%m-%dT%H:%M:%SZ")
    thing = {"metadata": {"name": "node-1"}, "status": {"conditions": [ready]}}
    assert away([thing, {"metadata": {"name": "node-2"}}], AT) == ({"node-1"} if is_away else frozenset())
