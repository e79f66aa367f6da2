"""What an agent says inside of its container, as its own programs print it."""

from __future__ import annotations

import json

import pytest

from remediator.cilium.inside import reaches, says_ok
from remediator.kube.execute import Executed


def ended(stdout="", *, code=0, stderr="", cut=False):
    return Executed(code=code, stdout=stdout.encode(), stderr=stderr.encode(), cut=cut)


def path(**wrong):
    return {"ip": "10.0.0.1", **{probe: {"status": wrong[probe]} if probe in wrong else {"latency": 400_000} for probe in ("icmp", "http")}}


def node(name, host=None, pod=None, **more):
    return {"name": name, "host": {"primary-address": host or path()}, "health-endpoint": {"primary-address": pod or path()}, **more}


def report(*nodes, local="node-1"):
    return ended(json.dumps({"local": {"name": local}, "nodes": list(nodes), "timestamp": "2026-01-05T10:00:00Z"}))


def test_ok_is_ok():
    assert says_ok(ended("OK\n")) == ""


def test_an_error_of_a_part_ends_with_code_0_and_is_no_ok():
    assert "error in kubernetes: timeout" in says_ok(ended("error in kubernetes: timeout\n"))


@pytest.mark.parametrize("said", ["", "OK, but", "ok"])
def test_only_the_word_itself_counts(said):
    assert says_ok(ended(said))


@pytest.mark.parametrize("judge", [says_ok, lambda e: reaches(e, [])])
def test_what_cannot_be_read_says_so(judge):
    assert "ended with code 1: cilium: daemon unreachable" in judge(ended(code=1, stderr="cilium: daemon unreachable\n"))
    assert "ended with code 127: not found" in judge(ended("not found", code=127))
    assert "too long" in judge(ended("OK\n", cut=True))


def test_every_node_is_reached():
    assert reaches(report(node("node-1"), node("node-2")), ["node-1", "node-2"]) == ""


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (node("node-2", path(icmp="Connection timed out")), "node-2 (ICMP: Connection timed out)"),
        (node("node-2", path(http="refused")), "node-2 (HTTP: refused)"),
        (node("node-2", None, path(http="refused")), "node-2 (health endpoint HTTP: refused)"),
        ({"name": "node-2"}, "node-2 (not probed)"),
        (node("node-2", {"ip": "10.0.0.1", "icmp": {}}), "node-2 (HTTP not probed)"),
        ({"name": "node-2", "host": {"primary-address": path()}, "endpoint": path(icmp="lost")}, "node-2 (health endpoint ICMP: lost)"),
        (node("node-3"), "node-2 (not listed)"),
    ],
)
def test_a_node_that_is_not_reached_is_named_with_why(bad, words):
    assert words in reaches(report(node("node-1"), bad), ["node-1", "node-2"])


def test_endpoint_health_checking_may_be_off():
    assert reaches(report({"name": "node-1", "host": {"primary-address": path()}}), ["node-1"]) == ""


def test_nodes_that_are_known_to_be_down_are_excused():
    lost = node("node-2", path(icmp="lost"))
    assert reaches(report(node("node-1"), lost), ["node-1"], down=["node-2"]) == ""
    assert reaches(report(node("node-1"), lost), ["node-1"])


def test_names_may_begin_with_their_clusters():
    here = [node("c/node-1"), node("c/node-2")]
    assert reaches(report(*here, local="c/node-1"), ["node-1", "node-2"]) == ""
    assert reaches(report(*here, node("d/node-2", path(icmp="lost")), local="c/node-1"), ["node-1", "node-2"]) == "", "of another cluster"
    lost = node("c/node-2", path(icmp="lost"))
    assert "node-2 (ICMP" in reaches(report(here[0], lost, node("d/node-2"), local="c/node-1"), ["node-1", "node-2"])


def test_no_more_than_five_names():
    assert reaches(report(*(node(f"node-{n}", path(icmp="lost")) for n in range(9)), local="node-0"), []).endswith("and 4 more")


@pytest.mark.parametrize(
    "said", ["", "nonsense", "[]", '{"nodes": 3}', '{"nodes": [{"host": 1}]}', "\ud83d".encode("utf-8", "surrogatepass")]
)
def test_another_form_says_so(said):
    broken = Executed(code=0, stdout=said if isinstance(said, bytes) else said.encode(), stderr=b"", cut=False)
    assert "is not to be read" in reaches(broken, [])


def test_a_report_of_nobody_proves_nothing():
    assert "lists no node" in reaches(report(), [])
    assert "lists no node" in reaches(ended("{}"), [])
