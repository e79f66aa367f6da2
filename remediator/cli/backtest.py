"""``backtest``: recorded deliveries through other playbooks and settings. It changes nothing and asks at most the daemon for its record."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from remediator.cli.frame import command, connects
from remediator.cli.output import formatted, put_data
from remediator.cli.params import MOMENT, PLAYBOOKS
from remediator.cli.text import table

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from datetime import datetime
    from pathlib import Path

    from remediator.backtest import Backtest, Difference, Outcome, Result
    from remediator.cli.output import Form
    from remediator.client import Client
    from remediator.model import Delivery

__all__ = ["backtest", "deliveries_of"]


@command(
    name="backtest",
    examples=[
        "remediator backtest playbooks/ --since 30d",
        "remediator backtest playbooks/ --against changed/ --from journal.jsonl",
        "remediator backtest settings.yaml --from payload.json -o json",
    ],
)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=PLAYBOOKS)
@click.option("--against", metavar="PATH", multiple=True, type=PLAYBOOKS, help="Other ones to compare with.")
@click.option("--from", "sources", metavar="FILE", multiple=True, help="What came in: a journal's export, or Alertmanager's payload.")
@click.option("--since", type=MOMENT, help="Only what came in since then: a time, or how long ago.")
@connects
@formatted
def backtest(form: Form, paths: tuple[Path, ...], against: tuple[Path, ...], sources: tuple[str, ...], since: datetime | None) -> None:
    """Replay recorded deliveries through other playbooks or settings.

    Tells what would have run, what would have been refused, and by which gates. PATH is a playbook, a folder of them, the word shipped, or
    a settings file, which brings its limits, modes and, if PATH names none, its playbooks. What came in is read from --from (several files
    in the order of time), else from the daemon's journal. With --against: what those would have made otherwise. The cluster of that time is
    not known; the gates that need it are named, and no run is promised by them.
    """
    import asyncio

    replays = [_replay(paths), _replay(against)] if against else [_replay(paths)]
    deliveries = list(deliveries_of(sources)) if sources else asyncio.run(_recorded(since))
    for delivery in sorted(deliveries, key=lambda one: (one.received_at, one.id)):
        for replay in replays:
            if since is None or delivery.received_at >= since:
                replay.take(delivery)
    if against:
        _put_differences(form, replays[0].result(), replays[1].result())
    else:
        found = replays[0].result()
        put_data(form, found, lambda wide: _text(found, wide=wide), lambda: [_episode(one) for one in found.items])


def _replay(paths: tuple[Path, ...]) -> Backtest:
    """Raises DocumentError with every problem, UsageError for two settings files."""
    from remediator.actions import actions
    from remediator.backtest import Backtest
    from remediator.errors import UsageError
    from remediator.gates import Limits, gates
    from remediator.playbook import Library, shipped
    from remediator.settings import Settings, effective_mode, load_settings

    of_settings = [path for path in paths if path.is_file() and "kind: Settings" in path.read_text(encoding="utf-8", errors="replace")]
    if len(of_settings) > 1:
        raise UsageError(f"{of_settings[0]} and {of_settings[1]} are both settings; name one of them")
    settings = load_settings(of_settings[0], env={}) if of_settings else None
    rest = tuple(path for path in paths if path not in of_settings)
    library = Library.load(rest or (settings.playbooks if settings else ()) or (shipped(),), actions=actions(), gates=gates())
    if settings is None:
        return Backtest(library, limits=Limits(), mode_of=lambda playbook: playbook.mode)
    known: Settings = settings
    return Backtest(library, limits=Limits.of(known), mode_of=lambda playbook: effective_mode(known, playbook), dry_run=known.dry_run)


async def _recorded(since: datetime | None) -> list[Delivery]:
    from remediator.cli.session import client

    async with client() as daemon:
        return [delivery async for delivery in _pages(daemon, since)]


async def _pages(daemon: Client, since: datetime | None) -> AsyncIterator[Delivery]:
    cursor: str | None = None
    while True:
        page = await daemon.deliveries(since=since, limit=200, cursor=cursor)
        for delivery in page.items:
            yield delivery
        cursor = page.next
        if cursor is None:
            return


def deliveries_of(sources: tuple[str, ...]) -> Iterator[Delivery]:
    """What the files hold. Raises UsageError with file and line for what is neither an export nor a payload."""
    for source in sources:
        try:
            with click.open_file(source, "rb") as file:
                first = file.readline()
                if _is_entry(first):
                    yield from _exported(source, first, file)
                else:
                    yield _payload(source, first + file.read())
        except OSError as error:
            from remediator.errors import UsageError

            raise UsageError(f"{source} cannot be read: {error.strerror}") from error


def _is_entry(line: bytes) -> bool:
    import json

    try:
        data = json.loads(line)
    except ValueError:
        return False
    return isinstance(data, dict) and "kind" in data and "hash" in data


def _exported(source: str, first: bytes, rest: Any) -> Iterator[Delivery]:
    from itertools import chain

    import msgspec

    from remediator.errors import UsageError
    from remediator.model import Delivery, Exported, from_json

    for number, line in enumerate(chain((first,), rest), start=1):
        if not line.strip():
            continue
        try:
            entry = from_json(line, Exported)
            if entry.kind == "delivery" and entry.record is not None:
                yield from_json(entry.record, Delivery)
        except (msgspec.ValidationError, msgspec.DecodeError) as error:
            raise UsageError(f"{source}:{number}: not a line of a journal's export: {error}") from error


def _payload(source: str, body: bytes) -> Delivery:
    """One as it was sent: received when the latest of its alerts began or ended, for nothing else is known of it."""
    from datetime import UTC, datetime

    from remediator.errors import PayloadError, UsageError
    from remediator.model import AlertStatus, evolve
    from remediator.receive import parse_delivery

    try:
        found = parse_delivery(body, id=source, at=datetime.now(UTC))
    except PayloadError as error:
        raise UsageError(f"{source}: neither a journal's export nor Alertmanager's payload: {error}") from error
    ends = [alert.ends_at for alert in found.alerts if alert.status is AlertStatus.RESOLVED and alert.ends_at is not None]
    times = [alert.starts_at for alert in found.alerts] + ends
    return evolve(found, received_at=max(times)) if times else found


def _text(found: Result, *, wide: bool) -> str:
    head = f"{found.deliveries} deliveries, {found.alerts} alerts, {len(found.items)} episodes\n"
    if wide:
        each = [(_stamp(one), one.name, one.playbook or "-", one.target.key if one.target else "-", _said(one)) for one in found.items]
        body = table(("AT", "ALERT", "PLAYBOOK", "TARGET", "DECISION"), each)
    else:
        counts = Counter((one.playbook or "-", _said(one)) for one in found.items)
        by_count = sorted(counts.items(), key=lambda pair: (pair[0][0], -pair[1], pair[0]))
        body = table(("PLAYBOOK", "DECISION", "EPISODES"), [(name, said, str(count)) for (name, said), count in by_count])
    return f"{head}\n{body}\n{_caveats(found)}"


def _caveats(found: Result) -> str:
    unjudged = [f"{gate} ({count})" for gate, count in found.unjudged.items()]
    words = f"Not judged, for the cluster of that time is not known (episodes): {', '.join(unjudged) or 'none'}\n"
    return f"{words}Assumed:\n" + "".join(f"- {line}\n" for line in found.assumed)


def _said(one: Outcome) -> str:
    if one.decision == "run":
        asked = "ask, then run" if one.asks else "run"
        return f"{asked}, if {len(one.unjudged)} unjudged gates allow" if one.unjudged else asked
    by = (
        f" by {', '.join(one.refused_by)}"
        if one.refused_by
        else f": {one.reason}"
        if one.reason and one.reason.value != one.decision.value
        else ""
    )
    return f"{one.decision}{by}"


def _stamp(one: Outcome) -> str:
    """Without how long ago it was: it is the replay's time."""
    from remediator import words

    return f"{words.moment(one.at)} UTC"


