"""Acceptance 6.2 for the drain: kill -9 after 3 of 10 evictions, on the real API server; its audit log says what was really sent.

The daemon reaches the API server through ``Between``, which stops the fourth eviction: before it gets there, or when it took effect and
its answer is on the way back. Pods that were evicted keep a finalizer, so that each is still there, terminating, when the daemon returns.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import Counter

import pytest
from plugins.ground import NODE, deployment, pdb
from recovery.between import Between

pytestmark = [pytest.mark.controlplane, pytest.mark.long, pytest.mark.timeout(420)]

PODS = 10
DONE = 3
"""Evictions whose answer the daemon had when it was killed."""
HELD = "example.test/held"
KEPT = ("example.test/kept", "as-it-was")
"""What somebody else has on the node as label, annotation and taint: it must come through."""
EVICTION = r"/pods/[^/]*/eviction\?(?!.*dryRun)"
apart = asyncio.to_thread
"""The proxy runs on the test's own loop, so whatever waits for the daemon waits on a thread."""


class Scene:
    """Ten pods behind a budget of one on the node, which carries marks of its own, and what the audit log has since."""

    def __init__(self, plane, ground):
        self._plane, self._ground = plane, ground
        self._since = len(plane.writes())
        self.node = self.shape()
        self.others = self._uids_of_others()
        self.pods = {pod["metadata"]["uid"] for pod in ground.pods().values()}
        self._marks = self._every_mark()

    def shape(self):
        """What people and remediator write on the node."""
        node = self._plane.get("node", NODE)
        metadata, spec = node["metadata"], node["spec"]
        return metadata["labels"], metadata["annotations"], spec.get("taints", []), spec.get("unschedulable", False)

    def _uids_of_others(self):
        """Pods that other tests of the session left on the node, and that a drain evicts too."""
        found = self._plane.get("pods", "--all-namespaces", f"--field-selector=spec.nodeName={NODE}")["items"]
        owned = {p["metadata"]["uid"]: p for p in found if p["metadata"]["namespace"] != self._ground.namespace}
        return {uid for uid, p in owned.items() if all(o["kind"] != "DaemonSet" for o in p["metadata"]["ownerReferences"])}

    def writes(self):
        """Everything that the daemon's account sent, but for what was only tried."""
        return [one for one in self._plane.writes()[self._since :] if "dryRun" not in one["requestURI"]]

    def effects(self):
        return [one for one in self.writes() if one["responseStatus"]["code"] < 300]

    def evicted(self):
        """uid -> how many of its evictions succeeded, for the ten."""
        return Counter(uid for one in self.effects() if is_eviction(one) and (uid := uid_of(one)) not in self.others)

    def marks(self):
        """kind/name of every object that has become marked as remediator's; Events, which are notes and end by themselves, left out."""
        return self._every_mark() - self._marks

    def _every_mark(self):
        listed = self._plane.kubectl("api-resources", "--verbs=list", "-o", "name").split()
        kinds = [kind for kind in listed if kind.partition(".")[0] != "events"]
        found = self._plane.get(",".join(kinds), "--all-namespaces", "--show-managed-fields")["items"]
        return {f"{one['kind']}/{one['metadata']['name']}" for one in found if is_marked(one["metadata"])}

    def hold(self, *, held):
        """Add the finalizer to the ten, or let every one go."""
        body = json.dumps({"metadata": {"finalizers": [HELD] if held else None}})
        names = [n for n, p in self._ground.pods().items() if held or HELD in p["metadata"].get("finalizers", ())]
        for name in names:
            self._plane.kubectl("patch", "pod", name, "-n", self._ground.namespace, "--type=merge", "-p", body)

    def all_gone(self):
        return not self._ground.pods()


def is_eviction(event):
    return (event["verb"], event["objectRef"].get("subresource")) == ("create", "eviction")


def uid_of(event):
    return event["requestObject"]["deleteOptions"]["preconditions"]["uid"]


def is_marked(metadata):
    keys = (*metadata.get("labels", {}), *metadata.get("annotations", {}))
    return any(key.startswith("remediator.dev/") for key in keys) or any(
        entry["manager"] == "remediator" for entry in metadata.get("managedFields", ())
    )


