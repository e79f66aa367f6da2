"""The door to Kubernetes against the simulated cluster and a real control plane: one and the same expectations.

A test that passes on one and fails on the other has found a fault in the simulated cluster.
"""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from datetime import timedelta
from pathlib import Path

import pytest

from remediator.clock import ManualClock, SystemClock
from remediator.kube import Handlers, Kube, Reflector, kinds
from remediator.kube import client as client_module
from remediator.kube.elector import EVERY, LASTS, Elector
from remediator.kube.errors import (
    AlreadyExists,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    SeveralBudgets,
    TooManyRequests,
    Unauthorized,
)
from remediator.kube.records import CiliumNode, Lease, Node, Pod
from remediator.kube.workloads import PodDisruptionBudget

NAMESPACE = "default"
PATIENCE = timedelta(seconds=60)


@pytest.fixture(params=["simulated", pytest.param("real", marks=pytest.mark.controlplane)])
def cluster(request):
    """How to connect to the one or the other."""
    if request.param == "simulated":
        return {"server": request.getfixturevalue("simulation").url}
    return {"kubeconfig": Path(request.getfixturevalue("control_plane").kubeconfig)}


@pytest.fixture
async def kube(cluster):
    async with await Kube.connect(**cluster) as kube:
        yield kube


@pytest.fixture
async def own(kube):
    """Creates objects under a label of this test's own; all of them go when it ends."""
    mark = f"door-{uuid.uuid4().hex[:8]}"
    made = []

    class Own:
        label = f"test={mark}"

        @staticmethod
        def body(name, **rest):
            return {"metadata": {"name": f"{mark}-{name}", "labels": {"test": mark}}, **rest}

        async def create(self, kind, name, **rest):
            thing = await kube.create(kind, self.body(name, **rest), NAMESPACE if kind.namespaced else "")
            made.append((kind, thing["metadata"]["name"]))
            return thing

    yield Own()
    for kind, name in reversed(made):
        try:
            await kube.delete(kind, name, NAMESPACE if kind.namespaced else "")
        except NotFound:
            continue


def _pod(own, name):
    return own.body(name, spec={"containers": [{"name": "a", "image": "nowhere.test/a:1"}], "terminationGracePeriodSeconds": 1})


async def _ready_pod(kube, own, name):
    made = await own.create(kinds.POD, name, spec=_pod(own, name)["spec"])
    fields = f"metadata.name={made['metadata']['name']}"
    async with Reflector(kube, kinds.POD, Pod, clock=SystemClock(), namespace=NAMESPACE, fields=fields) as pods:
        pod = await pods.wait_for(lambda r: next((pod for pod in r.items.values() if pod.ready), None), PATIENCE)
    assert pod is not None, "the pod did not become ready"
    return pod


# reading


async def test_one_of_two_leads_and_the_other_follows(kube, own):
    """With time of its own, so that nobody waits for real."""
    name, ticks, clock = own.body("leader")["metadata"]["name"], [0.0], ManualClock()
    first, second = [
        Elector(kube, clock, name=name, namespace=NAMESPACE, identity=who, ticks=lambda: ticks[0]) for who in ("first", "second")
    ]
    leading = asyncio.create_task(first.campaign())
    try:
        await _after(lambda: clock.next_deadline() is not None)
        ticks[0] += LASTS.total_seconds()
        clock.advance(EVERY)
        await leading
        follower = asyncio.create_task(second.campaign())
        await _after(lambda: clock.next_deadline() is not None)
        assert (first.leads, second.leads, second.holder) == (True, False, "first")
        keeping = asyncio.create_task(first.keep())
        await asyncio.sleep(0)
        await first.release()
        clock.advance(EVERY)
        await asyncio.gather(follower, keeping)
        assert (first.leads, second.leads) == (False, True)
        spec = (await kube.get(kinds.LEASE, name, NAMESPACE))["spec"]
        assert (spec["holderIdentity"], spec["leaseTransitions"], spec["leaseDurationSeconds"]) == ("second", 1, LASTS.total_seconds())
        await kube.patch(kinds.LEASE, name, {"spec": {"holderIdentity": "somebody"}}, NAMESPACE, type="merge")
        losing = asyncio.create_task(second.keep())
        await asyncio.sleep(0)
        clock.advance(EVERY)
        assert await losing == "somebody holds the lease"
    finally:
        await kube.delete(kinds.LEASE, name, NAMESPACE)


async def _after(look):
    async with asyncio.timeout(20):
        while not look():  # noqa: ASYNC110 - the clock tells nobody who sleeps on it
            await asyncio.sleep(0)


