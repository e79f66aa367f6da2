"""``why``: the journal's story in plain words, from the journal alone.

Comes in: what a person has at hand: the name or fingerprint of an alert, the id of a delivery, a decision or a run, or a target
(``Kind/[namespace/]name``, or the bare name of a node). Goes out: short sentences in the past tense, the conclusion first, with times in
UTC; also for alerts that led to nothing. Of several happenings the most recent comes first and in full, older ones get a line each.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Protocol

from remediator import words
from remediator.model import Decision, DecisionKind, Noun, from_json
from remediator.narrative import Happening, brief, full, sender
from remediator.reasons import Reason, sentence

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from remediator.model import Delivery, Entry, Page, Run

__all__ = ["Source", "Story", "tell"]

_ID = re.compile(r"[0-9a-hjkmnp-tv-z]{26}", re.IGNORECASE)
_FINGERPRINT = re.compile(r"[0-9a-f]{16}", re.IGNORECASE)
_FULL_ALERTS = 3
"""Alerts of one delivery that are told in full."""
_OLDER = 10
"""Older happenings that get a line each."""
_RUNS = 50
"""Runs of a target that are looked through for those that no decision led to."""
_LOOK_BACK = 300
"""Decisions that are read for one story; repeats of an episode are decisions too."""


class Story(Noun, frozen=True, kw_only=True):
    """What ``GET /api/v1/why`` answers and ``remediator why`` prints."""

    ref: str
    kind: str
    """What ``ref`` turned out to be: ``run``, ``delivery``, ``decision``, ``alert``, ``target`` or ``nothing``."""
    lines: tuple[str, ...]
    runs: tuple[str, ...] = ()
    """Ids of the runs in it, most recent first."""


class Source(Protocol):
    """The reads of the journal that a story needs."""

    async def run(self, id: str) -> Run | None:  # noqa: A002 - the journal's own name for it
        """One run with its steps and changes."""
        ...

    async def delivery(self, id: str) -> Delivery | None:  # noqa: A002 - as above
        """One delivery."""
        ...

    async def decisions(
        self,
        *,
        delivery: str | None = None,
        fingerprint: str | None = None,
        target: str | None = None,
        run: str | None = None,
        name: str | None = None,
        limit: int = 50,
    ) -> Page[Decision]:
        """Decisions, newest first."""
        ...

    async def bare_runs(self, *, ids: Sequence[str] | None = None, target: str | None = None, limit: int = 500) -> list[Run]:
        """Runs without their steps, newest first."""
        ...

    async def entries(self, *, ref: str | None = None, kind: str | None = None, limit: int = 1000) -> list[Entry]:
        """Entries of the log, oldest first."""
        ...


async def tell(journal: Source, ref: str) -> Story:
    """The story of ``ref``. Raises JournalUnavailable; an unknown ``ref`` is a story of kind ``nothing``."""
    ref = ref.strip()
    if _ID.fullmatch(ref):
        found = await _by_id(journal, ref.lower())
    elif "/" in ref:
        found = await _by_target(journal, ref)
    elif _FINGERPRINT.fullmatch(ref):
        found = await _by_alert(journal, await journal.decisions(fingerprint=ref.lower(), limit=_LOOK_BACK))
    else:
        found = None
    if found is None and "/" not in ref:
        found = await _by_alert(journal, await journal.decisions(name=ref, limit=_LOOK_BACK))
        found = found or await _by_target(journal, f"Node/{ref}")
    kind, lines, runs = found or ("nothing", await _nothing(journal, ref), [])
    return Story(ref=ref, kind=kind, lines=tuple(lines), runs=tuple(runs))


_Found = tuple[str, list[str], list[str]]


async def _by_id(journal: Source, ref: str) -> _Found | None:
    if run := await journal.run(ref):
        page = await journal.decisions(run=ref, limit=_LOOK_BACK)
        happening = await _whole(journal, Happening(sorted(page.items, key=_time), run))
        return "run", list(full(happening)), [ref]
    if delivery := await journal.delivery(ref):
        return await _of_delivery(journal, delivery)
    entries = await journal.entries(ref=ref, kind="decision", limit=1)
    if entries:
        happening = await _single(journal, from_json(entries[0].data, Decision))
        return "decision", list(full(happening)), _run_ids([happening])
    return None


async def _by_alert(journal: Source, page: Page[Decision]) -> _Found | None:
    if not page.items:
        return None
    return "alert", *await _several(journal, _groups(page.items))


async def _by_target(journal: Source, key: str) -> _Found | None:
    decisions = (await journal.decisions(target=key, limit=_LOOK_BACK)).items or await _naming(journal, key.rpartition("/")[2])
    known = {decision.run for decision in decisions}
    runs = [run for run in await journal.bare_runs(target=key, limit=_RUNS) if run.id not in known][: _OLDER + 1]
    if not decisions and not runs:
        return None
    return "target", *await _several(journal, _groups(decisions), runs)


async def _naming(journal: Source, name: str) -> tuple[Decision, ...]:
    """Recent decisions without a target whose alert carries ``name`` in a label, or which say that there is no such object."""
    recent = (await journal.decisions(limit=_LOOK_BACK)).items
    word = re.compile(rf"(?<![\w.-]){re.escape(name)}(?![\w-])")
    return tuple(d for d in recent if d.target is None and (name in d.alert.labels.values() if d.alert else word.search(d.detail)))


async def _of_delivery(journal: Source, delivery: Delivery) -> _Found:
    page = await journal.decisions(delivery=delivery.id, limit=max(1, len(delivery.alerts)))
    count = "1 alert" if len(delivery.alerts) == 1 else f"{len(delivery.alerts)} alerts"
    came = f"Delivery {delivery.id} came in at {words.moment(delivery.received_at)} UTC{sender(delivery)}"
    lines = [f"{came}, with {count} for receiver {words.folded(delivery.receiver)}."]
    if delivery.truncated:
        lines.append(f"Alertmanager had cut {delivery.truncated} more alerts off. {sentence(Reason.TRUNCATED)}")
    if delivery.decided_at is None:
        lines.append("It is on disk and has not been decided yet.")
    decided = sorted(page.items, key=_time)
    told = [await _single(journal, decision, delivery) for decision in decided[:_FULL_ALERTS]]
    for happening in told:
        lines += ["", *full(happening)]
    rest = decided[_FULL_ALERTS:]
    if rest:
        lines += ["", "The other alerts", *(f"  {brief(Happening([decision]))}" for decision in rest[:_OLDER])]
        lines += [f"  and {len(rest) - _OLDER} more"] if len(rest) > _OLDER else []
    return "delivery", lines, _run_ids(told)


async def _several(journal: Source, groups: list[list[Decision]], runs: Sequence[Run] = ()) -> tuple[list[str], list[str]]:
    """The most recent of several happenings in full, the others in a line each; the runs of those are read together, without steps."""
    happenings = [Happening(group) for group in groups] + [Happening([], run) for run in runs]
    happenings.sort(key=lambda happening: happening.at, reverse=True)
    newest = happenings[0]
    newest = await _whole(journal, Happening(newest.decisions, await _run_of(journal, newest) or newest.run))
    lines = list(full(newest))
    older = happenings[1:]
    if older:
        lines += ["", "Before that"]
        wanted = [run for run in map(_led_to, older[:_OLDER]) if run]
        bare = {run.id: run for run in await journal.bare_runs(ids=wanted)} if wanted else {}
        lines += [f"  {brief(Happening(h.decisions, h.run or bare.get(_led_to(h) or '')))}" for h in older[:_OLDER]]
    if len(older) > _OLDER:
        lines.append(f"  and {len(older) - _OLDER} more before those")
    ids = [newest.run.id] if newest.run else []
    return lines, ids + [d.run for h in older[:_OLDER] for d in h.decisions if d.decision is DecisionKind.RUN and d.run]


def _groups(decisions: Iterable[Decision]) -> list[list[Decision]]:
    """Decisions by episode, each in the order of time; a decision without an alert (a manual trigger) stands alone."""
    groups: dict[object, list[Decision]] = {}
    for decision in sorted(decisions, key=_time):
        groups.setdefault(decision.alert.episode if decision.alert else decision.id, []).append(decision)
    return list(groups.values())


def _time(decision: Decision) -> tuple[datetime, str]:
    return decision.at, decision.id


def _led_to(happening: Happening) -> str | None:
    """The last run that its decisions name."""
    return next((decision.run for decision in reversed(happening.decisions) if decision.run), None)


async def _run_of(journal: Source, happening: Happening) -> Run | None:
    """With its steps."""
    id_ = happening.run.id if happening.run else _led_to(happening)
    return await journal.run(id_) if id_ else None


async def _single(journal: Source, decision: Decision, delivery: Delivery | None = None) -> Happening:
    """One decision alone; the run belongs to it only if this decision started it."""
    run = await journal.run(decision.run) if decision.decision is DecisionKind.RUN and decision.run else None
    return await _whole(journal, Happening([decision], run, delivery))


async def _whole(journal: Source, happening: Happening) -> Happening:
    """With what is kept apart from decision and run: the delivery, and what became of the run's changes after its end."""
    wanted = happening.first.delivery if happening.decisions else None
    if wanted and happening.delivery is None:
        happening.delivery = await journal.delivery(wanted)
    if happening.run is not None:
        happening.undos = await journal.entries(ref=happening.run.id, kind="undo")
    return happening


def _run_ids(happenings: Iterable[Happening]) -> list[str]:
    return [happening.run.id for happening in happenings if happening.run]


async def _nothing(journal: Source, ref: str) -> list[str]:
    """What to say, and to suggest, where the journal knows nothing of ``ref``."""
    lines = [
        f"The journal knows nothing of {words.folded(ref, 80)}: no run, delivery, decision, alert, fingerprint or target of that name.",
        "If the alert fired, it did not reach this daemon: look at Alertmanager's route and at `remediator deliveries list`.",
    ]
    recent = (await journal.decisions(limit=_LOOK_BACK)).items
    names = sorted({decision.alert.name for decision in recent if decision.alert})
    targets = sorted({decision.target.key for decision in recent if decision.target})
    nodes = [] if "/" in ref else [key.removeprefix("Node/") for key in targets if key.startswith("Node/")]
    close = get_close_matches(ref, [*names, *targets, *nodes], n=3)
    if close:
        lines.append(f"Did you mean {' or '.join(dict.fromkeys(close))}?")
    return lines
