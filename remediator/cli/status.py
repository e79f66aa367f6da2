"""``status``: how the daemon stands."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from remediator.cli.frame import command, connects
from remediator.cli.output import formatted, now, put_data
from remediator.cli.session import ask

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from remediator.breaker import Standing
    from remediator.cli.output import Form
    from remediator.model import Pause
    from remediator.server.service import Status

__all__ = ["status"]


@command(name="status", examples=["remediator status", "remediator status -o json"])
@connects
@formatted
def status(form: Form) -> None:
    """How the daemon stands: mode, pauses, connections, queue, what waits for approval."""
    from remediator import __version__
    from remediator.cli.exits import say

    found = ask(lambda c: c.status())
    put_data(form, found, lambda _: _text(found), lambda: [found.version])
    if found.version != __version__:
        say(f"Note: this is remediator {__version__}, the daemon is {found.version}.")


def _undecided(found: Status, old: Callable[[datetime | None], str]) -> str:
    since = found.undecided_since
    return f"{found.undecided} deliveries" + (f", the oldest for {old(since)}" if since is not None else "")


def _text(found: Status) -> str:
    from remediator.cli.text import age, table
    from remediator.cli.views import RECORD_HEADS, block, record_row, stamp

    reload, old = found.last_reload, partial(age, now=now())
    facts = block(
        [
            ("Version", found.version),
            ("Ready", "yes" if found.ready else f"NO: {found.ready_detail}"),
            ("Role", "leader" if found.leader else "standby"),
            ("Mode", f"{found.mode}, dry run: the cluster is not changed (settings dry_run)" if found.dry_run else str(found.mode)),
            ("Up since", stamp(found.started_at)),
            ("Playbooks", f"{found.playbooks} loaded"),
            ("Last reload", f"{'accepted' if reload.ok else 'REFUSED, the old playbooks stay'}, {stamp(reload.at)}"),
            *(("Problem", problem) for problem in reload.problems),
            ("Open runs", str(found.open_runs)),
            ("Undecided", _undecided(found, old)),
            ("Journal", found.journal),
            ("Kubernetes", found.kubernetes),
            ("Prometheus", found.prometheus),
            ("Alertmanager", found.alertmanager),
            ("Cilium", found.cilium),
            ("Breaker", _breaker(found.breaker)),
            ("Paused", "no" if not found.paused else f"{len(found.paused)} in force"),
            ("Waiting", f"{len(found.waiting)} for approval" if found.waiting else ""),
            ("Demoted", ", ".join(one.playbook for one in found.demoted)),
            ("Unavailable", ", ".join(one.playbook for one in found.unavailable)),
        ]
    )
    tables: list[tuple[tuple[str, ...], list[tuple[str, ...]]]] = [
        (("PAUSED", "BY", "REASON", "AGE", "ENDS"), [(_what(p), p.by, p.reason, old(p.at), old(p.until)) for p in found.paused]),
        (
            ("WAITS FOR APPROVAL", "PLAYBOOK", "TARGET", "MISSING", "AGE", "EXPIRES"),
            [(one.run, one.playbook, one.target, str(one.missing), old(one.asked_at), old(one.expires_at)) for one in found.waiting],
        ),
        (
            ("DEMOTED", "MODE", "AGE", "FAILED RUNS"),
            [(one.playbook, str(one.mode), old(one.at), ", ".join(one.runs)) for one in found.demoted],
        ),
        (("UNAVAILABLE", "OUR ACCOUNT MAY NOT", "NOT SERVED"), [(one.playbook, one.missing, one.absent) for one in found.unavailable]),
        (("LAST 30 DAYS", *RECORD_HEADS), [(one.playbook, *record_row(one)) for one in found.records]),
    ]
    return "\n".join([facts, *(table(heads, rows) for heads, rows in tables if rows)])


def _breaker(found: Standing | None) -> str:
    from remediator.cli.views import stamp

    if found is None:
        return "unknown: the journal cannot be read at the moment"
    numbers = f"{found.failures} of {found.most_failures} failures, {found.runs} of {found.most_runs} runs within {found.within}"
    if not found.open:
        return f"closed; {numbers}"
    return f"OPEN since {stamp(found.since)}: {found.detail}; to close it: remediator breaker reset"


def _what(pause: Pause) -> str:
    return " ".join(part for part in (pause.playbook, pause.target) if part) or "everything"
