"""Listing 5,000 pods: how long the event loop stands still, how long it takes, and what memory it needs.

Beside each other in one run, each in a process of its own against the same paged server: our door (partial records; dicts) and
kubernetes-asyncio's models. Aim: a longest stall of 50 ms for our door. What is judged is the CPU time that the loop's own thread used in
it ("busy"): on a machine with nothing else to do the stall is about that, otherwise it says how busy the machine is.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from typing import Any

from benchmarks.processes import ROOT
from benchmarks.table import Row

PODS = 5000
AIM_MS = 50
REPEAT = 5
"""Runs of each way; the best counts. The models run once."""
FIELDS = {f"f:field-{number}": {".": {}, "f:name": {}, "f:value": {"f:of": {}}} for number in range(36)}
"""Who owns which field: half of what the API server sends."""
WAYS = {
    "records": "our door, partial records",
    "dicts": "our door, dicts",
    "models": "kubernetes-asyncio models, pages of 500",
}


def pod(number: int) -> dict[str, Any]:
    """A pod as a cluster has them: with managedFields, environment, volumes, conditions; about 8.8 KB of JSON."""
    name = f"web-{number // 10}-{number:05x}-abcde"
    env = [{"name": f"SETTING_{i}", "value": f"value-{i}-{'x' * 24}"} for i in range(24)]
    mounts = [{"name": f"volume-{i}", "mountPath": f"/etc/volume-{i}", "readOnly": True} for i in range(6)]
    kinds = ("PodScheduled", "Initialized", "ContainersReady", "Ready", "PodReadyToStartContainers")
    conditions = [{"type": kind, "status": "True", "lastProbeTime": None, "lastTransitionTime": "2026-01-05T10:00:00Z"} for kind in kinds]
    thing = {
        "metadata": {
            "name": name,
            "generateName": "web-",
            "namespace": f"team-{number % 20}",
            "uid": f"00000000-0000-4000-8000-{number:012x}",
            "resourceVersion": str(100_000 + number),
            "creationTimestamp": "2026-01-05T10:00:00Z",
            "labels": {"app": "web", "pod-template-hash": f"{number // 10:010x}", "team": f"team-{number % 20}", "tier": "front"},
            "annotations": {"checksum/config": "a" * 64, "prometheus.io/scrape": "true"},
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "ReplicaSet",
                    "name": name[:-6],
                    "uid": f"1{number:07x}",
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
            "managedFields": [],
        },
        "spec": {
            "nodeName": f"node-{number % 50}",
            "priority": 0,
            "schedulerName": "default-scheduler",
            "serviceAccountName": "web",
            "terminationGracePeriodSeconds": 30,
            "containers": [{"name": n, "image": f"registry.test/{n}:1.2.3", "env": env, "volumeMounts": mounts} for n in ("web", "proxy")],
            "volumes": [{"name": f"volume-{i}", "configMap": {"name": f"config-{i}", "defaultMode": 420}} for i in range(6)],
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}],
        },
        "status": {
            "phase": "Running",
            "podIP": f"10.0.{number // 250}.{number % 250}",
            "hostIP": "10.25.150.10",
            "startTime": "2026-01-05T10:00:00Z",
            "conditions": conditions,
            "containerStatuses": [
                {
                    "name": n,
                    "ready": True,
                    "restartCount": 0,
                    "image": f"registry.test/{n}:1.2.3",
                    "imageID": "sha256:" + "b" * 64,
                    "containerID": "containerd://" + "c" * 64,
                    "started": True,
                    "state": {"running": {"startedAt": "2026-01-05T10:00:00Z"}},
                    "lastState": {},
                }
                for n in ("web", "proxy")
            ],
        },
    }
    managed = {
        "manager": "kube-controller-manager",
        "operation": "Update",
        "apiVersion": "v1",
        "fieldsType": "FieldsV1",
        "fieldsV1": FIELDS,
    }
    thing["metadata"]["managedFields"].append(managed)
    return thing


async def serve() -> None:
    """Pages of as many pods as asked for, until stdin is closed."""
    from aiohttp import web  # noqa: PLC0415 - only the server's process needs it

    bodies = [json.dumps(pod(number), separators=(",", ":")).encode() for number in range(PODS)]

    async def answer(request: web.Request) -> web.Response:
        start, limit = int(request.query.get("continue") or 0), int(request.query.get("limit") or PODS)
        end = min(start + limit, PODS)
        head = {"resourceVersion": "200000", "continue": str(end) if end < PODS else ""}
        page = b",".join(bodies[start:end])
        body = b'{"kind":"PodList","apiVersion":"v1","metadata":' + json.dumps(head).encode() + b',"items":[' + page + b"]}"
        return web.Response(body=body, content_type="application/json")

    app = web.Application()
    app.router.add_get("/api/v1/pods", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    size = sum(map(len, bodies)) / PODS
    print(json.dumps({"url": f"http://127.0.0.1:{runner.addresses[0][1]}", "size": size}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


async def with_door(url: str, *, records: bool) -> int:
    from remediator.kube import Kube, kinds  # noqa: PLC0415 - each process measures one client
    from remediator.kube.records import Pod  # noqa: PLC0415 - the same

    async with await Kube.connect(server=url) as kube:
        await kube.list(kinds.POD, limit_total=1)
        return await measured(lambda: kube.list(kinds.POD, decode=Pod) if records else kube.list(kinds.POD))


async def with_models(url: str) -> int:
    from kubernetes_asyncio import client  # noqa: PLC0415 - each process measures one client

    async def pages() -> Any:
        found, token = [], ""
        while True:
            page = await core.list_pod_for_all_namespaces(limit=500, _continue=token)
            found += page.items
            token = page.metadata._continue  # noqa: SLF001 - so the library names it
            if not token:
                return type("Listing", (), {"items": found})

    async with client.ApiClient(client.Configuration(host=url)) as api:
        core = client.CoreV1Api(api)
        await core.list_pod_for_all_namespaces(limit=1)
        return await measured(pages)


async def measured(call: Any) -> int:
    """Run ``call`` beside a task that wakes every millisecond; print what was seen.

    ``stall`` is how late that task woke; ``busy`` the CPU time that the loop's own thread used meanwhile, which no other process disturbs.
    """
    gaps: list[tuple[float, float]] = []

    async def watch() -> None:
        while True:
            began, busy = time.perf_counter(), time.thread_time()
            await asyncio.sleep(0.001)
            gaps.append((time.perf_counter() - began - 0.001, time.thread_time() - busy))

    before = memory("VmRSS")
    ticker = asyncio.create_task(watch())
    await asyncio.sleep(0.05)
    gaps.clear()
    began, cpu = time.perf_counter(), time.process_time()
    listing = await call()
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    await asyncio.sleep(0.01)
    ticker.cancel()
    count = len(listing.items)
    stall, busy = (max(column) for column in zip(*gaps, strict=True))
    seen = {
        "wall": wall,
        "cpu": cpu,
        "stall": stall,
        "busy": busy,
        "rss": memory("VmRSS") - before,
        "peak": memory("VmHWM"),
        "count": count,
    }
    print(json.dumps(seen), flush=True)
    return count


def memory(what: str) -> float:
    """MiB of this process, from the kernel."""
    with open("/proc/self/status", encoding="ascii") as file:  # noqa: PTH123 - a page of the kernel
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith(what + ":"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--serve", action="store_true", help="be the server; prints where it is")
    what.add_argument("--measure", choices=WAYS, help="list once; prints what was seen")
    parser.add_argument("--url", help="where the server is")
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve())
    elif options.measure == "models":
        asyncio.run(with_models(options.url))
    else:
        asyncio.run(with_door(options.url, records=options.measure == "records"))


def rows() -> list[Row]:
    """The best of several runs of each way, beside the models."""
    me = [sys.executable, "-m", "benchmarks.listing"]
    server = subprocess.Popen([*me, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert server.stdout is not None
    assert server.stdin is not None
    try:
        about = json.loads(server.stdout.readline())
        seen = {way: one([*me, "--measure", way, "--url", about["url"]], 1 if way == "models" else REPEAT) for way in WAYS}
    finally:
        server.stdin.close()
        server.wait(10)
    size = f"{PODS:,} pods of {about['size'] / 1000:.1f} KB, best of {REPEAT}"
    return [row for way in ("records", "dicts") for row in _rows(way, seen[way], seen["models"], size)]


def _rows(way: str, ours: dict[str, float], models: dict[str, float], size: str) -> list[Row]:
    def row(name: str, key: str, unit: str, scale: float, **more: Any) -> Row:
        name = f"{WAYS[way]}: {name}"
        return Row(name=name, measured=ours[key] * scale, unit=unit, beside=WAYS["models"], compared=models[key] * scale, **more)

    judged = {"aim": AIM_MS, "note": size} if way == "records" else {}
    return [
        row("longest stall, its CPU time", "busy", "ms", 1000, **judged),
        row("longest stall", "stall", "ms", 1000),
        row("all of it", "wall", "s", 1),
        row("memory kept", "rss", "MiB", 1),
    ]


def one(command: list[str], repeat: int) -> dict[str, float]:
    """The best of ``repeat`` runs, number by number: what else runs on the machine only ever adds."""
    runs = [
        json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=300, cwd=ROOT).stdout) for _ in range(repeat)
    ]
    assert all(run["count"] == PODS for run in runs)
    return {key: min(run[key] for run in runs) for key in runs[0]}


if __name__ == "__main__":
    main()
