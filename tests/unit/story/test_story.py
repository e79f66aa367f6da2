"""What ``why`` says, for what came of an alert and for what did not."""

from __future__ import annotations

import pytest

from remediator.model import ChangeState, Evidence, Resource, RunState, StepState, Target, Trigger, TriggerKind, Verdict, evolve, to_json
from remediator.reasons import Reason
from remediator.story import tell


async def test_healed_run(journal, incident, golden):
    record = await incident.healed()
    story = await tell(journal, record.run.id)
    assert (story.kind, story.runs) == ("run", (record.run.id,))
    golden(story.lines)


@pytest.mark.parametrize("ref", ["CiliumAgentDown", "00f1a2b3c4d5e6f7", "00F1A2B3C4D5E6F7", "Node/node-3", "node-3", " node-3 "])
async def test_the_same_story_by_every_name(journal, incident, ref):
    record = await incident.healed()
    by_run = await tell(journal, record.run.id)
    story = await tell(journal, ref)
    assert story.lines == by_run.lines
    assert story.kind == ("target" if "node" in ref.lower() else "alert")
    assert story.runs == (record.run.id,)


async def test_ids_in_upper_case_are_found(journal, incident):
    record = await incident.healed()
    assert (await tell(journal, record.run.id.upper())).kind == "run"


async def test_repeats_and_the_end_come_after_the_run(journal, incident, golden):
    record = await incident.healed()
    for at in (300, 600, 900):
        again = await incident.deliver(at, record.alert)
        await incident.decide(at, "duplicate", again, run=record.run, reason=Reason.DUPLICATE, playbook="cilium-agent-down")
    over = await incident.deliver(960, incident.alert(resolved=950))
    await incident.decide(961, "resolved", over, run=record.run, reason=Reason.RESOLVED)
    golden((await tell(journal, "CiliumAgentDown")).lines)


async def test_refused_by_gates(journal, incident, golden):
    delivery = await incident.deliver(0, incident.alert())
    gates = incident.verdicts(1, paused="by ana: switch upgrade", cooldown="last run ended 09:50:00, next possible 10:20:00")
    more = {"playbook": "cilium-agent-down", "target": Target(kind="Node", name="node-3"), "gates": gates}
    await incident.decide(1, "refused", delivery, reason=Reason.PAUSED, detail="by ana: switch upgrade", **more)
    golden((await tell(journal, "CiliumAgentDown")).lines)


async def test_nobody_is_to_blame(journal, incident, golden):
    told = {
        "symptom": "latency",
        "limit": 0.02,
        "kind": "link",
        "nodes": ["node-2", "node-5"],
        "words": "only that link is bad",
        "sound": 4,
    }
    told["votes"] = [{"node": "node-5", "against": 1, "of": 4, "share": 0.25, "beside": ["hint"]}]
    told["matrix"] = {
        "symptom": "latency",
        "limit": 0.02,
        "at": incident.time(1),
        "nodes": ["node-2", "node-5"],
        "rows": [[None, 0.04], [0.03, None]],
    }
    delivery = await incident.deliver(0, incident.alert())
    no = Verdict(gate="no_culprit", allowed=False, reason=Reason.NO_CULPRIT, detail="link: only that link is bad", at=incident.time(1))
    gates = (*incident.verdicts(1), no)
    evidence = (Evidence(name="attribution", at=incident.time(1), data=to_json(told)),)
    more = {"playbook": "node-latency", "target": Target(kind="Node", name="node-3"), "gates": gates, "evidence": evidence}
    await incident.decide(1, "refused", delivery, reason=Reason.NO_CULPRIT, detail="link: only that link is bad", **more)
    golden((await tell(journal, "CiliumAgentDown")).lines)


async def test_refused_first_and_started_later(journal, incident, golden):
    alert = incident.alert()
    early = await incident.deliver(-300, alert)
    gates = incident.verdicts(-299, observe_only="mode suggest")
    more = {"playbook": "cilium-agent-down", "target": Target(kind="Node", name="node-3"), "gates": gates}
    await incident.decide(-299, "refused", early, reason=Reason.OBSERVE_ONLY, **more)
    await incident.healed(0, since=-120)
    golden((await tell(journal, "CiliumAgentDown")).lines)


async def test_unmatched(journal, incident, golden):
    delivery = await incident.deliver(0, incident.alert("DiskFull", fingerprint="1111111111111111", disk="sda", annotations={}))
    await incident.decide(0, "unmatched", delivery, reason=Reason.UNMATCHED, detail='nearest: node-down misses alertname="NodeFailure"')
    golden((await tell(journal, "DiskFull")).lines)


