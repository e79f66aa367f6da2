"""What controllers and kubelets do: DaemonSets, Deployments, StatefulSets, taints, leases, namespaces."""

from __future__ import annotations

import pytest

ON_THE_REAL_ONE = pytest.mark.long

CONTAINERS = [{"name": "agent", "image": "example.test/agent:1"}]


def _spec(labels, **pod):
    template = {"metadata": {"labels": labels}, "spec": {"containers": CONTAINERS, "terminationGracePeriodSeconds": 1, **pod}}
    return {"selector": {"matchLabels": labels}, "template": template}


@pytest.fixture
def apps(space):
    return space.replace("/api/v1", "/apis/apps/v1")


@pytest.fixture
async def daemons(api, apps, space):
    """A DaemonSet like Cilium's, ready on every node; answers its pods by node."""
    spec = _spec({"k8s-app": "cilium"}, hostNetwork=True, tolerations=[{"operator": "Exists"}])
    made = await api.post(f"{apps}/daemonsets", {"metadata": {"name": "cilium"}, "spec": spec})
    assert made.status == 201, made.body

    async def pods():
        found = (await api.get(f"{space}/pods", labelSelector="k8s-app=cilium")).body["items"]
        ready = [p for p in found if _ready(p) and "deletionTimestamp" not in p["metadata"]]
        return {p["spec"]["nodeName"]: p for p in ready} if len(ready) == 5 else None

    await api.until(pods, "the DaemonSet's pods")
    return pods


def _ready(pod):
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ()))


async def _status(api, path, **wanted):
    async def look():
        found = (await api.get(path)).body
        return found if all(found["status"].get(k) == v for k, v in wanted.items()) else None

    return await api.until(look, f"{path}: {wanted}")


class TestDaemonSets:
    async def test_one_pod_a_node_with_the_marks_of_its_owner(self, api, daemons, apps):
        pods = await daemons()
        owner = await _status(api, f"{apps}/daemonsets/cilium", numberReady=5, updatedNumberScheduled=5)
        assert sorted(pods) == ["node-1", "node-2", "node-3", "node-4", "node-5"]
        status = owner["status"]
        assert (status["desiredNumberScheduled"], status["currentNumberScheduled"], status["numberAvailable"]) == (5, 5, 5)
        assert "numberUnavailable" not in status
        revisions = (await api.get(f"{apps}/controllerrevisions")).body["items"]
        assert len(revisions) == 1
        value = revisions[0]["metadata"]["labels"]["controller-revision-hash"]
        assert revisions[0]["metadata"]["name"] == f"cilium-{value}"
        assert revisions[0]["revision"] == 1
        for pod in pods.values():
            meta = pod["metadata"]
            assert meta["generateName"] == "cilium-"
            assert meta["labels"]["controller-revision-hash"] == value
            assert meta["labels"]["pod-template-generation"] == "1"
            (reference,) = meta["ownerReferences"]
            assert (reference["kind"], reference["apiVersion"], reference["uid"], reference["controller"]) == (
                "DaemonSet",
                "apps/v1",
                owner["metadata"]["uid"],
                True,
            )

    async def test_a_deleted_pod_is_replaced_on_its_node_and_no_other(self, api, daemons, apps, space):
        before = await daemons()
        old = before["node-3"]["metadata"]
        gone = await api.delete(f"{space}/pods/{old['name']}", {"preconditions": {"uid": old["uid"]}})
        assert gone.status == 200
        again = await api.delete(f"{space}/pods/{old['name']}", {"preconditions": {"uid": "other"}})
        assert again.status in (409, 404)

        async def replaced():
            now = await daemons()
            return now if now and now["node-3"]["metadata"]["uid"] != old["uid"] else None

        after = await api.until(replaced, "the new pod")
        assert after["node-3"]["metadata"]["name"] != old["name"]
        same = [n for n in before if before[n]["metadata"]["uid"] == after[n]["metadata"]["uid"]]
        assert sorted(same) == ["node-1", "node-2", "node-4", "node-5"]
        await _status(api, f"{apps}/daemonsets/cilium", numberReady=5)

    async def test_a_watch_tells_the_end_before_the_beginning(self, api, daemons, space):
        before = await daemons()
        version = (await api.get(f"{space}/pods")).version
        old = before["node-2"]["metadata"]
        await api.delete(f"{space}/pods/{old['name']}")

        async def replaced():
            now = await daemons()
            return now and now["node-2"]["metadata"]["uid"] != old["uid"]

        await api.until(replaced)
        events = await api.watch(f"{space}/pods", resourceVersion=version, timeoutSeconds=1)
        told = [(e["type"], e["object"]["metadata"]["name"] == old["name"]) for e in events]
        assert told.index(("DELETED", True)) < told.index(("ADDED", False))
        first = next(e["object"] for e in events if e["type"] == "ADDED")
        assert "nodeName" not in first["spec"]
        assert first["status"]["phase"] == "Pending"

    async def test_a_cordoned_node_keeps_its_pod(self, api, daemons, space):
        before = await daemons()
        old = before["node-4"]["metadata"]
        await api.patch("/api/v1/nodes/node-4", {"spec": {"unschedulable": True}})
        try:
            await api.delete(f"{space}/pods/{old['name']}")

            async def replaced():
                now = await daemons()
                return now and now["node-4"]["metadata"]["uid"] != old["uid"]

            await api.until(replaced, "a new pod on a cordoned node")
        finally:
            await api.patch("/api/v1/nodes/node-4", {"spec": {"unschedulable": None}})

    async def test_a_new_template_rolls_through_all_nodes(self, api, daemons, apps):
        before = await daemons()
        change = {"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"}}}}}
        changed = await api.patch(f"{apps}/daemonsets/cilium", change, api.strategic)
        assert changed.body["metadata"]["generation"] == 2

        async def rolled():
            now = await daemons()
            return now and not {p["metadata"]["uid"] for p in now.values()} & {p["metadata"]["uid"] for p in before.values()}

        await api.until(rolled, "the roll-out")
        await _status(api, f"{apps}/daemonsets/cilium", updatedNumberScheduled=5, numberReady=5, observedGeneration=2)
        revisions = (await api.get(f"{apps}/controllerrevisions")).body["items"]
        assert sorted(r["revision"] for r in revisions) == [1, 2]

    async def test_its_pods_go_with_it(self, api, daemons, apps, space):
        await api.delete(f"{apps}/daemonsets/cilium", {"propagationPolicy": "Background"})

        async def empty():
            return (await api.get(f"{space}/pods")).names == []

        await api.until(empty, "the end of the pods")


