"""What each write of the journal does in its transaction.

In: records, with their secrets out already, as nouns with their canonical JSON. Out: rows, and one entry of the log for each record, of
its kind and under its id. An entry holds the record itself; for deliveries, episodes and playbook texts its digest.
Refused with JournalError: a decision on a delivery that waits for none, a second run for an episode that has one, a step of a run that
is not there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import bindparam, delete, select, update

from remediator.errors import JournalError
from remediator.journal.chain import digest_of
from remediator.journal.redact import canonical
from remediator.journal.rows import (
    change_row,
    decision_row,
    episode_id,
    episode_row,
    key,
    pause_row,
    run_row,
    stamp,
    step_id,
    step_row,
)
from remediator.journal.schema import CHANGE, DECISION, DELIVERY, EPISODE, HEAD, PAUSE, REVISION, RUN, STEP, VERIFIED
from remediator.model import Episode, evolve, from_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from remediator.journal.transaction import Transaction
    from remediator.model import Change, Decision, Pause, Run, Step

__all__ = [
    "OWN_KINDS",
    "Deed",
    "add_delivery",
    "add_pause",
    "decide",
    "drop_steps",
    "end_pauses",
    "keep_revision",
    "lead",
    "note",
    "reach",
    "save_change",
    "save_episode",
    "save_run",
    "save_step",
    "settle",
]

OWN_KINDS = frozenset(
    ("delivery", "decided", "decision", "episode", "run", "step", "change", "pause", "resume", "revision", "pruned", "leader")
)
"""Kinds of entries that vouch for rows; a note may not use them."""

_DECIDE = (
    update(DELIVERY).where(DELIVERY.c.id == bindparam("delivery"), DELIVERY.c.decided_at.is_(None)).values(decided_at=bindparam("decided"))
)
_EPISODE = select(EPISODE.c.data).where(EPISODE.c.id == bindparam("episode"))
_LEAD = update(HEAD).values(epoch=bindparam("to_epoch"))
_RUN_EXISTS = select(RUN.c.id).where(RUN.c.id == bindparam("run"))
_DROP_TAIL = delete(STEP).where(STEP.c.run == bindparam("of_run"), STEP.c.position >= bindparam("from_index"))


class Deed(NamedTuple):
    """What ``decide`` keeps in one transaction."""

    delivery: str | None
    decided_at: datetime
    decisions: Sequence[tuple[Decision, str]]
    episodes: Sequence[tuple[Episode, str]]
    runs: Sequence[Run]


def add_delivery(tx: Transaction, row: tuple[Any, ...]) -> None:
    """The delivery as it came in, and its digest in the log."""
    tx.insert(DELIVERY, row)
    tx.log("delivery", row[0], digest_of(row[-1]))


def decide(tx: Transaction, deed: Deed) -> None:
    """Decisions, episodes, new runs, and the mark on the delivery.

    JournalError if the delivery is decided already or unknown, or if an episode that gets a run here has one of its kind already.
    """
    if deed.delivery is not None:
        decided = stamp(deed.decided_at)
        if tx.execute(_DECIDE, {"delivery": key(deed.delivery), "decided": decided}, on=DELIVERY).rowcount != 1:
            raise JournalError(f"delivery {deed.delivery} does not wait for a decision")
        tx.log("decided", deed.delivery, f'{{"at":"{decided}"}}')
    for decision, data in deed.decisions:
        tx.insert(DECISION, decision_row(decision, data))
        tx.log("decision", decision.id, data)
    fresh = {run.id for run in deed.runs}
    for episode, data in deed.episodes:
        if episode.run in fresh:
            _heed_first_run(tx, episode)
        save_episode(tx, episode, data)
    for new in deed.runs:
        run = new if new.unapproved else _begun(tx, new)
        _log_run(tx, run)
        tx.insert(RUN, _run_row(run))
        for step in run.steps:
            tx.insert(STEP, _step_row(run.id, step))


def _heed_first_run(tx: Transaction, episode: Episode) -> None:
    """Whoever gave the episode this run did not know of the one that is there; this is the last moment at which that can be told."""
    data = tx.execute(_EPISODE, {"episode": episode_id(episode.fingerprint, episode.starts_at)}, on=EPISODE).scalar()
    known = from_json(data, Episode) if data is not None else None
    if known is None or known.run in (None, episode.run):
        return
    if (known.decision, known.dry_run) == (episode.decision, episode.dry_run):
        raise JournalError(f"the episode of {episode.name} since {stamp(known.starts_at)} led to run {known.run} already")


def save_run(tx: Transaction, run: Run, *, begins: bool = False) -> None:
    """The run and its steps in place of what was there. ``begins``: with this very entry, so it gets its place after all before."""
    run = _begun(tx, run) if begins else run
    _log_run(tx, run)
    tx.upsert(RUN, _run_row(run))
    for step in run.steps:
        tx.upsert(STEP, _step_row(run.id, step))
    drop_steps(tx, run.id, max((step.index for step in run.steps), default=-1) + 1)


def drop_steps(tx: Transaction, run: str, index: int) -> None:
    """Take the steps of a run away from ``index`` on."""
    tx.execute(_DROP_TAIL, {"of_run": run, "from_index": index}, on=STEP)


def save_step(tx: Transaction, run: str, step: Step) -> None:
    """One step in place of what was there. JournalError if there is no such run."""
    if tx.execute(_RUN_EXISTS, {"run": run}, on=RUN).first() is None:
        raise JournalError(f"there is no run {run}")
    tx.upsert(STEP, _step_row(run, step))
    tx.log("step", step_id(run, step.index), _text(evolve(step, changes=())))


def save_change(tx: Transaction, change: Change, data: str) -> None:
    """The change in place of what was there."""
    tx.upsert(CHANGE, change_row(change, data))
    tx.log("change", change.id, data)


def save_episode(tx: Transaction, episode: Episode, data: str) -> None:
    """The episode in place of what was there; its digest in the log, for the decisions there say the rest."""
    tx.upsert(EPISODE, episode_row(episode, data))
    tx.log("episode", episode_id(episode.fingerprint, episode.starts_at), digest_of(data))


def add_pause(tx: Transaction, pause: Pause, data: str) -> None:
    """A new pause."""
    tx.insert(PAUSE, pause_row(pause, data))
    tx.log("pause", pause.id, data)


def end_pauses(tx: Transaction, playbook: str | None, target: str | None, by: str, at: datetime) -> int:
    """End those in force for exactly this playbook and target (None: not limited to one); how many there were."""
    now = stamp(at)
    same = (
        PAUSE.c.playbook.is_not_distinct_from(None if playbook is None else key(playbook)),
        PAUSE.c.target.is_not_distinct_from(None if target is None else key(target)),
    )
    in_force = PAUSE.c.ended_at.is_(None), PAUSE.c.until.is_(None) | (PAUSE.c.until > now)
    found = tx.execute(select(PAUSE.c.id).where(*same, *in_force).order_by(PAUSE.c.id), on=PAUSE).scalars().all()
    for pause in found:
        tx.execute(update(PAUSE).where(PAUSE.c.id == pause).values(ended_at=now), on=PAUSE)
        tx.log("resume", pause, canonical({"at": now, "by": by}).decode())
    return len(found)


def lead(tx: Transaction, by: str) -> int:
    """The next epoch: from this commit on whoever led before is refused. The entry tells who leads, and whether the commit took place."""
    epoch = tx.epoch + 1
    tx.execute(_LEAD, {"to_epoch": epoch}, on=HEAD)
    tx.log("leader", "", canonical({"by": by, "epoch": epoch}).decode())
    return epoch


def keep_revision(tx: Transaction, revision: str, playbook: str, text: str) -> None:
    """The text of a playbook's revision, once."""
    if tx.execute(select(REVISION.c.id).where(REVISION.c.id == revision), on=REVISION).first() is None:
        tx.insert(REVISION, (revision, key(playbook), text))
        tx.log("revision", revision, digest_of(text))