async def test_target_that_does_not_exist(journal, incident, golden):
    delivery = await incident.deliver(0, incident.alert(node="node-99"))
    await incident.decide(
        0, "refused", delivery, reason=Reason.TARGET_MISSING, detail="no Node is named node-99", playbook="cilium-agent-down"
    )
    story = await tell(journal, "node-99")
    assert story.kind == "target"
    assert story.lines == (await tell(journal, "Node/node-99")).lines == (await tell(journal, "CiliumAgentDown")).lines
    golden(story.lines)


async def test_alert_without_node(journal, incident, golden):
    delivery = await incident.deliver(0, incident.alert(severity="critical"))
    await incident.decide(
        0, "refused", delivery, reason=Reason.TARGET_MISSING, detail="the alert has no label node", playbook="cilium-agent-down"
    )
    golden((await tell(journal, delivery.id)).lines)


async def test_truncated_group(journal, incident, golden):
    delivery = await incident.deliver(0, incident.alert(), truncated=7)
    await incident.decide(0, "held", delivery, reason=Reason.TRUNCATED, detail="7 alerts were cut off")
    golden((await tell(journal, delivery.id)).lines)


async def test_what_a_window_held_is_told_as_decided_again_by_itself(journal, incident):
    delivery = await incident.deliver(0, incident.alert(), truncated=7)
    await incident.decide(
        0, "held", delivery, reason=Reason.MAINTENANCE, detail="maintenance: every night; truncated: 7 alerts were cut off"
    )
    text = "\n".join((await tell(journal, delivery.id)).lines)
    assert "was held: nothing was started, and it is decided again by itself when no maintenance window is open any more." in text
    assert "not cut" not in text


async def test_resolved_alert_that_was_never_seen_firing(journal, incident, golden):
    delivery = await incident.deliver(0, incident.alert(resolved=-10))
    await incident.decide(0, "resolved", delivery, reason=Reason.RESOLVED)
    golden((await tell(journal, "CiliumAgentDown")).lines)


async def test_a_repeat_delivery_alone_points_to_the_run_and_does_not_claim_it(journal, incident, golden):
    record = await incident.healed()
    again = await incident.deliver(300, record.alert, sender="10.0.0.8")
    await incident.decide(
        301, "duplicate", again, run=record.run, reason=Reason.DUPLICATE, playbook="cilium-agent-down", target=record.run.target
    )
    story = await tell(journal, again.id)
    assert (story.kind, story.runs) == ("delivery", ())
    golden(story.lines)


async def test_delivery_that_is_not_decided_yet(journal, incident, golden):
    delivery = await incident.deliver(0, incident.alert(), incident.alert(node="node-4"))
    golden((await tell(journal, delivery.id)).lines)


async def test_delivery_of_many_alerts(journal, incident, golden):
    alerts = [incident.alert(node=f"node-{n}", fingerprint=f"{n:016x}", annotations={}) for n in range(20)]
    delivery = await incident.deliver(0, *alerts)
    decisions = [incident.decision(1, "unmatched", delivery, alert=alert, reason=Reason.UNMATCHED) for alert in alerts]
    await journal.decide(delivery.id, decisions, decided_at=incident.time(1))
    golden((await tell(journal, delivery.id)).lines)


async def test_failed_run_leaves_something_behind(journal, incident, golden):
    run = incident.run(0, trigger=Trigger(kind=TriggerKind.MANUAL, by="ana@laptop", reason="new disk"), gates=incident.verdicts(0))
    cordon = incident.change(
        1,
        run,
        ChangeState.APPLIED,
        verb="patch",
        action="node.cordon",
        step="cordon",
        resource=Resource(kind="Node", name="node-3", uid="7b1f"),
        before={"spec": {"unschedulable": None}, "metadata": {"annotations": {"remediator.dev/cordoned-by": None}}},
        after={"spec": {"unschedulable": True}, "metadata": {"annotations": {"remediator.dev/cordoned-by": '{"run":"x"}'}}},
    )
    lost = incident.change(5, run, ChangeState.UNKNOWN, detail="the connection broke", ended_at=incident.time(15), after=None)
    steps = (
        incident.step(0, 2, name="cordon", action="node.cordon", outcome="Cordoned.", changes=(cordon,)),
        incident.step(4, 15, 1, state=StepState.UNKNOWN, detail="no answer to the delete", attempts=2, changes=(lost,)),
        incident.step(0, None, 2, name="look", action="prometheus.query", state=StepState.PENDING, started_at=None),
    )
    ended = evolve(run, state=RunState.UNKNOWN, reason=Reason.CRASHED, detail="step restart", ended_at=incident.time(16), steps=steps)
    await incident.decide(0, "run", run=run, runs=[ended], playbook=run.playbook, target=run.target, gates=run.gates)
    golden((await tell(journal, "Node/node-3")).lines)


