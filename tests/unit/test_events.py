"""Events about runs: what is written, what is counted instead, and that nothing ever comes back to who tells of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from remediator.clock import ManualClock
from remediator.events import Events
from remediator.kube import kinds
from remediator.kube.errors import Forbidden, NotFound
from remediator.model import (
    Alert,
    AlertStatus,
    Change,
    ChangeState,
    Decision,
    DecisionKind,
    Resource,
    Run,
    RunState,
    Target,
    Trigger,
    TriggerKind,
    evolve,
)
from remediator.reasons import Reason
from remediator.telemetry import METRICS

NOW = datetime(2026, 1, 5, 10, tzinfo=UTC)
NODE = Target(kind="Node", name="node-3", uid="u3")
ALERT = Alert(name="Slow", fingerprint="f", starts_at=NOW, status=AlertStatus.FIRING, labels={})
RUN = Run(
    id="r1",
    playbook="remedy",
    revision="x",
    trigger=Trigger(kind=TriggerKind.ALERT, by="am", reason="Slow"),
    alert=ALERT,
    target=NODE,
    state=RunState.RUNNING,
    started_at=NOW,
    deadline=NOW + timedelta(hours=1),
)
POD = Resource(kind="Pod", namespace="kube-system", name="cilium-x", uid="p")
CHANGE = Change(id="c", run="r1", step="s", action="cilium.restart_agent", verb="delete", resource=POD, state=ChangeState.KEPT, at=NOW)


class Kubernetes:
    """Keeps what is written, or fails."""

    def __init__(self):
        self.made, self.patched = [], []
        self.error = None

    async def create(self, kind, body, namespace):
        return self._take(self.made, (kind, namespace, body))

    async def patch(self, kind, name, patch, namespace, **how):
        return self._take(self.patched, (kind, namespace, name, patch, how["type"]))

    def _take(self, where, what):
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        where.append(what)
        return {}


@pytest.fixture
def kube():
    return Kubernetes()


@pytest.fixture
def clock():
    return ManualClock(NOW)


async def written(events):
    while events._waiting:
        await events.write_one()


def result(name):
    return METRICS.registry.get_sample_value("remediator_events_total", {"result": name}) or 0


def refused(node="node-3", reason=Reason.COOLDOWN, **more):
    about = {"alert": ALERT, "delivery": "d", "decision": DecisionKind.REFUSED, "playbook": "remedy", "detail": "acted 5m ago"}
    return Decision(id="x", at=NOW, target=Target(kind="Node", name=node, uid=f"u-{node}"), reason=reason, **{**about, **more})


async def test_a_run_is_told_on_its_target_and_on_what_it_changed(kube, clock):
    events = Events(kube, clock)
    events.began(RUN)
    events.acted(RUN, CHANGE)
    events.ended(evolve(RUN, state=RunState.HEALED, reason=Reason.HEALED, detail="gone"))
    await written(events)
    bodies = [body for _, _, body in kube.made]
    assert [(b["regarding"]["name"], b["reason"], b["type"]) for b in bodies] == [
        ("node-3", "RunStarted", "Normal"),
        ("cilium-x", "Acted", "Normal"),
        ("node-3", "Healed", "Normal"),
    ]
    assert [(kind, namespace) for kind, namespace, _ in kube.made] == [
        (kinds.EVENT, space) for space in ("default", "kube-system", "default")
    ]
    assert bodies[0]["regarding"] == {"apiVersion": "v1", "kind": "Node", "name": "node-3", "uid": "u3"}
    assert bodies[1]["related"] == bodies[0]["regarding"]
    assert bodies[0]["note"] == "remedy: run r1 began (alert Slow)"
    assert {b["reportingController"] for b in bodies} == {"remediator.dev/remediator"}
    assert bodies[0]["eventTime"] == "2026-01-05T10:00:00.000000Z"
    assert len({b["metadata"]["name"] for b in bodies}) == 3


@pytest.mark.parametrize("state", [RunState.NOT_HEALED, RunState.FAILED, RunState.UNKNOWN, RunState.EXPIRED])
async def test_what_did_not_help_is_a_warning_with_the_code_of_the_reason(kube, clock, state):
    events = Events(kube, clock)
    events.ended(evolve(RUN, state=state, reason=Reason.STILL_FIRING))
    await written(events)
    ((_, _, body),) = kube.made
    assert (body["type"], body["reason"]) == ("Warning", "StillFiring")


async def test_the_same_refusal_is_counted_and_its_series_written_now_and_then(kube, clock):
    events = Events(kube, clock)
    for _ in range(50):
        events.refused(refused())
    await written(events)
    assert (len(kube.made), kube.patched) == (1, [])
    assert kube.made[0][2]["reason"] == "Cooldown"
    clock.advance(timedelta(minutes=6))
    events.refused(refused())
    events.refused(refused(reason=Reason.PROTECTED))
    await written(events)
    name = kube.made[0][2]["metadata"]["name"]
    series = {"series": {"count": 51, "lastObservedTime": "2026-01-05T10:06:00.000000Z"}}
    assert kube.patched == [(kinds.EVENT, "default", name, series, "merge")]
    assert [body["reason"] for _, _, body in kube.made] == ["Cooldown", "Protected"]
    clock.advance(timedelta(hours=1))
    events.refused(refused())
    await written(events)
    assert len({body["metadata"]["name"] for _, _, body in kube.made}) == 3, "an hour later it is another one"


async def test_a_series_that_the_server_has_forgotten_is_a_new_event_with_its_count(kube, clock):
    events = Events(kube, clock)
    events.refused(refused())
    await written(events)
    clock.advance(timedelta(minutes=6))
    kube.error = NotFound("gone", call="PATCH")
    events.refused(refused())
    await written(events)
    assert [body.get("series", {}).get("count") for _, _, body in kube.made] == [None, 2]


@pytest.mark.parametrize("error", [Forbidden("events is forbidden", call="POST"), RuntimeError("a fault of ours")])
async def test_one_that_cannot_be_written_is_counted_and_the_next_one_is_tried(kube, clock, error):
    events, before = Events(kube, clock), result("failed")
    kube.error = error
    events.began(RUN)
    events.ended(evolve(RUN, state=RunState.DONE))
    await written(events)
    assert [body["reason"] for _, _, body in kube.made] == ["RunDone"]
    assert result("failed") == before + 1


async def test_a_storm_writes_a_bounded_number_and_leaves_room_for_the_ends_of_runs(kube, clock):
    events, before = Events(kube, clock), result("dropped")
    for number in range(500):
        events.refused(refused(node=f"node-{number}"))
    events.ended(evolve(RUN, state=RunState.HEALED, reason=Reason.HEALED))
    await written(events)
    assert 50 < len(kube.made) < 100
    assert kube.made[-1][2]["reason"] == "Healed"
    assert result("dropped") - before == 501 - len(kube.made)
    clock.advance(timedelta(minutes=2))
    events.refused(refused(node="later"))
    await written(events)
    assert kube.made[-1][2]["regarding"]["name"] == "later"


async def test_a_dry_run_writes_none_and_neither_does_who_is_told_to_be_silent(kube, clock):
    events = Events(kube, clock)
    dry = evolve(RUN, dry_run=True)
    for silent in (events, Events()):
        run = dry if silent is events else RUN
        silent.began(run)
        silent.acted(run, evolve(CHANGE, dry_run=run.dry_run))
        silent.ended(evolve(run, state=RunState.PREDICTED))
        silent.refused(refused(dry_run=run.dry_run))
    events.refused(refused(delivery=None))  # a person sees it on the terminal
    await written(events)
    assert kube.made == []


async def test_a_note_is_one_redacted_line_that_the_api_takes(kube, clock):
    events = Events(kube, clock, lambda text: text.replace("s3cret", "***"))
    events.ended(evolve(RUN, state=RunState.FAILED, reason=Reason.STEP_FAILED, detail="s3cret\n" + "ü" * 3000))
    await written(events)
    note = kube.made[0][2]["note"]
    assert note.startswith("remedy: run r1 failed: *** ü")
    assert len(note.encode()) <= 1024
    assert "\n" not in note
