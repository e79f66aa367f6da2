"""The way of a run over the rungs of its ladder, with the real engine."""

from __future__ import annotations


def cordoned(stage, node):
    return bool(stage.cluster.get("Node", node)["spec"].get("unschedulable"))


CORDON = {"cordon": {"action": "node.cordon"}}
WAIT = {"settle": {"action": "wait", "for": "3s"}}
FAILS = {"look": {"action": "prometheus.query", "query": "symptom == 7", "expect": "some"}}


async def test_the_first_rung_heals_and_the_second_is_never_entered(line, stage, symptom, text):
    symptom.cured = lambda node: cordoned(stage, node)
    line.load(text(ladder=[[CORDON], [WAIT]]))
    await line.start()
    run = await line.ended(await line.run_of(line.outside.fire()))
    assert (run.state, run.reason, run.rung) == ("healed", "healed", 0), run.detail
    assert [step.state for step in run.steps] == ["succeeded", "pending"]
    assert run.verification.healed
    assert (run.verification.ended_at - run.verification.held_since).total_seconds() >= 10