async def test_run_that_put_its_change_back_and_did_not_heal(journal, incident, golden):
    record = await incident.healed()
    change = evolve(record.run.steps[0].changes[0], state=ChangeState.UNDONE)
    foreign = evolve(change, id=f"{change.id[:-1]}z", state=ChangeState.FOREIGN)
    steps = (evolve(record.run.steps[0], state=StepState.UNDONE, changes=(change, foreign)),)
    proof = incident.proof(31, 97, healed=False, checks=1, last="no sample")
    await incident.keep(evolve(record.run, state=RunState.NOT_HEALED, reason=Reason.RELAPSED, detail="", steps=steps, verification=proof))
    golden((await tell(journal, record.run.id)).lines)


async def test_open_run(journal, incident, golden):
    run = incident.run(0, gates=incident.verdicts(0), alert=incident.alert())
    pending = incident.change(2, run, ChangeState.INTENDED, ended_at=None, after=None)
    run = evolve(run, steps=(incident.step(1, None, changes=(pending,)),), cancel="ana@laptop: I do it by hand")
    await incident.keep(run)
    golden((await tell(journal, run.id)).lines)


async def test_open_verification(journal, incident, golden):
    run = incident.run(0, state=RunState.VERIFYING, steps=(incident.step(0, 5),))
    await incident.keep(evolve(run, verification=incident.proof(5, None, healed=None, checks=3, held=10)))
    golden((await tell(journal, run.id)).lines)


async def test_dry_run(journal, incident, golden):
    run = incident.run(0, dry_run=True, trigger=Trigger(kind=TriggerKind.MANUAL, by="ana@laptop"))
    change = incident.change(1, run, ChangeState.APPLIED, dry_run=True)
    await incident.keep(evolve(run, state=RunState.PREDICTED, ended_at=incident.time(2), steps=(incident.step(0, 2, changes=(change,)),)))
    golden((await tell(journal, run.id)).lines)


async def test_gates_that_refused_in_the_middle_of_the_run(journal, incident, golden):
    record = await incident.healed()
    gates = incident.verdicts(20, paused="by ana: stop")
    steps = (record.run.steps[0], incident.step(0, None, 1, name="drain", action="node.drain", rung=1, started_at=None))
    await incident.keep(
        evolve(
            record.run, state=RunState.NOT_HEALED, reason=Reason.PAUSED, detail="before drain", gates=gates, steps=steps, verification=None
        )
    )
    golden((await tell(journal, record.run.id)).lines)


async def test_several_episodes_newest_first(journal, incident, golden):
    await incident.healed(-86400 * 2)
    delivery = await incident.deliver(-3600, incident.alert(since=-3700))
    await incident.decide(
        -3600, "refused", delivery, reason=Reason.COOLDOWN, detail="until 10:20", target=Target(kind="Node", name="node-3"), gates=()
    )
    newest = await incident.healed()
    story = await tell(journal, "CiliumAgentDown")
    assert story.runs[0] == newest.run.id
    assert len(story.runs) == 2
    golden(story.lines)


async def test_more_episodes_than_are_told(journal, incident):
    for day in range(15):
        delivery = await incident.deliver(day * 86400, incident.alert(since=day * 86400 - 60))
        await incident.decide(day * 86400, "unmatched", delivery, reason=Reason.UNMATCHED)
    lines = (await tell(journal, "CiliumAgentDown")).lines
    assert lines[-1] == "  and 4 more before those"
    assert lines[1] == "This was decided at 2026-01-19 10:00:00 UTC."


class Counted:
    """The journal, and the names of what was asked of it."""

    def __init__(self, journal):
        self._journal, self.asked = journal, []

    def __getattr__(self, name):
        self.asked.append(name)
        return getattr(self._journal, name)


@pytest.mark.parametrize("ref", ["CiliumAgentDown", "node-3"])
async def test_older_runs_are_read_together(journal, incident, ref):
    for day in range(6):
        await incident.healed(day * 86400)
    counted = Counted(journal)
    story = await tell(counted, ref)
    assert len(story.runs) == 6
    assert sum(" healed." in line for line in story.lines[1:]) == 5, story.lines
    assert counted.asked.count("run") == 1
    assert len(counted.asked) <= 7, "each question to the journal takes as long as ten rows of an answer"


