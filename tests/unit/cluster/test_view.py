"""Whom the daemon reaches itself, on sockets of this machine, and whether the simulated API server takes a write."""

from __future__ import annotations

import asyncio
import errno

import pytest

from remediator.cluster.view import read_view
from remediator.errors import KubeError
from remediator.kube import kinds


@pytest.fixture
async def port():
    """Nodes whose address is of this machine answer here."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
def at(stage):
    """``at(node, address)``: the node has this internal address."""

    async def move(name, address):
        status = {"status": {"addresses": [{"type": "InternalIP", "address": address}]}}
        await stage.world.kube.patch(kinds.NODE, name, status, type="merge", subresource="status")

    return move


async def test_nodes_that_answer_and_that_refuse_are_reached(stage, port, at, monkeypatch):
    there = asyncio.open_connection

    async def nowhere(address, port):
        if address == "192.0.2.1":
            raise OSError(errno.EHOSTUNREACH, "no route")
        await (asyncio.Event().wait() if address == "192.0.2.2" else asyncio.sleep(0))
        return await there(address, port)

    monkeypatch.setattr("asyncio.open_connection", nowhere)
    answers = {"node-1": "127.0.0.1", "node-2": "127.0.0.2", "node-4": "192.0.2.1", "node-5": "192.0.2.2"}
    for name, address in answers.items():
        await at(name, address)
    view = await read_view(stage.world.kube, port, "node-3")
    assert view.asked == ("node-1", "node-2", "node-4", "node-5"), "not the daemon's own"
    assert view.reached == ("node-1", "node-2"), "the second refuses, so it is there"


@pytest.mark.parametrize(("port", "own", "why"), [(4240, "", "outside of the cluster"), (0, "node-3", "health_port is 0")])
async def test_nobody_is_asked_from_outside_or_where_the_port_is_off(stage, port, own, why):
    before = stage.cluster.request_log.count
    view = await read_view(stage.world.kube, port, own)
    assert (view.asked, view.reached) == ((), ())
    assert [call.resource for call in stage.cluster.request_log if call.seq > before] == ["leases.coordination.k8s.io"], "no list of nodes"
    assert why in view.detail


async def test_an_api_server_that_takes_no_write_is_not_trusted(stage):
    await read_view(stage.world.kube, 0, "")
    assert stage.writes() == [], "it tries, and changes nothing"
    stage.cluster.fail(verb="create", path="/leases", status=503, count=None)
    with pytest.raises(KubeError):
        await read_view(stage.world.kube, 0, "")


async def test_a_large_cluster_is_asked_in_part(stage, monkeypatch):
    monkeypatch.setattr("remediator.cluster.view._MOST", 2)
    view = await read_view(stage.world.kube, 1, "node-3")
    assert view.asked == ("node-1", "node-4")
