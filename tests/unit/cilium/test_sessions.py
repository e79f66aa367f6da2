from __future__ import annotations

import pytest

from remediator.cilium.proof import sessions_back
from remediator.cilium.sessions import established, not_back, peer_configs


def node_config(**states):
    """peer -> (peeringState, establishedTime)"""
    peers = [
        {"name": name, "peeringState": state, **({"establishedTime": since} if since else {})} for name, (state, since) in states.items()
    ]
    spec = [{"name": "i", "peers": [{"name": name, "peerConfigRef": {"name": f"config-{name}"}} for name in states]}]
    return {"spec": {"bgpInstances": spec}, "status": {"bgpInstances": [{"name": "i", "peers": peers}]}}


BEFORE = {"i/tor1": "2026-01-05T10:00:00Z"}


def test_only_established_sessions_count():
    config = node_config(tor1=("established", "2026-01-05T10:00:00Z"), tor2=("active", ""))
    assert established(config) == BEFORE
    assert peer_configs(config) == {"i/tor1": "config-tor1", "i/tor2": "config-tor2"}


@pytest.mark.parametrize("nothing", [None, {}, {"status": {}}, {"status": {"bgpInstances": None}}])
def test_where_no_bgp_is_spoken_there_are_none(nothing):
    assert established(nothing) == {}
    assert not_back({}, nothing) == []


@pytest.mark.parametrize(
    ("state", "since", "back"),
    [
        ("established", "2026-01-05T10:05:00Z", True),
        ("established", "2026-01-05T10:00:00Z", False),  # what the dead agent wrote last
        ("established", "2026-01-05T10:00:01Z", False),  # the same, computed anew from whole seconds
        ("established", "2026-01-05T10:00:03Z", True),
        ("established", "", True),
        ("active", "2026-01-05T10:05:00Z", False),
        ("idle", "", False),
    ],
)
def test_after_bgp_sessions_are_established_anew(state, since, back):
    assert (not_back(BEFORE, node_config(tor1=(state, since))) == []) is back


def test_after_a_session_that_is_gone_is_named():
    assert "i/tor1" in sessions_back(BEFORE, None)
    assert sessions_back({}, node_config(tor2=("active", ""))) == "", "what was down before is nobody's promise"
