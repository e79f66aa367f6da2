"""The eviction subresource and PodDisruptionBudgets."""

from __future__ import annotations

import asyncio

import pytest


@pytest.fixture
def evict(api, space):
    async def evict(name, *, body_name=None, version="policy/v1", options=None, **query):
        body = {"apiVersion": version, "kind": "Eviction", "metadata": {"name": body_name or name}}
        if options:
            body["deleteOptions"] = options
        return await api.post(f"{space}/pods/{name}/eviction", body, **query)

    return evict


@pytest.fixture
def budget(api, space):
    """Creates a budget and waits until it knows of ``pods`` healthy pods."""
    path = space.replace("/api/v1", "/apis/policy/v1") + "/poddisruptionbudgets"

    async def make(name, pods, **spec):
        spec.setdefault("selector", {"matchLabels": {"app": "x"}})
        made = await api.post(path, {"metadata": {"name": name}, "spec": spec})
        assert made.status == 201, made.body

        async def counted():
            status = (await api.get(f"{path}/{name}")).body["status"]
            return status if status["currentHealthy"] == pods and status.get("observedGeneration") == 1 else None

        return await api.until(counted, f"budget {name} counting {pods}")

    return make


@pytest.fixture
async def pair(running):
    """Two Ready pods a and b with the label app=x."""
    return dict(zip("ab", await asyncio.gather(running("a", {"app": "x"}), running("b", {"app": "x"})), strict=True))


async def test_without_a_budget_the_pod_goes(api, evict, pair, space):
    answer = await evict("a")
    assert answer.status == 201
    assert answer.body == {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}
    assert "Retry-After" not in answer.headers
    await api.gone(f"{space}/pods/a")


async def test_no_such_pod(evict):
    answer = await evict("nope")
    assert (answer.status, answer.reason, answer.message) == (404, "NotFound", 'pods "nope" not found')


async def test_another_name_in_the_body(evict, pair):
    answer = await evict("a", body_name="b")
    assert (answer.status, answer.message) == (400, "name in URL does not match name in Eviction object")


async def test_another_kind(api, pair, space):
    answer = await api.post(f"{space}/pods/a/eviction", {"apiVersion": "policy/v1", "kind": "Foo", "metadata": {"name": "a"}})
    assert (answer.status, answer.reason) == (400, "BadRequest")


async def test_another_uid_is_a_conflict(evict, pair):
    answer = await evict("a", options={"preconditions": {"uid": "other"}})
    assert (answer.status, answer.reason) == (409, "Conflict")
    assert "the UID in the precondition (other) does not match the UID in record" in answer.message
    right = await evict("a", options={"preconditions": {"uid": pair["a"]["metadata"]["uid"]}})
    assert right.status == 201


async def test_an_exhausted_budget_says_so_also_in_a_dry_run(evict, budget, pair):
    status = await budget("a", 2, minAvailable=2)
    assert (status["disruptionsAllowed"], status["desiredHealthy"], status["expectedPods"]) == (0, 2, 2)
    condition = status["conditions"][0]
    assert (condition["type"], condition["status"], condition["reason"]) == ("DisruptionAllowed", "False", "InsufficientPods")
    for query in ({}, {"dryRun": "All"}):
        answer = await evict("a", **query)
        message = "The disruption budget a needs 2 healthy pods and has 2 currently"
        assert answer.status == 429
        assert "Retry-After" not in answer.headers
        assert answer.body == {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": "Cannot evict pod as it would violate the pod's disruption budget.",
            "reason": "TooManyRequests",
            "details": {"causes": [{"reason": "DisruptionBudget", "message": message}]},
            "code": 429,
        }


async def test_an_exhausted_budget_comes_before_the_uid(evict, budget, pair):
    await budget("a", 2, minAvailable=2)
    assert (await evict("a", options={"preconditions": {"uid": "other"}})).status == 429


async def test_a_dry_run_does_not_count_down(api, evict, budget, pair, space):
    await budget("a", 2, minAvailable=1)
    assert [(await evict(name, dryRun="All")).status for name in ("a", "b", "a")] == [201, 201, 201]
    assert [(await evict(name, options={"dryRun": ["All"]})).status for name in ("a", "b")] == [201, 201]
    assert (await api.get(f"{space}/pods/a")).status == 200


async def test_each_eviction_uses_up_the_budget(evict, budget, pair):
    await budget("a", 2, minAvailable=1)
    assert (await evict("a")).status == 201
    assert (await evict("b")).status == 429


