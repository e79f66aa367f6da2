"""What must be true once a story is over, however often the daemon died in it. Pure: in go facts, out come complaints.

The cluster is the witness, not the daemon: what was done is read from the requests that reached the simulated API and from its objects.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from remediator.sim.calls import Logged

__all__ = ["Facts", "complaints"]

OPEN = ("awaiting_approval", "running", "verifying", "undoing")
TOOK_EFFECT = ("applied", "kept", "undone", "foreign")


@dataclass
class Facts:
    """What the daemon tells after the story, and what the cluster shows."""

    taken: dict[str, int]
    """Every delivery that was answered 200, and how many alerts were in it."""
    deliveries: list[dict[str, Any]] = field(default_factory=list)
    decisions: list[dict[str, Any]] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    changes: list[dict[str, Any]] = field(default_factory=list)
    left: list[dict[str, Any]] = field(default_factory=list)
    """As ``changes list`` prints them."""
    chain: dict[str, Any] = field(default_factory=dict)
    gates: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The verdicts on the same playbook and target, were the alert to fire again now."""
    in_flight: float = 0
    """The gauge of open runs."""
    while_open: list[dict[str, Any]] = field(default_factory=list)
    """Verdicts of ``concurrency`` on another target, asked for after a restart while the run was open."""
    log: Sequence[Logged] = ()
    silences: Sequence[tuple[str, bool]] = ()
    """Comment of each in Alertmanager, and whether it is over."""
    first: dict[str, Any] = field(default_factory=dict)
    now: dict[str, Any] = field(default_factory=dict)
    """The cluster's objects before anything happened, and now."""


def complaints(facts: Facts) -> list[str]:
    """Every breach of what is promised; empty if there is none."""
    return [
        *_lost(facts),
        *_runs(facts),
        *_counters(facts),
        *_calls(facts),
        *_repeated(facts),
        *_left(facts),
        *(f"the chain does not verify: {problem}" for problem in facts.chain.get("problems", ())),
    ]


def _lost(facts: Facts) -> Iterator[str]:
    """A delivery that was answered 200 has one decision for each of its alerts."""
    kept = {delivery["id"]: delivery for delivery in facts.deliveries}
    decided = Counter(decision["delivery"] for decision in facts.decisions)
    for delivery, alerts in facts.taken.items():
        if delivery not in kept:
            yield f"delivery {delivery} was answered 200 and is lost"
        elif not kept[delivery]["decided_at"]:
            yield f"delivery {delivery} was never decided"
        elif decided[delivery] != alerts:
            yield f"delivery {delivery} has {decided[delivery]} decisions for {alerts} alerts"


def _runs(facts: Facts) -> Iterator[str]:
    """Every run ends, and an episode leads to one."""
    for run in facts.runs:
        if run["state"] in OPEN:
            yield f"run {run['id']} does not end: {run['state']}"
        elif run["state"] != "healed":
            yield f"run {run['id']} ended {run['state']} ({run['reason']}): {run['detail']}"
    episodes = Counter((run["alert"]["fingerprint"], run["alert"]["starts_at"]) for run in facts.runs)
    for count in episodes.values():
        if count > 1:
            yield f"one episode led to {count} runs"


def _counters(facts: Facts) -> Iterator[str]:
    """A run that was killed counts once, while it is open and afterwards."""
    attempts, cooldown, concurrency = (facts.gates.get(name, {}) for name in ("attempts_exhausted", "cooldown", "concurrency"))
    if not attempts.get("detail", "").startswith("1 of "):
        yield f"the attempts are not counted right: {attempts.get('detail')}"
    if cooldown.get("allowed") is not False:
        yield "no cooldown follows from the run"
    if not concurrency.get("detail", "").startswith("0 "):
        yield f"runs are counted as open when none is: {concurrency.get('detail')}"
    if facts.in_flight:
        yield f"the gauge says that {facts.in_flight:g} runs are open when none is"
    for verdict in facts.while_open:
        if verdict["allowed"]:
            yield f"after the restart the open run does not count for concurrency: {verdict['detail']}"


