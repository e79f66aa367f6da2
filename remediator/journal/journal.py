"""The journal as the rest of the program sees it: nouns in, nouns out, never a word of SQL.

In: nouns. Out: nouns, pages of them, the log. Every write returns when it is on disk, or raises JournalError if this one record cannot be,
or JournalUnavailable: then it is not on disk, but where its commit hangs it may be yet, which ``settled`` waits for. Secrets are taken out
before anything is stored. Nothing here blocks the event loop: writes go to one thread, reads to a few.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import structlog

from remediator.errors import JournalError, JournalUnavailable, Occupied
from remediator.journal import audit, queries, verification, writes
from remediator.journal.anchor import Anchor, Mark
from remediator.journal.migrate import migrate
from remediator.journal.prune import GIVE_UP, LEAST_OF_A_SLICE, MOST_OF_A_SLICE, Pace, Pruned, prune
from remediator.journal.redact import Redactor, canonical
from remediator.journal.rows import delivery_row, key, stamp
from remediator.journal.seat import Seat
from remediator.journal.store import READERS, Store
from remediator.journal.writer import Writer
from remediator.model import encode, evolve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from remediator.clock import Clock
    from remediator.journal.audit import ChainReport
    from remediator.model import (
        Begun,
        Change,
        Decision,
        DecisionKind,
        Delivery,
        Done,
        Entry,
        Episode,
        Exported,
        Noun,
        Outline,
        Page,
        Pause,
        Run,
        RunState,
        Step,
    )

    N = TypeVar("N", bound=Noun)
    T = TypeVar("T")

__all__ = ["Journal"]

log = structlog.get_logger(__name__)

DEADLINE = timedelta(seconds=10)
_WHOLE_READ = timedelta(hours=1)
_EXPORTED = 500
"""Entries that are read at once for an export; some have large records."""
_LOOK_AT_SEAT = 0.5
"""Real seconds between two tries to take a seat."""


class Journal:
    """One journal, opened with ``Journal.open``."""

    def __init__(self, store: Store, writer: Writer, clock: Clock, redact: Redactor, deadline: timedelta) -> None:
        self._store = store
        self._writer = writer
        self._clock = clock
        self._redact = redact
        self._deadline = deadline.total_seconds()
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="journal-reader")
        self._reads: set[asyncio.Future[Any]] = set()
        self._closed = False
        self._seat: Seat | None = None
        self._unseated = False
        self._anchor: Anchor | None = None
        self._pace = Pace()
        self.faults: tuple[str, ...] = ()
        """What was wrong with the log when it was last verified or compared with its anchor."""

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        clock: Clock,
        redact: Redactor | None = None,
        queue_limit: int = 10_000,
        deadline: timedelta = DEADLINE,
        anchor: Path | None = None,
        ticks: Callable[[], float] = time.monotonic,
    ) -> Journal:
        """Open ``sqlite:////path`` or ``postgresql://...`` and bring its schema up to date.

        At most ``queue_limit`` writes may wait. ``deadline`` bounds a statement, a lock or a connection. ``anchor`` is the file outside
        that remembers where the chain stood; it begins where there is none. ``ticks`` are real seconds, by which it is measured how long
        long work holds up the writer. Raises JournalUnavailable, and JournalError for an anchor that cannot be read or written.
        """
        outside = Anchor(anchor) if anchor is not None else None
        if outside is not None:
            await asyncio.to_thread(outside.begin)
        store = Store(url, deadline=deadline)
        try:
            await asyncio.to_thread(_prepare, store)
        except BaseException:
            store.close()
            raise
        writer = Writer(store, clock, queue_limit=queue_limit, deadline=deadline, ticks=ticks)
        writer.start()
        journal = cls(store, writer, clock, redact or Redactor(), deadline)
        journal._anchor = outside
        return journal

    async def close(self) -> None:
        """Commit what waits, take nothing more, give the store back. A second call does nothing."""
        self._closed = True
        await self._writer.close()
        if self._reads:
            _, hanging = await asyncio.wait(self._reads, timeout=self._deadline)
            if hanging:
                self._store.abort()
        self._readers.shutdown(wait=False)
        if self._seat is not None:
            await asyncio.to_thread(self._seat.close)
        await asyncio.to_thread(self._store.close)

    async def sit(self, *, alone: bool, by: str, node: str = "", within: timedelta = timedelta()) -> None:
        """Take the seat of a daemon that acts: ``alone``, or as one of those that elect. Waits ``within`` for others to go.

        Raises Occupied, JournalUnavailable. ``by`` is what others are told of us, ``node`` where we run.
        """
        self._seat = Seat(self._store, alone=alone, by=self._redact.text(by), node=node)
        until, told = time.monotonic() + within.total_seconds(), ""
        while True:
            try:
                return await asyncio.to_thread(self._seat.take)
            except Occupied as error:
                if time.monotonic() >= until:
                    raise
                if str(error) != told:
                    log.warning("the store is occupied; waiting", error=str(error), within=str(within))
                told = str(error)
            await asyncio.sleep(_LOOK_AT_SEAT)  # real time, since it is other processes that end

    async def keep_seat(self) -> None:
        """Once: is it still ours? After its session broke it is taken again; ``deposed`` if somebody else was quicker."""
        if self._seat is None:
            return
        try:
            await asyncio.to_thread(self._seat.look)
        except Occupied as error:
            log.error("the store is another daemon's now", error=str(error))  # noqa: TRY400 - a finding, no fault
            self._unseated = True
        except JournalUnavailable as error:
            log.debug("the seat at the store cannot be looked at", error=str(error))  # whoever writes says so

    async def others_elsewhere(self) -> bool:
        """Whether another replica that elects, and so could lead, runs on another node than this one."""
        return self._seat is not None and await asyncio.to_thread(self._seat.others_elsewhere)

    async def lead(self, by: str) -> int:
        """Begin to lead, of several replicas on one store: the number of this leader, above all before. Raises JournalUnavailable.

        From then on every write of every earlier leader is refused, in the same transaction that would have kept it, and ours are once
        another one leads.
        """
        return await self._writer.lead(by)

    @property
    def deposed(self) -> bool:
        """Whether a write was refused because another replica leads since, or our seat is another daemon's; it stays so."""
        return self._writer.deposed or self._unseated

    @property
    def shared(self) -> bool:
        """Whether daemons on other machines can reach this store."""
        return not self._store.sqlite

    async def last(self) -> int:
        """The number of the last entry of the log."""
        return await self._read(queries.last)

    @property
    def healthy(self) -> bool:
        """False from a failed commit until one succeeds; while it is False the writer tries one of its own every second."""
        return self._writer.healthy

    @property
    def queue_depth(self) -> int:
        """How many writes wait for their commit."""
        return self._writer.depth

    async def give_back(self) -> None:
        """Let go of what is kept in memory for the next read. Raises JournalUnavailable."""
        await self._work(self._store.give_back)

    async def settled(self) -> None:
        """Whatever was to be written before is on disk now, or never will be: a read tells which. Raises JournalUnavailable until then.

        Nobody waits for a commit longer than its deadline, but it can land after that: a disk that stalled, a standby server that
        PostgreSQL waited for. Whoever looks before, and asks for the same once more, has it twice.
        """
        await self._writer.write(partial(writes.settle))

    # writes

    async def add_delivery(self, delivery: Delivery) -> None:
        """Keep a webhook call as it came in, undecided. While this waits for the disk it holds the record as text, and not the noun."""
        if delivery.decided_at is not None:
            delivery = evolve(delivery, decided_at=None)
        clean, data = _encoded(partial(self._redact.encoded, delivery, encode))
        writing = self._writer.write(partial(writes.add_delivery, row=delivery_row(clean, data)), len(data))
        del delivery, clean
        await writing

    async def decide(
        self,
        delivery: str | None,
        decisions: Sequence[Decision],
        *,
        episodes: Sequence[Episode] = (),
        runs: Sequence[Run] = (),
        decided_at: datetime | None = None,
    ) -> None:
        """All of it or nothing: the decisions, the episodes as they stand now, the new runs with their steps, the delivery's mark.

        Raises JournalError if ``delivery`` is unknown or decided already, or if an id is taken.
        """
        deed = writes.Deed(
            delivery,
            decided_at or self._clock.now(),
            [self._clean(decision) for decision in decisions],
            [self._clean(episode) for episode in episodes],
            [self._clean(run)[0] for run in runs],
        )
        await self._writer.write(partial(writes.decide, deed=deed))

    async def save_run(self, run: Run, *, begins: bool = False) -> None:
        """Keep the run and its steps in place of what was kept of them; changes have their own ``save_change``.

        ``begins``: what waited for people begins with this (``Run.order``).
        """
        clean, data = self._clean(run)
        await self._writer.write(partial(writes.save_run, run=clean, begins=begins), len(data))

    async def save_step(self, run: str, step: Step) -> None:
        """Keep one step of a run, by its index. Raises JournalError if there is no such run."""
        clean, data = self._clean(step)
        await self._writer.write(partial(writes.save_step, run=run, step=clean), len(data))

    async def save_change(self, change: Change) -> None:
        """Keep a change in place of the one with its id."""
        clean, data = self._clean(change)
        await self._writer.write(partial(writes.save_change, change=clean, data=data), len(data))

    async def save_episode(self, episode: Episode) -> None:
        """Keep an episode in place of the one with its fingerprint and start."""
        clean, data = self._clean(episode)
        await self._writer.write(partial(writes.save_episode, episode=clean, data=data), len(data))

    async def add_pause(self, pause: Pause) -> None:
        """Keep a new pause."""
        clean, data = self._clean(pause)
        await self._writer.write(partial(writes.add_pause, pause=clean, data=data), len(data))

    async def end_pauses(self, *, playbook: str | None, target: str | None, by: str, at: datetime) -> int:
        """End the pauses in force for exactly this playbook and target; both None ends those for everything. How many ended."""
        return await self._writer.write(partial(writes.end_pauses, playbook=playbook, target=target, by=self._redact.text(by), at=at))

    async def keep_revision(self, revision: str, playbook: str, text: str) -> None:
        """Keep the text of a playbook's revision; again does nothing. Only known secret values are taken out of it."""
        work = partial(writes.keep_revision, revision=revision, playbook=playbook, text=self._redact.known(text))
        await self._writer.write(work, len(text))

    async def note(self, kind: str, ref: str, data: Any) -> None:
        """An entry of the log that is about nothing else kept here (start, stop, reload). Raises ValueError for a record's kind."""
        if kind in writes.OWN_KINDS:
            raise ValueError(f"entries of kind {kind} are written with their records")
        plain = self._redact.data(msgspec.to_builtins(data))
        text = _encoded(partial(canonical, plain)).decode()
        await self._writer.write(partial(writes.note, kind=key(kind), ref=key(ref), data=text), len(text))

    async def prune(self, *, before: datetime, keep: int = 0, most: int = MOST_OF_A_SLICE) -> Pruned:
        """Take away what was written before ``before``, but for the last ``keep`` entries of the log and what must stay.

        In slices of at most ``most`` entries, each a transaction of its own between which others have their turn; smaller ones where they
        take long, and one that takes too long is undone. What must stay: open runs and episodes, changes that were not put back, and what
        belongs to them (``remediator.journal.prune``). Raises JournalUnavailable, and JournalError if what would go was tampered with.
        """
        upto = await self._read(queries.last_number) - keep
        removed: Counter[str] = Counter()
        slices, longest = 0, 0.0
        while True:
            size = min(self._pace.size, most)
            work = partial(prune, before=stamp(before), upto=upto, most=size)
            done, held = await self._writer.hold(work, within=GIVE_UP if size > LEAST_OF_A_SLICE else None)
            longest = max(longest, held.statements + held.commit)
            if done is None:
                self._pace.gave_up(size)
                continue
            removed.update(done.removed)
            slices += 1
            if not done.more:
                return Pruned(through=done.through, removed=dict(sorted(removed.items())), slices=slices, longest=longest)
            self._pace.took(size, held.statements, held.commit)

    # reads

    async def undecided(self, limit: int = 100, after: str = "") -> list[Delivery]:
        """Deliveries without a decision, oldest first, with ids after ``after``."""
        return await self._read(queries.undecided, limit, after)

    async def undecided_names(self, limit: int, after: str = "") -> list[str]:
        """The ids of deliveries without a decision, oldest first, those after ``after``."""
        return await self._read(queries.undecided_names, limit, after)

    async def undecided_of(self, ids: Sequence[str]) -> list[Delivery]:
        """Of the deliveries of these ids, a few hundred at most, those without a decision, oldest first."""
        return await self._read(queries.undecided_of, ids)

    async def delivery(self, id: str) -> Delivery | None:  # noqa: A002 - the record's own word
        """One delivery."""
        return await self._read(queries.delivery, id)

    async def deliveries(self, *, since: datetime | None = None, limit: int = 50, cursor: str | None = None) -> Page[Delivery]:
        """Newest first. ``since`` looks at when they were received."""
        return await self._read(queries.deliveries, since, limit, cursor)

    async def decisions(
        self,
        *,
        delivery: str | None = None,
        fingerprint: str | None = None,
        playbook: str | None = None,
        target: str | None = None,
        run: str | None = None,
        decision: DecisionKind | None = None,
        name: str | None = None,
        since: datetime | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[Decision]:
        """Newest first. ``target`` is Target.key, ``name`` the alert's name."""
        filters = {
            "delivery": delivery,
            "fingerprint": fingerprint,
            "playbook": playbook,
            "target": target,
            "run": run,
            "decision": decision,
            "name": name,
        }
        return await self._read(queries.decisions, filters, since, limit, cursor)

    async def episodes(
        self,
        *,
        open_only: bool = True,
        fingerprint: str | None = None,
        name: str | None = None,
        names: Sequence[str] | None = None,
        limit: int = 1000,
        cursor: str | None = None,
    ) -> Page[Episode]:
        """The latest to start first; those that are not resolved, or all. ``names``: of any of these alerts."""
        filters = {"fingerprint": fingerprint, "name": name}
        read = partial(queries.episodes, names=names, open_only=open_only, limit=limit, cursor=cursor)
        return await self._read(read, filters)

    async def episodes_of(self, keys: Sequence[tuple[str, datetime]]) -> list[Episode]:
        """Those that the journal has, by ``Alert.episode``, in no order."""
        return await self._read(queries.episodes_of, keys)

    async def run(self, id: str) -> Run | None:  # noqa: A002 - the record's own word
        """One run with its steps in order and their changes."""
        return await self._read(queries.run, id)

    async def runs(
        self,
        *,
        state: Sequence[RunState] | None = None,
        playbook: str | None = None,
        target: str | None = None,
        since: datetime | None = None,
        dry_run: bool | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[Run]:
        """Newest first, with steps and changes. ``target`` is Target.key, ``since`` looks at when a run started."""
        filters = {"playbook": playbook, "target": target}
        return await self._read(queries.runs, filters, state, since, dry_run, limit, cursor)

    async def bare_runs(self, *, ids: Sequence[str] | None = None, target: str | None = None, limit: int = 500) -> list[Run]:
        """Those of ``ids``, a few hundred at most, or on ``target`` (Target.key), newest first, without steps: a third of the cost."""
        return await self._read(queries.bare_runs, ids, target, limit)

    async def runs_there(self, ids: Iterable[str]) -> frozenset[str]:
        """Those of ``ids``, a few hundred at most, that the journal has a run for."""
        return await self._read(queries.runs_there, tuple(ids))

    async def ran(self, playbooks: Iterable[str]) -> list[str]:
        """Those of ``playbooks`` that have a live run, in the same order."""
        return await self._read(queries.ran, tuple(playbooks))

    async def open_runs(self) -> list[Run]:
        """All that have not ended, oldest first, with steps and changes."""
        return await self._read(queries.open_runs)

    async def open_outlines(self) -> list[Outline]:
        """As much of all that have not ended as says whether they count for others, oldest first."""
        return await self._read(queries.open_outlines)

    async def over_runs(
        self, fold: Callable[[Iterator[Outline]], T], *, since: datetime, dry_run: bool | None = None, disruptive: bool = False
    ) -> T:
        """What ``fold`` makes of the runs on any target that started since then, oldest first; few of them are in memory at once.

        It is called in a reader's thread and must have read them when it returns. ``disruptive``: only those that may disturb.
        """
        return await self._read(lambda connection: fold(queries.outlines(connection, since, dry_run=dry_run, disruptive=disruptive)))

    async def history(self, target: str, *, since: datetime) -> list[Run]:
        """Runs on that target (Target.key) that started or ended since then, and open ones; newest first, without steps."""
        return (await self.histories([target], since=since))[target]

    async def histories(self, targets: Sequence[str], *, since: datetime) -> dict[str, list[Run]]:
        """``history`` of each of ``targets``, in one question."""
        return await self._read(queries.histories, targets, since)

    async def outcomes(self, *, since: datetime, limit: int = 2000) -> list[tuple[Run, Episode | None]]:
        """Runs that started since then, newest first and without steps, each with the episode of its alert."""
        return await self._read(queries.outcomes, since, limit)

    async def done(self, actions: frozenset[str], *, since: datetime, target: str | None = None) -> list[Done]:
        """What live runs did by these actions since then, newest first: everywhere, or to ``target`` (Target.key)."""
        return await self._read(queries.done, actions, since, target)

    async def recent_runs(self, *, since: datetime, dry_run: bool | None = None) -> list[Run]:
        """Runs on any target that started since then, newest first, without steps."""
        return await self._read(partial(queries.recent_runs, dry_run=dry_run), since)

    async def recent_episodes(self, *, since: datetime, most: int) -> list[Begun]:
        """Episodes that started since then, open or not, the latest first; at most so many."""
        return await self._read(queries.recent_episodes, since, most)

    async def last_note(self, kind: str) -> Entry | None:
        """The newest entry of the log of that kind."""
        return await self._read(queries.last_note, kind)

    async def changes(
        self, *, run: str | None = None, left_behind: bool | None = None, limit: int = 50, cursor: str | None = None
    ) -> Page[Change]:
        """Newest first. ``left_behind`` as Change.left_behind."""
        return await self._read(queries.changes, run, left_behind, limit, cursor)

    async def pauses(self, now: datetime) -> list[Pause]:
        """Those in force at ``now``, oldest first."""
        return await self._read(queries.pauses, now)

    async def revision(self, revision: str) -> str | None:
        """The text of a playbook's revision."""
        return await self._read(queries.revision, revision)

    async def entries(self, *, ref: str | None = None, kind: str | None = None, after: int = 0, limit: int = 1000) -> list[Entry]:
        """Entries of the log with numbers above ``after``, oldest first."""
        return await self._read(queries.entries, ref, kind, after, limit)

    async def verify(self, *, full: bool = True, jobs: int | None = 1) -> ChainReport:
        """Check the log's chain, every row against the last entry about it, and both against the anchor outside, where there is one.

        Not ``full``: only the entries since the last one that found nothing wrong, and the records they are about. ``jobs`` processes, or a
        thread of this one; None: as many as usual. About ten seconds of CPU time per million entries. Raises JournalUnavailable.
        """
        report = await verification.verify(
            self._store,
            read=partial(self._read, within=_WHOLE_READ),
            work=partial(self._work, within=_WHOLE_READ),
            keep=self._keep_reached,
            anchor=self._anchor,
            clock=self._clock,
            full=full,
            jobs=verification.usual_jobs() if jobs is None else jobs,
        )
        self.faults = tuple(report.problems)
        return report

    async def anchor(self) -> tuple[str, ...]:
        """Compare the log with the anchor outside, and write down there where it stands now; what does not agree, or cannot be done.

        Nothing is written where something does not agree. Without an anchor it does nothing. Raises JournalUnavailable.
        """
        if self._anchor is None:
            return ()
        problems, marks = await self._read(audit.against_anchor, self._anchor)
        seq, hash_ = await self._read(queries.head)
        if not problems and seq and (not marks or marks[-1].seq < seq):
            try:
                await asyncio.to_thread(self._anchor.add, Mark(seq=seq, hash=hash_, at=self._clock.now()))
            except JournalError as error:
                problems = [str(error)]
        if problems:
            self.faults = tuple(problems)
        return tuple(problems)

    async def export(self) -> AsyncIterator[Exported]:
        """The whole log, oldest first, with the records of which it has only digests; also what is added meanwhile.

        Raises JournalUnavailable, and JournalError where entries went meanwhile by pruning.
        """
        after = 0
        while page := await self._read(queries.exported, after, _EXPORTED):
            if after and page[0].seq != after + 1:
                raise JournalError(f"entries {after + 1} to {page[0].seq - 1} went while the journal was exported; export it again")
            for entry in page:
                yield entry
            after = page[-1].seq

    # inside

    def _clean(self, noun: N) -> tuple[N, str]:
        """The noun without secrets and its canonical JSON. Raises JournalError if it cannot be JSON."""
        return _encoded(partial(self._redact.encoded, noun))

    async def _keep_reached(self, reached: audit.Reached | None) -> None:
        """How far a verification came. Where that cannot be kept, the next one begins further back."""
        try:
            await self._writer.write(partial(writes.reach, data=None if reached is None else encode(reached).decode()))
        except JournalError as error:
            log.debug("how far the journal was verified cannot be kept", error=str(error))

    async def _read(self, query: Callable[..., T], *args: Any, within: timedelta | None = None) -> T:
        """Run ``query`` in a snapshot, in a reader's thread. Raises JournalUnavailable, also if the store does not answer in time."""
        return await self._work(partial(self._in_snapshot, query, args, patient=within is not None), within=within)

    async def _work(self, job: Callable[..., T], *args: Any, within: timedelta | None = None) -> T:
        """Run ``job`` in a reader's thread. Raises as ``_read``."""
        if self._closed:
            raise JournalUnavailable("the journal is closed")
        seconds = within.total_seconds() if within else self._deadline
        read = asyncio.get_running_loop().run_in_executor(self._readers, job, *args)
        self._reads.add(read)
        read.add_done_callback(self._read_ended)
        await asyncio.wait((read,), timeout=seconds)
        if not read.done():
            raise JournalUnavailable(f"the journal at {self._store.shown} did not answer in {seconds:g} s")
        return read.result()

    def _read_ended(self, read: asyncio.Future[Any]) -> None:
        self._reads.discard(read)
        if not read.cancelled():
            read.exception()  # if nobody waits for it any more, nobody needs to hear of it

    def _in_snapshot(self, query: Callable[..., T], args: tuple[Any, ...], *, patient: bool) -> T:
        with self._store.snapshot(patient=patient) as connection:
            return query(connection, *args)


def _prepare(store: Store) -> None:
    store.prepare()
    migrate(store)


def _encoded(encode: Callable[[], T]) -> T:
    try:
        return encode()
    except (ValueError, TypeError) as problem:
        raise JournalError(f"the record cannot be written as JSON: {problem}") from problem