def note(tx: Transaction, kind: str, ref: str, data: str) -> None:
    """An entry that stands for itself."""
    tx.log(kind, ref, data)


def settle(tx: Transaction) -> None:
    """Nothing: that its commit took place tells that all before it did, or never will."""
    del tx


def reach(tx: Transaction, data: str | None) -> None:
    """How far a verification came, in place of what was there; None: that is not known any more. No entry tells of it."""
    if data is None:
        tx.execute(delete(VERIFIED), on=VERIFIED)
    else:
        tx.upsert(VERIFIED, (1, data))


def _text(noun: Any) -> str:
    return canonical(noun).decode()


def _begun(tx: Transaction, run: Run) -> Run:
    """``run`` as it begins with the next entry."""
    return evolve(run, order=tx.chain.seq + 1)


def _log_run(tx: Transaction, run: Run) -> None:
    """The entry of a run holds its steps too, without their changes, which have entries of their own."""
    steps = tuple(evolve(step, changes=()) for step in run.steps)
    tx.log("run", run.id, _text(evolve(run, steps=steps)))


def _run_row(run: Run) -> tuple[Any, ...]:
    return run_row(run, _text(evolve(run, steps=())))


def _step_row(run: str, step: Step) -> tuple[Any, ...]:
    return step_row(run, step, _text(evolve(step, changes=())))