async def test_the_server_is_ready_and_tells_its_version(kube):
    assert (await kube.version()).startswith("v1.")
    assert await kube.ready()


async def test_nodes_are_there(kube):
    listing = await kube.list(kinds.NODE, decode=Node)
    assert len(listing.items) >= 3
    assert int(listing.resource_version) > 0
    node = listing.items[0]
    assert (node.uid, node.ready, node.unschedulable) != ("", False, True)
    assert node.addresses
    whole = await kube.get(kinds.NODE, node.name)
    assert (whole["kind"], whole["apiVersion"], whole["metadata"]["uid"]) == ("Node", "v1", node.uid)
    assert (await kube.get(kinds.NODE, node.name, decode=Node)).uid == node.uid
    (same,) = (await kube.list(kinds.NODE, fields=f"metadata.name={node.name}")).items
    assert (same["kind"], same["metadata"]["uid"]) == ("Node", node.uid)


@pytest.mark.parametrize("kind", [kinds.NODE, kinds.POD, kinds.DAEMONSET, kinds.LEASE], ids=str)
async def test_what_is_not_there_is_not_found(kube, kind):
    with pytest.raises(NotFound) as caught:
        await kube.get(kind, "nobody", NAMESPACE)
    assert (caught.value.status, caught.value.reason) == (404, "NotFound")
    assert "nobody" in caught.value.message


async def test_a_kind_that_the_cluster_does_not_know_is_not_found(kube):
    unknown = kinds.Kind("nowhere.test", "v1", "Thing", "things")
    with pytest.raises(NotFound):
        await kube.list(unknown)


async def test_pages_add_up(kube, own, monkeypatch):
    for number in range(5):
        await own.create(kinds.LEASE, f"l{number}", spec={})
    monkeypatch.setattr(client_module, "PAGE", 2)
    listing = await kube.list(kinds.LEASE, NAMESPACE, labels=own.label, decode=Lease)
    assert [lease.name[-2:] for lease in listing.items] == ["l0", "l1", "l2", "l3", "l4"]
    everywhere = await kube.list(kinds.LEASE, labels=own.label)
    assert len(everywhere.items) == 5
    assert len((await kube.list(kinds.LEASE, NAMESPACE, labels=own.label, limit_total=3)).items) == 3
    assert (await kube.list(kinds.LEASE, NAMESPACE, labels=f"{own.label},!test")).items == []
    with pytest.raises(Invalid):
        await kube.list(kinds.LEASE, NAMESPACE, labels="a in (")
    with pytest.raises(Invalid):
        await kube.list(kinds.LEASE, NAMESPACE, fields="spec.holderIdentity=x")


# writing


async def test_create_get_delete(kube, own):
    lease = await own.create(kinds.LEASE, "a", spec={"holderIdentity": "me", "renewTime": "2026-01-05T10:00:00.000000Z"})
    name, uid = lease["metadata"]["name"], lease["metadata"]["uid"]
    assert uid
    with pytest.raises(AlreadyExists) as caught:
        await kube.create(kinds.LEASE, own.body("a"), NAMESPACE)
    assert (caught.value.status, caught.value.reason) == (409, "AlreadyExists")
    assert (await kube.get(kinds.LEASE, name, NAMESPACE, decode=Lease)).spec.holder_identity == "me"
    with pytest.raises(Conflict):
        await kube.delete(kinds.LEASE, name, NAMESPACE, uid=str(uuid.uuid4()))
    await kube.delete(kinds.LEASE, name, NAMESPACE, uid=uid, dry_run=True)
    assert (await kube.get(kinds.LEASE, name, NAMESPACE))["metadata"]["uid"] == uid
    await kube.delete(kinds.LEASE, name, NAMESPACE, uid=uid, request_id=str(uuid.uuid4()))
    with pytest.raises(NotFound):
        await kube.get(kinds.LEASE, name, NAMESPACE)
    with pytest.raises(NotFound):
        await kube.delete(kinds.LEASE, name, NAMESPACE)


async def test_a_dry_run_changes_nothing(kube, own):
    predicted = await kube.create(kinds.LEASE, own.body("dry", spec={}), NAMESPACE, dry_run=True)
    assert predicted["metadata"]["uid"]
    with pytest.raises(NotFound):
        await kube.get(kinds.LEASE, predicted["metadata"]["name"], NAMESPACE)
    real = await own.create(kinds.LEASE, "real", spec={"holderIdentity": "a"})
    name = real["metadata"]["name"]
    shown = await kube.patch(kinds.LEASE, name, {"spec": {"holderIdentity": "b"}}, NAMESPACE, type="merge", dry_run=True)
    assert shown["spec"]["holderIdentity"] == "b"
    after = await kube.get(kinds.LEASE, name, NAMESPACE)
    assert after["metadata"]["resourceVersion"] == real["metadata"]["resourceVersion"]
    assert after["spec"]["holderIdentity"] == "a"


