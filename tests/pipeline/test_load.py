"""Many deliveries while a run goes on, and more than memory holds: every alert gets its one decision, also across a restart."""

from __future__ import annotations

import asyncio
import gc
import time
from collections import Counter

import pytest

from remediator import inbox
from remediator.turns import QUANTUM


def group(line, number):
    """One delivery's ten alerts: unmatched, one that is over, and in every fifth two more that need questions."""
    made = [line.outside.fire("Other", pod=f"{number}-{index}", known=False) for index in range(7)]
    over = line.outside.fire(pod=f"{number}-over", known=False)
    made.append({**over, "status": "resolved", "endsAt": over["startsAt"]})
    asks = number % 5 == 0
    made.append(line.outside.fire("Symptom" if asks else "Other", node="node-99", pod=f"{number}", known=False))
    made.append(line.outside.fire("Symptom" if asks else "Other", pod=f"{number}-busy"))
    return made


async def all_decided(line, count, *, seconds=150):
    async def look():
        return not await line.journal.undecided(1) and line.pipeline.undecided == 0

    await line.until(look, f"{count} deliveries are decided", seconds=seconds, every=20)


async def decisions_of(line, total):
    """Every decision there is, page by page."""
    found, cursor = [], None
    while True:
        page = await line.journal.decisions(limit=5000, cursor=cursor)
        found += page.items
        cursor = page.next
        if cursor is None:
            break
    assert len(found) == total
    return found


async def test_three_hundred_groups_while_a_run_goes_on(line, symptom, text):
    line.load(text(verify={"query": 'symptom{node="${target.name}"} == 0', "within": "5h", "hold": "5s"}, deadline="6h"))
    await line.start()
    run = await line.run_of(line.outside.fire())
    await line.when(run, lambda r: r.state == "verifying", "the verification")
    groups = [group(line, number) for number in range(300)]
    deliveries = []
    for start in range(0, 300, 50):
        deliveries += await asyncio.gather(*(line.deliver(*alerts) for alerts in groups[start : start + 50]))
    await all_decided(line, 300)
    found = await decisions_of(line, 3001)
    per_delivery = Counter(d.delivery for d in found)
    assert {per_delivery[d.id] for d in deliveries} == {10}
    assert Counter((d.decision, str(d.reason or "")) for d in found) == {
        ("run", ""): 1,
        ("unmatched", "unmatched"): 2580,
        ("resolved", "resolved"): 300,
        ("refused", "target_missing"): 60,
        ("refused", "target_busy"): 60,
    }
    symptom.set("node-3", False)
    done = await line.ended(run)
    assert done.state == "healed", done.detail
    assert len((await line.journal.runs()).items) == 1
    report = await line.journal.verify()
    assert report.ok, report.problems


def in_memory(line):
    """Whole deliveries that wait. Those that are decided on right now are one portion, which is read whatever is held already."""
    waiting = line.pipeline._inbox
    handed_out = {delivery for delivery, _ in waiting._out}
    return len(waiting._arrived) + len(waiting._bodies.keys() - handed_out)


@pytest.mark.parametrize("restart", [False, True])
async def test_more_than_memory_holds(line, text, monkeypatch, restart):
    """Some hundreds wait while nothing is decided; beyond the bound they wait on disk only."""
    monkeypatch.setattr(inbox, "_IN_MEMORY", 100)
    monkeypatch.setattr(inbox, "_QUEUED", 120)
    monkeypatch.setattr(inbox, "_NAMES", 70)
    monkeypatch.setattr(inbox, "_PAGE", 40)
    line.load(text())
    await line.start()
    decide, gate = line.pipeline.decider.portions, asyncio.Event()

    async def waits(waiting):
        await gate.wait()
        return await decide(waiting)

    line.pipeline.decider.portions = waits
    deliveries = []
    for number in range(6):
        alerts = [line.outside.fire("Other", pod=f"{number}-{index}", known=False) for index in range(50)]
        deliveries += await asyncio.gather(*(line.deliver(alert) for alert in alerts))

    async def all_counted():
        return line.pipeline.undecided == 300

    await line.until(all_counted, "no delivery is counted twice any more, as what a look on disk finds is until that ends")
    assert in_memory(line) <= 200
    assert len(line.pipeline._inbox._bodies) <= 120 + 40, "with what is decided on: no more than is queued, and a page"
    if restart:
        await line.restart()
        assert in_memory(line) <= 200
    gate.set()
    more = [await line.deliver(line.outside.fire("Other", pod=f"later-{number}", known=False)) for number in range(5)]
    await all_decided(line, 305)
    found = await decisions_of(line, 305)
    assert Counter(d.delivery for d in found) == Counter(d.id for d in deliveries + more)
    last = await line.deliver(line.outside.fire("Other", known=False))
    assert len(await line.decided(last)) == 1
    await all_decided(line, 306)


