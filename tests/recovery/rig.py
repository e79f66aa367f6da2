"""What the recovery tests stand on: a simulated cluster that stays up, a daemon that is killed and started again, and between them a
network that the test holds in its hands. And ``Rig.reckon``, which says at the end whether anything was lost or done twice.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Any

import aiohttp
from standins import prepared
from standins.forks import LOOK, PATIENCE, fork

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from recovery.between import Between, Trap
    from standins.forks import Child

RATE = 20
"""How much faster than real time the cluster goes: an agent is replaced within half a second."""
OPEN = ("awaiting_approval", "running", "verifying", "undoing")


async def until(what: str, look: Callable[[], Awaitable[Any]], *, seconds: float = PATIENCE) -> Any:
    """The first truthy result of ``look``."""
    deadline = time.monotonic() + seconds
    while not (found := await look()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        await asyncio.sleep(LOOK)
    return found


class Cluster:
    """The simulated cluster, in a process of its own, seen over HTTP."""

    def __init__(self, child: Child, session: aiohttp.ClientSession) -> None:
        self.child = child
        self._session = session
        self.url = ""

    async def up(self) -> None:
        async def look() -> bool:
            assert self.child.status is None, self.child.output()
            return "\n" in self.child.output()

        await until("the simulated cluster serves", look)
        self.url = json.loads(self.child.output().splitlines()[0])["url"]

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        async with self._session.request(method, self.url + path, json=body) as answer:
            assert answer.status < 300, await answer.text()
            text = await answer.read()
            return json.loads(text) if text else None

    async def node(self, name: str) -> Any:
        return await self.ask("GET", f"/api/v1/nodes/{name}")

    async def agents(self) -> dict[str, str]:
        """node -> the uid of its one ready agent."""
        pods = (await self.ask("GET", "/api/v1/namespaces/kube-system/pods?labelSelector=k8s-app%3Dcilium"))["items"]
        return {pod["spec"]["nodeName"]: pod["metadata"]["uid"] for pod in pods if _ready(pod)}

    async def whole(self) -> dict[str, str]:
        async def look() -> Any:
            found = await self.agents()
            return found if len(found) == 5 else None

        return await until("five ready agents", look)

    async def patch(self, path: str, body: Any) -> None:
        """A merge patch by somebody else."""
        headers = {"Content-Type": "application/merge-patch+json"}
        async with self._session.patch(f"{self.url}/api/v1{path}", data=json.dumps(body), headers=headers) as answer:
            assert answer.status == 200, await answer.text()

    async def hang(self, node: str) -> None:
        """Its agent stops to answer until its pod is replaced. Returns when the operator has tainted the node for it.

        Until then the node changes under whoever would cordon it, and a patch that loses that race is sent anew.
        """
        await self.ask("POST", f"/sim/agents/{node}/kill", {"how": "hung"})

        async def look() -> bool:
            taints = (await self.node(node))["spec"].get("taints", ())
            return any(taint["key"] == "node.cilium.io/agent-not-ready" for taint in taints)

        await until(f"{node} is tainted", look)

    async def fires(self, name: str, node: str) -> dict[str, Any]:
        """Let the Alertmanager hold an alert about the node; the alert as its webhook would have it."""
        now = (await self.ask("GET", "/sim/clock"))["now"]
        labels = {"alertname": name, "node": node}
        await self.ask("POST", "/alertmanager/api/v2/alerts", [{"labels": labels, "startsAt": now, "endsAt": "2100-01-01T00:00:00Z"}])
        held = await self.ask("GET", "/alertmanager/api/v2/alerts")
        (alert,) = [alert for alert in held if alert["labels"] == labels]
        return {"status": "firing", "labels": labels, "startsAt": alert["startsAt"], "fingerprint": alert["fingerprint"]}

    async def resolve(self, alert: dict[str, Any]) -> dict[str, Any]:
        """The same alert once it is over."""
        now = (await self.ask("GET", "/sim/clock"))["now"]
        gone = [{"labels": alert["labels"], "startsAt": alert["startsAt"], "endsAt": now}]
        await self.ask("POST", "/alertmanager/api/v2/alerts", gone)
        return {**alert, "status": "resolved", "endsAt": now}

    async def calls(self) -> list[dict[str, Any]]:
        """What reached the API and was meant to change it, in order, dry runs and questions about rights left out."""
        items = (await self.ask("GET", "/sim/requests?service=kubernetes"))["items"]
        writing = ("create", "update", "patch", "delete", "deletecollection")
        return [item for item in items if item["verb"] in writing and not item["dry_run"] and not item["path"].endswith("reviews")]


LIMITS = {
    "disruptive_per_hour": 10_000,
    "storm": {"episodes": 500},
    "breaker": {"failures": 1000, "runs": 10_000},
}
"""So wide that nothing here is refused for what happened before it."""


class Rig:
    """A daemon on its own folder, against a cluster that outlives it."""

    def __init__(self, folder: Path, cluster: Cluster, between: Between, session: aiohttp.ClientSession) -> None:
        self.cluster = cluster
        self.between = between
        self.folder = folder
        self.taken: dict[str, dict[str, Any]] = {}
        """Every delivery that was answered 200, and what was in it."""
        self.kills = 0
        self.daemon: Child | None = None
        self._session = session
        self.url = f"http://127.0.0.1:{_free_port()}"

    def configure(self, *playbooks: str, kubernetes_timeout: str = "10s", mode: str = "auto") -> None:
        """Write the settings, as a user would. JSON is YAML."""
        (self.folder / "playbooks").mkdir()
        prepared.engine_beside(self.folder / "journal.db")
        for index, text in enumerate(playbooks):
            (self.folder / "playbooks" / f"{index}.yaml").write_text(text)
        document = {
            "apiVersion": "remediator.dev/v1",
            "kind": "Settings",
            "server": {"listen": self.url.removeprefix("http://"), "insecure": True},
            "store": {"url": "sqlite:///journal.db"},
            "playbooks": ["playbooks"],
            "modes": {"*": mode},
            "kubernetes": {"server": self.between.url, "timeout": kubernetes_timeout, "events": False},
            "alertmanager": {"url": f"{self.cluster.url}/alertmanager"},
            "limits": LIMITS,
        }
        (self.folder / "settings.yaml").write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in document.items()))

    # --- the process -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to start it; ``ready`` waits."""
        output = self.folder / "daemon.log"
        self.daemon = fork("remediator.cli:main", "serve", "--config", "settings.yaml", output=output)

    async def ready(self) -> None:
        async def look() -> bool:
            assert self.daemon.status is None, f"the daemon ended with {self.daemon.status}:\n{self.daemon.output()[-4000:]}"
            return await self.reachable()

        await until("the daemon is ready", look)

    async def up(self) -> None:
        self.start()
        await self.ready()

    async def kill(self) -> None:
        """SIGKILL."""
        self.kills += 1
        await self.daemon.kill()

    async def dies_at(self, trap: Trap) -> None:
        """SIGKILL once the request is stopped there; the request never goes on."""
        await self.until_reached(trap)
        await self.kill()
        trap.drop()

    async def until_reached(self, trap: Trap) -> None:
        async def look() -> bool:
            return trap.reached.is_set()

        await self.wait_for(f"{trap.method} {trap.path} is sent", look)

    async def stop(self) -> int:
        """SIGTERM; its exit status."""
        self.daemon.send_signal(signal.SIGTERM)
        return await self.daemon.ended()

    async def refuses_connections(self) -> bool:
        try:
            async with self._session.get(f"{self.url}/-/ready"):
                return False
        except aiohttp.ClientConnectorError:
            return True
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def reachable(self) -> bool:
        try:
            async with self._session.get(f"{self.url}/-/ready") as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def wait_for(self, what: str, look: Callable[[], Awaitable[Any]]) -> Any:
        """As ``until``; a failure shows the end of the daemon's log."""
        try:
            return await until(what, look)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.daemon.output()[-6000:]}") from None

    # --- talking to it -----------------------------------------------------------------------------------------------

    async def get(self, path: str) -> Any:
        async with self._session.get(self.url + path) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def call(self, method: str, path: str, body: Any) -> Any:
        """What a person asks for."""
        async with self._session.request(method, self.url + path, json=body) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def every(self, path: str) -> list[dict[str, Any]]:
        """All pages of a list."""
        items: list[dict[str, Any]] = []
        cursor = ""
        while True:
            page = await self.get(f"{path}{'&' if '?' in path else '?'}limit=500{cursor}")
            items += page["items"]
            if page["next"] is None:
                return items
            cursor = f"&cursor={page['next']}"

    async def post(self, *alerts: dict[str, Any]) -> str | None:
        """One webhook call: the delivery's id if it was answered 200, None if it could not be kept or nobody answered."""
        body = {
            "version": "4",
            "groupKey": "{}",
            "truncatedAlerts": 0,
            "status": alerts[0]["status"],
            "receiver": "remediator",
            "groupLabels": {},
            "commonLabels": {},
            "commonAnnotations": {},
            "externalURL": "",
            "alerts": list(alerts),
        }
        try:
            async with self._session.post(f"{self.url}/api/v1/alerts", json=body) as answer:
                assert answer.status in (200, 503), await answer.text()
                told = await answer.json()
                if answer.status != 200:
                    return None
        except (aiohttp.ClientError, TimeoutError):
            return None
        self.taken[told["delivery"]] = body
        return told["delivery"]

    async def deliver(self, *alerts: dict[str, Any]) -> str:
        """As Alertmanager does: again until it is answered 200."""
        return await until("a delivery is taken", lambda: self.post(*alerts))

    async def run_of(self, alert: dict[str, Any]) -> dict[str, Any] | None:
        """The one run of the alert's episode, if there is one yet."""
        found = await self.every(f"/api/v1/decisions?decision=run&fingerprint={alert['fingerprint']}")
        runs = [d["run"] for d in found if _moment(d["alert"]["starts_at"]) == _moment(alert["startsAt"])]
        assert len(runs) <= 1, f"one episode led to {len(runs)} runs"
        return await self.get(f"/api/v1/runs/{runs[0]}") if runs else None

    async def ended(self, alert: dict[str, Any]) -> dict[str, Any]:
        """The run of the alert's episode, at its end."""

        async def look() -> Any:
            run = await self.run_of(alert)
            return run if run is not None and run["state"] not in OPEN else None

        return await self.wait_for("the run ended", look)

    async def reaches(self, alert: dict[str, Any], fits: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """The run, as soon as it is as ``fits`` wants it."""

        async def look() -> Any:
            run = await self.run_of(alert)
            return run if run is not None and fits(run) else None

        return await self.wait_for("the run got so far", look)

    # --- the reckoning -----------------------------------------------------------------------------------------------

    async def reckon(self) -> None:
        """Nothing that was answered 200 is lost, nothing was sent twice or without a word before, and the record is whole."""
        await self._all_decided()
        changes = {change["request_id"]: change for change in await self.every("/api/v1/changes?left_behind=false")}
        changes |= {change["request_id"]: change for change in await self.every("/api/v1/changes?left_behind=true")}
        twice = [audit_id for audit_id, count in Counter(call.audit_id for call in self.between.sent).items() if count > 1]
        assert twice == [], "a call was sent twice for one intent"
        unannounced = [call for call in self.between.sent if call.audit_id not in changes]
        assert unannounced == [], "a call was sent without an intent on disk"
        await self._each_pod_deleted_once()
        report = await self.get("/api/v1/journal/verify")
        assert report["ok"], report["problems"]

    async def _all_decided(self) -> None:
        async def none_waits() -> bool:
            return (await self.get("/api/v1/status"))["undecided"] == 0

        await self.wait_for("the daemon says that nothing waits", none_waits)  # asked first: reading all of a storm holds it up

        async def look() -> bool:
            return all(delivery["decided_at"] for delivery in await self.every("/api/v1/deliveries"))

        await self.wait_for("everything on disk is decided", look)
        decisions = Counter(d["delivery"] for d in await self.every("/api/v1/decisions"))
        wrong = {id_: decisions[id_] for id_, body in self.taken.items() if decisions[id_] != len(body["alerts"])}
        assert wrong == {}, "a delivery that was answered 200 has not one decision for each alert"

    async def _each_pod_deleted_once(self) -> None:
        calls = await self.cluster.calls()
        assert Counter(call["audit_id"] for call in calls).most_common(1)[0][1] == 1 if calls else True
        deletes = [call for call in calls if call["verb"] == "delete"]
        assert all(call["body"]["preconditions"]["uid"] for call in deletes)
        effective = Counter(call["body"]["preconditions"]["uid"] for call in deletes if 200 <= call["status"] < 300)
        assert set(effective.values()) <= {1}, "a pod was deleted twice"

    async def left_behind(self) -> list[dict[str, Any]]:
        return await self.every("/api/v1/changes?left_behind=true")


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", ())
    return "deletionTimestamp" not in pod["metadata"] and any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
