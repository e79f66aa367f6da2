"""``bgp status``: nodes, sessions, prefixes, and what would be left without a node."""

from __future__ import annotations

import json

import pytest
import yaml

from remediator.bgp.coverage import Rules, report
from remediator.bgp.model import Family, Node, Prefix, PrefixKind, Routes, Session
from remediator.model import encode

ROUTER = "10.25.150.1"


def node(name, **more):
    up = Session(
        instance="main",
        local_asn=65001,
        peer="tor1",
        address=ROUTER,
        asn=65000,
        state="established",
        families=(Family(advertised=2, wanted=2),),
    )
    return Node(**{"name": name, "zone": "a", "agent_ready": True, "configs": ("CiliumBGPClusterConfig/main",), "sessions": (up,), **more})


@pytest.fixture
def routes(api):
    dead = Session(
        instance="main", peer="tor1", address=ROUTER, state="established", stale="agent cilium-x is not Ready, so its state is old"
    )
    nodes = (
        node("node-1"),
        node("node-2", unschedulable=True),
        node("node-3", agent_ready=False, sessions=(dead,)),
        node("node-4", sessions=(), withdrawn_by="01run"),
        node("node-5", sessions=(), lag="its agent has still to copy bgp to the CiliumNode"),
    )
    both = {"node-1": (ROUTER,), "node-2": (ROUTER,)}
    prefixes = (
        Prefix(prefix="10.25.150.223/32", kind=PrefixKind.SERVICE, of="apps/whoami", policy="Cluster", speakers=both),
        Prefix(prefix="10.25.150.253/32", kind=PrefixKind.SERVICE, of="apps/dns", policy="Local", speakers={"node-1": (ROUTER,)}),
    )
    told = report(Routes(version="v2", nodes=nodes, prefixes=prefixes), Rules())
    api.answer("GET", "/api/v1/bgp", json.loads(encode(told)))


def test_a_table_of_nodes_sessions_and_prefixes(ask, routes):
    done = ask("bgp", "status")
    assert done.exit_code == 0, done.stderr
    nodes, sessions, prefixes = done.stdout.split("\n\n")
    assert nodes.splitlines()[0].split() == ["NODE", "ZONE", "AGENT", "SESSIONS", "ROUTES", "STATE"]
    told = {line.split()[0]: " ".join(line.split()[1:]) for line in nodes.splitlines()[1:]}
    assert told == {
        "node-1": "a ready 1/1 2 speaks",
        "node-2": "a ready 1/1 2 speaks, cordoned",
        "node-3": "a NOT READY 0/1 0 DOES NOT SPEAK",
        "node-4": "a ready 0/0 0 withdrawn by run 01run",
        "node-5": "a ready 0/0 0 shifting",
    }
    assert "so its state is old" in sessions
    assert [line.split()[-1] for line in prefixes.splitlines()[1:]] == ["1", "0"]
    assert "Warning: node-2 is cordoned and still announces 1 VIPs: a cordon or drain does not stop BGP" in done.stderr


def test_wide_has_what_is_left_without_each_node(ask, routes):
    assert "node-1 1, node-2 1" in ask("bgp", "status", "-o", "wide").stdout


@pytest.mark.parametrize(("form", "read"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_for_machines_it_is_the_shape_of_the_api(ask, routes, form, read):
    told = read(ask("bgp", "status", "-o", form).stdout)
    assert told["prefixes"][0]["left"] == {"node-1": 1, "node-2": 1}
    assert told["prefixes"][0]["least"] == 1


def test_name_prints_the_nodes_that_have_sessions(ask, routes):
    assert ask("bgp", "status", "-o", "name").stdout.split() == ["node-1", "node-2", "node-3"]
