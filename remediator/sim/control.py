"""The control endpoints below ``/sim``: how tests in another process break things and look behind the curtain.

In come small JSON bodies; out come JSON answers. What makes no sense is refused with 400 and a sentence. Nothing of it is in the request
log, and no fault touches it.
"""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from remediator.clock import iso
from remediator.errors import UsageError
from remediator.sim.alerting import Receiver
from remediator.sim.faults import Fault
from remediator.sim.objects import encode
from remediator.sim.scenarios import all_scenarios, scenario
from remediator.units import parse_duration

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from remediator.sim.simulation import Simulation

__all__ = ["Control"]


class Control:
    """Answers requests on one simulation."""

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim

    def add_routes(self, app: web.Application) -> None:
        """Hang everything into an application."""
        routes: dict[tuple[str, str], Callable[[web.Request, Any], Awaitable[Any]]] = {
            ("GET", "/sim"): self._info,
            ("GET", "/sim/clock"): self._clock,
            ("POST", "/sim/clock/advance"): self._advance,
            ("GET", "/sim/state-hash"): self._state_hash,
            ("GET", "/sim/requests"): self._requests,
            ("DELETE", "/sim/requests"): self._forget_requests,
            ("GET", "/sim/faults"): self._list_faults,
            ("POST", "/sim/faults"): self._add_fault,
            ("DELETE", "/sim/faults"): self._clear_faults,
            ("POST", "/sim/agents/{node}/kill"): self._kill_agent,
            ("POST", "/sim/agents/{node}/heal"): self._heal_agent,
            ("POST", "/sim/kubelets/{node}/stop"): self._stop_kubelet,
            ("POST", "/sim/kubelets/{node}/start"): self._start_kubelet,
            ("POST", "/sim/network/{node}"): self._degrade,
            ("GET", "/sim/routers"): self._routers,
            ("POST", "/sim/watches/{how}"): self._watches,
            ("POST", "/sim/budgets/{namespace}/{name}/{how}"): self._budget,
            ("POST", "/sim/receivers"): self._add_receiver,
            ("GET", "/sim/notifications"): self._notifications,
            ("GET", "/sim/scenarios"): self._scenarios,
            ("POST", "/sim/scenarios/{name}"): self._play,
            ("POST", "/sim/heal"): self._heal,
        }
        for (method, path), handler in routes.items():
            app.router.add_route(method, path, self._wrapped(handler))

    def _wrapped(self, handler: Callable[[web.Request, Any], Awaitable[Any]]) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            raw = await request.read()
            try:
                answer = await handler(request, msgspec.json.decode(raw) if raw else {})
            except (UsageError, ValueError, TypeError, KeyError, msgspec.DecodeError) as error:
                return _json({"error": str(error)}, 400)
            return _json(answer if answer is not None else {})

        return handle

    # --- looking -----------------------------------------------------------------------------------------------------

    async def _info(self, _request: web.Request, _body: Any) -> Any:
        return self.info()

    def info(self) -> dict[str, Any]:
        """Where everything is; also what the stand-alone process prints."""
        sim = self.sim
        return {
            "url": sim.url,
            "prometheus": sim.prometheus_url,
            "alertmanager": sim.alertmanager_url,
            "control": f"{sim.url}/sim",
            "nodes": sim.cluster.node_names(),
            "now": iso(sim.clock.now()),
            "rate": getattr(sim.clock, "rate", 1.0),
        }

    async def _clock(self, _request: web.Request, _body: Any) -> Any:
        return {"now": iso(self.sim.clock.now()), "rate": getattr(self.sim.clock, "rate", 1.0)}

    async def _advance(self, _request: web.Request, body: Any) -> Any:
        await self.sim.run_for(parse_duration(body["by"]))
        return {"now": iso(self.sim.clock.now())}

    async def _state_hash(self, _request: web.Request, _body: Any) -> Any:
        return {"hash": self.sim.cluster.state_hash()}

    async def _requests(self, request: web.Request, _body: Any) -> Any:
        query = request.query
        after = int(query.get("after", "0"))
        entries = self.sim.cluster.writes() if query.get("writes") else list(self.sim.cluster.request_log)
        chosen = [e for e in entries if e.seq > after and (not query.get("service") or e.service == query["service"])]
        return {"items": [{**dataclasses.asdict(e), "at": iso(e.at)} for e in chosen]}

    async def _forget_requests(self, _request: web.Request, _body: Any) -> None:
        self.sim.cluster.request_log.clear()

    async def _notifications(self, _request: web.Request, _body: Any) -> Any:
        return {"items": [{**dataclasses.asdict(n), "at": iso(n.at)} for n in self.sim.alertmanager.sent]}

    # --- breaking ----------------------------------------------------------------------------------------------------

    async def _list_faults(self, _request: web.Request, _body: Any) -> Any:
        return {"items": [_shown(f) for f in self.sim.cluster.faults.all()]}

    async def _add_fault(self, _request: web.Request, body: Any) -> Any:
        body |= {name: parse_duration(body[name]) for name in ("delay", "hold") if name in body}
        return _shown(self.sim.cluster.faults.add(Fault(**body)))

    async def _clear_faults(self, _request: web.Request, _body: Any) -> None:
        self.sim.cluster.faults.clear()

    async def _kill_agent(self, request: web.Request, body: Any) -> Any:
        pod = self.sim.cluster.kill_agent(request.match_info["node"], body.get("how", "hung"))
        return {"pod": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}

    async def _heal_agent(self, request: web.Request, _body: Any) -> None:
        self.sim.cluster.heal_agent(request.match_info["node"])

    async def _stop_kubelet(self, request: web.Request, _body: Any) -> None:
        self.sim.cluster.stop_kubelet(request.match_info["node"])

    async def _start_kubelet(self, request: web.Request, _body: Any) -> None:
        self.sim.cluster.start_kubelet(request.match_info["node"])

    async def _degrade(self, request: web.Request, body: Any) -> None:
        added = {"latency": float(body.get("latency", 0)), "loss": float(body.get("loss", 0))}
        self.sim.cluster.network.degrade_node(request.match_info["node"], **added)

    async def _routers(self, _request: web.Request, _body: Any) -> Any:
        return self.sim.cluster.bgp.routers()

    async def _watches(self, request: web.Request, body: Any) -> Any:
        how = {"expire": self.sim.cluster.expire_watches, "drop": self.sim.cluster.drop_watches}[request.match_info["how"]]
        return {"watches": how(body.get("kind", ""))}

    async def _budget(self, request: web.Request, _body: Any) -> None:
        how = {"hold": self.sim.cluster.hold_budget, "release": self.sim.cluster.release_budget}[request.match_info["how"]]
        how(request.match_info["name"], request.match_info["namespace"])

    async def _heal(self, _request: web.Request, _body: Any) -> None:
        self.sim.cluster.heal()

    # --- alerting and scenarios ----------------------------------------------------------------------------------------

    async def _add_receiver(self, _request: web.Request, body: Any) -> None:
        times = {k: parse_duration(body.pop(k)) for k in ("group_wait", "group_interval", "repeat_interval") if k in body}
        if "group_by" in body:
            body["group_by"] = tuple(body["group_by"])
        self.sim.add_receiver(Receiver(**{**body, **times}))

    async def _scenarios(self, _request: web.Request, _body: Any) -> Any:
        return {"items": [{"name": s.name, "summary": s.summary} for s in all_scenarios()]}

    async def _play(self, request: web.Request, _body: Any) -> Any:
        chosen = scenario(request.match_info["name"])
        await self.sim.play(chosen)
        return {"name": chosen.name, "broken": chosen.broken, "truth": dataclasses.asdict(chosen.truth)}


def _shown(fault: Fault) -> dict[str, Any]:
    fields = {k: v for k, v in dataclasses.asdict(fault).items() if not k.startswith("_")}
    return {**fields, **{name: fields[name] / timedelta(seconds=1) for name in ("delay", "hold")}}


def _json(data: Any, code: int = 200) -> web.Response:
    return web.Response(status=code, body=encode(data), content_type="application/json")
