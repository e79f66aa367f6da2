"""What can be asked of the journal, each in one read transaction.

In: a connection with a snapshot, filters as people spell them. Out: nouns, and pages of nouns. Nothing is written; the only refusal is a
cursor that is none (UsageError).
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import bindparam, func, or_, select, tuple_

from remediator.clock import parse_time
from remediator.journal.chain import digest_of
from remediator.journal.paging import MOST, newest_first
from remediator.journal.rows import delivery_of, episode_id, key, stamp
from remediator.journal.schema import CHANGE, DECISION, DELIVERY, ENTRY, EPISODE, HEAD, MAY_DISTURB, PAUSE, REVISION, RUN, STEP
from remediator.model import (
    Begun,
    Change,
    ChangeState,
    Decision,
    Delivery,
    Done,
    Entry,
    Episode,
    Exported,
    Outline,
    Page,
    Pause,
    Run,
    RunState,
    Step,
    evolve,
    from_json,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, Connection, Table, TextClause

__all__ = [
    "bare_runs",
    "changes",
    "decisions",
    "deliveries",
    "delivery",
    "done",
    "entries",
    "episodes",
    "episodes_of",
    "exported",
    "head",
    "histories",
    "last",
    "last_note",
    "last_number",
    "open_outlines",
    "open_runs",
    "outcomes",
    "outlines",
    "pauses",
    "ran",
    "recent_episodes",
    "recent_runs",
    "revision",
    "run",
    "runs",
    "undecided",
]

_AT_ONCE = 500
"""Ids in one statement; runs in memory at once where many are read."""
_BY_DIGEST = {"delivery": DELIVERY, "episode": EPISODE, "revision": REVISION}
_OPEN_STATES = tuple(state.value for state in RunState if state.open)


def _equal(table: Table, filters: dict[str, str | None]) -> list[ColumnElement[bool]]:
    return [table.c[name] == key(value) for name, value in filters.items() if value is not None]


def undecided(connection: Connection, limit: int, after: str) -> list[Delivery]:
    """Oldest first, by id."""
    waits = DELIVERY.c.decided_at.is_(None), DELIVERY.c.id > key(after)
    statement = select(DELIVERY).where(*waits).order_by(DELIVERY.c.id).limit(max(1, min(limit, MOST)))
    return [delivery_of(row) for row in connection.execute(statement)]


def undecided_names(connection: Connection, limit: int, after: str) -> list[str]:
    """Ids, oldest first, from the index alone."""
    waits = DELIVERY.c.decided_at.is_(None), DELIVERY.c.id > key(after)
    return list(connection.execute(select(DELIVERY.c.id).where(*waits).order_by(DELIVERY.c.id).limit(max(1, min(limit, MOST)))).scalars())


def undecided_of(connection: Connection, ids: Sequence[str]) -> list[Delivery]:
    """Those of ``ids`` that nobody decided yet, by id."""
    statement = select(DELIVERY).where(DELIVERY.c.id.in_([key(id_) for id_ in ids]), DELIVERY.c.decided_at.is_(None))
    return [delivery_of(row) for row in connection.execute(statement.order_by(DELIVERY.c.id))]


def delivery(connection: Connection, id_: str) -> Delivery | None:
    """By its id."""
    row = connection.execute(select(DELIVERY).where(DELIVERY.c.id == key(id_))).first()
    return None if row is None else delivery_of(row)


def deliveries(connection: Connection, since: datetime | None, limit: int, cursor: str | None) -> Page[Delivery]:
    """Newest first."""
    recent = [DELIVERY.c.received_at >= stamp(since)] if since is not None else []
    rows, further = newest_first(connection, DELIVERY, recent, DELIVERY.c.received_at, limit=limit, cursor=cursor)
    return Page(items=tuple(map(delivery_of, rows)), next=further)


def decisions(
    connection: Connection, filters: dict[str, str | None], since: datetime | None, limit: int, cursor: str | None
) -> Page[Decision]:
    """Newest first; ``filters`` by column."""
    conditions = _equal(DECISION, filters)
    if since is not None:
        conditions.append(DECISION.c.at >= stamp(since))
    rows, further = newest_first(connection, DECISION, conditions, DECISION.c.at, limit=limit, cursor=cursor)
    return Page(items=tuple(from_json(row.data, Decision) for row in rows), next=further)


def episodes(
    connection: Connection,
    filters: dict[str, str | None],
    *,
    names: Sequence[str] | None,
    open_only: bool,
    limit: int,
    cursor: str | None,
) -> Page[Episode]:
    """The latest to start first."""
    conditions = _equal(EPISODE, filters)
    if names is not None:
        conditions.append(EPISODE.c.name.in_([key(name) for name in names]))
    if open_only:
        conditions.append(EPISODE.c.resolved_at.is_(None))
    rows, further = newest_first(connection, EPISODE, conditions, EPISODE.c.starts_at, limit=limit, cursor=cursor)
    return Page(items=tuple(from_json(row.data, Episode) for row in rows), next=further)


def episodes_of(connection: Connection, keys: Sequence[tuple[str, datetime]]) -> list[Episode]:
    """Those that are there, by fingerprint and startsAt, in no order."""
    ids = [episode_id(*one) for one in keys]
    found: list[Episode] = []
    for first in range(0, len(ids), _AT_ONCE):
        rows = connection.execute(select(EPISODE.c.data).where(EPISODE.c.id.in_(ids[first : first + _AT_ONCE])))
        found += [from_json(row.data, Episode) for row in rows]
    return found


def run(connection: Connection, id_: str) -> Run | None:
    """With its steps and their changes."""
    rows = connection.execute(select(RUN).where(RUN.c.id == key(id_))).all()
    return next(iter(_assemble(connection, rows)), None)


def runs(
    connection: Connection,
    filters: dict[str, str | None],
    state: Sequence[RunState] | None,
    since: datetime | None,
    dry_run: bool | None,  # noqa: FBT001 - a filter's value, handed through
    limit: int,
    cursor: str | None,
) -> Page[Run]:
    """Newest first, with their steps and changes."""
    conditions = _equal(RUN, filters)
    if state is not None:
        conditions.append(RUN.c.state.in_([str(one) for one in state]))
    if since is not None:
        conditions.append(RUN.c.started_at >= stamp(since))
    if dry_run is not None:
        conditions.append(RUN.c.dry_run.is_(dry_run))
    rows, further = newest_first(connection, RUN, conditions, RUN.c.started_at, limit=limit, cursor=cursor)
    return Page(items=tuple(_assemble(connection, rows)), next=further)


def bare_runs(connection: Connection, ids: Sequence[str] | None, target: str | None, limit: int) -> list[Run]:
    """Newest first, without steps."""
    conditions = _equal(RUN, {"target": target})
    if ids is not None:
        conditions.append(RUN.c.id.in_([key(id_) for id_ in ids]))
    statement = select(RUN.c.data).where(*conditions).order_by(RUN.c.started_at.desc(), RUN.c.id.desc())
    return [from_json(row.data, Run) for row in connection.execute(statement.limit(max(1, min(limit, MOST))))]


def runs_there(connection: Connection, ids: Iterable[str]) -> frozenset[str]:
    """Those of ``ids``, a few hundred at most, that are kept."""
    return frozenset(connection.execute(select(RUN.c.id).where(RUN.c.id.in_([key(id_) for id_ in ids]))).scalars())


def ran(connection: Connection, playbooks: Iterable[str]) -> list[str]:
    """Those of ``playbooks`` that have a live run. Each is asked for by itself: the first one in the index is enough."""
    one = select(RUN.c.id).where(RUN.c.playbook == bindparam("playbook"), RUN.c.dry_run.is_(False)).limit(1)
    return [name for name in playbooks if connection.execute(one, {"playbook": key(name)}).first() is not None]


def open_runs(connection: Connection) -> list[Run]:
    """Oldest first, with their steps and changes."""
    statement = select(RUN).where(RUN.c.state.in_(_OPEN_STATES)).order_by(RUN.c.started_at, RUN.c.id)
    return _assemble(connection, connection.execute(statement).all())


def open_outlines(connection: Connection) -> list[Outline]:
    """Oldest first."""
    statement = select(RUN.c.data).where(RUN.c.state.in_(_OPEN_STATES)).order_by(RUN.c.started_at, RUN.c.id)
    return [from_json(data, Outline) for data in connection.execute(statement).scalars()]


def histories(connection: Connection, targets: Sequence[str], since: datetime) -> dict[str, list[Run]]:
    """By target, newest first, without steps: what started or ended at ``since`` or later on it, or is open."""
    moment = stamp(since)
    recent = or_(RUN.c.started_at >= moment, RUN.c.ended_at >= moment, RUN.c.state.in_(_OPEN_STATES))
    found: dict[str, list[Run]] = {target: [] for target in targets}
    asked = {key(target): target for target in targets}
    keys = list(asked)
    for first in range(0, len(keys), _AT_ONCE):
        statement = select(RUN.c.target, RUN.c.data).where(RUN.c.target.in_(keys[first : first + _AT_ONCE]), recent)
        for row in connection.execute(statement.order_by(RUN.c.started_at.desc(), RUN.c.id.desc())):
            found[asked[row.target]].append(from_json(row.data, Run))
    return found


def outcomes(connection: Connection, since: datetime, limit: int) -> list[tuple[Run, Episode | None]]:
    """Newest first, without steps: the runs that started since then, each with the episode of its alert."""
    begun = select(RUN.c.data).where(RUN.c.started_at >= stamp(since)).order_by(RUN.c.started_at.desc(), RUN.c.id.desc()).limit(limit)
    found = [from_json(row.data, Run) for row in connection.execute(begun)]
    ids = {run.id: episode_id(*run.alert.episode) for run in found if run.alert is not None}
    known: dict[str, Episode] = {}
    wanted = list(dict.fromkeys(ids.values()))
    for first in range(0, len(wanted), _AT_ONCE):
        rows = connection.execute(select(EPISODE.c.id, EPISODE.c.data).where(EPISODE.c.id.in_(wanted[first : first + _AT_ONCE])))
        known.update((row.id, from_json(row.data, Episode)) for row in rows)
    return [(run, known.get(ids.get(run.id, ""))) for run in found]


def done(connection: Connection, actions: frozenset[str], since: datetime, target: str | None) -> list[Done]:
    """Newest first: every change of a live run by one of ``actions`` that took effect or may have, but for what puts another back."""
    conditions = [CHANGE.c.at >= stamp(since), RUN.c.dry_run.is_(False), *_equal(RUN, {"target": target})]
    statement = select(CHANGE.c.data, RUN.c.data.label("of_run")).join(RUN, RUN.c.id == CHANGE.c.run).where(*conditions)
    found = []
    for row in connection.execute(statement):
        change = from_json(row.data, Change)
        if change.action not in actions or change.undoes or change.state is ChangeState.ABSENT:
            continue
        of = from_json(row.of_run, Outline)
        found.append(
            Done(
                action=change.action, target=of.target.key, at=change.at, run=of.id, playbook=of.playbook, state=of.state, reason=of.reason
            )
        )
    return sorted(found, key=lambda one: one.at, reverse=True)


def last(connection: Connection) -> int:
    """The number of the last entry."""
    return int(connection.execute(select(HEAD.c.seq)).scalar_one())


def recent_runs(connection: Connection, since: datetime, *, dry_run: bool | None) -> list[Run]:
    """Newest first, without steps: what started at ``since`` or later on any target."""
    conditions = [RUN.c.started_at >= stamp(since)]
    if dry_run is not None:
        conditions.append(RUN.c.dry_run.is_(dry_run))
    rows = connection.execute(select(RUN.c.data).where(*conditions).order_by(RUN.c.started_at.desc(), RUN.c.id.desc()))
    return [from_json(row.data, Run) for row in rows]


def outlines(connection: Connection, since: datetime, *, dry_run: bool | None, disruptive: bool) -> Iterator[Outline]:
    """Oldest first: what started at ``since`` or later on any target, all of it or what may disturb. A slice at a time is in memory."""
    kind: list[ColumnElement[bool] | TextClause] = [] if dry_run is None else [RUN.c.dry_run.is_(dry_run)]
    kind += [MAY_DISTURB[connection.dialect.name]] if disruptive else []
    page = select(RUN.c.started_at, RUN.c.id, RUN.c.data).where(*kind).order_by(RUN.c.started_at, RUN.c.id).limit(_AT_ONCE)
    rows = connection.execute(page.where(RUN.c.started_at >= stamp(since))).all()
    while rows:
        found = (from_json(row.data, Outline) for row in rows)
        yield from (one for one in found if one.disruptive or not disruptive)
        rows = connection.execute(page.where(tuple_(RUN.c.started_at, RUN.c.id) > (rows[-1].started_at, rows[-1].id))).all()


def recent_episodes(connection: Connection, since: datetime, most: int) -> list[Begun]:
    """The latest to start first, those that started at ``since`` or later, at most so many."""
    statement = select(EPISODE.c.data).where(EPISODE.c.starts_at >= stamp(since))
    rows = connection.execute(statement.order_by(EPISODE.c.starts_at.desc(), EPISODE.c.id.desc()).limit(most))
    return [from_json(row.data, Begun) for row in rows]


def last_note(connection: Connection, kind: str) -> Entry | None:
    """The newest entry of that kind."""
    row = connection.execute(select(ENTRY).where(ENTRY.c.kind == key(kind)).order_by(ENTRY.c.seq.desc()).limit(1)).first()
    return None if row is None else _entry(row)


def head(connection: Connection) -> tuple[int, str]:
    """Number and hash of the last entry."""
    row = connection.execute(select(HEAD.c.seq, HEAD.c.hash)).one()
    return row.seq, row.hash


def last_number(connection: Connection) -> int:
    """Of the newest entry of the log; 0 if there is none."""
    return connection.execute(select(func.max(ENTRY.c.seq))).scalar() or 0


def changes(
    connection: Connection,
    run_id: str | None,
    left_behind: bool | None,  # noqa: FBT001 - a filter's value, handed through
    limit: int,
    cursor: str | None,
) -> Page[Change]:
    """Newest first."""
    conditions = _equal(CHANGE, {"run": run_id})
    if left_behind is not None:
        conditions.append(CHANGE.c.left_behind == left_behind)
    rows, further = newest_first(connection, CHANGE, conditions, CHANGE.c.at, limit=limit, cursor=cursor)
    return Page(items=tuple(from_json(row.data, Change) for row in rows), next=further)


def pauses(connection: Connection, now: datetime) -> list[Pause]:
    """Those in force, oldest first."""
    in_force = PAUSE.c.ended_at.is_(None), PAUSE.c.until.is_(None) | (PAUSE.c.until > stamp(now))
    rows = connection.execute(select(PAUSE.c.data).where(*in_force).order_by(PAUSE.c.id))
    return [from_json(row.data, Pause) for row in rows]


def revision(connection: Connection, id_: str) -> str | None:
    """The playbook's text."""
    found: str | None = connection.execute(select(REVISION.c.data).where(REVISION.c.id == key(id_))).scalar()
    return found