@pytest.mark.parametrize("restart", [False, True])
async def test_a_quiet_playbook_is_decided_in_the_midst_of_a_storm(line, text, restart):
    """Of alerts that no playbook takes; and the end of an alert stays behind its beginning."""
    line.load(text(), text("quiet", alert="Quiet"))
    await line.start()
    decide, gate = line.pipeline.decider.portions, asyncio.Event()

    async def waits(waiting):
        await gate.wait()
        return await decide(waiting)

    line.pipeline.decider.portions = waits
    for number in range(60):
        await line.deliver(*(line.outside.fire("Other", pod=f"{number}-{index}", known=False) for index in range(10)))
    quiet = line.outside.fire("Quiet", node="node-2", known=False)
    for alert in (quiet, {**quiet, "status": "resolved", "endsAt": quiet["startsAt"]}):
        await line.deliver(alert)
    if restart:
        await line.restart()
    gate.set()
    await all_decided(line, 62)
    await decisions_of(line, 602)
    entries, cursor = [], 0
    while page := await line.journal.entries(kind="decision", after=cursor, limit=500):
        entries, cursor = entries + page, page[-1].seq
    order = [(entry.data["alert"]["name"], entry.data["decision"]) for entry in entries]
    first, last = order.index(("Quiet", "refused")), order.index(("Quiet", "resolved"))
    assert first < last <= 10 + 2 * QUANTUM, "the first delivery may have been taken before the others came"


async def test_decisions_give_way_while_webhooks_come_close_together(line, text):
    """Also where none of them waits any more at the moment at which that is asked; and no longer than they come."""
    line.load(text())
    await line.start()
    decide, gate, sizes = line.pipeline.decider.portions, asyncio.Event(), []

    async def waits(waiting):
        await gate.wait()
        sizes.append(sum(len(portion.places) for portion in waiting))
        return await decide(waiting)

    line.pipeline.decider.portions = waits
    await line.deliver(line.outside.fire("Other", known=False))
    groups = [[line.outside.fire("Other", pod=f"{number}-{index}", known=False) for index in range(10)] for number in range(20)]
    await asyncio.gather(*(line.deliver(*alerts) for alerts in groups))
    assert line.journal.queue_depth == 0
    gate.set()
    await all_decided(line, 21)
    assert sizes[:2] == [1, QUANTUM]
    assert max(sizes[2:]) > QUANTUM


async def test_a_restart_in_the_middle_of_a_delivery(line, symptom, text):
    """Its first alert's run is on disk, the rest of it is not decided yet; and more waits behind it."""
    for node in line.stage.cluster.node_names():
        symptom.set(node, False)
    line.load(text())
    await line.start()
    keep, stuck = line.journal.decide, asyncio.Event()

    async def hangs(closes, *args, **more):
        if closes is not None:
            stuck.set()
            await asyncio.Event().wait()
        await keep(closes, *args, **more)

    line.journal.decide = hangs
    first = await line.deliver(line.outside.fire(node="node-1"), line.outside.fire(node="node-2"), line.outside.fire("Other"))
    behind = [await line.deliver(line.outside.fire("Other", pod=str(number))) for number in range(3)]
    await asyncio.wait_for(stuck.wait(), 20)
    line.journal.decide = keep
    await line.restart()
    decisions = await line.decided(first)
    assert Counter(str(d.decision) for d in decisions) == {"run": 2, "unmatched": 1}
    for decision in decisions:
        if decision.run:
            assert (await line.ended(decision.run)).state == "healed"
    for delivery in behind:
        assert len(await line.decided(delivery)) == 1
    assert len((await line.journal.runs()).items) == 2


async def test_many_peers_deliver_one_alert_at_once(line, symptom, text):
    symptom.set("node-3", False)
    line.load(text())
    await line.start()
    alert = line.outside.fire()
    deliveries = await asyncio.gather(*(line.deliver(alert) for _ in range(60)))
    kinds = Counter()
    for delivery in deliveries:
        (decision,) = await line.decided(delivery)
        kinds[str(decision.decision)] += 1
    assert kinds == {"run": 1, "duplicate": 59}
    assert len((await line.journal.runs()).items) == 1


async def test_requests_are_answered_while_a_large_delivery_is_decided(line, text):
    """2,000 alerts that nobody takes: the event loop must not stand still meanwhile."""
    line.load(*(text(f"book-{number}", alert=f"Alert{number}") for number in range(10)))
    await line.start()
    alerts = [line.outside.fire("Other", pod=str(number), known=False) for number in range(2000)]
    stall, going = 0.0, True
    gc.collect()
    gc.freeze()  # garbage that is looked for among what other tests left would count

    async def beat():
        """How long this thread computes between two turns of the loop; in processor time, so that a busy machine does not count."""
        nonlocal stall
        while going:
            before = time.thread_time()
            await asyncio.sleep(0)
            stall = max(stall, time.thread_time() - before)
            await asyncio.sleep(0.01)

    beating = asyncio.create_task(beat())
    decisions = await line.decided(await line.deliver(*alerts))
    going = False
    await beating
    assert len(decisions) == 2000
    assert stall < 0.5, f"the loop stood still for {stall} s"