def _calls(facts: Facts) -> Iterator[str]:
    """What took effect in the cluster has its record, and what the record says took effect did."""
    effective = Counter(entry.audit_id for entry in facts.log if entry.writes)
    changes = {change["request_id"]: change for change in facts.changes}
    effective.update({name: _silenced(facts, change) for name, change in changes.items() if change["resource"]["kind"] == "Silence"})
    for entry in facts.log:
        if entry.writes and entry.audit_id not in changes:
            yield f"{entry.method} {entry.path} took effect without a record"
    for change in changes.values():
        words = f"{change['verb']} {change['resource']['kind']}/{change['resource']['name']}"
        if change["state"] in ("intended", "unknown"):
            yield f"nobody found out whether {words} took effect: {change['state']}"
        elif effective[change["request_id"]] != (change["state"] in TOOK_EFFECT):
            yield f"{words} is {change['state']} and took effect {effective[change['request_id']]} times"


def _silenced(facts: Facts, change: dict[str, Any]) -> int:
    """How often a change of a silence took effect, as Alertmanager shows it: it does not tell by which of two calls a silence ended."""
    if change["verb"] == "create":
        return sum(f"change {change['request_id']})" in comment for comment, _ in facts.silences)
    made, said = change["before"]["change"], change["state"] in TOOK_EFFECT
    return sum(f"change {made})" in comment and over and said for comment, over in facts.silences)


def _repeated(facts: Facts) -> Iterator[str]:
    """What took effect once is not done again; what is sent again was looked for in between."""
    sent: dict[Any, list[int]] = defaultdict(list)
    for index, entry in enumerate(facts.log):
        if entry.mutating:
            sent[_purpose(entry)].append(index)
    for purpose, indexes in sent.items():
        words = " ".join(map(str, purpose[:5]))
        if sum(facts.log[index].writes for index in indexes) > 1:
            yield f"{words} took effect more than once"
        for earlier, later in pairwise(indexes):
            if 400 <= facts.log[earlier].status < 500:
                continue  # it was told that nothing happened
            between = facts.log[earlier + 1 : later]
            if not any(_looks(entry, facts.log[later]) for entry in between):
                yield f"{words} was sent again without a look at what the first had done"


def _looks(entry: Logged, at: Logged) -> bool:
    return entry.verb in ("get", "list") and entry.resource == at.resource and entry.name in ("", at.name) and entry.status == 200


def _purpose(entry: Logged) -> tuple[Any, ...]:
    """The same for two calls that want the same: times, owners and versions in a patch do not count."""
    uid = ""
    if isinstance(entry.body, dict):
        options = entry.body.get("deleteOptions") or entry.body
        uid = (options.get("preconditions") or {}).get("uid", "")
    shape = tuple(sorted(_shape(entry.body))) if entry.verb == "patch" else ()
    return (entry.verb, entry.resource, entry.namespace, entry.name, entry.subresource, uid, shape)


def _shape(body: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(body, list) and not path:
        yield from ((step["op"], step["path"]) for step in body if step["op"] != "test")
    elif isinstance(body, dict) and body:
        for name, value in body.items():
            if name not in ("resourceVersion", "uid"):
                yield from _shape(value, f"{path}/{name}")
    else:
        yield ("remove" if body is None else "set", path)


def _left(facts: Facts) -> Iterator[str]:
    """``changes list`` and what there is for good are what differs in the cluster, object by object."""
    differs = {key for key in facts.first.keys() | facts.now.keys() if facts.first.get(key) != facts.now.get(key)}
    listed = {_key(change) for change in facts.left}
    for_good = {_key(change) for change in facts.changes if change["state"] == "kept"}
    for key in sorted(differs - listed - for_good):
        yield f"{key} differs from its first state and no change says so"
    for key in sorted(listed - differs):
        yield f"{key} is listed as changed and is as it was"


def _key(change: dict[str, Any]) -> str:
    resource = change["resource"]
    return "/".join((resource["kind"], resource.get("namespace", ""), resource["name"]))