def entries(connection: Connection, ref: str | None, kind: str | None, after: int, limit: int) -> list[Entry]:
    """Of the log, oldest first."""
    statement = select(ENTRY).where(ENTRY.c.seq > after, *_equal(ENTRY, {"ref": ref, "kind": kind}))
    rows = connection.execute(statement.order_by(ENTRY.c.seq).limit(max(1, min(limit, MOST))))
    return [_entry(row) for row in rows]


def exported(connection: Connection, after: int, limit: int) -> list[Exported]:
    """Of the log, oldest first, each with the record that it vouches for by its digest alone, if that is still as it says."""
    found = connection.execute(select(ENTRY).where(ENTRY.c.seq > after).order_by(ENTRY.c.seq).limit(limit)).all()
    records: dict[tuple[str, str], Any] = {}
    for kind, table in _BY_DIGEST.items():
        refs = [row.ref for row in found if row.kind == kind]
        for first in range(0, len(refs), _AT_ONCE):
            rows = connection.execute(select(table).where(table.c.id.in_(refs[first : first + _AT_ONCE])))
            records.update(((kind, row.id), row) for row in rows)
    return [_exported(row, records.get((row.kind, row.ref))) for row in found]


def _exported(row: Any, record: Any) -> Exported:
    """Its data as the very bytes that the hash is over."""
    fits = record is not None and row.data == digest_of(record.data)
    return Exported(
        seq=row.seq,
        at=parse_time(row.at),
        kind=row.kind,
        ref=row.ref,
        data=msgspec.Raw(row.data.encode()),
        previous=row.previous,
        hash=row.hash,
        record=record.data if fits else None,
        playbook=record.playbook if fits and row.kind == "revision" else None,
    )


