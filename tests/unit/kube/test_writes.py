from __future__ import annotations

from datetime import timedelta

import pytest

from remediator.errors import NotLeading, UsageError
from remediator.kube import access, kinds
from remediator.kube.errors import (
    AlreadyExists,
    CallFailed,
    Conflict,
    Forbidden,
    Invalid,
    Malformed,
    NotFound,
    SeveralBudgets,
    Timeout,
    TooManyRequests,
    Unavailable,
    Unreachable,
)

SHORT = timedelta(milliseconds=200)
MARKS = {"fieldManager": "remediator", "fieldValidation": "Strict"}


async def _patch(kube, **more):
    return await kube.patch(kinds.NODE, "a", {"spec": {"unschedulable": True}}, type="merge", **more)


@pytest.mark.parametrize(
    ("kind", "content", "patch", "extra"),
    [
        ("json", "application/json-patch+json", [{"op": "test", "path": "/metadata/uid", "value": "u"}], {}),
        ("merge", "application/merge-patch+json", {"a": None}, {}),
        ("merge", "application/merge-patch+json", {}, {}),
        ("strategic", "application/strategic-merge-patch+json", {"a": [1]}, {}),
        ("apply", "application/apply-patch+yaml", {"a": 1}, {"force": "true"}),
    ],
)
async def test_each_patch_has_its_content_type(api, kube, kind, content, patch, extra):
    api.json({"kind": "Node"})
    assert await kube.patch(kinds.NODE, "a", patch, type=kind) == {"kind": "Node"}
    (seen,) = api.seen
    assert (seen.method, seen.path, seen.headers["Content-Type"], seen.body) == ("PATCH", "/api/v1/nodes/a", content, patch)
    assert seen.query == MARKS | extra
    assert "Audit-ID" not in seen.headers


@pytest.mark.parametrize(("kind", "patch"), [("json", {}), ("merge", []), ("apply", [])])
async def test_a_patch_of_the_wrong_shape_is_refused(api, kube, kind, patch):
    with pytest.raises(UsageError):
        await kube.patch(kinds.NODE, "a", patch, type=kind)
    assert api.seen == []


async def test_dry_run_and_request_id_reach_the_server(api, kube):
    for _ in range(4):
        api.json({})
    await _patch(kube, dry_run=True, request_id="r1")
    await kube.create(kinds.LEASE, {"metadata": {"name": "l"}}, "default", dry_run=True, request_id="r2")
    await kube.delete(kinds.POD, "a", "default", dry_run=True, request_id="r3")
    await kube.evict("a", "default", dry_run=True, request_id="r4")
    assert [seen.headers["Audit-ID"] for seen in api.seen] == ["r1", "r2", "r3", "r4"]
    assert all(seen.query["dryRun"] == "All" for seen in api.seen)
    assert api.seen[2].body["dryRun"] == ["All"]
    assert api.seen[3].body["deleteOptions"]["dryRun"] == ["All"]


async def test_create_fills_in_the_kind(api, kube):
    api.json({"metadata": {"uid": "u"}}, 201)
    assert (await kube.create(kinds.LEASE, {"metadata": {"name": "l"}}, "default"))["metadata"]["uid"] == "u"
    (seen,) = api.seen
    assert (seen.method, seen.path) == ("POST", "/apis/coordination.k8s.io/v1/namespaces/default/leases")
    assert (seen.body["apiVersion"], seen.body["kind"]) == ("coordination.k8s.io/v1", "Lease")
    assert seen.query == MARKS


