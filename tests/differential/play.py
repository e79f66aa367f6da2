"""Plays states: each is set up once for everybody who drains, then all drain at the same time, each their own copy.

In come seeds and the drainers by name; out comes for every seed what each of them made of it. One that goes wrong is kept as its exception,
so that the others are seen too.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from differential.copies import Copy
from differential.furnish import clean_up, furnish, latecomers, prepare, send_off, shape, swept
from differential.generate import generate
from differential.outcome import Before, Outcome, remember

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from differential.cluster import Cluster
    from differential.states import State

__all__ = ["Drainer", "Played", "play"]

LANES = 8
"""States that are played at the same time."""
_LOST = 150
"""Seconds after its time-out after which a drain does not count as late any more, but as hung; kubectl is known to need 100."""


class Drainer(Protocol):
    """Somebody who can drain a node of a cluster."""

    @property
    def cluster(self) -> Cluster:
        """Where."""
        ...

    async def drain(self, copy: Copy, before: Before) -> Outcome:
        """Do it; what came of it."""
        ...


@dataclass
class Played:
    """A state and what came of it."""

    state: State
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    error: Exception | None = None

    def by(self, who: str) -> Outcome:
        """What one of them made of it; raises what went wrong, if something did."""
        if self.error is not None:
            raise self.error
        return self.outcomes[who]


async def play(seeds: Iterable[int], drainers: Mapping[str, Drainer]) -> dict[int, Played]:
    """All states, some at a time."""
    clusters = {id(d.cluster): d.cluster for d in drainers.values()}.values()
    await asyncio.gather(*map(prepare, clusters))
    lanes = asyncio.Semaphore(LANES)
    found = {seed: Played(generate(seed)) for seed in seeds}

    async def one(played: Played) -> None:
        async with lanes:
            await _play(played, drainers)

    await asyncio.gather(*map(one, found.values()))
    await asyncio.gather(*map(swept, clusters))
    return found


async def _play(played: Played, drainers: Mapping[str, Drainer]) -> None:
    copies = {who: Copy(played.state, who) for who in drainers}
    try:
        await asyncio.gather(*(furnish(drainers[who].cluster, copy) for who, copy in copies.items()))
        await asyncio.gather(*(send_off(drainers[who].cluster, copy) for who, copy in copies.items()))
        shapes = [await shape(drainers[who].cluster, copy) for who, copy in copies.items()]
        assert all(this == shapes[0] for this in shapes), f"the copies differ before anybody drained:\n{played.state}\n{shapes}"
        before = {who: await remember(drainers[who].cluster, copy) for who, copy in copies.items()}
        ended = await asyncio.gather(*(_drain(drainers[who], copy, before[who]) for who, copy in copies.items()))
        played.outcomes = dict(zip(copies, ended, strict=True))
    except Exception as error:  # noqa: BLE001 - told by the test of this seed
        played.error = error
    finally:
        await asyncio.gather(*(clean_up(drainers[who].cluster, copy) for who, copy in copies.items()))


async def _drain(drainer: Drainer, copy: Copy, before: Before) -> Outcome:
    late = asyncio.create_task(latecomers(drainer.cluster, copy, before))
    try:
        async with asyncio.timeout(copy.state.flags.timeout + _LOST):
            return await drainer.drain(copy, before)
    except TimeoutError:
        raise AssertionError(f"{copy.who} did not come to an end, {_LOST} s after its time was up:\n{copy.state}") from None
    finally:
        late.cancel()
        await asyncio.wait([late])