async def test_a_pod_that_is_going_may_be_evicted_again(api, evict, budget, running, pair):
    await running("c", {"app": "x"}, annotations={"controlplane/stop-after": "4s"})
    await budget("a", 3, minAvailable=2)
    assert (await evict("c")).status == 201
    assert (await evict("c")).status == 201


async def test_two_budgets_are_an_error_of_the_server(evict, budget, pair):
    await budget("one", 2, minAvailable=0)
    await budget("two", 2, minAvailable=0)
    answer = await evict("a")
    assert answer.body == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
        "code": 500,
    }


async def test_an_empty_selector_fits_every_pod_of_the_namespace(evict, budget, pair):
    await budget("all", 2, minAvailable=2, selector={})
    assert (await evict("a")).status == 429


async def test_a_pending_pod_may_always_go(api, evict, budget, pair, space, make_pod):
    waiting = make_pod("w", labels={"app": "x"})
    waiting["spec"]["nodeSelector"] = {"no": "such"}
    await api.post(f"{space}/pods", waiting)
    await budget("a", 2, minAvailable=3)
    assert (await evict("a")).status == 429
    assert (await evict("w")).status == 201


@pytest.mark.parametrize(("policy", "status"), [(None, 429), ("AlwaysAllow", 201)])
async def test_a_pod_that_is_not_ready(api, evict, budget, pair, space, policy, status):
    unready = {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}
    assert (await api.patch(f"{space}/pods/b/status", unready, api.strategic)).status == 200
    await budget("a", 1, minAvailable=2, **({"unhealthyPodEvictionPolicy": policy} if policy else {}))
    assert (await evict("b")).status == status


async def test_an_unready_pod_may_go_while_enough_are_healthy(api, evict, budget, running, pair, space):
    await running("c", {"app": "x"})
    unready = {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}
    await api.patch(f"{space}/pods/c/status", unready, api.strategic)
    status = await budget("a", 2, minAvailable=2)
    assert status["disruptionsAllowed"] == 0
    assert (await evict("c")).status == 201


async def test_another_uid_is_told_in_the_same_words(evict, pair):
    uid = pair["a"]["metadata"]["uid"]
    for query in ({}, {"dryRun": "All"}):
        answer = await evict("a", options={"preconditions": {"uid": "other"}}, **query)
        why = f"the UID in the precondition (other) does not match the UID in record ({uid}). The object might have been deleted and then"
        assert answer.body == {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": f'Operation cannot be fulfilled on Pod "a": {why} recreated',
            "reason": "Conflict",
            "details": {"name": "a", "kind": "Pod"},
            "code": 409,
        }


async def test_nothing_is_evicted_in_a_namespace_that_ends(api, evict, running, space):
    await running("a", {"app": "x"}, annotations={"controlplane/stop-after": "6s"})
    name = space.rpartition("/")[2]
    await api.delete(space)

    async def ending():
        found = await api.get(f"{space}/pods/a")
        return found.status == 200 and "deletionTimestamp" in found.body["metadata"]

    await api.until(ending, "the end of the namespace reaching its pod")
    for pod in ("a", "nope"):
        answer = await evict(pod)
        cause = {"reason": "NamespaceTerminating", "message": f"namespace {name} is being terminated", "field": "metadata.namespace"}
        why = f"unable to create new content in namespace {name} because it is being terminated"
        assert answer.body == {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": f'pods "{pod}" is forbidden: {why}',
            "reason": "Forbidden",
            "details": {"name": pod, "kind": "pods", "causes": [cause]},
            "code": 403,
        }


async def test_an_evicted_pod_says_so(api, evict, running, space):
    await running("a", {"app": "x"}, annotations={"controlplane/stop-after": "6s"})
    await evict("a", dryRun="All")
    assert [c for c in (await api.get(f"{space}/pods/a")).body["status"]["conditions"] if c["type"] == "DisruptionTarget"] == []
    await evict("a")
    (target,) = [c for c in (await api.get(f"{space}/pods/a")).body["status"]["conditions"] if c["type"] == "DisruptionTarget"]
    assert (target["status"], target["reason"], target["message"]) == ("True", "EvictionByEvictionAPI", "Eviction API: evicting")