def _episode(one: Outcome) -> str:
    return f"{one.fingerprint}@{one.starts_at.isoformat()}"


def _put_differences(form: Form, before: Result, after: Result) -> None:
    from remediator.backtest import differences

    found = differences(before, after)
    data = {
        "before": {"decisions": before.decisions, "gates": before.gates},
        "after": {"decisions": after.decisions, "gates": after.gates},
        "items": found,
        "unjudged": after.unjudged,
        "assumed": after.assumed,
    }

    def text(wide: bool) -> str:
        del wide
        rows = [_row(one) for one in found]
        body = table(("AT", "ALERT", "TARGET", "BEFORE", "AFTER"), rows) if rows else "no difference\n"
        return f"{after.deliveries} deliveries, {len(after.items)} episodes, {len(found)} of them otherwise\n\n{body}\n{_caveats(after)}"

    put_data(form, data, text, lambda: [_episode(one.after) for one in found])


def _row(one: Difference) -> tuple[str, ...]:
    target = one.after.target or one.before.target
    sides = [f"{side.playbook or '-'}: {_said(side)}" for side in (one.before, one.after)]
    if sides[0] == sides[1]:
        sides = [f"{said} ({', '.join(side.actions)})" for said, side in zip(sides, (one.before, one.after), strict=True)]
    return (_stamp(one.after), one.after.name, target.key if target else "-", *sides)
