"""Who is next: what waits, in a queue for each playbook, which take turns, so that a storm of one playbook's alerts keeps no other waiting.

In: names of deliveries with the queue of each of their alerts. Out: shares, which are alerts of one delivery by their places in it, at
most ``QUANTUM`` alerts of a queue before the next one has its turn. Pure; knows nothing of the disk. Alerts of one fingerprint leave in the
order in which they came, whatever queue they are said to belong to: what waits keeps its queue, and later ones of that fingerprint join it.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["QUANTUM", "Share", "Turns"]

QUANTUM = 50
"""Alerts of one queue in a row, at most; a delivery without alerts counts as one."""


class Share(NamedTuple):
    """What is handed out in one go: alerts of one delivery that are in one queue."""

    delivery: str
    queue: str
    places: tuple[int, ...]
    fingerprints: tuple[str, ...]
    """Of the alerts at those places."""
    first: bool
    """Nothing of the delivery was handed out before."""
    last: bool
    """Nothing of it is left."""


class Turns:
    """``add`` what came, ``take`` what is next; then each share once, in that order: ``done`` or ``put_back``."""

    def __init__(self) -> None:
        self._queues: OrderedDict[str, deque[tuple[str, tuple[int, ...], tuple[str, ...]]]] = OrderedDict()
        """Those that hold something, the next one first."""
        self._left: OrderedDict[str, int] = OrderedDict()
        """By delivery, the oldest first: how many of its alerts, at least 1, are not handed out."""
        self._sizes: dict[str, int] = {}
        """By delivery: its alerts, at least 1."""
        self._queue_of: dict[str, tuple[str, int]] = {}
        """By fingerprint: where it waits, and how often."""
        self.alerts = 0
        """Those that are not done, handed out or not."""

    def __len__(self) -> int:
        """Deliveries that are not done."""
        return len(self._left)

    def __contains__(self, delivery: str) -> bool:
        return delivery in self._left

    @property
    def waits(self) -> bool:
        """Whether there is something to take."""
        return bool(self._queues)

    @property
    def oldest(self) -> str | None:
        """Of the deliveries that are not done, the one that came first."""
        return next(iter(self._left), None)

    def add(self, delivery: str, alerts: Iterable[tuple[str, str]]) -> None:
        """A delivery that is not here, by the fingerprint of each of its alerts and the queue that it belongs to."""
        parts: dict[str, list[tuple[int, str]]] = {}
        count = 0
        for place, (fingerprint, queue) in enumerate(alerts):
            waits_in, often = self._queue_of.get(fingerprint, (queue, 0))
            self._queue_of[fingerprint] = (waits_in, often + 1)
            parts.setdefault(waits_in, []).append((place, fingerprint))
            count += 1
        self._left[delivery] = self._sizes[delivery] = max(1, count)
        self.alerts += count
        for queue, part in (parts or {"": []}).items():
            places, fingerprints = zip(*part, strict=True) if part else ((), ())
            self._queues.setdefault(queue, deque()).append((delivery, places, fingerprints))

    def take(self, most: int) -> list[Share]:
        """What is next, ``most`` alerts or a few more: every queue has its turn before one of them has another."""
        shares: list[Share] = []
        taken = 0
        while self._queues and taken < most:
            name, queue = self._queues.popitem(last=False)
            turn = 0
            while queue and turn < QUANTUM:
                delivery, places, fingerprints = queue.popleft()
                if delivery not in self._left:
                    self._forget(fingerprints)  # it was dropped
                    continue
                size = QUANTUM - turn
                if len(places) > size:
                    queue.appendleft((delivery, places[size:], fingerprints[size:]))
                shares.append(self._hand_out(delivery, name, places[:size], fingerprints[:size]))
                turn += max(1, len(shares[-1].places))
            taken += turn
            if queue:
                self._queues[name] = queue
        return shares

    def put_back(self, shares: Sequence[Share]) -> None:
        """Shares that are not through; they are next again, in the same order."""
        for share in reversed(shares):
            if share.delivery in self._left:
                self._left[share.delivery] += max(1, len(share.places))
                self._queues.setdefault(share.queue, deque()).appendleft((share.delivery, share.places, share.fingerprints))
                self._queues.move_to_end(share.queue, last=False)
            else:
                self._forget(share.fingerprints)  # it was dropped

    def done(self, share: Share) -> None:
        """A share is through; with the last of a delivery the delivery is."""
        self._forget(share.fingerprints)
        if share.last:
            self.drop(share.delivery)

    def drop(self, delivery: str) -> None:
        """Nothing more of the delivery is handed out."""
        self._left.pop(delivery, None)
        self._sizes.pop(delivery, None)

    def _hand_out(self, delivery: str, queue: str, places: tuple[int, ...], fingerprints: tuple[str, ...]) -> Share:
        before = self._left[delivery]
        left = self._left[delivery] = before - max(1, len(places))
        return Share(delivery, queue, places, fingerprints, first=before == self._sizes[delivery], last=left == 0)

    def _forget(self, fingerprints: Iterable[str]) -> None:
        for fingerprint in fingerprints:
            queue, often = self._queue_of[fingerprint]
            self.alerts -= 1
            if often > 1:
                self._queue_of[fingerprint] = (queue, often - 1)
            else:
                del self._queue_of[fingerprint]
