"""Reads which node explains what is seen between the nodes: the pairs from Prometheus, hints from other open episodes, then the vote.

In: what a playbook seeks, the nodes, what Alertmanager holds. Out: a Finding and the hints that were heard. Raised: what the doors raise.
``facts`` gives it a deadline and makes of every error an Unread.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeAlias

from remediator.attribution import hints_of, judge
from remediator.attribution.hints import OF_A_NODE_ITSELF
from remediator.attribution.places import away, places
from remediator.attribution.read import matrix
from remediator.attribution.table import table
from remediator.errors import Unreadable

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from remediator.attribution import Finding, Hint, Matrix, Sought, Table
    from remediator.model import Alert
    from remediator.world import World

__all__ = ["find", "own_episode", "survey"]

_MOST = 500
"""Open episodes that may give a hint; one node has a handful of them."""

Key: TypeAlias = "tuple[str, datetime]"


def own_episode(alert: Alert | None) -> Key | None:
    """The alert's episode if it could give a hint itself: only others are heard."""
    return alert.episode if alert is not None and alert.name in OF_A_NODE_ITSELF else None


async def find(
    world: World, sought: Sought, nodes: Sequence[Mapping[str, Any]], active: Collection[Key], own: Key | None
) -> tuple[Finding, tuple[Hint, ...]]:
    """Who is to blame now. ``active``: the episodes that Alertmanager holds; what it no longer holds is no evidence."""
    seen, hints = await _seen(world, sought, nodes, active, own)
    # In a thread: a full mesh of some hundred nodes takes longer than requests should wait for their turn.
    return await asyncio.to_thread(judge, seen, hints), hints


async def survey(world: World, sought: Sought, nodes: Sequence[Mapping[str, Any]], active: Collection[Key]) -> tuple[Table, Finding]:
    """The same for people who want to look: all pairs that fit, and who would be blamed."""
    seen, hints = await _seen(world, sought, nodes, active, None)
    return await asyncio.to_thread(lambda: (table(seen), judge(seen, hints)))


async def _seen(
    world: World, sought: Sought, nodes: Sequence[Mapping[str, Any]], active: Collection[Key], own: Key | None
) -> tuple[Matrix, tuple[Hint, ...]]:
    if world.prometheus is None:
        raise Unreadable("Prometheus", "the settings name no prometheus.url to ask")
    now = world.clock.now()
    taking_part = places(nodes, without=away(nodes, now))
    seen, open_ones = await asyncio.gather(
        matrix(world.prometheus, sought.symptom, sought.limit, taking_part, now=now, max_age=world.prometheus.max_age),
        world.journal.episodes(names=sorted(OF_A_NODE_ITSELF), limit=_MOST),
    )
    keys = ((episode, (episode.fingerprint, episode.starts_at)) for episode in open_ones.items)
    return seen, hints_of([episode for episode, key in keys if key in active and key != own], taking_part)