async def test_every_type_of_patch(kube, own):
    lease = await own.create(kinds.LEASE, "p", spec={"holderIdentity": "a"})
    name, uid = lease["metadata"]["name"], lease["metadata"]["uid"]

    async def patch(body, kind):
        return (await kube.patch(kinds.LEASE, name, body, NAMESPACE, type=kind))["spec"].get("holderIdentity")

    assert await patch({"spec": {"holderIdentity": "b"}}, "merge") == "b"
    assert await patch({"spec": {"holderIdentity": "c"}}, "strategic") == "c"
    test = {"op": "test", "path": "/metadata/uid", "value": uid}
    assert await patch([test, {"op": "replace", "path": "/spec/holderIdentity", "value": "d"}], "json") == "d"
    head = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
    assert await patch({**head, "spec": {"holderIdentity": "e"}}, "apply") == "e"
    assert await patch({"spec": {"holderIdentity": None}}, "merge") is None


async def test_writes_carry_our_field_manager(kube, own):
    lease = await own.create(kinds.LEASE, "m", spec={"holderIdentity": "a"})
    name = lease["metadata"]["name"]
    patched = await kube.patch(kinds.LEASE, name, {"metadata": {"annotations": {"a": "b"}}}, NAMESPACE, type="merge")
    assert {entry["manager"] for entry in patched["metadata"]["managedFields"]} == {"remediator"}


async def test_what_depends_on_a_read_fails_when_the_object_changed(kube, own):
    lease = await own.create(kinds.LEASE, "c", spec={"holderIdentity": "a"})
    name, version = lease["metadata"]["name"], lease["metadata"]["resourceVersion"]
    await kube.patch(kinds.LEASE, name, {"spec": {"holderIdentity": "b"}}, NAMESPACE, type="merge")
    stale = {"metadata": {"resourceVersion": version}, "spec": {"holderIdentity": "c"}}
    with pytest.raises(Conflict) as caught:
        await kube.patch(kinds.LEASE, name, stale, NAMESPACE, type="merge")
    assert (caught.value.status, caught.value.maybe_applied) == (409, False)
    other = {"metadata": {"uid": str(uuid.uuid4())}, "spec": {"holderIdentity": "c"}}
    with pytest.raises(Invalid):
        await kube.patch(kinds.LEASE, name, other, NAMESPACE, type="merge")
    for test in ({"path": "/metadata/resourceVersion", "value": version}, {"path": "/spec/holderIdentity", "value": "a"}):
        with pytest.raises(Invalid) as refused:
            await kube.patch(kinds.LEASE, name, [{"op": "test", **test}], NAMESPACE, type="json")
        assert refused.value.status == 422
    assert (await kube.get(kinds.LEASE, name, NAMESPACE))["spec"]["holderIdentity"] == "b"


async def test_a_value_of_the_wrong_type_is_refused(kube, own):
    with pytest.raises(Invalid):
        await kube.create(kinds.LEASE, own.body("s", spec={"holderIdentity": 7}), NAMESPACE)
    lease = await own.create(kinds.LEASE, "s", spec={})
    with pytest.raises(Invalid):
        await kube.patch(kinds.LEASE, lease["metadata"]["name"], {"metadata": {"labels": {"a": "no spaces"}}}, NAMESPACE, type="merge")


async def test_a_strategic_patch_is_not_for_custom_resources(kube, own):
    try:
        await kube.list(kinds.CILIUM_NODE)
    except NotFound:
        pytest.skip("the control plane has no CiliumNode (REMEDIATOR_CRDS names the folder of released CRDs)")
    made = await own.create(kinds.CILIUM_NODE, "n", spec={})
    name = made["metadata"]["name"]
    with pytest.raises(Invalid) as caught:
        await kube.patch(kinds.CILIUM_NODE, name, {"metadata": {"labels": {"a": "b"}}}, type="strategic")
    assert caught.value.status == 415
    await kube.patch(kinds.CILIUM_NODE, name, {"metadata": {"labels": {"a": "b"}}}, type="merge")
    assert (await kube.get(kinds.CILIUM_NODE, name, decode=CiliumNode)).labels["a"] == "b"


