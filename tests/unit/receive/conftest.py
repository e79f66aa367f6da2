from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from remediator.receive import Limits, parse_delivery


class Receiver:
    """Makes payloads and reads them."""

    at = datetime(2026, 1, 5, 10, 0, 1, tzinfo=UTC)

    def alert(self, **fields: Any) -> dict[str, Any]:
        alert = {
            "status": "firing",
            "labels": {"alertname": "CiliumAgentDown", "node": "node-3"},
            "annotations": {"summary": "The agent is down"},
            "startsAt": "2026-01-05T10:00:00.25Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "http://prometheus:9090/graph",
            "fingerprint": "f5de8878cc0f6892",
        }
        return _without_gaps(alert | fields)

    def payload(self, *alerts: Any, **fields: Any) -> dict[str, Any]:
        payload = {
            "receiver": "remediator",
            "status": "firing",
            "alerts": list(alerts),
            "groupLabels": {"alertname": "CiliumAgentDown"},
            "commonLabels": {"alertname": "CiliumAgentDown"},
            "commonAnnotations": {},
            "externalURL": "http://alertmanager:9093",
            "version": "4",
            "groupKey": '{}:{alertname="CiliumAgentDown"}',
            "truncatedAlerts": 0,
        }
        return _without_gaps(payload | fields)

    def read(self, payload: Any, limits: Limits | None = None):
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        return parse_delivery(body, id="d1", at=self.at, sender="10.0.0.7", limits=limits or Limits())


def _without_gaps(fields: dict[str, Any]) -> dict[str, Any]:
    """A field given as ``...`` is left out."""
    return {name: value for name, value in fields.items() if value is not ...}


@pytest.fixture(scope="session")
def receiver() -> Receiver:
    return Receiver()
