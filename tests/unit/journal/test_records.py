"""What is written can be read again, on both stores."""

from __future__ import annotations

import pytest

from remediator.errors import JournalError, UsageError
from remediator.model import (
    Approval,
    ApprovalState,
    ChangeState,
    DecisionKind,
    Delivery,
    RunState,
    StepState,
    Target,
    encode,
    evolve,
    from_json,
)


async def test_a_delivery_comes_back_as_it_came_in(journal, make):
    delivery = make.delivery()
    await journal.add_delivery(delivery)
    assert await journal.delivery(delivery.id) == delivery
    assert await journal.undecided() == [delivery]
    assert await journal.delivery("nothing") is None


async def test_a_decision_marks_the_delivery(journal, make, clock):
    delivery = make.delivery()
    await journal.add_delivery(delivery)
    decision = make.decision(delivery=delivery.id)
    await journal.decide(delivery.id, [decision])
    assert await journal.undecided() == []
    decided = evolve(delivery, decided_at=clock.now())
    assert await journal.delivery(delivery.id) == decided
    assert (await journal.deliveries()).items == (decided,)
    assert (await journal.decisions(delivery=delivery.id)).items == (decision,)


async def test_a_delivery_is_decided_once(journal, make):
    delivery = make.delivery()
    await journal.add_delivery(delivery)
    await journal.decide(delivery.id, [make.decision(delivery=delivery.id)], decided_at=make.time(1))
    second = make.decision(delivery=delivery.id)
    with pytest.raises(JournalError, match="does not wait for a decision"):
        await journal.decide(delivery.id, [second], runs=[make.run()])
    with pytest.raises(JournalError, match="does not wait"):
        await journal.decide("no-such-delivery", [second])
    assert len((await journal.decisions()).items) == 1
    assert await journal.open_runs() == []
    assert (await journal.delivery(delivery.id)).decided_at == make.time(1)


async def test_decide_keeps_everything_or_nothing(journal, make):
    run, episode = make.run(), make.episode()
    decision = make.decision(decision=DecisionKind.RUN, run=run.id)
    await journal.decide(None, [decision], episodes=[episode], runs=[run])
    assert await journal.run(run.id) == evolve(run, order=3), "the third entry is its beginning"
    assert (await journal.episodes()).items == (episode,)
    other = make.decision()
    with pytest.raises(JournalError):
        await journal.decide(None, [other], episodes=[evolve(episode, deliveries=2)], runs=[run])
    assert (await journal.decisions()).items == (decision,)
    assert (await journal.episodes()).items == (episode,)
    assert (await journal.verify()).problems == []


async def test_a_run_is_replaced_with_its_steps(journal, make):
    run = make.run(steps=tuple(make.step(index) for index in range(4)))
    await journal.decide(None, [], runs=[run])
    shorter = evolve(run, state=RunState.VERIFYING, steps=(make.step(0, state=StepState.SUCCEEDED), make.step(1)))
    await journal.save_run(shorter)
    assert await journal.run(run.id) == shorter
    started = make.step(1, state=StepState.RUNNING, started_at=make.time(1))
    await journal.save_step(run.id, started)
    assert (await journal.run(run.id)).steps == (shorter.steps[0], started)
    with pytest.raises(JournalError, match="no run"):
        await journal.save_step("nothing", started)


async def test_a_run_brings_its_changes_in_their_steps(journal, make):
    twice = (make.step(0, name="restart", started_at=make.time(1)), make.step(1, name="restart", rung=1, started_at=make.time(5)))
    run = make.run(steps=(*twice, make.step(2)))
    await journal.save_run(run)
    first, second = make.change(run.id, at=2, step="restart"), make.change(run.id, at=6, step="restart")
    third = make.change(run.id, at=7, step="step-2")
    for change in (third, second, first):
        await journal.save_change(change)
    found = await journal.run(run.id)
    assert [step.changes for step in found.steps] == [(first,), (second,), (third,)]
    assert (await journal.open_runs()) == [found]
    assert (await journal.runs()).items == (found,)
    await journal.save_run(found)  # with the changes in the steps: they are kept once, on their own
    assert await journal.run(run.id) == found