# evicting


async def test_an_eviction_asks_for_this_very_pod(kube, own):
    pod = await _ready_pod(kube, own, "e")
    with pytest.raises(NotFound):
        await kube.evict("nobody", NAMESPACE)
    with pytest.raises(Conflict):
        await kube.evict(pod.name, NAMESPACE, uid=str(uuid.uuid4()))
    await kube.evict(pod.name, NAMESPACE, uid=pod.uid, dry_run=True)
    assert not (await kube.get(kinds.POD, pod.name, NAMESPACE, decode=Pod)).terminating
    fields = f"metadata.name={pod.name}"
    async with Reflector(kube, kinds.POD, Pod, clock=SystemClock(), namespace=NAMESPACE, fields=fields) as pods:
        await pods.synced.wait()
        await kube.evict(pod.name, NAMESPACE, uid=pod.uid)
        assert await pods.wait_for(lambda r: len(r) == 0, PATIENCE), "the evicted pod did not go"


async def test_a_budget_forbids_and_two_budgets_never_yield(kube, own):
    pod = await _ready_pod(kube, own, "b")
    selector = {"matchLabels": dict(part.split("=") for part in [own.label])}
    await own.create(kinds.PDB, "one", spec={"minAvailable": 1, "selector": selector})
    async with Reflector(kube, kinds.PDB, PodDisruptionBudget, clock=SystemClock(), namespace=NAMESPACE, labels=own.label) as budgets:
        settled = await budgets.wait_for(lambda r: any(b.status.current_healthy == 1 for b in r.items.values()), PATIENCE)
    assert settled, "the budget was never counted"
    for dry_run in (False, True):
        with pytest.raises(TooManyRequests) as caught:
            await kube.evict(pod.name, NAMESPACE, dry_run=dry_run)
        assert (caught.value.status, caught.value.reason, caught.value.maybe_applied) == (429, "TooManyRequests", False)
        assert "needs 1 healthy pods and has 1 currently" in caught.value.budget
    await own.create(kinds.PDB, "two", spec={"minAvailable": 1, "selector": selector})
    with pytest.raises(SeveralBudgets) as several:
        await kube.evict(pod.name, NAMESPACE)
    assert several.value.status == 500


# following


async def test_a_reflector_follows(kube, own):
    await own.create(kinds.LEASE, "old", spec={"holderIdentity": "a"})
    said = asyncio.Queue()
    reflector = Reflector(kube, kinds.LEASE, Lease, clock=SystemClock(), namespace=NAMESPACE, labels=own.label)
    reflector.subscribe(
        Handlers(
            added=lambda lease: said.put_nowait(("added", lease.name[-3:])),
            updated=lambda old, new: said.put_nowait((old.spec.holder_identity, new.spec.holder_identity)),
            deleted=lambda lease: said.put_nowait(("deleted", lease.name[-3:])),
        )
    )
    async with asyncio.timeout(30), reflector:
        assert await said.get() == ("added", "old")
        new = await own.create(kinds.LEASE, "new", spec={"holderIdentity": "a"})
        assert await said.get() == ("added", "new")
        await kube.patch(kinds.LEASE, new["metadata"]["name"], {"spec": {"holderIdentity": "b"}}, NAMESPACE, type="merge")
        assert await said.get() == ("a", "b")
        await kube.patch(kinds.LEASE, new["metadata"]["name"], {"metadata": {"labels": {"test": None}}}, NAMESPACE, type="merge")
        assert await said.get() == ("deleted", "new")
        assert reflector.stale_since is None
        assert reflector.lists == 1


async def test_a_reflector_goes_on_after_its_watch_ends(kube, own):
    class Hasty(SystemClock):
        async def sleep(self, duration):
            await super().sleep(min(duration, timedelta(seconds=0.05)))

    first = await own.create(kinds.LEASE, "one", spec={})
    # 300 ms of silence end each watch, so that several follow one another.
    silence = timedelta(milliseconds=300)
    reflector = Reflector(kube, kinds.LEASE, Lease, clock=Hasty(), namespace=NAMESPACE, labels=own.label, silence=silence)
    async with asyncio.timeout(30), reflector:
        for _ in range(3):
            while reflector.error is None:  # noqa: ASYNC110 - the cache does not tell of its own trouble
                await asyncio.sleep(0.01)
            while reflector.stale_since is not None:  # noqa: ASYNC110 - the same
                await asyncio.sleep(0.01)
        mark = {"metadata": {"annotations": {"seen": "1"}}}
        await kube.patch(kinds.LEASE, first["metadata"]["name"], mark, NAMESPACE, type="merge")
        assert await reflector.wait_for(lambda r: any(lease.annotations for lease in r.items.values()), PATIENCE)


