"""What drains rely on beyond the eviction subresource itself: namespaces that end, priorities, granted disruptions, volumes."""

from __future__ import annotations

import pytest

ON_THE_REAL_ONE = pytest.mark.long


def policy(space):
    return space.replace("/api/v1", "/apis/policy/v1") + "/poddisruptionbudgets"


@pytest.fixture
def evict(api, space):
    async def evict(name, **options):
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}, "deleteOptions": options}
        return await api.post(f"{space}/pods/{name}/eviction", body)

    return evict


async def test_e7_nothing_is_evicted_in_a_namespace_that_is_deleted(api, space, evict, running):
    """A finalizer holds the pod, so that there is something to evict."""
    await running("held", finalizers=["example.test/hold"])
    await api.delete(space)

    async def terminating():
        return (await api.get(space)).body["status"]["phase"] == "Terminating"

    await api.until(terminating)
    answer = await evict("held")
    assert (answer.status, answer.reason) == (403, "Forbidden")
    assert [cause["reason"] for cause in answer.body["details"]["causes"]] == ["NamespaceTerminating"]
    await api.patch(f"{space}/pods/held", {"metadata": {"finalizers": None}})
    await api.gone(f"{space}/pods/held")


@pytest.mark.parametrize(
    ("name", "priority"), [(None, 0), ("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)]
)
async def test_waves_the_classes_of_every_cluster_have_their_priorities(api, space, make_pod, name, priority):
    pod = make_pod("p", node="node-4")
    if name:
        pod["spec"]["priorityClassName"] = name
    made = await api.post(f"{space}/pods", pod)
    assert made.status == 201, made.body
    assert made.body["spec"]["priority"] == priority


async def test_a_granted_eviction_shows_in_the_budget_before_the_pod_is_gone(api, space, evict, running):
    """Headroom is counted by this: granted by name, and one less allowed."""
    for name in ("a", "b", "c"):
        await running(name, {"app": "x"}, annotations={"controlplane/stop-after": "2s"})
    made = await api.post(
        policy(space), {"metadata": {"name": "x"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "x"}}}}
    )
    assert made.status == 201, made.body

    async def allowed(count):
        async def look():
            return (await api.get(f"{policy(space)}/x")).body["status"].get("disruptionsAllowed") == count

        await api.until(look, f"{count} disruptions allowed")

    await allowed(2)
    before = (await api.get(f"{policy(space)}/x")).version
    assert (await evict("a")).status == 201
    after = (await api.get(f"{policy(space)}/x")).body
    assert after["metadata"]["resourceVersion"] != before
    assert after["status"]["disruptionsAllowed"] == 1
    await api.gone(f"{space}/pods/a")
    await allowed(1)


async def test_e13_grace_of_an_eviction_is_the_pods_own_or_what_was_said(api, space, evict, running):
    for name in ("a", "b"):
        await running(name, annotations={"controlplane/stop-after": "4s"})
    assert (await evict("a")).status == 201
    assert (await evict("b", gracePeriodSeconds=2)).status == 201
    graces = [(await api.get(f"{space}/pods/{name}")).body["metadata"].get("deletionGracePeriodSeconds") for name in ("a", "b")]
    assert graces == [5, 2]


async def test_w8_claims_and_attachments_can_be_read(api, space, namespace_name):
    claim = {
        "metadata": {"name": "data"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
            "volumeName": "pv-1",
            "storageClassName": "",
        },
    }
    made = await api.post(f"{space}/persistentvolumeclaims", claim)
    assert made.status == 201, made.body
    assert (await api.get(f"{space}/persistentvolumeclaims/data")).body["spec"]["volumeName"] == "pv-1"
    path, name = "/apis/storage.k8s.io/v1/volumeattachments", f"va-{namespace_name}"
    spec = {"attacher": "csi.example.test", "nodeName": "node-4", "source": {"persistentVolumeName": "pv-1"}}
    made = await api.post(path, {"metadata": {"name": name}, "spec": spec})
    assert made.status == 201, made.body
    found = [item for item in (await api.get(path)).body["items"] if item["metadata"]["name"] == name]
    assert [item["spec"] for item in found] == [spec]
    assert (await api.delete(f"{path}/{name}")).status == 200
    await api.gone(f"{path}/{name}")