async def test_a_change_goes_from_intent_to_outcome(journal, make):
    change = make.change("r1")
    await journal.save_change(change)
    assert (await journal.changes(left_behind=True)).items == (change,)
    done = evolve(change, state=ChangeState.UNDONE, ended_at=make.time(1))
    await journal.save_change(done)
    assert (await journal.changes(left_behind=True)).items == ()
    assert (await journal.changes(run="r1")).items == (done,)
    assert (await journal.changes(run="r2")).items == ()
    assert (await journal.changes(left_behind=False)).items == (done,)


async def test_an_episode_is_one_firing(journal, make):
    first, later = make.episode(at=0), make.episode(at=60)
    await journal.save_episode(first)
    await journal.save_episode(later)
    closed = evolve(first, resolved_at=make.time(30))
    await journal.save_episode(closed)
    assert (await journal.episodes()).items == (later,)
    assert (await journal.episodes(open_only=False, fingerprint=first.fingerprint)).items == (later, closed)
    assert (await journal.episodes(open_only=False, name="Other")).items == ()
    assert (await journal.episodes(open_only=False, names=["Other", first.name])).items == (later, closed)
    assert (await journal.episodes(names=["Other"])).items == (await journal.episodes(names=[])).items == ()


async def test_pauses_hold_until_they_end(journal, make):
    everything, playbook = make.pause(), make.pause(playbook="p")
    limited = make.pause(target="Node/node-1", until=make.time(10))
    for pause in (everything, playbook, limited):
        await journal.add_pause(pause)
    assert await journal.pauses(make.time(9)) == [everything, playbook, limited]
    assert await journal.pauses(make.time(10)) == [everything, playbook]
    ended = await journal.end_pauses(playbook="p", target=None, by="anna", at=make.time(11))
    assert ended == 1
    assert await journal.pauses(make.time(11)) == [everything]
    assert await journal.end_pauses(playbook="p", target=None, by="anna", at=make.time(12)) == 0
    assert await journal.end_pauses(playbook=None, target="Node/node-1", by="anna", at=make.time(12)) == 0  # it was over
    assert await journal.end_pauses(playbook=None, target=None, by="anna", at=make.time(12)) == 1
    assert await journal.pauses(make.time(13)) == []
    told = await journal.entries(kind="resume")
    assert [entry.data["by"] for entry in told] == ["anna", "anna"]
    assert (await journal.verify()).ok


async def test_a_revision_is_kept_once(journal):
    await journal.keep_revision("abc", "p", "kind: Playbook\n")
    await journal.keep_revision("abc", "p", "kind: Playbook\n")
    assert await journal.revision("abc") == "kind: Playbook\n"
    assert await journal.revision("abd") is None
    assert len(await journal.entries(kind="revision")) == 1


async def test_history_is_what_touches_the_time_since(journal, make):
    def ended(at, until):
        return make.run(at, state=RunState.HEALED, ended_at=make.time(until), steps=())

    old, reaching_in, recent = ended(0, 5), ended(8, 12), ended(20, 25)
    still_open = make.run(1, steps=())
    elsewhere = make.run(21, target=Target(kind="Node", name="node-4"), steps=())
    for run in (old, reaching_in, recent, still_open, elsewhere):
        await journal.save_run(run)
    assert await journal.history("Node/node-3", since=make.time(10)) == [recent, reaching_in, still_open]
    several = await journal.histories(["Node/node-4", "Node/node-5", "Node/node-3"], since=make.time(10))
    assert several == {"Node/node-4": [elsewhere], "Node/node-5": [], "Node/node-3": [recent, reaching_in, still_open]}