async def test_a_finished_pod_may_always_go(api, evict, budget, pair, running, space):
    await running("done", {"app": "x"})
    await api.patch(f"{space}/pods/done/status", {"status": {"phase": "Succeeded"}}, api.strategic)
    await budget("a", 3, minAvailable=9)
    assert [(await evict(name)).status for name in ("a", "done")] == [429, 201]
    await api.gone(f"{space}/pods/done")


async def test_a_pod_with_a_finalizer_is_marked_and_stays(api, evict, budget, pair, running, space):
    await running("held", {"app": "x"}, finalizers=["example.test/held"])
    await budget("a", 3, minAvailable=2)
    assert (await evict("held")).status == 201
    found = (await api.get(f"{space}/pods/held")).body["metadata"]
    assert (found["finalizers"], "deletionTimestamp" in found) == (["example.test/held"], True)
    assert [(await evict(name)).status for name in ("held", "a")] == [201, 429]
    await api.patch(f"{space}/pods/held", {"metadata": {"finalizers": None}})
    await api.gone(f"{space}/pods/held")


async def test_a_grace_period_of_nothing_takes_the_pod_at_once(api, evict, running, space):
    await running("a", {"app": "x"}, annotations={"controlplane/stop-after": "6s"})
    assert (await evict("a", options={"gracePeriodSeconds": 0})).status == 201
    assert (await api.get(f"{space}/pods/a")).status == 404


async def test_a_budget_that_cannot_be_counted_is_told_to_wait_for(api, evict, running, space):
    """maxUnavailable counts what owners want, and a DaemonSet cannot be asked; the budget's status then is about no generation at all."""
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "kube-root-ca.crt", "controller": True}
    owner["uid"] = (await api.get(f"{space}/configmaps/kube-root-ca.crt")).body["metadata"]["uid"]
    await running("a", {"app": "x"}, ownerReferences=[owner])
    path = space.replace("/api/v1", "/apis/policy/v1") + "/poddisruptionbudgets"
    await api.post(path, {"metadata": {"name": "b"}, "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "x"}}}})

    async def failed():
        status = (await api.get(f"{path}/b")).body["status"]
        return status if status.get("conditions") else None

    status = await api.until(failed, "the budget's condition")
    condition = {k: v for k, v in status.pop("conditions")[0].items() if k != "lastTransitionTime"}
    assert condition == {
        "type": "DisruptionAllowed",
        "status": "False",
        "reason": "SyncFailed",
        "message": "configmaps does not implement the scale subresource",
    }
    assert status == {"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0}
    answer = await evict("a")
    assert (answer.status, answer.reason, answer.headers["Retry-After"]) == (429, "TooManyRequests", "10")
    message = "The disruption budget b is still being processed by the server."
    assert answer.body["details"] == {"causes": [{"reason": "DisruptionBudget", "message": message}], "retryAfterSeconds": 10}


async def test_a_share_of_pods_without_an_owner_is_none(evict, budget, pair):
    status = await budget("a", 2, maxUnavailable=1)
    assert (status["disruptionsAllowed"], status["desiredHealthy"], status["expectedPods"]) == (0, 0, 0)
    (cause,) = (await evict("a")).body["details"]["causes"]
    assert cause == {"reason": "DisruptionBudget", "message": "The disruption budget a does not allow evicting pods currently"}


async def test_both_limits_at_once_are_invalid(api, space):
    path = space.replace("/api/v1", "/apis/policy/v1") + "/poddisruptionbudgets"
    answer = await api.post(path, {"metadata": {"name": "c"}, "spec": {"minAvailable": 0, "maxUnavailable": 1, "selector": {}}})
    assert (answer.status, answer.reason) == (422, "Invalid")
    assert answer.message.endswith(": minAvailable and maxUnavailable cannot be both set")


async def test_a_share_counts_what_the_owner_wants(api, evict, budget, space):
    template = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": "example.test/c:1"}]}}
    spec = {"replicas": 3, "selector": {"matchLabels": {"app": "x"}}, "template": template}
    await api.post(space.replace("/api/v1", "/apis/apps/v1") + "/deployments", {"metadata": {"name": "d"}, "spec": spec})

    async def all_ready():
        found = (await api.get(space.replace("/api/v1", "/apis/apps/v1") + "/deployments/d")).body
        return found["status"].get("readyReplicas") == 3

    await api.until(all_ready)
    status = await budget("a", 3, maxUnavailable="34%")
    assert (status["expectedPods"], status["desiredHealthy"], status["disruptionsAllowed"]) == (3, 1, 2)