class TestCordon:
    async def test_the_taint_follows_and_goes(self, api):
        node = "/api/v1/nodes/node-5"

        async def tainted():
            spec = (await api.get(node)).body["spec"]
            return [t for t in spec.get("taints", ()) if t["key"] == "node.kubernetes.io/unschedulable"]

        async def clean():
            return not await tainted()

        try:
            answer = await api.patch(node, {"spec": {"unschedulable": True}}, api.strategic)
            assert answer.body["spec"]["unschedulable"] is True
            (taint,) = await api.until(tainted, "the taint")
            assert taint["effect"] == "NoSchedule"
            assert taint["timeAdded"].endswith("Z")
            assert (await api.get("/api/v1/nodes", fieldSelector="spec.unschedulable=true")).names == ["node-5"]
        finally:
            await api.patch(node, {"spec": {"unschedulable": None}})
        await api.until(clean, "the end of the taint")
        assert "unschedulable" not in (await api.get(node)).body["spec"]

    async def test_new_pods_stay_away(self, api, apps, space):
        nodes = ["node-1", "node-2", "node-3", "node-4"]
        for name in nodes:
            await api.patch(f"/api/v1/nodes/{name}", {"spec": {"unschedulable": True}})
        try:
            await api.post(f"{apps}/deployments", {"metadata": {"name": "web"}, "spec": {"replicas": 3, **_spec({"app": "web"})}})
            await _status(api, f"{apps}/deployments/web", readyReplicas=3)
            pods = (await api.get(f"{space}/pods")).body["items"]
            assert {p["spec"]["nodeName"] for p in pods} == {"node-5"}
        finally:
            for name in nodes:
                await api.patch(f"/api/v1/nodes/{name}", {"spec": {"unschedulable": None}})