def _entry(row: Any) -> Entry:
    return Entry(
        seq=row.seq,
        at=parse_time(row.at),
        kind=row.kind,
        ref=row.ref,
        data=msgspec.json.decode(row.data),
        previous=row.previous,
        hash=row.hash,
    )


def _assemble(connection: Connection, rows: Iterable[Any]) -> list[Run]:
    """Runs with their steps, and each change in the step that made it."""
    bare = [from_json(row.data, Run) for row in rows]
    if not bare:
        return []
    ids = [one.id for one in bare]
    steps = defaultdict(list)
    for row in connection.execute(select(STEP.c.run, STEP.c.data).where(STEP.c.run.in_(ids)).order_by(STEP.c.run, STEP.c.position)):
        steps[row.run].append(from_json(row.data, Step))
    made = defaultdict(list)
    for row in connection.execute(select(CHANGE.c.run, CHANGE.c.data).where(CHANGE.c.run.in_(ids)).order_by(CHANGE.c.at, CHANGE.c.id)):
        made[row.run].append(from_json(row.data, Change))
    return [evolve(one, steps=_with_changes(steps[one.id], made[one.id])) for one in bare]


def _with_changes(steps: list[Step], made: list[Change]) -> tuple[Step, ...]:
    of_step: dict[int, list[Change]] = defaultdict(list)
    makers: dict[str, int | None] = {}
    for change in made:
        # What puts a change back stands beside it, though the step of that name may have begun once more since.
        index = makers[change.id] = makers[change.undoes] if change.undoes in makers else _maker(steps, change)
        if index is not None:
            of_step[index].append(change)
    return tuple(evolve(step, changes=tuple(of_step[number])) for number, step in enumerate(steps))


def _maker(steps: list[Step], change: Change) -> int | None:
    """The step of that name; where several attempts of its rung have one, the last of them that had begun when the change was made."""
    named = [number for number, step in enumerate(steps) if step.name == change.step]
    begun = [n for n in named if (started := steps[n].started_at) is not None and started <= change.at]
    return begun[-1] if begun else next(iter(named), None)
