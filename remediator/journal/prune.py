"""Takes the oldest part of the journal away, a slice of the log at a time, each in one transaction, so that the writer is never held long.

In: until when things may go, up to which entry, and how many entries at once. Out: what went, and whether there is more. How many are right
follows from how long the slices before held the writer (``Pace``); one that takes too long all the same is undone and taken again, smaller.
A slice is checked first (its links, and that no record it is about is missing); what was tampered with is refused with JournalError, since
pruning would hide it. A record goes only if the log says nothing of it after the slice, so that every entry that stays is about
something that is there. What must stay (open runs, their episodes and decisions, changes that were not put back, whatever waits, texts
of playbooks, the last word of every other kind of note) is told again at the log's end, by the same words and of the same time.
A record whose words lie on both sides of a slice's end is told again too, and goes when the log is pruned up to there.
The checkpoint then names the last entry that went, and an entry vouches for the checkpoint. After a crash the next slice goes on from it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from sqlalchemy import delete, func, select

from remediator.errors import JournalError
from remediator.journal.chain import check_links
from remediator.journal.checkpoint import PRUNED, Checkpoint, read_checkpoint
from remediator.journal.redact import canonical
from remediator.journal.rows import episode_id
from remediator.journal.schema import CHANGE, CHECKPOINT, DECISION, DELIVERY, ENTRY, EPISODE, PAUSE, REVISION, RUN, STEP
from remediator.journal.writes import OWN_KINDS
from remediator.model import Decision, DecisionKind, Episode, Noun, Run, from_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from sqlalchemy import Column, Table

    from remediator.journal.transaction import Transaction

T = TypeVar("T")

__all__ = ["FIRST_SLICE", "LEAST_OF_A_SLICE", "MOST_OF_A_SLICE", "Pace", "Pruned", "prune"]

FIRST_SLICE = 30
"""Entries of one transaction, before anything is known of the store."""
LEAST_OF_A_SLICE = 10
MOST_OF_A_SLICE = 2000
AIM = 0.015
"""Seconds that the statements of a slice should take. With its commit 50 ms are the most that is meant to be: a store is slow at times."""
HOLD = 0.035
"""Seconds that they should take with the commit: where that alone is slow, less remains for them."""
LEAST_AIM = 0.005
FADES = 0.9
"""How much of the slowest commit is still expected one slice later."""
GIVE_UP = 0.03
"""Seconds after which a slice is undone, unless it is as small as slices get."""
FASTER = 1.25
"""How much larger than a slice the next one is at most."""
_AT_ONCE = 500
"""Ids in one statement."""
_CLOSED_BY = {"delivery": "decided", "pause": "resume"}
"""Kinds of records that an entry of another kind completes."""


class Pruned(Noun, frozen=True, kw_only=True):
    """What one pruning took away: records and entries, by table; and the last entry that went, ever since."""

    through: int
    removed: dict[str, int]
    more: bool = False
    slices: int = 0
    longest: float = 0.0
    """Seconds for which one slice held the writer, at most."""


class Pace:
    """How many entries the next slice takes (``size``): as many as hold the writer for a moment, by how long those before did."""

    def __init__(self) -> None:
        self.size = FIRST_SLICE
        self._commit = 0.0

    def took(self, size: int, statements: float, commit: float) -> None:
        """A slice of ``size`` took so many seconds for its statements and for its commit."""
        self._commit = max(commit, self._commit * FADES)
        aim = max(LEAST_AIM, min(AIM, HOLD - self._commit))
        fits = size * min(FASTER, aim / statements) if statements > 0 else size * FASTER
        self.size = max(LEAST_OF_A_SLICE, min(MOST_OF_A_SLICE, round(fits)))

    def gave_up(self, size: int) -> None:
        """A slice of ``size`` was undone, since its statements took too long."""
        self.size = max(LEAST_OF_A_SLICE, size // 2)


def prune(tx: Transaction, *, before: str, upto: int, most: int) -> Pruned:
    """One slice: at most ``most`` entries that were written before ``before`` and are numbered ``upto`` or less."""
    tx.flush()
    begin = read_checkpoint(partial(tx.execute, on=CHECKPOINT))
    wanted = select(ENTRY).where(ENTRY.c.seq > begin.through, ENTRY.c.seq <= upto).order_by(ENTRY.c.seq).limit(most)
    found = tx.execute(wanted, on=ENTRY).all()
    old = list(takewhile(lambda entry: entry.at < before, found))
    if not old:
        return Pruned(through=begin.through, removed={})
    last = old[-1]
    for problem in check_links(old, (last.seq, last.hash), (begin.through, begin.hash)):
        raise JournalError(f"the log is not whole, so nothing more is pruned: {problem}; remediator journal verify says more")
    removed = _Slice(tx, old, before).settle()
    total = Counter(begin.removed) + removed
    now = Checkpoint(through=last.seq, hash=last.hash, before=before, removed=dict(sorted(total.items())))
    data = canonical(now).decode()
    tx.upsert(CHECKPOINT, (1, last.seq, last.hash, data))
    # Under its number: the entries of one ref are read together, and there is one of these for each slice.
    tx.log(PRUNED, str(last.seq), data)
    return Pruned(through=last.seq, removed=dict(removed), more=len(old) == most)


class _Slice:
    """The entries of one slice, what is known about their records, and what becomes of them."""

    def __init__(self, tx: Transaction, old: Sequence[Any], before: str) -> None:
        self._tx = tx
        self._before = before
        self._last = old[-1].seq
        self._old = {entry.seq: entry for entry in old}
        self._refs: dict[str, set[str]] = defaultdict(set)
        for entry in old:
            self._refs[entry.kind].add(entry.ref)
        self._latest: dict[str, dict[str, int]] = defaultdict(dict)
        """By ref and kind: the number of the last entry."""
        self._again: set[int] = set()
        """Entries that are told again at the end of the log."""
        self._removed: Counter[str] = Counter()

    def settle(self) -> Counter[str]:
        """Remove, and tell again; how much went, by table."""
        self._learn(ref for refs in self._refs.values() for ref in refs)
        runs = self._runs()
        left = self._settle_runs(runs)
        self._settle_changes(set(runs), left)
        self._settle("episode", EPISODE, self._lasting_episodes)
        self._settle("pause", PAUSE, self._lasting_pauses)
        self._settle("revision", REVISION, lambda rows: {row.id for row in rows})
        self._settle("decision", DECISION, self._lasting_decisions)
        self._settle("delivery", DELIVERY, self._lasting_deliveries)
        self._settle_notes(set(runs))
        for entry in self._told_again():
            self._tx.log(entry.kind, entry.ref, entry.data, entry.at)
        self._tx.execute(delete(ENTRY).where(ENTRY.c.seq <= self._last), on=ENTRY)
        self._removed["entry"] = len(self._old)
        return self._removed

    # what the journal has

    def _learn(self, refs: Iterable[str]) -> None:
        for some in _parts({ref for ref in refs if ref not in self._latest}):
            newest = select(ENTRY.c.ref, ENTRY.c.kind, func.max(ENTRY.c.seq).label("seq")).where(ENTRY.c.ref.in_(some))
            for row in self._tx.execute(newest.group_by(ENTRY.c.ref, ENTRY.c.kind), on=ENTRY):
                self._latest[row.ref][row.kind] = row.seq

    def _rows(self, column: Column[Any], values: Iterable[str]) -> dict[str, Any]:
        table = column.table
        return {row.id: row for some in _parts(values) for row in self._tx.execute(select(table).where(column.in_(some)), on=table)}

    def _present(self, kind: str, table: Table, refs: set[str]) -> dict[str, Any]:
        """The rows that ``refs`` name. Raises JournalError if one is missing that was never pruned."""
        rows = self._rows(table.c.id, refs)
        for ref in sorted(refs - rows.keys()):
            raise JournalError(f"{kind} {ref} is gone, and not by pruning, so nothing more is pruned; remediator journal verify says more")
        return rows

    def _remove(self, column: Column[Any], values: set[str]) -> None:
        for some in _parts(values):
            done = self._tx.execute(delete(column.table).where(column.in_(some)), on=column.table)
            self._removed[column.table.name] += done.rowcount

    def _later(self, ref: str) -> bool:
        return any(seq > self._last for seq in self._latest[ref].values())

    def _open_episodes(self, ids: Iterable[str]) -> set[str]:
        return {row.id for row in self._rows(EPISODE.c.id, ids).values() if row.resolved_at is None}

    # runs, with their steps, changes and notes

    def _runs(self) -> dict[str, Any]:
        """Every run that is there and that an entry of the slice is about, or one of its steps, changes or notes."""
        of_steps = {ref.rpartition("/")[0] for ref in self._refs["step"]}
        of_changes = {msgspec.json.decode(entry.data)["run"] for entry in self._old.values() if entry.kind == "change"}
        noted = {ref for kind, refs in self._refs.items() if kind not in OWN_KINDS for ref in refs}
        return self._rows(RUN.c.id, of_steps | of_changes | noted) | self._present("run", RUN, self._refs["run"])

    def _settle_runs(self, runs: dict[str, Any]) -> set[str]:
        """The runs that stay."""
        parts: dict[str, list[str]] = {id_: [id_] for id_ in runs}
        left = set()
        for step in self._rows(STEP.c.run, runs).values():
            parts[step.run].append(step.id)
        for change in self._rows(CHANGE.c.run, runs).values():
            parts[change.run].append(change.id)
            left |= {change.run} if change.left_behind else set()
        self._learn(ref for refs in parts.values() for ref in refs)
        nouns = {id_: from_json(row.data, Run) for id_, row in runs.items()}
        keys = {id_: episode_id(*run.alert.episode) for id_, run in nouns.items() if run.alert is not None}
        fire = self._open_episodes(keys.values())
        for id_, run in nouns.items():
            if run.state.open or keys.get(id_) in fire or any(map(self._later, parts[id_])):
                left.add(id_)
        for id_ in left:
            self._tell_run_again(id_)
        self._remove(RUN.c.id, runs.keys() - left)
        self._remove(STEP.c.run, runs.keys() - left)
        return left

    def _tell_run_again(self, run: str) -> None:
        """Its last entry and all those of its steps after that, since their order counts; and every note about it."""
        last = self._latest[run].get("run", self._last + 1)
        if last <= self._last:
            # "0" follows "/" in ASCII: all refs that begin with the run and a slash. The kind is spelled so that its index does not serve:
            # it would read every step of the log.
            later = ENTRY.c.ref > f"{run}/", ENTRY.c.ref < f"{run}0", ENTRY.c.kind.concat("") == "step", ENTRY.c.seq > last
            self._again |= {last, *self._tx.execute(select(ENTRY.c.seq).where(*later), on=ENTRY).scalars()}
        self._again |= {seq for seq, entry in self._old.items() if entry.ref == run and entry.kind not in OWN_KINDS}

    def _settle_changes(self, runs: set[str], left: set[str]) -> None:
        """Those of a run stay or go with it; one of no run goes once it is put back."""
        rows = self._present("change", CHANGE, self._refs["change"]) | self._rows(CHANGE.c.run, runs - left)
        stay = {row.id for row in rows.values() if row.run in left or (row.run not in runs and (row.left_behind or self._later(row.id)))}
        self._tell_records_again(("change",), stay)
        self._remove(CHANGE.c.id, rows.keys() - stay)

    # the other records

    def _settle(self, kind: str, table: Table, lasting: Callable[[Sequence[Any]], set[str]]) -> None:
        kinds = (kind, _CLOSED_BY[kind]) if kind in _CLOSED_BY else (kind,)
        rows = self._present(kind, table, set().union(*(self._refs[one] for one in kinds)))
        stay = {id_ for id_ in rows if self._later(id_)}
        stay |= lasting([row for row in rows.values() if row.id not in stay])
        self._tell_records_again(kinds, stay)
        self._remove(table.c.id, rows.keys() - stay)

    def _tell_records_again(self, kinds: Sequence[str], refs: Iterable[str]) -> None:
        for ref in refs:
            self._again |= {seq for kind, seq in self._latest[ref].items() if kind in kinds and seq <= self._last}

    def _lasting_episodes(self, rows: Sequence[Any]) -> set[str]:
        """Those that fire, and those whose run stays."""
        led_to = {row.id: from_json(row.data, Episode).run for row in rows}
        kept = self._rows(RUN.c.id, filter(None, led_to.values()))
        return {row.id for row in rows if row.resolved_at is None or led_to[row.id] in kept}

    def _lasting_pauses(self, rows: Sequence[Any]) -> set[str]:
        """Those in force, or in force not long ago."""
        return {row.id for row in rows if row.ended_at is None and (row.until is None or row.until >= self._before)}

    def _lasting_decisions(self, rows: Sequence[Any]) -> set[str]:
        """Those of a run that stays, of a delivery that waits for others, and those that hold an alert which fires."""
        kept = self._rows(RUN.c.id, {row.run for row in rows if row.run})
        waits = {one.id for one in self._rows(DELIVERY.c.id, {row.delivery for row in rows if row.delivery}).values() if not one.decided_at}
        return {row.id for row in rows if row.run in kept or row.delivery in waits} | {row.id for row in self._holding(rows)}

    def _lasting_deliveries(self, rows: Sequence[Any]) -> set[str]:
        """Those that wait for a decision, and those whose alert is held."""
        held = self._holding(self._rows(DECISION.c.delivery, {row.id for row in rows}).values())
        return {row.id for row in rows if not row.decided_at} | {row.delivery for row in held}

    def _holding(self, rows: Iterable[Any]) -> list[Any]:
        held = {row.id: (row, from_json(row.data, Decision)) for row in rows if row.decision == DecisionKind.HELD}
        keys = {id_: episode_id(*decision.alert.episode) for id_, (_, decision) in held.items() if decision.alert is not None}
        fire = self._open_episodes(keys.values())
        return [row for id_, (row, _) in held.items() if keys.get(id_) in fire]

    def _settle_notes(self, runs: set[str]) -> None:
        """Of what is noted about anything but a run, the last word of each kind stays, in the order in which they were said."""
        for ref in {ref for kind, refs in self._refs.items() if kind not in OWN_KINDS for ref in refs} - runs:
            last = {seq for kind, seq in self._latest[ref].items() if kind not in OWN_KINDS}
            if min(last) <= self._last:
                self._again |= last

    def _told_again(self) -> Iterator[Any]:
        elsewhere: dict[int, Any] = {}
        for some in _parts(seq for seq in self._again if seq not in self._old):
            elsewhere.update((row.seq, row) for row in self._tx.execute(select(ENTRY).where(ENTRY.c.seq.in_(some)), on=ENTRY))
        for seq in sorted(self._again):
            yield self._old.get(seq) or elsewhere[seq]


def _parts(values: Iterable[T]) -> Iterator[list[T]]:
    rest = list(dict.fromkeys(values))
    for first in range(0, len(rest), _AT_ONCE):
        yield rest[first : first + _AT_ONCE]
