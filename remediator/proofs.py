"""Which playbooks could never prove that anything is healed here, since Prometheus has none of the metrics that their verification needs.

In: the door to Prometheus, playbooks. Out: the playbooks with those metrics. That is no fault by itself: a playbook may be for something
that this cluster does not have. A run of it would end as not healed, whatever it did.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remediator.monitoring.promql import needed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from remediator.monitoring import Prometheus
    from remediator.playbook import Playbook

__all__ = ["unmeasured"]


async def unmeasured(prometheus: Prometheus, playbooks: Iterable[Playbook]) -> dict[str, tuple[str, ...]]:
    """Name of a playbook -> the metrics of which it needs one. Raises MonitoringError."""
    found: dict[str, tuple[str, ...]] = {}
    known: dict[str, bool] = {}
    for one in playbooks:
        query = one.verify.query if one.verify is not None else None
        names = needed(query.source) if query is not None else ()
        for name in names:
            if name not in known:
                known[name] = bool(await prometheus.query(f"count({name})"))
        if names and not any(known[name] for name in names):
            found[one.name] = names
    return found