async def test_every_write_is_told_in_the_log(journal, make, clock):
    delivery, run = make.delivery(), make.run()
    change, pause = make.change(run.id), make.pause()
    await journal.add_delivery(delivery)
    decision, episode = make.decision(delivery=delivery.id), make.episode()
    await journal.decide(delivery.id, [decision], episodes=[episode], runs=[run])
    await journal.save_run(run)
    await journal.save_step(run.id, run.steps[0])
    await journal.save_change(change)
    await journal.save_episode(episode)
    await journal.add_pause(pause)
    await journal.keep_revision("abc", "p", "text")
    await journal.note("reload", "daemon", {"ok": True, "at": clock.now()})
    entries = await journal.entries()
    episode_ref = "00000000000000aa@2026-01-05T10:00:00.000000Z"
    assert [(entry.kind, entry.ref) for entry in entries] == [
        ("delivery", delivery.id),
        ("decided", delivery.id),
        ("decision", decision.id),
        ("episode", episode_ref),
        ("run", run.id),
        ("run", run.id),
        ("step", f"{run.id}/0"),
        ("change", change.id),
        ("episode", episode_ref),
        ("pause", pause.id),
        ("revision", "abc"),
        ("reload", "daemon"),
    ]
    assert [entry.seq for entry in entries] == list(range(1, 13))
    assert entries[-1].data == {"at": "2026-01-05T10:00:00Z", "ok": True}
    assert entries[0].data.keys() == {"digest"}
    assert {entry.at for entry in entries} == {clock.now()}
    assert await journal.entries(ref=run.id) == entries[4:6]
    assert await journal.entries(kind="pause") == [entries[9]]
    assert await journal.entries(after=3, limit=2) == entries[3:5]
    assert [(line.seq, line.hash) async for line in journal.export()] == [(entry.seq, entry.hash) for entry in entries]
    assert (await journal.verify()).ok


async def test_notes_do_not_pose_as_records(journal):
    with pytest.raises(ValueError, match="with their records"):
        await journal.note("delivery", "x", {})


async def test_what_is_no_json_is_refused(journal, make):
    with pytest.raises(JournalError, match="JSON"):
        await journal.add_delivery(make.delivery(receiver="\ud800"))
    with pytest.raises(JournalError, match="JSON"):
        await journal.note("start", "daemon", {"path": "\ud800"})
    assert await journal.entries() == []
    assert journal.queue_depth == 0


@pytest.mark.parametrize("nasty", ["nul\0inside", "x" * 70_000, "quote ' \" \\ % %s ? :name", "🙂" * 100, ""])
async def test_texts_that_databases_dislike(journal, make, nasty):
    alert = make.alert(name=nasty, fingerprint=nasty, labels={nasty: nasty})
    delivery = make.delivery(alerts=(alert,), receiver=nasty)
    decision = make.decision(alert=alert, playbook=nasty, detail=nasty)
    episode = make.episode(fingerprint=nasty, name=nasty)
    await journal.add_delivery(delivery)
    await journal.decide(delivery.id, [decision], episodes=[episode])
    assert (await journal.delivery(delivery.id)).alerts == (alert,)
    assert (await journal.decisions(name=nasty, fingerprint=nasty, playbook=nasty)).items == (decision,)
    assert (await journal.episodes(fingerprint=nasty, name=nasty)).items == (episode,)
    assert (await journal.decisions(name=nasty + "!")).items == ()
    assert (await journal.verify()).problems == []


async def test_secrets_are_not_stored(journal, make, secret, store_url):
    alert = make.alert(labels={"alertname": "x", "db_password": "hunter2"}, annotations={"d": f"use {secret} now"})
    run = make.run(parameters={"token": "tok-en-value"}, steps=(make.step(0, detail=f"said {secret}"),))
    delivery = make.delivery(alerts=(alert,), extra={"authorization": "Bearer abc"})
    await journal.add_delivery(delivery)
    await journal.decide(delivery.id, [make.decision(alert=alert, detail=secret)], episodes=[make.episode(labels=alert.labels)], runs=[run])
    await journal.save_step(run.id, make.step(0, outcome="password=hunter2"))
    await journal.save_change(make.change(run.id, before={"data": {"api_key": "hunter2"}}))
    await journal.add_pause(make.pause(reason=secret))
    await journal.keep_revision("abc", "p", f"note: {secret}")
    await journal.note("reload", "daemon", {"url": f"http://anna:hunter2@host/?x={secret}"})
    await journal.end_pauses(playbook=None, target=None, by=secret, at=make.time(1))
    everything = str([entry async for entry in journal.export()])
    everything += str([await journal.delivery(delivery.id), await journal.run(run.id), await journal.revision("abc")])
    everything += str([await journal.decisions(), await journal.episodes(), await journal.changes()])
    for hidden in (secret, "hunter2", "tok-en-value", "Bearer abc"):
        assert hidden not in everything
    assert everything.count("<redacted>") > 10
    assert (await journal.verify()).problems == []


