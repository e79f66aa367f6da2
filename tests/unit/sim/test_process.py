"""The simulation as a process of its own, driven through its control endpoints."""

from __future__ import annotations

import asyncio
import json
import signal
import sys

import aiohttp
import pytest

RATE = 50


@pytest.fixture
async def process():
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "remediator.sim", "--rate", str(RATE), "--nodes", "4", stdout=asyncio.subprocess.PIPE
    )
    yield process
    if process.returncode is None:
        process.kill()
    await process.wait()
    process._transport.close()


@pytest.fixture
async def info(process):
    return json.loads(await asyncio.wait_for(process.stdout.readline(), 30))


@pytest.fixture
async def control(info):
    async with aiohttp.ClientSession() as session:

        async def call(method, path, body=None, status=200):
            async with session.request(method, info["control"] + path, json=body) as answer:
                assert answer.status == status, await answer.text()
                return await answer.json()

        call.session = session
        yield call


async def test_it_says_where_it_is_and_ends_when_told(process, info):
    assert set(info) == {"url", "prometheus", "alertmanager", "control", "nodes", "now", "rate"}
    assert (info["nodes"], info["rate"]) == (["node-1", "node-2", "node-3", "node-4"], RATE)
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 10) == 0


async def test_an_incident_from_outside(control, info, hook):
    times = {"group_wait": "1s", "group_interval": "5s"}
    await control("POST", "/receivers", {"url": hook.url, "token": "t", "group_by": ["alertname", "node"], **times})
    before = (await control("GET", "/state-hash"))["hash"]
    assert (await control("GET", "/state-hash"))["hash"] == before
    killed = await control("POST", "/agents/node-3/kill")
    assert (await control("GET", "/state-hash"))["hash"] != before
    payload = await hook.next()
    assert payload["groupLabels"] == {"alertname": "CiliumAgentDown", "node": "node-3"}
    assert hook.tokens == ["Bearer t"]
    pod = f"{info['url']}/api/v1/namespaces/kube-system/pods/{killed['pod']}"
    async with control.session.delete(pod, json={"preconditions": {"uid": killed["uid"]}}, headers={"Audit-ID": "x"}) as answer:
        assert answer.status == 200
    assert (await hook.next())["status"] == "resolved"
    (entry,) = (await control("GET", "/requests?writes=1"))["items"]
    assert (entry["verb"], entry["name"], entry["audit_id"], entry["status"]) == ("delete", killed["pod"], "x", 200)
    assert entry["body"] == {"preconditions": {"uid": killed["uid"]}}
    assert [n["status"] for n in (await control("GET", "/notifications"))["items"]] == [200, 200]
    assert (await control("GET", f"/requests?after={entry['seq']}"))["items"] == []
    await control("DELETE", "/requests")
    assert (await control("GET", "/requests"))["items"] == []


async def test_faults_from_outside(control, info):
    await control("POST", "/faults", {"verb": "get", "path": "node-1$", "status": 503, "count": 1})
    await control("POST", "/faults", {"verb": "get", "path": "node-2$", "delay": "1s", "drop": "before", "count": None})
    async with control.session.get(f"{info['url']}/api/v1/nodes/node-1") as answer:
        assert answer.status == 503
    with pytest.raises(aiohttp.ClientError):
        await control.session.get(f"{info['url']}/api/v1/nodes/node-2")
    listed = (await control("GET", "/faults"))["items"]
    assert [(f["hits"], f["delay"], f["hold"]) for f in listed] == [(1, 0, 0), (listed[1]["hits"], 1, 0)]
    assert listed[1]["hits"] >= 1
    await control("DELETE", "/faults")
    assert (await control("GET", "/faults"))["items"] == []


async def test_the_rest_of_the_levers(control, info):
    names = [s["name"] for s in (await control("GET", "/scenarios"))["items"]]
    assert names[0] == "agent-down"
    told = await control("POST", "/scenarios/agent-down")
    assert told["truth"]["target"] == "Node/node-3"
    await control("POST", "/agents/node-3/heal")
    await control("POST", "/kubelets/node-2/stop")
    await control("POST", "/kubelets/node-2/start")
    await control("POST", "/network/node-4", {"latency": 0.05, "loss": 0.1})
    await control("POST", "/budgets/apps/whoami/hold")
    await control("POST", "/budgets/apps/whoami/release")
    assert await control("POST", "/watches/expire", {"kind": "Node"}) == {"watches": 0}
    await control("POST", "/heal")
    assert (await control("GET", "/clock"))["rate"] == RATE
    assert (await control("GET", ""))["url"] == info["url"]


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/agents/node-9/kill", {}, "there is no Cilium agent on node-9"),
        ("/scenarios/agent-dwon", {}, "did you mean agent-down"),
        ("/faults", {"nope": 1}, "unexpected keyword argument 'nope'"),
        ("/faults", {"delay": "5"}, "has no unit"),
        ("/clock/advance", {"by": "5s"}, "only a ManualClock can be moved"),
        ("/budgets/apps/whoami/nope", {}, "nope"),
    ],
)
async def test_nonsense_is_refused(control, path, body, message):
    assert message in (await control("POST", path, body, status=400))["error"]