class TestDeployments:
    async def test_pods_through_a_replica_set(self, api, apps, space):
        await api.post(f"{apps}/deployments", {"metadata": {"name": "web"}, "spec": {"replicas": 2, **_spec({"app": "web"})}})
        found = await _status(api, f"{apps}/deployments/web", readyReplicas=2, availableReplicas=2, updatedReplicas=2, replicas=2)
        assert found["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "1"
        (replicas,) = (await api.get(f"{apps}/replicasets")).body["items"]
        value = replicas["metadata"]["labels"]["pod-template-hash"]
        assert replicas["metadata"]["name"] == f"web-{value}"
        pods = (await api.get(f"{space}/pods", labelSelector=f"pod-template-hash={value}")).body["items"]
        assert len(pods) == 2
        assert {p["metadata"]["ownerReferences"][0]["kind"] for p in pods} == {"ReplicaSet"}
        assert len({p["spec"]["nodeName"] for p in pods}) == 2

    async def test_a_pod_that_goes_is_replaced(self, api, apps, space):
        await api.post(f"{apps}/deployments", {"metadata": {"name": "web"}, "spec": {"replicas": 2, **_spec({"app": "web"})}})
        await _status(api, f"{apps}/deployments/web", readyReplicas=2)
        first = (await api.get(f"{space}/pods")).names[0]
        assert (await api.delete(f"{space}/pods/{first}")).status == 200
        await api.gone(f"{space}/pods/{first}")
        await _status(api, f"{apps}/deployments/web", readyReplicas=2)
        assert first not in (await api.get(f"{space}/pods")).names

    async def test_a_restart_makes_a_second_revision(self, api, apps, space):
        await api.post(f"{apps}/deployments", {"metadata": {"name": "web"}, "spec": {"replicas": 2, **_spec({"app": "web"})}})
        await _status(api, f"{apps}/deployments/web", readyReplicas=2)
        before = set((await api.get(f"{space}/pods")).names)
        change = {"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"}}}}}
        await api.patch(f"{apps}/deployments/web", change, api.strategic)

        async def rolled():
            names = set((await api.get(f"{space}/pods")).names)
            return len(names) == 2 and not names & before

        await api.until(rolled, "the roll-out")
        found = await _status(api, f"{apps}/deployments/web", readyReplicas=2, updatedReplicas=2, observedGeneration=2)
        assert found["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2"

    async def test_scaled_to_nothing(self, api, apps, space):
        await api.post(f"{apps}/deployments", {"metadata": {"name": "web"}, "spec": {"replicas": 2, **_spec({"app": "web"})}})
        await _status(api, f"{apps}/deployments/web", readyReplicas=2)
        await api.patch(f"{apps}/deployments/web", {"spec": {"replicas": 0}})

        async def empty():
            return (await api.get(f"{space}/pods")).names == []

        await api.until(empty)

    async def test_a_selector_that_does_not_fit_the_template(self, api, apps):
        spec = {**_spec({"app": "web"}), "selector": {"matchLabels": {"app": "other"}}}
        answer = await api.post(f"{apps}/deployments", {"metadata": {"name": "web"}, "spec": spec})
        assert (answer.status, answer.body["details"]["causes"][0]["field"]) == (422, "spec.template.metadata.labels")


class TestStatefulSets:
    async def test_a_replaced_pod_has_the_old_name_and_a_new_uid(self, api, apps, space):
        await api.post(
            f"{apps}/statefulsets", {"metadata": {"name": "db"}, "spec": {"replicas": 2, "serviceName": "", **_spec({"app": "db"})}}
        )
        await _status(api, f"{apps}/statefulsets/db", readyReplicas=2)
        assert (await api.get(f"{space}/pods")).names == ["db-0", "db-1"]
        old = (await api.get(f"{space}/pods/db-0")).body["metadata"]["uid"]
        await api.delete(f"{space}/pods/db-0")

        async def replaced():
            answer = await api.get(f"{space}/pods/db-0")
            return answer.status == 200 and answer.body["metadata"]["uid"] != old and _ready(answer.body)

        await api.until(replaced)

    async def test_an_update_goes_pod_by_pod_from_the_last_and_the_status_tells_when_it_is_through(self, api, apps, space):
        path = f"{apps}/statefulsets/roll"
        spec = {"replicas": 2, "serviceName": "", **_spec({"app": "roll"})}
        await api.post(f"{apps}/statefulsets", {"metadata": {"name": "roll"}, "spec": spec})
        before = (await _status(api, path, readyReplicas=2, updatedReplicas=2))["status"]
        assert before["currentRevision"] == before["updateRevision"]
        version = (await api.get(f"{space}/pods")).version
        await api.patch(path, {"spec": {"template": {"metadata": {"annotations": {"again": "1"}}}}})

        async def through():
            found = (await api.get(path)).body
            status, new = found["status"], found["status"].get("updateRevision") != before["updateRevision"]
            same = status.get("currentRevision") == status.get("updateRevision")
            return new and same and status.get("readyReplicas") == 2 and status["observedGeneration"] == found["metadata"]["generation"]

        await api.until(through, "the update")
        events = await api.watch(f"{space}/pods", resourceVersion=version, timeoutSeconds=1)
        assert [e["object"]["metadata"]["name"] for e in events if e["type"] == "DELETED"] == ["roll-1", "roll-0"]
        pods = (await api.get(f"{space}/pods", labelSelector="app=roll")).body["items"]
        new = (await api.get(path)).body["status"]["updateRevision"]
        assert {p["metadata"]["labels"]["controller-revision-hash"] for p in pods} == {new}

    async def test_a_paused_deployment_is_seen_and_rolls_nothing(self, api, apps, space):
        path = f"{apps}/deployments/still"
        await api.post(f"{apps}/deployments", {"metadata": {"name": "still"}, "spec": {"replicas": 1, **_spec({"app": "still"})}})
        await _status(api, path, availableReplicas=1)
        made = await api.patch(path, {"spec": {"paused": True, "template": {"metadata": {"annotations": {"again": "1"}}}}})
        status = (await _status(api, path, observedGeneration=made.body["metadata"]["generation"]))["status"]
        assert "updatedReplicas" not in status
        assert (status["replicas"], status["availableReplicas"]) == (1, 1)


class TestPods:
    async def test_a_pod_starts(self, running):
        pod = await running("p")
        status = pod["status"]
        assert status["phase"] == "Running"
        assert {c["type"]: c["status"] for c in status["conditions"]} == dict.fromkeys(
            ("PodScheduled", "Initialized", "ContainersReady", "Ready"), "True"
        )
        (container,) = status["containerStatuses"]
        assert (container["ready"], container["restartCount"], "running" in container["state"]) == (True, 0, True)
        assert status["podIP"].startswith("10.244.")
        assert pod["spec"]["terminationGracePeriodSeconds"] == 5
        assert pod["metadata"]["labels"]["topology.kubernetes.io/zone"] == "zone-b"

    async def test_a_pod_that_fits_nowhere_waits(self, api, space, make_pod):
        waiting = make_pod("w")
        waiting["spec"]["nodeSelector"] = {"no": "such"}
        await api.post(f"{space}/pods", waiting)

        async def explained():
            conditions = (await api.get(f"{space}/pods/w")).body["status"].get("conditions", ())
            return [c for c in conditions if c["type"] == "PodScheduled"]

        (condition,) = await api.until(explained)
        assert (condition["status"], condition["reason"]) == ("False", "Unschedulable")

    async def test_a_pod_without_a_node_goes_at_once(self, api, space, make_pod):
        waiting = make_pod("w")
        waiting["spec"]["nodeSelector"] = {"no": "such"}
        await api.post(f"{space}/pods", waiting)
        assert (await api.delete(f"{space}/pods/w")).status == 200
        assert (await api.get(f"{space}/pods/w")).status == 404

    async def test_a_finalizer_keeps_a_pod(self, api, running, space):
        await running("p", finalizers=["example.test/hold"])
        await api.delete(f"{space}/pods/p")
        assert (await api.get(f"{space}/pods/p")).body["metadata"]["deletionTimestamp"]
        await api.patch(f"{space}/pods/p", {"metadata": {"finalizers": None}})
        await api.gone(f"{space}/pods/p")


class TestNamespaces:
    async def test_they_go_with_everything_in_them(self, api, space):
        await api.post(f"{space}/configmaps", {"metadata": {"name": "x"}})
        answer = await api.delete(space)
        assert (answer.status, answer.body["kind"], answer.body["status"]["phase"]) == (200, "Namespace", "Terminating")
        await api.gone(space)
        assert (await api.get(f"{space}/configmaps")).names == []

    async def test_their_label(self, api, space):
        name = space.rpartition("/")[2]
        assert (await api.get(space)).body["metadata"]["labels"] == {"kubernetes.io/metadata.name": name}


class TestLeases:
    async def test_kubelets_renew_theirs(self, api):
        path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node-2"
        first = (await api.get(path)).body["spec"]
        assert first["leaseDurationSeconds"] > 0

        async def renewed():
            return (await api.get(path)).body["spec"]["renewTime"] > first["renewTime"]

        await api.until(renewed, "a renewal")
