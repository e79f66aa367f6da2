"""The API v2 of the simulated Alertmanager, as far as remediator and amtool use it.

In come requests below ``/alertmanager``; out come the JSON shapes of the real API. Malformed bodies are refused with 400 and a text.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from remediator.clock import iso, parse_time
from remediator.sim.alerting.alert import Alert
from remediator.sim.alerting.alertmanager import assumed_end, new_silence_id
from remediator.sim.alerting.silences import Matcher, Silence
from remediator.sim.objects import encode

if TYPE_CHECKING:
    from remediator.sim.alerting.alertmanager import Alertmanager

__all__ = ["AlertmanagerApi"]


class AlertmanagerApi:
    """Answers requests on one Alertmanager."""

    def __init__(self, alertmanager: Alertmanager) -> None:
        self.alertmanager = alertmanager
        self._started = alertmanager.clock.now()

    def handle(self, request: web.Request, raw: bytes) -> web.Response:
        """One request; its path begins with ``/alertmanager``."""
        path = request.path.removeprefix("/alertmanager").rstrip("/")
        if path in ("/-/ready", "/-/healthy"):
            return web.Response(text="OK")
        try:
            return self._route(request, path, raw)
        except (ValueError, KeyError, TypeError, msgspec.DecodeError) as error:
            return _json({"code": 400, "message": str(error)}, 400)

    def _route(self, request: web.Request, path: str, raw: bytes) -> web.Response:
        where = request.method, path
        if where == ("GET", "/api/v2/alerts"):
            return _json(self._list(request))
        if where == ("POST", "/api/v2/alerts"):
            self.alertmanager.receive([self._alert(item) for item in msgspec.json.decode(raw, type=list[dict[str, Any]])])
            return web.Response(status=200)
        if where == ("GET", "/api/v2/status"):
            return _json(self._status())
        if where == ("GET", "/api/v2/receivers"):
            return _json([{"name": r.name} for r in self.alertmanager.receivers])
        if path.startswith("/api/v2/silence"):
            return self._silences(request, path, raw)
        return web.Response(status=404, text=f"path {request.path} was not found")

    # --- alerts ------------------------------------------------------------------------------------------------------

    def _list(self, request: web.Request) -> list[dict[str, Any]]:
        query = request.query
        active, silenced = (query.get(name, "true").lower() != "false" for name in ("active", "silenced"))
        filters = [Matcher.parse(text) for text in query.getall("filter", [])]
        found = []
        for alert in self.alertmanager.open_alerts():
            by = self.alertmanager.silenced_by(alert)
            if all(f.fits(alert.labels) for f in filters) and (silenced if by else active):
                found.append(alert.api(self.alertmanager.receivers_of(alert), by))
        return found

    def _alert(self, item: dict[str, Any]) -> Alert:
        now = self.alertmanager.clock.now()
        labels = {k: v for k, v in item["labels"].items() if v != ""}
        if not labels or any(not isinstance(v, str) for v in labels.values()):
            raise ValueError("at least one label pair required")
        if not all(re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name) for name in labels):
            raise ValueError("invalid label set: invalid name")
        start = parse_time(item["startsAt"]) if item.get("startsAt") else None
        end = parse_time(item["endsAt"]) if item.get("endsAt") else None
        if start and end and end < start:
            raise ValueError("start time must be before end time")
        start = start or (end if end and end < now else now)
        annotations = dict(item.get("annotations") or {})
        return Alert(labels, annotations, start, end or assumed_end(now), now, str(item.get("generatorURL", "")), timeout=end is None)

    def _status(self) -> dict[str, Any]:
        version = {"version": "0.28.0-simulated", "branch": "", "buildDate": "", "buildUser": "", "goVersion": "", "revision": ""}
        return {
            "cluster": {"status": "disabled", "peers": []},
            "config": {"original": "route: {receiver: remediator}\n"},
            "uptime": iso(self._started),
            "versionInfo": version,
        }

    # --- silences ----------------------------------------------------------------------------------------------------

    def _silences(self, request: web.Request, path: str, raw: bytes) -> web.Response:
        manager, now = self.alertmanager, self.alertmanager.clock.now()
        if path == "/api/v2/silences" and request.method == "GET":
            return _json([s.api(now) for s in manager.silences.values()])
        if path == "/api/v2/silences" and request.method == "POST":
            body = msgspec.json.decode(raw)
            name = body.get("id") if body.get("id") in manager.silences else new_silence_id()
            return _json({"silenceID": manager.silence(Silence.of(body, name=name, now=now))})
        found = manager.silences.get(path.rpartition("/")[2])
        if found is None:
            return web.Response(status=404)
        if request.method == "GET":
            return _json(found.api(now))
        if request.method == "DELETE":
            manager.silence(replace(found, ends_at=min(found.ends_at, now), updated_at=now))
            return web.Response(status=200)
        return web.Response(status=405)


def _json(data: Any, code: int = 200) -> web.Response:
    return web.Response(status=code, body=encode(data), content_type="application/json")
