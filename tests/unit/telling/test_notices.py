"""What people are told by itself: once, also over a restart, and nothing of what is only predicted."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest

from remediator.approval import question
from remediator.model import RunState, evolve
from remediator.notices import NOTE, Notices
from remediator.reasons import Reason
from remediator.settings import Notify
from remediator.telling import Teller
from remediator.world import Asking


@pytest.fixture
async def watching(stage, receiver):
    """Starts a life of the notifier; ``told(n)`` waits for so many messages in all, each noted."""
    stage.world.teller = Teller([Notify(name="oncall", url=receiver.url)], clock=stage.world.clock)
    lives = []

    async def live():
        for task in lives:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        lives.append(asyncio.create_task(Notices(stage.world).watch()))

    async def told(many):
        while len(await stage.world.journal.entries(kind=NOTE)) < many:
            await stage.world.clock.sleep(stage.world.asking.expires / 10_000)
        return [json.loads(body) for _, body in receiver.calls]

    live.told = told
    yield live
    for task in lives:
        task.cancel()
    await stage.world.teller.close()


async def closed(stage, state, **more):
    run = await stage.begin(stage.playbook("wait", **{"for": "1s"}), node="node-3", **more)
    await stage.world.journal.save_run(evolve(run, state=state, reason=Reason.STILL_FIRING, detail="x", ended_at=stage.world.clock.now()))
    stage.world.feed.publish("run", run.id)
    return run


async def test_an_end_is_told_once_also_after_a_restart_and_others_are_quiet(stage, receiver, watching):
    await watching()
    await closed(stage, RunState.PREDICTED, dry_run=True)
    await closed(stage, RunState.HEALED)
    run = await closed(stage, RunState.NOT_HEALED)
    (told,) = await watching.told(1)
    assert (told["event"], told["run"], told["target"]) == ("not_healed", run.id, "Node/node-3")
    assert "one-step on Node/node-3: not healed" in told["text"]
    await watching()
    stage.world.feed.publish("run", run.id)
    other = await closed(stage, RunState.FAILED)
    told = await watching.told(2)
    assert [(one["event"], one["run"]) for one in told] == [("not_healed", run.id), ("failed", other.id)]


async def test_what_ended_while_nobody_watched_is_told_at_the_start(stage, watching):
    run = await closed(stage, RunState.UNKNOWN)
    await watching()
    (told,) = await watching.told(1)
    assert (told["event"], told["id"]) == ("unknown", f"{run.id}.end")


async def test_a_question_to_people_names_the_command(stage, watching):
    await watching()
    run = await stage.begin(stage.playbook("wait", **{"for": "1s"}), node="node-3")
    asked = question(Asking(), stage.world.clock.now(), text="May one-step act on Node/node-3?")
    await stage.world.journal.save_run(evolve(run, state=RunState.AWAITING_APPROVAL, approvals=(asked,)))
    stage.world.feed.publish("run", run.id)
    (told,) = await watching.told(1)
    assert (told["event"], f"remediator runs approve {run.id}" in told["text"]) == ("approval", True)


async def test_the_breaker_tells_that_it_opened(stage, receiver, watching):
    from remediator.gates import Limits
    from remediator.settings import Breaker

    stage.world.limits = Limits(breaker=Breaker(failures=1, runs=20))
    await watching()
    run = await stage.begin(stage.playbook("node.cordon"), node="node-3")
    ended = evolve(run, state=RunState.FAILED, reason=Reason.STEP_FAILED, ended_at=stage.world.clock.now(), disruptive=True)
    await stage.world.journal.save_run(ended)
    stage.world.feed.publish("run", run.id)
    told = {one["event"]: one for one in await watching.told(2)}
    assert set(told) == {"failed", "breaker"}
    assert "1 runs that may disturb failed" in told["breaker"]["text"]


async def test_a_step_tells_people_and_a_dry_run_does_not(stage, receiver, watching):
    done = await stage.step("notify", text="the path to ${target.name} is slow", title="look")
    assert done.detail == "tells oncall"
    await receiver.news.wait()
    ((_, body),) = receiver.calls
    assert (json.loads(body)["title"], json.loads(body)["text"]) == ("look", "the path to node-3 is slow")
    assert (await stage.step("notify", text="x", dry_run=True)).detail.startswith("nobody is told")
    assert (await stage.step("notify", text="x", routes=["nobody"])).detail.startswith("nobody is told")
    receiver.statuses = [401]
    assert (await stage.step("notify", text="x")).detail == "tells oncall", "trouble with a receiver stops nothing"


async def test_a_run_that_begins_is_told_to_whoever_asks_for_it_and_a_dry_one_to_nobody(stage, receiver):
    world = stage.world
    world.teller = Teller([Notify(name="oncall", url=receiver.url, events=["begun"])], clock=world.clock)
    watch = asyncio.create_task(Notices(world).watch())
    await stage.begin(stage.playbook("wait", **{"for": "1s"}), node="node-4", dry_run=True)
    run = await stage.begin(stage.playbook("wait", **{"for": "1s"}), node="node-3")
    for one in await world.journal.open_runs():
        world.feed.publish("run", one.id)
    while not (noted := await world.journal.entries(kind=NOTE)):
        await world.clock.sleep(world.asking.expires / 10_000)
    assert [entry.data["id"] for entry in noted] == [f"{run.id}.begun"]
    watch.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watch
    await world.teller.close()
    ((_, body),) = receiver.calls
    told = json.loads(body)
    assert (told["event"], told["text"]) == ("begun", "one-step on Node/node-3 is running")