@pytest.fixture
def scene(control_plane, ground):
    key, value = KEPT
    control_plane.kubectl("label", "node", NODE, f"{key}={value}")
    control_plane.kubectl("annotate", "node", NODE, f"{key}={value}")
    control_plane.kubectl("taint", "node", NODE, f"{key}={value}:PreferNoSchedule")
    ground.plant(deployment("web", PODS, terminationGracePeriodSeconds=240), pdb("web", maxUnavailable=1))
    scene = Scene(control_plane, ground)
    scene.hold(held=True)
    yield scene
    scene.hold(held=False)
    control_plane.kubectl("label", "node", NODE, f"{key}-")
    control_plane.kubectl("annotate", "node", NODE, f"{key}-")
    control_plane.kubectl("taint", "node", NODE, f"{key}:PreferNoSchedule-")


@pytest.fixture
async def between(control_plane):
    known = json.loads(control_plane.remediator.read_text())
    tls = ssl.create_default_context(cafile=known["clusters"][0]["cluster"]["certificate-authority"])
    async with Between(control_plane.server, tls=tls) as between:
        yield between


@pytest.fixture
async def keeper(control_plane, between, daemon, tmp_path):
    """A daemon with the shipped playbooks, as the user remediator, by way of ``between``."""
    document = json.loads(control_plane.remediator.read_text())
    document["clusters"][0]["cluster"] = {"server": between.url}
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps(document))
    return await apart(daemon, kubernetes={"kubeconfig": str(kubeconfig)}, modes={"*": "auto"})


async def stopped_after(between, scene, count, when):
    """The request that is stopped when ``count`` evictions of the ten succeeded: the next one, or the last of them on its way back."""
    trap = between.hold("POST", EVICTION, when)
    while True:
        async with asyncio.timeout(120):
            await trap.reached.wait()
        if sum((await apart(scene.evicted)).values()) == count:
            return trap
        following = between.hold("POST", EVICTION, when)
        trap.release()
        trap = following


@pytest.mark.parametrize("when", ["before", "after"])
async def test_6_2_killed_after_3_of_10_evictions(control_plane, scene, between, keeper, when):
    asked = await apart(keeper.cli, "run", "drain-node", "--target", f"Node/{NODE}", "--reason", "test", "-o", "json")
    assert asked.returncode == 0, asked.stdout + asked.stderr
    took_effect = DONE if when == "before" else DONE + 1
    trap = await stopped_after(between, scene, took_effect, when)
    await apart(keeper.kill)
    trap.drop()
    assert sum((await apart(scene.evicted)).values()) == took_effect

    await apart(keeper.start)
    await apart(control_plane.wait_for, "the others to be evicted", lambda: len(scene.evicted()) == PODS, seconds=120)
    await apart(scene.hold, held=False)
    run = await apart(keeper.run_that_ended)
    assert (run["state"], run["reason"]) == ("healed", "healed"), await apart(keeper.why, run["id"])
    assert await apart(scene.all_gone)

    run = await apart(keeper.get, f"/api/v1/runs/{run['id']}")
    (step,) = run["steps"]
    assert step["attempts"] == 2
    assert scene.evicted() == Counter(dict.fromkeys(scene.pods, 1)), "each of the ten exactly once"
    others = [one for one in scene.effects() if not is_eviction(one)]
    assert [(one["verb"], one["objectRef"]["resource"], one["objectRef"]["name"]) for one in others] == [("patch", "nodes", NODE)]
    assert all(is_eviction(one) for one in scene.writes() if one not in scene.effects()), "what was refused were evictions, by the budget"
    lasting = [change for change in step["changes"] if change["state"] in ("applied", "kept")]
    assert {change["request_id"] for change in lasting} == {one["auditID"] for one in scene.effects()}
    lost = [change["state"] for change in step["changes"] if change["detail"].startswith("looked at after a restart")]
    assert lost == (["absent"] if when == "before" else ["kept"])

    left = json.loads((await apart(keeper.cli, "changes", "list", "-o", "json")).stdout)["items"]
    assert [(one["run"], one["verb"], f"{one['resource']['kind']}/{one['resource']['name']}") for one in left] == [
        (run["id"], "patch", f"Node/{NODE}")
    ]
    assert await apart(scene.marks) == {f"Node/{NODE}"}, "nothing is left that `changes list` does not show"

    undone = await apart(keeper.cli, "runs", "undo", run["id"])
    assert undone.returncode == 0, undone.stderr
    await apart(keeper.wait_for, "nothing left", lambda: not keeper.get("/api/v1/changes?left_behind=true")["items"])
    await apart(control_plane.wait_for, "the node as it was", lambda: scene.shape() == scene.node)
    assert await apart(scene.marks) == set()
    assert Counter(one["verb"] for one in scene.effects() if not is_eviction(one)) == {"patch": 2}, "cordoned once, uncordoned once"
    assert (await apart(keeper.cli, "journal", "verify")).returncode == 0
