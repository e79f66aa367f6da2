"""Deliveries that are on disk and wait for their decisions, a queue for each playbook: so that a storm costs others no time and no memory.

In: deliveries as they are stored. Out: portions of them, each alert exactly once, the queues by turns (``turns``). Of all that waits memory
holds which alerts wait where, up to a bound; the deliveries themselves only of the first that came. The rest is on disk and is read when
its turn comes, in the order in which it came.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from remediator.telemetry import METRICS
from remediator.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from remediator.journal import Journal
    from remediator.model import Alert, Delivery
    from remediator.turns import Share

__all__ = ["Inbox", "Portion"]

_IN_MEMORY = 2_500
"""Alerts, about, of deliveries that came and are in no queue yet, and so many again of those that are."""
_QUEUED = 50_000
"""Alerts of which it is known in which queue they wait; what came after them waits on disk, behind all of them."""
_PAGE = 200
_NAMES = 5_000
"""Names of deliveries read at once."""


class Portion(NamedTuple):
    """Alerts of one delivery that are decided on in one go."""

    delivery: Delivery
    places: Sequence[int]
    """Of its alerts, in their order."""
    first: bool
    last: bool
    """No other portion of it is left: with these decisions the delivery is decided."""
    again: bool
    """A part of it may have been decided on before."""

    @property
    def alerts(self) -> list[Alert]:
        """Those to decide on."""
        return [self.delivery.alerts[place] for place in self.places]

    @classmethod
    def whole(cls, delivery: Delivery, *, again: bool = False) -> Portion:
        """All of a delivery."""
        return cls(delivery, range(len(delivery.alerts)), first=True, last=True, again=again)


class Inbox:
    """``put`` after the commit, ``next`` for what is to be decided on; ``done`` when that is on disk, else ``back`` or ``retry``."""

    def __init__(self, journal: Journal, queue: Callable[[Alert], str]) -> None:
        self._journal = journal
        self._queue = queue
        self._arrived: dict[str, Delivery] = {}
        """Not in a queue yet: whoever waits for the answer to a webhook need not wait for that, too."""
        self._turns = Turns()
        self._came: dict[str, datetime] = {}
        self._bodies: dict[str, Delivery] = {}
        self._arriving = self._held = 0
        """Alerts in them."""
        self._careful: set[str] = set()
        self._out: dict[tuple[str, int], Share] = {}
        self._event = asyncio.Event()
        self._beyond = 0
        """How often it was said that a delivery is on disk only, or may be."""
        self._outside = 0
        """How many are there, as far as known."""
        self._looked = ""
        """The last delivery that the look on disk saw: it counted those up to it."""
        self._told: list[str] | None = None
        """Those that were counted while it looks."""
        self._on_disk = False
        self._in_doubt = False
        """Whether a commit without an answer may land yet; what it stores cannot be seen before that."""
        self._full = False
        """Whether more is there than is queued; then it is looked for when half of that is decided."""
        self._after_restart = True
        self._unkept: set[str] = set()
        """Those whose decisions the store would not have. They stay undecided on disk and are left for the next start."""
        METRICS.queue_depth.set_function(self._known)  # when it is asked for, and not with each delivery

    def put(self, delivery: Delivery) -> None:
        """A delivery that the journal has just kept."""
        if not self.has_room:
            self.put_aside(delivery.id)
        elif delivery.id not in self._came:  # else it was found on disk before this was told
            self._arrived[delivery.id] = delivery
            self._arriving += _size(delivery)
            self._event.set()

    def put_aside(self, id_: str) -> None:
        """As ``put``, of one that nobody holds in memory any more: it is read from disk when its turn comes."""
        if id_ in self._came:
            return  # as above
        self._on_disk = True
        self._beyond += 1
        if id_ > self._looked:
            self._outside += 1
            if self._told is not None:
                self._told.append(id_)
        self._event.set()

    @property
    def has_room(self) -> bool:
        """Whether a delivery that comes now would be held in memory."""
        return not self._on_disk and self._arriving < _IN_MEMORY

    def look(self) -> None:
        """There are deliveries on disk that nobody told of here; look there."""
        self._on_disk = True
        self._event.set()

    def doubt(self) -> None:
        """A delivery may be on disk without anybody knowing, or get there yet; look there once that is settled."""
        self._in_doubt = True
        self._beyond += 1
        self.look()

    async def load(self) -> int:
        """Begin with what an earlier life stored and did not decide; how many deliveries that is at least."""
        self._on_disk = True
        await self._look_on_disk()
        self._event.set()
        return len(self)

    async def next(self, most: int) -> list[Portion]:
        """Wait for deliveries; what is to be decided on next, about ``most`` alerts. Raises JournalUnavailable, with nothing handed out."""
        while True:
            for _ in range(len(self._arrived)):
                delivery = self._arrived.pop(next(iter(self._arrived)))
                self._arriving -= _size(delivery)
                self._add(delivery)
                await asyncio.sleep(0)  # requests have their turn
            if self._on_disk and self._turns.alerts < (_QUEUED // 2 if self._full else _QUEUED):
                await self._look_on_disk()
            if self._turns.waits:
                shares = self._turns.take(most)
                portions = await self._portions(shares)
                if portions:
                    return portions
            elif not self._on_disk and not self._arrived:
                self._event.clear()
                await self._event.wait()

    def done(self, portions: Iterable[Portion]) -> None:
        """The decisions on these, which were handed out first, are on disk."""
        for portion in portions:
            self._turns.done(self._taken(portion))
            if portion.delivery.id not in self._turns:
                self._forget(portion.delivery.id)

    def back(self, portions: Sequence[Portion]) -> None:
        """Nothing was done about these; they are next again."""
        self._turns.put_back([self._taken(portion) for portion in portions])

    def retry(self, portions: Sequence[Portion]) -> None:
        """The decisions on these may be on disk in part; the next look at them is a careful one."""
        self._careful |= {portion.delivery.id for portion in portions}
        self.back(portions)

    def leave(self, deliveries: Iterable[str]) -> None:
        """Nothing more of these is handed out before the next start; call it before ``done`` or ``back`` for what was handed out."""
        for id_ in deliveries:
            self._unkept.add(id_)
            self._turns.drop(id_)
            self._forget(id_)

    @property
    def oldest(self) -> datetime | None:
        """When the oldest that is known of came; None if there is none."""
        queued = self._turns.oldest
        if queued is not None:
            return self._came[queued]
        return next((delivery.received_at for delivery in self._arrived.values()), None)

    def __len__(self) -> int:
        return max(self._known(), int(self._on_disk))  # there may be more on disk

    def _known(self) -> int:
        return len(self._turns) + len(self._arrived) + self._outside

    async def _portions(self, shares: list[Share]) -> list[Portion]:
        try:
            await self._read(share.delivery for share in shares)
        except BaseException:
            self._turns.put_back(shares)
            raise
        for gone in {share.delivery for share in shares if share.delivery not in self._bodies}:
            self._turns.drop(gone)  # pruned, or decided by somebody else
            self._forget(gone)
        found = []
        for share in shares:
            if share.delivery not in self._turns:
                self._turns.done(share._replace(last=False))
                continue
            self._out[share.delivery, share.places[0] if share.places else 0] = share
            careful = share.delivery in self._careful
            found.append(Portion(self._bodies[share.delivery], share.places, share.first, share.last, careful))
        return found

    async def _read(self, ids: Iterable[str]) -> None:
        missing = [id_ for id_ in dict.fromkeys(ids) if id_ not in self._bodies]
        for first in range(0, len(missing), _PAGE):
            for delivery in await self._journal.undecided_of(missing[first : first + _PAGE]):
                self._hold(delivery)

    async def _look_on_disk(self) -> None:
        """What is there and not known here, the oldest first, into the queues. What arrives meanwhile is there too: it is found next."""
        if self._in_doubt:
            self._in_doubt = False
            try:
                await self._journal.settled()
            except BaseException:
                self._in_doubt = True
                raise
        before, outside = self._beyond, 0
        after, self._full = "", False
        told: list[str] = []
        self._told = told
        while names := await self._journal.undecided_names(_NAMES, after):
            after = names[-1]
            unknown = [id_ for id_ in names if id_ not in self._came and id_ not in self._arrived and id_ not in self._unkept]
            for first in range(0, len(unknown), _PAGE):
                self._full = self._turns.alerts >= _QUEUED
                if self._full:
                    outside += len(unknown) - first
                    break
                for delivery in await self._journal.undecided_of(unknown[first : first + _PAGE]):
                    self._found(delivery)
                    await asyncio.sleep(0)  # as above
        self._looked = after
        self._outside, self._told = outside + sum(id_ > after for id_ in told), None
        if not self._full and before == self._beyond:
            self._on_disk = self._after_restart = False

    def _found(self, delivery: Delivery) -> None:
        if delivery.id in self._came or delivery.id in self._arrived:
            return  # it came meanwhile
        self._add(delivery)
        if self._after_restart:
            self._careful.add(delivery.id)

    def _add(self, delivery: Delivery) -> None:
        self._came[delivery.id] = delivery.received_at
        if self._held < _IN_MEMORY:
            self._hold(delivery)
        self._turns.add(delivery.id, ((alert.fingerprint, self._queue(alert)) for alert in delivery.alerts))

    def _hold(self, delivery: Delivery) -> None:
        self._bodies[delivery.id] = delivery
        self._held += _size(delivery)

    def _taken(self, portion: Portion) -> Share:
        return self._out.pop((portion.delivery.id, portion.places[0] if portion.places else 0))

    def _forget(self, id_: str) -> None:
        self._came.pop(id_, None)
        body = self._bodies.pop(id_, None)
        self._held -= _size(body) if body is not None else 0
        self._careful.discard(id_)


def _size(delivery: Delivery) -> int:
    return max(1, len(delivery.alerts))
