"""What is loaded: playbooks, actions, gates; the daemon's status; who announces what. In: the service; out: lists of descriptions."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from remediator.bgp.coverage import Report
from remediator.model import Page
from remediator.playbook.tested import known_tests
from remediator.server import query
from remediator.server.auth import Scope
from remediator.server.problems import no_such
from remediator.server.routing import Route
from remediator.server.service import ClusterView, Status

if TYPE_CHECKING:
    from remediator.gates import Gate
    from remediator.playbook import Playbook
    from remediator.server.routing import Call
    from remediator.server.service import Service

__all__ = ["ROUTES"]


async def playbooks(call: Call) -> Page[dict[str, Any]]:
    """``GET /api/v1/playbooks``"""
    return query.page([{**one.describe(), **call.service.mode_of(one)} for one in call.service.library.playbooks], call.query)


async def playbook(call: Call) -> dict[str, Any]:
    """``GET /api/v1/playbooks/{name}``: with its text, its tests by name, and how it did lately."""
    name = call.named("name")
    for found in call.service.library.playbooks:
        if found.name == name:
            service = call.service
            record = await service.record(found)
            tests = [one._asdict() for one in await asyncio.to_thread(known_tests, found.source)]
            more = {"in_force": _in_force(found, service), "record": record, "text": found.text, "tests": tests}
            return {**found.describe(), **service.mode_of(found), **more}
    raise no_such("playbook", name)


def _in_force(playbook: Playbook, service: Service) -> list[dict[str, Any]]:
    """Every gate that a run of it has to pass, with why it applies and the playbook's own settings for it."""
    settings = playbook.describe()["gates"]
    used = sorted((step for rung in playbook.ladder for step in rung.steps), key=lambda step: step.action)
    brought = {gate: step.action for step in used for gate in service.actions[step.action].brought(step.parameters)}

    def why(name: str, gate: type[Gate]) -> str:
        return "always" if gate.always else "the playbook" if gate.key in settings else brought.get(name, "")

    return [
        {"gate": name, "by": by, "settings": settings.get(gate.key)}
        for name, gate in service.gates.items()
        if (by := why(name, gate)) and (playbook.disruptive or not gate.only_disruptive)
    ]


async def actions(call: Call) -> Page[dict[str, Any]]:
    """``GET /api/v1/actions``"""
    return query.page([action.describe() for action in call.service.actions.values()], call.query)


async def action(call: Call) -> dict[str, Any]:
    """``GET /api/v1/actions/{name}``"""
    name = call.named("name")
    if name not in call.service.actions:
        raise no_such("action", name)
    return call.service.actions[name].describe()


async def gates(call: Call) -> Page[dict[str, Any]]:
    """``GET /api/v1/gates``"""
    return query.page([gate.describe() for gate in call.service.gates.values()], call.query)


async def bgp(call: Call) -> Report:
    """``GET /api/v1/bgp``: read from the cluster now."""
    return await call.service.bgp()


async def cluster(call: Call) -> ClusterView:
    """``GET /api/v1/cluster``: read from the cluster now."""
    return await call.service.cluster()


async def status(call: Call) -> Status:
    """``GET /api/v1/status``"""
    return await call.service.full_status()


_PAGED: dict[str, Any] = {"query": query.paging()}

ROUTES = tuple(
    Route(method="GET", path=f"/api/v1/{path}", scope=Scope.READ, handler=handler, summary=summary, answer=answer, **dict(more))
    for path, handler, summary, answer, more in (
        ("playbooks", playbooks, "The playbooks in force", Page[dict[str, Any]], _PAGED),
        ("playbooks/{name}", playbook, "One playbook, with its text", dict[str, Any], {}),
        ("actions", actions, "What steps can do", Page[dict[str, Any]], _PAGED),
        ("actions/{name}", action, "One action, with its parameters' schema", dict[str, Any], {}),
        ("gates", gates, "What may forbid a run", Page[dict[str, Any]], _PAGED),
        ("bgp", bgp, "Who announces what by BGP, and what would be left without each node", Report, {"fails": (502,)}),
        (
            "cluster",
            cluster,
            "The nodes, the disturbance budget, and what nodes measure towards one another",
            ClusterView,
            {"fails": (502,)},
        ),
        ("status", status, "The daemon at a glance", Status, {}),
    )
)