async def test_a_cursor_of_somebody_else_is_refused(journal):
    for cursor in ("!", "AAAA", "bm9zcGFjZQ", "é", "MSAA"):
        with pytest.raises(UsageError, match="cursor"):
            await journal.runs(cursor=cursor)


async def test_an_export_has_the_records_of_which_the_log_has_only_digests(journal, make):
    delivery, episode = make.delivery(id="d1"), make.episode()
    await journal.add_delivery(delivery)
    await journal.save_episode(episode)
    await journal.save_episode(evolve(episode, deliveries=2))
    await journal.keep_revision("v1", "p", "text")
    await journal.note("start", "", {})
    lines = [line async for line in journal.export()]
    assert [(line.kind, line.record is not None) for line in lines] == [
        ("delivery", True), ("episode", False), ("episode", True), ("revision", True), ("start", False)
    ]  # fmt: skip
    assert from_json(lines[0].record, Delivery) == delivery
    assert lines[3].record == "text"
    assert b"record" not in encode(lines[4])


async def test_an_episode_has_one_run_of_a_kind(journal, make):
    """Whoever decides on it once more did not know of the first; one that is only observed, or a dry run, is another kind."""
    alert = make.alert()

    async def decide(kind, *, dry_run=False):
        run = make.run(alert=alert, dry_run=dry_run)
        decision = make.decision(alert=alert, decision=kind, run=run.id, dry_run=dry_run)
        episode = make.episode(decision=kind, run=run.id, dry_run=dry_run)
        await journal.decide(None, [decision], episodes=[episode], runs=[run])
        return run.id

    kept = [await decide(DecisionKind.REFUSED, dry_run=True), await decide(DecisionKind.RUN, dry_run=True)]
    kept.append(await decide(DecisionKind.RUN))
    with pytest.raises(
        JournalError, match=f"the episode of CiliumAgentDown since 2026-01-05T10:00:00.000000Z led to run {kept[-1]} already"
    ):
        await decide(DecisionKind.RUN)
    by_hand = make.run(alert=alert)
    await journal.decide(None, [make.decision(alert=alert, decision=DecisionKind.RUN, run=by_hand.id)], runs=[by_hand])
    assert sorted(run.id for run in (await journal.runs()).items) == sorted([*kept, by_hand.id])
    assert len((await journal.decisions()).items) == 4
    assert (await journal.verify()).ok


async def test_runs_have_the_order_in_which_they_began_whatever_the_clock_says(journal, make):
    """By the decision, or by people's yes; what is saved otherwise changes nothing."""
    asked = Approval(asked_at=make.time(9), expires_at=make.time(99))
    waits, first, second = make.run(at=9, approvals=(asked,)), make.run(at=8), make.run(at=1)
    await journal.decide(None, [], runs=[waits, first])
    await journal.decide(None, [], runs=[second])
    await journal.save_run(await journal.run(waits.id))
    assert (await journal.run(waits.id)).order == 0
    await journal.save_run(evolve(waits, approvals=(evolve(asked, state=ApprovalState.APPROVED),)), begins=True)
    await journal.save_run(evolve(await journal.run(first.id), state=RunState.VERIFYING))
    begun = sorted(await journal.open_outlines(), key=lambda run: run.order)
    assert [run.id for run in begun] == [first.id, second.id, waits.id]
    for run in begun:
        (entry,) = await journal.entries(after=run.order - 1, limit=1)
        assert (entry.kind, entry.ref, entry.data["order"]) == ("run", run.id, run.order)
    assert (await journal.verify()).problems == []
