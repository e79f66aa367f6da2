"""Live runs as regions in Grafana: begun and ended once, also over a restart, and never in a run's way."""

from __future__ import annotations

import json

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from remediator.errors import DocumentError
from remediator.model import RunState

SETTLE = {"settle": {"action": "wait", "for": "1s"}}


class Grafana:
    """As much of it as takes annotations; ``statuses`` are its next answers, then it is well."""

    def __init__(self):
        self.annotations, self.calls, self.statuses = {}, [], []

    async def handle(self, request):
        self.calls.append((request.method, request.path, request.headers.get("Authorization")))
        if self.statuses:
            return web.Response(status=self.statuses.pop(0))
        body = await request.json()
        if request.method == "POST":
            number = len(self.annotations) + 7
            self.annotations[number] = body
            return web.json_response({"message": "Annotation added", "id": number})
        self.annotations[int(request.match_info["id"])] |= body
        return web.json_response({"message": "Annotation patched"})


@pytest.fixture
async def grafana():
    stand_in = Grafana()
    app = web.Application()
    app.router.add_post("/grafana/api/annotations", stand_in.handle)
    app.router.add_patch("/grafana/api/annotations/{id}", stand_in.handle)
    async with TestServer(app) as server:
        stand_in.url = str(server.make_url("/grafana/"))
        yield stand_in


@pytest.fixture
def begin(house, text, symptom, grafana, gated):
    """Starts the daemon, whose Kubernetes waits at ``house.gate`` for a step ``gate``."""

    async def begin(**playbook):
        symptom.cured = lambda _: True
        (house.folder / "grafana").write_text("t0ken\n")
        if not list((house.folder / "playbooks").iterdir()):
            house.put("remedy.yaml", text(**{"steps": [SETTLE], **playbook}))
        await house.start(grafana={"url": grafana.url, "token_file": "grafana", "link": "https://r.test/", "tags": ["remediator", "lab"]})
        house.daemon.world.kube = gated(house.daemon.world.kube)
        house.gate = house.daemon.world.kube.gate

    return begin


async def triggered(house, **more):
    _, run = await house.http("POST", "/api/v1/runs", {"playbook": "remedy", "target": "Node/node-3", "reason": "to see", **more})
    return run["id"]


async def noted(house, run, *, ended):
    async def look():
        notes = await house.journal.entries(ref=run, kind="annotation")
        return [note.data for note in notes] if notes and notes[-1].data["ended"] == ended else None

    return await house.until(look, "the annotation is noted")


async def test_a_run_is_a_region_with_its_end_and_a_link(begin, house, grafana, gate):
    await begin(steps=[gate])
    run = await triggered(house)
    await noted(house, run, ended=False)
    house.gate.set()
    run = await house.ended(run)
    await noted(house, run.id, ended=True)
    ((number, region),) = grafana.annotations.items()
    assert (region["time"], region["timeEnd"]) == tuple(int(at.timestamp() * 1000) for at in (run.begun_at, run.ended_at))
    assert region["tags"] == ["remediator", "lab", "remedy", "node-3", "healed"]
    assert region["text"].startswith("remedy on Node/node-3: healed.")
    assert "symptom{node=&quot;node-3&quot;} == 0" in region["text"], "it is shown as HTML"
    assert region["text"].endswith(f'<a href="https://r.test/runs/{run.id}">run {run.id}</a>')
    assert grafana.calls == [
        ("POST", "/grafana/api/annotations", "Bearer t0ken"),
        ("PATCH", f"/grafana/api/annotations/{number}", "Bearer t0ken"),
    ]


async def test_what_an_earlier_life_began_gets_its_end_after_a_restart(begin, house, grafana):
    await begin(steps=[{"long": {"action": "wait", "for": "10m"}}])
    run = await triggered(house)
    await noted(house, run, ended=False)
    assert "timeEnd" not in next(iter(grafana.annotations.values()))
    await house.stop()
    await begin()
    await house.http("POST", f"/api/v1/runs/{run}/cancel", {"reason": "enough"})
    assert await noted(house, run, ended=True) == [{"id": 7, "ended": False}, {"id": 7, "ended": True}]
    ((_, region),) = grafana.annotations.items()
    assert region["tags"][-1] == "cancelled"
    assert "timeEnd" in region


async def test_a_grafana_that_is_gone_at_the_beginning_gets_the_whole_region_at_the_end(begin, house, grafana, gate):
    grafana.statuses = [503] * 5
    await begin(steps=[gate])
    run = await triggered(house)

    async def given_up():
        return grafana.statuses == []

    await house.until(given_up, "five tries")
    house.gate.set()
    run = await house.ended(run)
    assert run.state is RunState.HEALED
    await noted(house, run.id, ended=True)
    ((_, region),) = grafana.annotations.items()
    assert "timeEnd" in region
    assert [method for method, _, _ in grafana.calls] == ["POST"] * 6


async def test_one_that_refuses_is_told_in_the_log_and_stops_nothing(begin, house, grafana, gate):
    grafana.statuses = [403] * 2
    await begin(steps=[gate])
    run = await triggered(house)

    async def told():
        return house.log.getvalue().count("Grafana did not take an annotation") == 2 - len(grafana.statuses) > 0

    await house.until(told, "the first refusal in the log")
    house.gate.set()
    assert (await house.ended(run)).state is RunState.HEALED

    async def twice():
        return await told() and grafana.statuses == []

    await house.until(twice, "the second refusal in the log")
    assert "t0ken" not in house.log.getvalue()
    assert grafana.annotations == {}


async def test_a_dry_run_has_none_and_neither_has_what_people_did_not_allow(begin, house, grafana):
    await begin(mode="suggest")
    dry = await house.ended(await triggered(house, dry_run=True))
    assert dry.state is RunState.PREDICTED
    alert = house.outside.fire()
    payload = {"version": "4", "receiver": "r", "status": "firing", "groupKey": "g", "alerts": [alert]}
    await house.operations.receive(json.dumps(payload).encode(), sender="10.0.0.7")

    async def asked():
        found = (await house.journal.runs(state=[RunState.AWAITING_APPROVAL])).items
        return found[0] if found else None

    waiting = await house.until(asked, "the question")
    await house.operations.reject(waiting.id, by="anna", reason="no")
    await house.ended(waiting.id)
    live = await house.ended(await triggered(house))
    await noted(house, live.id, ended=True)
    assert len(grafana.annotations) == 1, "only the one that a person began"


async def test_an_address_without_a_token_is_refused(house, text):
    house.put("remedy.yaml", text())
    with pytest.raises(DocumentError, match="token_file is missing"):
        await house.start(grafana={"url": "http://grafana.test"})
