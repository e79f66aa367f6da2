"""The checker is worth something only if it finds faults: one is planted for each invariant in a history that is clean."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from jepsen.invariants import INVARIANTS, breaches
from jepsen.record import Answer, Call, Entry, Limits, Record

BEGAN = datetime(2026, 1, 5, 10, tzinfo=UTC)
FIRED = "2026-01-05T09:59:00Z"


class Story:
    """Entries and calls in the order in which they happen, a second apart."""

    def __init__(self):
        self.entries, self.calls, self.now = [], [], BEGAN

    def write(self, kind, ref, data, text=None):
        self.now += timedelta(seconds=1)
        self.entries.append(Entry(len(self.entries) + 1, self.now, kind, ref, data, text))

    def call(self, verb, resource, name, **about):
        self.now += timedelta(seconds=1)
        self.calls.append(Call(self.now, verb, resource, name, **about))

    def lead(self, epoch, by):
        self.call("patch", "leases.coordination.k8s.io", "remediator", holder=by)
        self.write("leader", "", {"by": by, "epoch": epoch})

    def deliver(self, delivery, decision, run=None, status="firing"):
        alert = {"fingerprint": "f1", "starts_at": FIRED, "status": status}
        self.write("delivery", delivery, {"digest": "..."}, {"alerts": [alert]})
        self.write("decided", delivery, {"at": "..."})
        self.write("decision", f"d-{delivery}", {"delivery": delivery, "alert": alert, "decision": decision, "run": run})

    def run(self, run, state):
        alert = {"fingerprint": "f1", "starts_at": FIRED, "status": "firing"}
        self.write("run", run, {"state": state, "alert": alert, "disruptive": True, "target": {"name": "node-2"}})

    def change(self, change, state, **about):
        resource = {"kind": "Node", "name": "node-2", "uid": "u1"}
        data = {"run": "r1", "step": "cordon", "verb": "patch", "resource": resource, "undoes": "", "dry_run": False}
        self.write("change", change, {**data, **about, "state": state})


def a_clean_history():
    """A run that one leader begins and the next one ends; its cordon is put back once the alert resolved."""
    story = Story()
    story.lead(1, "replica-0_aa")
    story.deliver("one", "run", "r1")
    story.run("r1", "running")
    story.change("c1", "intended")
    story.call("patch", "nodes", "node-2", request_id="c1", sender="replica-0", cordons=True)
    story.lead(2, "replica-1_bb")
    story.change("c1", "applied")
    story.deliver("two", "duplicate", "r1")
    story.run("r1", "verifying")
    story.run("r1", "healed")
    story.deliver("three", "resolved", status="resolved")
    story.change("c2", "intended", undoes="c1")
    story.call("patch", "nodes", "node-2", request_id="c2", cordons=False)
    story.change("c2", "applied", undoes="c1")
    story.change("c2", "kept", undoes="c1")
    story.change("c1", "undone")
    answers = (Answer(503, retry_after=True), Answer(0), *(Answer(200, delivery, 1) for delivery in ("one", "two", "three")))
    nodes = {"node-2": [{}, {}, {}, []]}
    return Record(answers, tuple(story.calls), tuple(story.entries), Limits(1, 1, 1), (), nodes, nodes)


def where(record, kind, ref="", **data):
    """The places of the entries that say so."""
    fits = [entry for entry in record.entries if entry.kind == kind and entry.ref == ref and data.items() <= entry.data.items()]
    assert fits, (kind, ref, data)
    return [record.entries.index(entry) for entry in fits]


def without(record, kind, ref="", **data):
    """The entries that say so never were; the others close up."""
    gone = set(where(record, kind, ref, **data))
    left = [entry for index, entry in enumerate(record.entries) if index not in gone]
    return replace(record, entries=tuple(replace(entry, seq=index) for index, entry in enumerate(left, start=1)))


def told_again(record, kind, ref="", *, ref_of_it=None, **changed):
    """The last entry about it comes once more at the end, changed."""
    last = record.entries[where(record, kind, ref)[-1]]
    seq = record.entries[-1].seq + 1
    return replace(record, entries=(*record.entries, replace(last, seq=seq, ref=ref_of_it or ref, data={**last.data, **changed})))


def altered(record, index, **fields):
    calls = list(record.calls)
    calls[index] = replace(calls[index], **fields)
    return replace(record, calls=tuple(calls))


LATE = timedelta(hours=1)
FAULTS = {
    "senders are told what is true": [
        lambda r: replace(r, answers=(*r.answers, Answer(500))),
        lambda r: replace(r, answers=(*r.answers, Answer(503))),
        lambda r: replace(r, answers=(*r.answers, Answer(429, retry_after=True))),
    ],
    "no delivery that was answered 200 is lost": [
        lambda r: replace(r, answers=(*r.answers, Answer(200, "four", 1))),
    ],
    "each alert of each delivery has one decision": [
        lambda r: without(r, "decision", "d-two"),
        lambda r: told_again(r, "decision", "d-two"),
        lambda r: without(r, "decided", "two"),
        lambda r: told_again(r, "decided", "two"),
    ],
    "no episode has two runs": [
        lambda r: told_again(r, "run", "r1", ref_of_it="r2"),
    ],
    "each run follows from one decision": [
        lambda r: without(r, "decision", "d-one"),
        lambda r: without(r, "run", "r1"),
        lambda r: told_again(r, "decision", "d-one"),
    ],
    "each run ended, once": [
        lambda r: without(r, "run", "r1", state="healed"),
        lambda r: told_again(r, "run", "r1", state="failed"),
    ],
    "an intent before each call, its outcome after": [
        lambda r: altered(r, 1, request_id=""),
        lambda r: altered(r, 1, at=BEGAN - LATE),
        lambda r: altered(r, 1, at=BEGAN + LATE),
        lambda r: without(r, "change", "c1", state="intended"),
    ],
    "each change's outcome is what the cluster saw": [
        lambda r: without(r, "change", "c2", state="kept") and told_again(r, "change", "c2", state="intended"),
        lambda r: told_again(r, "change", "c2", state="unknown"),
        lambda r: told_again(r, "change", "c2", state="absent"),
        lambda r: replace(r, calls=r.calls[:-1]),
        lambda r: replace(r, calls=(*r.calls, r.calls[-1])),
    ],
    "nothing is done twice": [
        lambda r: told_again(r, "change", "c1", ref_of_it="c3"),
    ],
    "one leader an epoch": [
        lambda r: told_again(r, "leader", epoch=2, by="replica-2_cc"),
        lambda r: told_again(r, "leader", epoch=3),
        lambda r: told_again(r, "leader", epoch=4, by="replica-2_cc"),
    ],
    "only who leads changes the cluster": [
        lambda r: altered(r, 2, holder="replica-2_cc"),
        lambda r: altered(r, 1, sender="replica-1"),
        lambda r: replace(r, calls=(r.calls[0], r.calls[2], r.calls[1], *r.calls[3:])),
        lambda r: replace(r, calls=r.calls[1:]),
    ],
    "limits on runs": [
        lambda r: replace(r, limits=Limits(0, 1, 1)),
        lambda r: replace(r, limits=Limits(1, 0, 1)),
        lambda r: replace(told_again(told_again(r, "run", "r1", state="running"), "run", "r1", ref_of_it="r2"), limits=Limits(9, 9, 9)),
    ],
    "limits on nodes": [
        lambda r: replace(r, calls=(*r.calls[:2], replace(r.calls[1], name="node-4"), *r.calls[2:])),
    ],
    "nothing is left behind": [
        lambda r: told_again(r, "change", "c1", state="applied"),
        lambda r: replace(r, now={"node-2": [{}, {}, {"unschedulable": True}, []]}),
        lambda r: replace(r, now={}),
    ],
    "the chain is whole": [
        lambda r: replace(r, problems=("entry 3 (run r1) was altered",)),
        lambda r: replace(r, entries=(*r.entries[:3], *r.entries[4:])),
    ],
}


def test_a_clean_history_passes():
    assert breaches(a_clean_history()) == []


def test_each_invariant_has_its_faults():
    assert FAULTS.keys() == INVARIANTS.keys()


@pytest.mark.parametrize(("name", "number"), [(name, number) for name, faults in FAULTS.items() for number in range(len(faults))])
def test_a_planted_fault_is_found(name, number):
    spoiled = FAULTS[name][number](a_clean_history())
    assert list(INVARIANTS[name](spoiled)), "the invariant that it breaks has to say so, whatever others say"