async def test_delete_names_the_very_object(api, kube):
    api.json({"kind": "Status"})
    await kube.delete(kinds.POD, "a", "default", uid="u1", grace=5)
    (seen,) = api.seen
    assert (seen.method, seen.path, seen.query) == ("DELETE", "/api/v1/namespaces/default/pods/a", {})
    assert seen.body == {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": "u1"}, "gracePeriodSeconds": 5}


@pytest.mark.parametrize("grace", [0, -1])
async def test_a_grace_period_of_nothing_is_refused(api, kube, grace):
    with pytest.raises(UsageError):
        await kube.delete(kinds.POD, "a", "default", grace=grace)
    with pytest.raises(UsageError):
        await kube.evict("a", "default", grace=grace)
    assert api.seen == []


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a%2fb", "a?b", "a#b"])
async def test_an_impossible_name_never_becomes_a_write_to_something_else(api, kube, name):
    for call in (
        kube.delete(kinds.NODE, name),
        kube.patch(kinds.NODE, name, {}, type="merge"),
        kube.evict(name, "default"),
        kube.evict("a", name or "."),
    ):
        with pytest.raises(Invalid):
            await call
    assert api.seen == []


async def test_an_eviction_says_which_pod_by_uid(api, kube):
    api.json({"kind": "Status", "status": "Success"}, 201)
    assert await kube.evict("a", "default", uid="u1") is None
    (seen,) = api.seen
    assert (seen.method, seen.path) == ("POST", "/api/v1/namespaces/default/pods/a/eviction")
    assert seen.body == {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": "a", "namespace": "default"},
        "deleteOptions": {"preconditions": {"uid": "u1"}},
    }


async def test_an_eviction_has_more_time_than_other_calls(api, connect):
    kube = await connect(timeout=SHORT)
    api.slow(0.4, {"kind": "Status"}, 201)
    await kube.evict("a", "default")
    api.slow(0.4, {})
    with pytest.raises(Timeout):
        await kube.delete(kinds.POD, "a", "default")


async def test_what_a_budget_says_is_kept(api, kube):
    told = "The disruption budget a needs 2 healthy pods and has 2 currently"
    api.status(429, "TooManyRequests", "Cannot evict pod", (("DisruptionBudget", told),))
    with pytest.raises(TooManyRequests) as caught:
        await kube.evict("a", "default")
    assert (caught.value.budget, caught.value.retry_after, caught.value.maybe_applied) == (told, None, False)
    api.status(429, "TooManyRequests", "too many requests", Retry_After="1")
    with pytest.raises(TooManyRequests) as caught:
        await kube.evict("a", "default")
    assert (caught.value.budget, caught.value.retry_after) == (None, 1)


async def test_two_budgets_on_one_pod_never_yield(api, kube):
    api.status(500, "", "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.")
    with pytest.raises(SeveralBudgets) as caught:
        await kube.evict("a", "default")
    assert not caught.value.retryable
    assert not caught.value.maybe_applied


async def test_a_namespace_on_its_way_out_is_told_apart(api, kube):
    api.status(403, "Forbidden", "being terminated", (("NamespaceTerminating", "namespace x is being terminated"),))
    with pytest.raises(Forbidden) as caught:
        await kube.evict("a", "default")
    assert caught.value.cause("NamespaceTerminating")


@pytest.mark.parametrize(
    ("status", "reason", "error", "applied"),
    [
        (409, "Conflict", Conflict, False),
        (409, "AlreadyExists", AlreadyExists, False),
        (422, "Invalid", Invalid, False),
        (404, "NotFound", NotFound, False),
        (429, "TooManyRequests", TooManyRequests, False),
        (500, "InternalError", Unavailable, True),
        (503, "ServiceUnavailable", Unavailable, True),
        (504, "Timeout", Unavailable, True),
    ],
)
async def test_a_write_is_sent_once_whatever_the_answer(api, kube, status, reason, error, applied):
    api.status(status, reason, "no", Retry_After="0")
    with pytest.raises(error) as caught:
        await _patch(kube)
    assert (len(api.seen), caught.value.reason, caught.value.maybe_applied) == (1, reason, applied)


@pytest.mark.parametrize("fault", ["cut", "half", "hang", "hang in the body", "nonsense"])
async def test_a_write_without_a_clear_answer_may_have_taken_effect_and_is_sent_once(api, kube, fault):
    match fault:
        case "cut":
            api.cut()
        case "half":
            api.half()
        case "hang":
            api.hang()
        case "hang in the body":
            api.hang(after=b"{")
        case _:
            api.text("<html>")
    kube._timeout = SHORT
    with pytest.raises((Unreachable, Timeout, Malformed)) as caught:
        await _patch(kube)
    assert caught.value.maybe_applied
    assert "may have taken effect" in str(caught.value)
    assert len(api.seen) == 1


@pytest.mark.parametrize("method", ["delete", "patch", "create", "evict"])
async def test_a_write_on_a_kept_connection_that_dies_is_not_sent_again(api, kube, pod, method):
    # aiohttp by itself repeats DELETE and PUT here.
    api.json(pod("a"))
    await kube.get(kinds.POD, "a", "default")
    api.cut()
    call = {
        "delete": lambda: kube.delete(kinds.POD, "a", "default"),
        "patch": lambda: _patch(kube),
        "create": lambda: kube.create(kinds.NODE, {}),
        "evict": lambda: kube.evict("a", "default"),
    }[method]
    with pytest.raises(Unreachable) as caught:
        await call()
    assert caught.value.maybe_applied
    assert len(api.seen) == 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_write_follows_no_redirect(api, kube, status):
    api.text("", status, Location="/elsewhere")
    with pytest.raises(Malformed):
        await kube.create(kinds.NODE, {})
    assert len(api.seen) == 1


async def test_a_write_that_found_no_server_changed_nothing(connect, unused_tcp_port):
    kube = await connect(server=f"http://127.0.0.1:{unused_tcp_port}")
    with pytest.raises(Unreachable) as caught:
        await _patch(kube)
    assert not caught.value.maybe_applied


async def test_create_needs_the_namespace_of_a_namespaced_kind(api, kube):
    with pytest.raises(UsageError):
        await kube.create(kinds.LEASE, {})
    assert api.seen == []


async def test_every_error_says_what_was_asked(api, kube):
    api.status(409, "Conflict", "the object has been modified")
    with pytest.raises(CallFailed, match=r"^PATCH /api/v1/nodes/a: 409 Conflict: the object has been modified$"):
        await _patch(kube)


# only the one that leads


@pytest.fixture
def guard(kube):
    """The guarded door; ``answers`` are given in order, the last one for ever."""

    class Guard:
        answers = [True]  # noqa: RUF012 - each test has its own class
        asked = 0

        def __call__(self):
            self.asked += 1
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    guard = Guard()
    guard.kube = kube.guarded(guard)
    return guard


async def test_who_leads_no_more_does_not_even_connect(api, guard):
    guard.answers = [False]
    with pytest.raises(NotLeading):
        await _patch(guard.kube)
    assert (api.seen, guard.asked) == ([], 1)


async def test_leadership_lost_during_the_handshake_stops_the_call(api, guard):
    guard.answers = [True, False]
    with pytest.raises(NotLeading):
        await _patch(guard.kube)
    assert (api.seen, guard.asked) == ([], 2)


async def test_a_kept_connection_is_asked_about_too(api, guard):
    api.json({})
    await guard.kube.get(kinds.NODE, "a")
    guard.answers = [False]
    for write in (
        lambda: _patch(guard.kube),
        lambda: guard.kube.create(kinds.LEASE, {"metadata": {"name": "l"}}, "default"),
        lambda: guard.kube.delete(kinds.POD, "a", "default"),
        lambda: guard.kube.evict("a", "default"),
    ):
        with pytest.raises(NotLeading):
            await write()
    assert len(api.seen) == 1


async def test_a_new_token_takes_time_so_it_is_asked_again(api, guard, monkeypatch):
    async def renew(self, used):
        guard.answers = [False]
        return True

    monkeypatch.setattr(access.Access, "renew", renew)
    api.status(401, "Unauthorized")
    with pytest.raises(NotLeading):
        await _patch(guard.kube)
    assert len(api.seen) == 1


async def test_what_changes_nothing_is_not_asked_about(api, kube, guard):
    guard.answers = [False]
    for _ in range(3):
        api.json({"status": {"allowed": True}})
    await _patch(guard.kube, dry_run=True)
    await guard.kube.get(kinds.NODE, "a")
    assert await guard.kube.may("get", "pods")
    api.json({})
    await _patch(kube)
    assert (len(api.seen), guard.asked) == (4, 0)
