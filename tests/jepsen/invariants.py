"""What must hold after any crash, by name. Pure: in goes what was read, out come breaches; none, if all is well.

The cluster and the senders are the witnesses: what the journal says is compared with what reached the cluster and what was answered.
``INVARIANTS`` is the list; ``breaches`` asks all of them. ``test_invariants.py`` plants a fault for each.
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jepsen.record import Call, Record

    Invariant = Callable[[Record], Iterator[str]]

__all__ = ["INVARIANTS", "breaches"]

OPEN = ("awaiting_approval", "running", "verifying", "undoing")
TOOK_EFFECT = ("applied", "kept", "undone", "foreign")
UNSURE = ("intended", "unknown")
CLOCKS = timedelta(seconds=0.25)
"""So far the cluster's clock may be from the journal's."""


def breaches(record: Record) -> list[str]:
    """Everything that does not hold, each with the name of its invariant."""
    return [f"{name}: {found}" for name, holds in INVARIANTS.items() for found in holds(record)]


def _honest(record: Record) -> Iterator[str]:
    """A sender is told 200, or 503 with the time after which to come again, or nothing at all."""
    for answer in record.answers:
        if answer.status not in (200, 503, 0):
            yield f"a sender was told {answer.status}"
        if answer.status == 503 and not answer.retry_after:
            yield "a sender was told 503 without Retry-After"


def _kept(record: Record) -> Iterator[str]:
    kept = Counter(entry.ref for entry in record.of("delivery"))
    for answer in record.answers:
        if answer.status == 200 and not kept[answer.delivery]:
            yield f"delivery {answer.delivery} was answered 200 and is not in the journal"


def _decided(record: Record) -> Iterator[str]:
    """Also of deliveries whose sender got no answer."""
    closed = Counter(entry.ref for entry in record.of("decided"))
    made = Counter((decision.data.get("delivery"), *_alert(decision.data["alert"])) for decision in record.of("decision"))
    for delivery in record.of("delivery"):
        if closed[delivery.ref] != 1:
            yield f"delivery {delivery.ref} was decided {closed[delivery.ref]} times"
        for alert, count in Counter(map(_alert, delivery.text["alerts"])).items():
            if made[delivery.ref, *alert] != count:
                yield f"delivery {delivery.ref} has {made[delivery.ref, *alert]} decisions on {alert[0]}, which is in it {count} times"


def _alert(alert: dict[str, Any]) -> tuple[str, str, str]:
    return alert["fingerprint"], alert["starts_at"], alert["status"]


def _one_run(record: Record) -> Iterator[str]:
    episodes = Counter(_alert(entries[0].data["alert"])[:2] for entries in record.runs.values() if entries[0].data.get("alert"))
    for (fingerprint, _), count in episodes.items():
        if count > 1:
            yield f"one episode of {fingerprint} led to {count} runs"


def _run_of_a_decision(record: Record) -> Iterator[str]:
    decided = Counter(decision.data["run"] for decision in record.of("decision") if decision.data["decision"] == "run")
    for run in record.runs.keys() - decided.keys():
        yield f"nobody decided on run {run}"
    for run, count in decided.items():
        if count != 1 or run not in record.runs:
            yield f"run {run} was decided on {count} times and {'is' if run in record.runs else 'is not'} there"


def _ended(record: Record) -> Iterator[str]:
    for run, entries in record.runs.items():
        states = [entry.data["state"] for entry in entries]
        if states[-1] in OPEN:
            yield f"run {run} does not end: {states[-1]}"
        for before, after in pairwise(states):
            if before not in OPEN and after != before:
                yield f"run {run} had ended {before} and became {after}"


def _intent_first(record: Record) -> Iterator[str]:
    """Every call has an intent that was written before it; what came of it is written after it."""
    for call in record.calls:
        if call.holder is not None:
            continue  # the election's own
        said = record.changes.get(call.request_id)
        if said is None:
            yield f"{_words(call)} is nobody's change"
            continue
        if said[0].data["state"] != "intended" or said[0].at > call.at + CLOCKS:
            yield f"{_words(call)} came before its intent"
        for entry in said:
            if entry.data["state"] in TOOK_EFFECT and entry.at < call.at - CLOCKS:
                yield f"{_words(call)} came after the journal said {entry.data['state']}"


def _outcome(record: Record) -> Iterator[str]:
    """Of every change the journal knows in the end what came of it, and it is what the cluster saw."""
    seen = Counter(call.request_id for call in record.calls)
    for change, said in record.changes.items():
        last = said[-1].data
        words = f"{last['verb']} {last['resource']['kind']}/{last['resource']['name']}"
        if last["state"] in UNSURE:
            yield f"nobody found out what came of {words}: {last['state']}"
        elif seen[change] != (last["state"] in TOOK_EFFECT):
            yield f"{words} is {last['state']} and took effect {seen[change]} times"


def _once(record: Record) -> Iterator[str]:
    """A step changes an object once, however often it was entered."""
    done: Counter[tuple[Any, ...]] = Counter()
    for said in record.changes.values():
        last = said[-1].data
        if last["state"] in TOOK_EFFECT:
            done[last["run"], last["step"], last.get("undoes", ""), last["verb"], last["resource"]["kind"]] += 1
    for (run, step, _, verb, kind), count in done.items():
        if count > 1:
            yield f"step {step} of run {run} did {verb} {kind} {count} times"


def _one_leader(record: Record) -> Iterator[str]:
    epochs = [(entry.data["epoch"], entry.data["by"]) for entry in record.of("leader")]
    for (before, first), (after, second) in pairwise(epochs):
        if after != before + 1 or first == second:
            yield f"epoch {after} of {second} follows epoch {before} of {first}"


def _leader_acts(record: Record) -> Iterator[str]:
    """A call takes effect while the one who sent it, and wrote its intent, holds the Lease, in the order in which the cluster saw both."""
    holder = ""
    for call in record.calls:
        if call.holder is not None:
            holder = call.holder
            continue
        if call.sender and call.sender != holder.rpartition("_")[0]:
            yield f"{_words(call)} was sent by {call.sender}, while {holder or 'nobody'} held the Lease"
        said = record.changes.get(call.request_id)
        owner = record.leader_at(said[0].seq) if said else ""
        if said and owner != holder:
            yield f"{_words(call)} is of {owner or 'nobody'}, while {holder or 'nobody'} held the Lease"


def _runs_at_once(record: Record) -> Iterator[str]:
    """Runs that are open at once, those that disturb among them, and one for each target."""
    limits, now = record.limits, dict[str, Any]()
    for entry in record.of("run"):
        if entry.data["state"] in OPEN:
            now[entry.ref] = entry.data
        else:
            now.pop(entry.ref, None)
        disruptive = sum(run["disruptive"] for run in now.values())
        if len(now) > limits.runs or disruptive > limits.disruptive:
            yield f"at entry {entry.seq} {len(now)} runs are open, {disruptive} of them disruptive"
        targets = Counter(run["target"]["name"] for run in now.values())
        yield from (f"at entry {entry.seq} {count} runs are open on {name}" for name, count in targets.items() if count > 1)


def _nodes_at_once(record: Record) -> Iterator[str]:
    out: set[str] = set()
    for call in record.calls:
        if call.cordons is None:
            continue
        (out.add if call.cordons else out.discard)(call.name)
        if len(out) > record.limits.nodes:
            yield f"{len(out)} nodes were cordoned at once, the last one {call.name}"


def _nothing_left(record: Record) -> Iterator[str]:
    for change, said in record.changes.items():
        last = said[-1].data
        if last["state"] in ("applied", *UNSURE) and not last["dry_run"]:
            yield f"change {change} of {last['resource']['kind']}/{last['resource']['name']} is left behind: {last['state']}"
    for name in sorted(record.first.keys() | record.now.keys()):
        if record.first.get(name) != record.now.get(name):
            yield f"{name} is not as it was"


def _whole(record: Record) -> Iterator[str]:
    yield from record.problems
    for before, after in pairwise(record.entries):
        if after.seq != before.seq + 1:
            yield f"entry {after.seq} follows entry {before.seq}"


def _words(call: Call) -> str:
    return f"{call.verb} {call.resource}/{call.name}"


INVARIANTS: dict[str, Invariant] = {
    "senders are told what is true": _honest,
    "no delivery that was answered 200 is lost": _kept,
    "each alert of each delivery has one decision": _decided,
    "no episode has two runs": _one_run,
    "each run follows from one decision": _run_of_a_decision,
    "each run ended, once": _ended,
    "an intent before each call, its outcome after": _intent_first,
    "each change's outcome is what the cluster saw": _outcome,
    "nothing is done twice": _once,
    "one leader an epoch": _one_leader,
    "only who leads changes the cluster": _leader_acts,
    "limits on runs": _runs_at_once,
    "limits on nodes": _nodes_at_once,
    "nothing is left behind": _nothing_left,
    "the chain is whole": _whole,
}