# on the real server only: the simulated one knows neither users nor the whole schema


@pytest.mark.controlplane
async def test_a_field_that_does_not_exist_is_refused_and_not_dropped(control_plane):
    body = {"metadata": {"name": f"door-{uuid.uuid4().hex[:8]}"}, "spec": {"holderIdentiti": "a"}}
    async with await Kube.connect(kubeconfig=Path(control_plane.kubeconfig)) as kube:
        with pytest.raises(Invalid, match="holderIdentiti"):
            await kube.create(kinds.LEASE, body, NAMESPACE)
        node = (await kube.list(kinds.NODE, limit_total=1, decode=Node)).items[0]
        with pytest.raises(Invalid, match="unschedulible"):
            await kube.patch(kinds.NODE, node.name, {"spec": {"unschedulible": True}}, type="strategic")


def _credentials(control_plane):
    config = json.loads(Path(control_plane.kubeconfig).read_text())
    cluster = config["clusters"][0]["cluster"]
    ca = (
        base64.b64decode(cluster["certificate-authority-data"])
        if "certificate-authority-data" in cluster
        else Path(cluster["certificate-authority"]).read_bytes()
    )
    return cluster["server"], ca, config["users"][0]["user"]["token"]


@pytest.mark.controlplane
async def test_the_audit_log_names_our_request_ids(control_plane):
    wanted = {verb: str(uuid.uuid4()) for verb in ("create", "patch", "delete")}
    name = f"door-{uuid.uuid4().hex[:8]}"
    async with await Kube.connect(kubeconfig=Path(control_plane.remediator)) as kube:
        await kube.create(kinds.LEASE, {"metadata": {"name": name}}, NAMESPACE, request_id=wanted["create"])
        await kube.patch(kinds.LEASE, name, {"spec": {"holderIdentity": "a"}}, NAMESPACE, type="merge", request_id=wanted["patch"])
        await kube.delete(kinds.LEASE, name, NAMESPACE, request_id=wanted["delete"])

    def logged():
        return {event["verb"]: event["auditID"] for event in control_plane.writes() if event["objectRef"].get("name") == name}

    await asyncio.to_thread(control_plane.wait_for, "three entries in the audit log", lambda: len(logged()) == 3, seconds=10)
    assert logged() == wanted


@pytest.mark.controlplane
async def test_a_pods_account_reaches_the_server_and_its_rotation_is_noticed(control_plane, tmp_path):
    from remediator.kube import access, connection

    server, ca, token = _credentials(control_plane)
    host, _, port = server.removeprefix("https://").rpartition(":")
    (tmp_path / "ca.crt").write_bytes(ca)
    (tmp_path / "token").write_text("an-old-token")
    environ = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
    way = await access.load(kubeconfig=None, context=None, server=None, environ=environ, service_account=tmp_path)
    wire = connection.Connection(way, user_agent="remediator/test", clock=SystemClock())
    async with Kube(wire, timedelta(seconds=10), connection.Request) as kube:
        with pytest.raises(Unauthorized):
            await kube.list(kinds.NODE)
        (tmp_path / "token").write_text(token + "\n")
        assert (await kube.list(kinds.NODE)).items


@pytest.mark.controlplane
async def test_a_stranger_is_forbidden_or_unauthorized(control_plane, tmp_path):
    server, ca, token = _credentials(control_plane)
    (tmp_path / "ca.crt").write_bytes(ca)

    def kubeconfig(user):
        file = tmp_path / "kc"
        cluster = {"server": server, "certificate-authority": "ca.crt"}
        users = [{"name": "u", "user": user}]
        context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
        file.write_text(
            json.dumps({"current-context": "c", "clusters": [{"name": "c", "cluster": cluster}], "users": users, "contexts": [context]})
        )
        return file

    async with await Kube.connect(kubeconfig=kubeconfig({"token": "wrong"})) as kube:
        with pytest.raises(Unauthorized):
            await kube.list(kinds.NODE)
    async with await Kube.connect(kubeconfig=kubeconfig({})) as kube:
        with pytest.raises(Forbidden, match="system:anonymous"):
            await kube.delete(kinds.NODE, "node-1")
    async with await Kube.connect(kubeconfig=kubeconfig({"token": token})) as kube:
        assert (await kube.list(kinds.NODE)).items