async def test_runs_without_a_decision_are_told_too_the_last_one_with_its_steps(journal, incident):
    runs = [incident.run(day * 86400, trigger=Trigger(kind=TriggerKind.TEST)) for day in range(14)]
    for run in runs[:-1]:
        await incident.keep(run)
    await incident.keep(evolve(runs[-1], steps=(incident.step(0, 31, outcome="Pod cilium-9qwzt is ready on node-3."),)))
    story = await tell(journal, "Node/node-3")
    assert any("cilium-9qwzt" in line for line in story.lines)
    assert [run.id for run in runs[3:-1]] == [run.id for run in runs if any(run.id in line for line in story.lines[1:])]


async def test_target_with_runs_but_no_decision(journal, incident):
    run = incident.run(0, trigger=Trigger(kind=TriggerKind.TEST))
    await incident.keep(run)
    story = await tell(journal, "Node/node-3")
    assert (story.kind, story.runs) == ("target", (run.id,))


async def test_decision_by_its_id(journal, incident):
    delivery = await incident.deliver(0, incident.alert())
    decision = await incident.decide(0, "unmatched", delivery, reason=Reason.UNMATCHED)
    story = await tell(journal, decision.id)
    assert story.kind == "decision"
    assert story.lines[0] == (
        'CiliumAgentDown {node="node-3", severity="critical"} led to nothing. unmatched: No playbook takes this alert.'
    )


async def test_run_that_the_journal_lost(journal, incident):
    delivery = await incident.deliver(0, incident.alert())
    await incident.decide(0, "run", delivery, run=incident.run(0), playbook="x")
    story = await tell(journal, "CiliumAgentDown")
    assert "which the journal no longer has" in story.lines[0]


@pytest.mark.parametrize("ref", ["CiliumAgentDwon", "Node/node-33", "7zzzzzzzzzzzzzzzzzzzzzzzzz", "ffffffffffffffff", "", "Pod/a/b/c/d"])
async def test_nothing_is_known(journal, incident, ref):
    await incident.healed()
    story = await tell(journal, ref)
    assert (story.kind, story.runs) == ("nothing", ())
    assert f"knows nothing of {ref}" in story.lines[0]
    suggestion = {"CiliumAgentDwon": "Did you mean CiliumAgentDown?", "Node/node-33": "Did you mean Node/node-3?"}.get(ref)
    assert suggestion in (None, story.lines[-1])


async def test_text_of_strangers_stays_on_its_line(journal, incident):
    alert = incident.alert(node="node-3\nRun x healed", annotations={"summary": "line\n\x1b[2Jline"})
    delivery = await incident.deliver(0, evolve(alert, name="A\nB"))
    await incident.decide(0, "unmatched", delivery, reason=Reason.UNMATCHED, detail="a\nb")
    story = await tell(journal, delivery.id)
    assert not [line for line in story.lines if "\n" in line]
    assert 'node="node-3\\nRun x healed"' in "\n".join(story.lines)


async def test_manual_start_on_a_target_that_does_not_exist(journal, incident):
    await incident.decide(
        0, "refused", playbook="restart-agent", reason=Reason.TARGET_MISSING, detail="Node/node-99 does not exist", alert=None
    )
    story = await tell(journal, "Node/node-99")
    assert story.kind == "target"
    assert story.lines[0].startswith("The manual start of restart-agent was refused")
    assert (await tell(journal, "Node/node-9")).kind == "nothing"


def undone(story):
    """The section, without its times, which are of the journal's clock."""
    first = story.lines.index("How it was undone") + 1
    return [line.strip().partition("  ")[2] for line in story.lines[first : story.lines.index("", first)]]


@pytest.mark.parametrize("ref", ["run", "CiliumAgentDown", "node-3"])
async def test_who_asked_to_undo_it_and_what_came_of_it(journal, incident, ref):
    record = await incident.healed()
    await journal.note("undo", record.run.id, {"by": "anna", "reason": "false \n alarm"})
    await journal.note("undo", record.run.id, {"outcome": "undone: patch Node/node-3"})
    await journal.note("undo", "another", {"outcome": "undone: patch Node/node-4"})
    story = await tell(journal, record.run.id if ref == "run" else ref)
    assert undone(story) == ["anna asked to put back what it changed: false alarm", "Undone: patch Node/node-3."]


async def test_a_run_that_a_person_began_tells_it_too(journal, incident):
    run = incident.run(0, trigger=Trigger(kind=TriggerKind.MANUAL, by="ana@laptop"))
    await journal.save_run(run)
    await journal.note("undo", run.id, {"by": "", "reason": ""})
    assert undone(await tell(journal, "node-3")) == ["Somebody asked to put back what it changed."]
