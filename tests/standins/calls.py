"""What was asked of the simulated cluster, so that a dry run can be held against a live one. In: logged requests. Out: their shape."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from remediator.sim.objects import encode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from remediator.sim.calls import Logged

_MOVES = {"patch", "create", "delete", "update", "deletecollection"}
_OF_THE_MOMENT = ("dryRun", "time", "start", "end", "resourceVersion", "timeoutSeconds")
_CHANGES_BY_ITSELF = re.compile(
    r"\b[0-9a-hjkmnp-tv-z]{26}\b"  # ids of runs
    r"|\b\d{4}-\d\d-\d\dT[\d:.]+Z"
    r'|(?<="path":"/metadata/resourceVersion","value":)"\d+"'  # a node is written to by its kubelet
)


def shape(call: Logged) -> tuple[Any, ...]:
    """What was asked, without what differs from one moment to the next."""
    query = {k: v for k, v in call.query.items() if k not in _OF_THE_MOMENT}
    body = _CHANGES_BY_ITSELF.sub("*", encode(_undated(call.body)).decode()) if call.body is not None else ""
    return call.service, call.verb, call.path, tuple(sorted(query.items())), body


def _undated(body: Any) -> Any:
    """A dry run says so in the body of deletes and evictions."""
    if isinstance(body, dict):
        return {key: _undated(value) for key, value in body.items() if key != "dryRun" and (key, value) != ("deleteOptions", {})}
    return [_undated(item) for item in body] if isinstance(body, list) else body


def moves(calls: Iterable[Logged]) -> list[Logged]:
    """Those that change something, or try to."""
    return [call for call in calls if call.service == "kubernetes" and call.verb in _MOVES and not call.path.endswith("reviews")]
