"""The numbered points of a faithful drain on the simulated cluster, each in a test named after it.

F: which pods. C: the cordon. E: evicting. W: waiting. R: what is told. F1-F9 and E10 have their pure halves in ``tests/unit/drain``.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import json
from datetime import datetime, timedelta

import pytest

from remediator.kube import kinds
from remediator.model import ChangeState, RunState, evolve
from remediator.reasons import Reason
from remediator.run import StepEnd
from remediator.undo import undo

ACTION = "node.drain"
PATIENT = {"lasting": "30m", "headroom": "10m"}
"""The clock is fast: what a busy machine takes for a second is a minute on it."""


async def drain(stage, *, lasting="30m", headroom="10m", **about):
    return await stage.step(ACTION, lasting=lasting, headroom=headroom, **about)


REAL = r"/eviction\?field"
"""The path of an eviction that is no dry run."""


def owner(kind="ReplicaSet", name="some", version="apps/v1"):
    return {"apiVersion": version, "kind": kind, "name": name, "uid": f"uid-{name}", "controller": True}


def evidence(done, name):
    return next((e.data for e in done.run.steps[0].evidence if e.name == name), None)


def result(done):
    return {line["pod"].split("/")[1]: line for line in evidence(done, "pods")}


def sent(farm, name=""):
    """Names of the pods for which an eviction was sent, refused ones too."""
    return [pod for pod, _ in farm.evictions() if name in pod]


@pytest.fixture
def meanwhile(stage):
    async def carry(act, *, when=None, lasting="30m", headroom="10m", **parameters):
        """Carry a drain; as soon as the node is cordoned (or ``when``) something happens."""
        playbook = stage.playbook(ACTION, lasting=lasting, headroom=headroom, **parameters)
        run = await stage.begin(playbook, node="node-3")
        carrying = asyncio.ensure_future(stage.carry(playbook, run))
        await stage.until(when or (lambda: stage.cluster.get("Node", "node-3")["spec"].get("unschedulable")))
        told = act(run)
        if inspect.isawaitable(told):
            await told
        return await carrying

    return carry


@pytest.fixture
def refused(stage, farm):
    async def refuse(reason, *words, end=StepEnd.REFUSED, **parameters):
        """A drain that is refused before it changes anything: by its gate, or else by itself."""
        done = await drain(stage, **parameters)
        assert (done.end, done.reason) == (end, reason), done.detail
        assert all(word in done.detail for word in words), done.detail
        assert done.run.steps[0].changes == ()
        assert stage.writes() == []
        now = stage.world.clock.now()
        await stage.world.journal.save_run(evolve(done.run, state=RunState.FAILED, ended_at=now))
        await stage.world.clock.sleep(timedelta(seconds=5))
        return done

    return refuse


# --- F: which pods ------------------------------------------------------------------------------------------------------


async def test_f1_mirror_pods_stay(stage, farm):
    await farm.plant(
        farm.bare("static", annotations={"kubernetes.io/config.mirror": "x"}), farm.bare("kubelet", owner=owner("Node", version="v1"))
    )
    done = await drain(stage)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert set(farm.pods()) == {"static", "kubelet"}
    assert result(done)["static"]["outcome"] == "skipped"


async def test_f2_a_daemonset_of_another_kind_is_a_controller_like_any_other(stage, farm):
    await farm.plant(farm.bare("advanced", owner=owner("DaemonSet", version="apps.kruise.io/v1alpha1")))
    done = await drain(stage)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert sent(farm, "advanced") == ["advanced"]


async def test_f3_without_the_right_to_read_daemonsets_nothing_is_drained(stage, farm, refused):
    stage.cluster.fail(verb="list", path="/daemonsets", status=403, count=None)
    await refused(Reason.UNREADABLE, "daemonsets")


async def test_f3_pods_of_a_daemonset_that_is_gone_need_force(stage, farm, refused):
    await farm.plant(farm.bare("orphan", owner=owner("DaemonSet", "gone")))
    await refused(Reason.UNMANAGED_PODS, "apps/orphan", "DaemonSet gone does not exist")
    done = await drain(stage, force=True)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert sent(farm) == ["orphan"] or "orphan" in sent(farm)
    lists = [c for c in farm.calls("list", "/daemonsets") if "remediator" in c.user_agent]
    assert len(lists) == 3, "once by the gate of each drain, and once by the drain itself: not once a pod"


async def test_f4_daemonset_pods_are_never_evicted(stage, farm):
    agents = stage.agents()
    done = await drain(stage)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert stage.agents() == agents
    assert [line["detail"] for name, line in result(done).items() if name.startswith("cilium-")].count("belongs to a DaemonSet") >= 2


async def test_f4_a_daemonset_that_comes_in_the_middle_is_no_reason_to_stop(stage, farm, meanwhile):
    await farm.plant(farm.deployment("web", 2), farm.pdb("web"))
    stage.cluster.hold_budget("web", "apps")
    labels = {"app": "late"}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "c", "image": "example.test/c:1"}], "tolerations": [{"operator": "Exists"}]},
    }
    daemonset = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "late", "namespace": "apps"},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }

    async def come(_run):
        farm.cluster.create(daemonset)
        await stage.until(lambda: any(name.startswith("late") for name in farm.pods()))
        stage.cluster.release_budget("web", "apps")

    done = await meanwhile(come)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert [name.split("-")[0] for name in farm.pods()] == ["late"]


async def test_f5_an_empty_dir_is_not_lost_without_leave(stage, farm, refused):
    await farm.plant(farm.deployment("cache", 1, volumes=[{"name": "data", "emptyDir": {}}]))
    await refused(Reason.LOCAL_STORAGE, "apps/cache-", "has an emptyDir")
    assert (await drain(stage, delete_emptydir_data=True)).end is StepEnd.SUCCEEDED
    assert farm.pods() == {}


async def test_f6_a_pod_without_a_controller_is_not_lost_without_leave(stage, farm, refused):
    await farm.plant(farm.bare("alone"), farm.bare("over"))
    farm.patch_pod("over", lambda pod: pod["status"].update(phase="Succeeded"))
    await refused(Reason.UNMANAGED_PODS, "has no controller: apps/alone")
    assert (await drain(stage, force=True)).end is StepEnd.SUCCEEDED
    assert farm.pods() == {}


async def test_f7_what_is_long_overdue_is_not_waited_for(stage, farm):
    await farm.plant(farm.bare("ghost", owner=owner(), finalizers=["example.test/hold"]), farm.deployment("web", 1))
    await stage.world.kube.delete(kinds.POD, "ghost", "apps")
    await stage.world.clock.sleep(timedelta(seconds=90))
    done = await drain(stage, skip_wait="60s")
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert set(farm.pods()) == {"ghost"}
    assert result(done)["ghost"]["detail"] == "its deletion is long overdue"


async def test_f8_pods_that_are_bound_late_are_found(stage, farm, meanwhile):
    """Pending with a node, after the last one was gone and the first empty list was seen."""
    await farm.plant(farm.deployment("web", 1))
    late = farm.bare("late", owner=owner(), annotations={"controlplane/start-after": "1h"})
    done = await meanwhile(lambda _: farm.cluster.create(late), when=lambda: farm.evictions() and not farm.pods(), quiet_for="30s")
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert result(done)["late"]["outcome"] == "evicted"
    assert farm.pods() == {}


def lists_of_the_node(farm):
    return [c.at for c in farm.calls("list", "/pods") if "spec.nodeName" in str(c.query) and "remediator" in c.user_agent]


async def test_f8_two_lists_without_a_newcomer_are_five_seconds_apart_and_the_last_is_empty(stage, farm):
    await farm.plant(farm.deployment("web", 1))
    done = await drain(stage)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    lists = lists_of_the_node(farm)
    assert lists[-1] - lists[-2] >= timedelta(seconds=5)


async def test_f8_a_newcomer_begins_the_quiet_time_anew(stage, farm, meanwhile):
    await farm.plant(farm.deployment("web", 1))
    came = []

    def comes(_):
        came.append(datetime.fromisoformat(farm.cluster.create(farm.bare("late", owner=owner()))["metadata"]["creationTimestamp"]))

    done = await meanwhile(comes, when=lambda: farm.evictions() and not farm.pods(), quiet_for="30s")
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert [name for name, _ in farm.evictions()][-1].endswith("late")
    assert lists_of_the_node(farm)[-1] - came[0] >= timedelta(seconds=30)


async def test_f8_the_time_that_pods_take_to_stop_counts_as_quiet(stage, farm):
    """One list after the last pod's end, and not a second one some time later."""
    await farm.plant(farm.deployment("web", 1, annotations={"controlplane/stop-after": "20s"}))
    done = await drain(stage)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    emptied = datetime.fromisoformat(evidence(done, "times")["emptied"])
    assert len([at for at in lists_of_the_node(farm) if at >= emptied]) == 1


async def test_f9_everything_that_stands_against_it_is_said_before_anything_is_evicted(stage, farm, refused):
    await farm.plant(farm.bare("alone"), farm.deployment("cache", 1, volumes=[{"name": "d", "emptyDir": {}}]), farm.deployment("web", 2))
    await refused(Reason.UNMANAGED_PODS, "apps/alone", "local_storage: has an emptyDir: apps/cache-")
    assert len(farm.pods()) == 4


# --- C: the cordon ------------------------------------------------------------------------------------------------------


async def test_c1_somebody_elses_cordon_stays_theirs(stage, farm):
    await farm.plant(farm.deployment("web", 1))
    farm.cordon("node-3")
    done = await drain(stage)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert "cordoned already by somebody else" in done.run.steps[0].outcome
    assert (await undo(stage.world, done.run)).words == "nothing to undo"
    assert stage.cluster.get("Node", "node-3")["spec"]["unschedulable"]


async def test_c2_a_node_that_is_gone_ends_it(stage, farm):
    playbook = stage.playbook(ACTION, **PATIENT)
    run = await stage.begin(playbook, node="node-3")
    await stage.world.kube.delete(kinds.NODE, "node-3")
    before = len(stage.writes())
    done = await stage.carry(playbook, run)
    assert (done.end, done.reason) == (StepEnd.REFUSED, Reason.TARGET_MISSING)
    assert len(stage.writes()) == before


async def test_c2_a_node_that_goes_in_the_middle_ends_it(stage, farm, meanwhile):
    await farm.plant(farm.deployment("web", 2), farm.pdb("web"))
    stage.cluster.hold_budget("web", "apps")
    done = await meanwhile(lambda _: stage.world.kube.delete(kinds.NODE, "node-3"))
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.TARGET_CHANGED)


async def test_c3_a_cordon_that_fails_ends_it(stage, farm):
    await farm.plant(farm.deployment("web", 1))
    stage.cluster.fail(verb="patch", path="/nodes/node-3", status=403, count=None)
    done = await drain(stage)
    assert done.end is StepEnd.FAILED
    assert farm.evictions() == []
    assert len(farm.pods()) == 1


async def test_c4_the_cordons_taint_comes_and_daemonsets_put_up_with_it(stage, farm):
    await drain(stage)
    await stage.until(
        lambda: any(t["key"] == "node.kubernetes.io/unschedulable" for t in stage.cluster.get("Node", "node-3")["spec"].get("taints", ()))
    )
    assert stage.cluster.agent_works("node-3")


# --- E: evicting --------------------------------------------------------------------------------------------------------


async def test_e1_a_server_without_policy_v1_evictions_is_refused_clearly(stage, farm, refused):
    stage.cluster.fail(verb="get", path="/version", status=200, text='{"gitVersion": "v1.21.14"}', count=None)
    await refused(Reason.UNREADABLE, "v1.21.14", "1.22 or newer", end=StepEnd.FAILED)


async def test_e2_each_eviction_names_the_uid(stage, farm):
    await farm.plant(farm.deployment("web", 2))
    uids = {name: pod["metadata"]["uid"] for name, pod in farm.pods().items()}
    assert (await drain(stage)).end is StepEnd.SUCCEEDED
    calls = [c for c in farm.calls("create", "/eviction") if not c.dry_run and c.name in uids]
    assert {c.name: c.body["deleteOptions"]["preconditions"]["uid"] for c in calls} == uids
    assert all(c.body["apiVersion"] == "policy/v1" for c in calls)


async def test_e2_a_conflict_is_looked_into(stage, farm):
    await farm.plant(farm.deployment("web", 1))
    stage.cluster.fail(verb="create", path=REAL, status=409, count=1)
    done = await drain(stage)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert farm.calls("get", "/pods/")
    assert [s for _, s in farm.evictions() if s == 409] == [409]


@pytest.mark.parametrize(("uid", "node", "answer"), [("other", "node-3", "gone"), ("uid", "node-4", "gone"), ("uid", "node-3", "busy")])
async def test_e2_a_pod_of_that_name_elsewhere_is_another_one(uid, node, answer):
    import msgspec

    from remediator.drain.eviction import read
    from remediator.kube.errors import Conflict
    from remediator.kube.records import Pod

    def pod(uid, node):
        return msgspec.convert({"metadata": {"name": "db-0", "namespace": "apps", "uid": uid}, "spec": {"nodeName": node}}, Pod)

    class Kube:
        async def get(self, *_args, **_more):
            return pod(uid, node)

    assert (await read(Kube(), pod("uid", "node-3"), Conflict("another uid"))).answer == answer


async def test_e3_a_pod_that_is_not_there_is_done_unless_it_is_there_after_all(stage, farm):
    await farm.plant(farm.deployment("web", 1))
    (name,) = farm.pods()
    stage.cluster.fail(verb="create", path=f"{name}/eviction.field", status=404, count=1)
    done = await drain(stage)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert farm.pods() == {}
    assert [status for pod, status in farm.evictions() if pod == name] == [404, 201]


async def test_e4_a_budget_that_refuses_is_waited_for(stage, farm, meanwhile):
    await farm.plant(farm.deployment("web", 2), farm.pdb("web"))
    stage.cluster.hold_budget("web", "apps")
    done = await meanwhile(
        lambda _: stage.cluster.release_budget("web", "apps"), when=lambda: [s for _, s in farm.evictions()].count(429) >= 2
    )
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert farm.pods() == {}


async def test_e5_retry_after_of_a_server_that_throttles_is_honoured(stage, farm):
    await farm.plant(farm.deployment("web", 3))
    stage.cluster.fail(verb="create", path=REAL, status=429, retry_after=40, count=1)
    done = await drain(stage, parallel=1)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    first, second, *_ = (c.at for c in farm.calls("create", "/eviction") if not c.dry_run)
    assert second - first >= timedelta(seconds=40), "for any pod"


async def test_e5_retry_after_of_a_budget_means_nothing(stage, farm):
    """The budget is watched; a fixed wait would only lose time."""
    from remediator.drain.eviction import Answer, read
    from remediator.kube.errors import TooManyRequests

    error = TooManyRequests("no", causes=(("DisruptionBudget", "needs 2"),), retry_after=10)
    reply = await read(None, None, error)
    assert (reply.answer, reply.after, reply.words) == (Answer.BUDGET, 0.0, "needs 2")


MIGRATION = 'admission webhook "virt-launcher-eviction" denied the request: Eviction triggered evacuation of VMI "apps/web"'
"""KubeVirt's answer, with code 429 and no Retry-After, for as long as it migrates the machine."""


async def test_e5_a_webhook_that_moves_the_pod_itself_is_waited_for(stage, farm):
    await farm.plant(farm.deployment("web", 1))
    (name,) = farm.pods()
    stage.cluster.fail(verb="create", path=f"{name}/eviction.field", status=429, message=MIGRATION, count=25)
    done = await drain(stage)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert farm.pods() == {}
    first, *_, last = (c.at for c in farm.calls("create", f"{name}/eviction") if not c.dry_run)
    assert last - first > timedelta(seconds=100)


async def test_e5_a_webhook_that_never_lets_go_costs_the_whole_time_and_is_named(stage, farm):
    await farm.plant(farm.deployment("web", 1))
    (name,) = farm.pods()
    stage.cluster.fail(verb="create", path=REAL, status=429, message=MIGRATION, count=None)
    began = stage.world.clock.now()
    done = await drain(stage, lasting="5m")
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.DEADLINE), done.detail
    assert stage.world.clock.now() - began >= timedelta(minutes=5)
    assert MIGRATION in done.detail
    assert name in done.detail
    assert result(done)[name]["outcome"] == "left"
    assert MIGRATION in result(done)[name]["detail"]
    whole = [c for c in farm.calls("list", "/pods") if "Selector" not in str(c.query) and "remediator" in c.user_agent]
    assert len(whole) >= 3, "the gates were asked again meanwhile"
    budgets = [c for c in farm.calls("list", "/poddisruptionbudgets") if "remediator" in c.user_agent]
    assert len(budgets) == 2, "but not what forbids to begin: once by its gate, once by the drain"


async def test_e5_a_server_that_fails_again_and_again_is_not_waited_for(stage, farm):
    """A failure is no throttling: after a dozen the pod counts as failed."""
    await farm.plant(farm.deployment("web", 1))
    (name,) = farm.pods()
    stage.cluster.fail(verb="create", path=f"{name}/eviction.field", status=503, message="no endpoints", count=None)
    done = await drain(stage)
    assert (done.end, len(sent(farm, name))) == (StepEnd.FAILED, 12), done.detail
    assert "failed: no endpoints" in done.detail


async def test_e6_two_budgets_on_one_pod_refuse_and_both_are_named(stage, farm, refused):
    await farm.plant(farm.deployment("web", 1), farm.pdb("one", app="web"), farm.pdb("two", app="web"))
    await refused(Reason.PDB, "apps/one and apps/two", "apps/web-")
    assert farm.evictions() == []


async def test_e6_a_second_budget_that_comes_in_the_middle_ends_it(stage, farm, meanwhile):
    await farm.plant(farm.deployment("web", 2), farm.pdb("one", app="web"))
    stage.cluster.hold_budget("one", "apps")
    done = await meanwhile(lambda _: farm.cluster.create(farm.pdb("two", app="web")))
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.PDB)
    assert any(line["outcome"] == "multi_pdb" for line in result(done).values())


async def test_e7_pods_of_a_namespace_that_is_deleted_are_waited_for(stage, farm, meanwhile):
    await farm.plant(farm.deployment("web", 2), farm.pdb("web"))
    stage.cluster.hold_budget("web", "apps")
    done = await meanwhile(lambda _: stage.world.kube.delete(kinds.NAMESPACE, "apps"))
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert {line["outcome"] for name, line in result(done).items() if name.startswith("web")} == {"gone"}


async def test_e7_a_pod_that_is_not_marked_yet_is_tried_again(stage, farm):
    await farm.plant(farm.deployment("web", 1))
    (name,) = farm.pods()
    cause = {"reason": "NamespaceTerminating", "message": "namespace apps is being terminated"}
    body = {"kind": "Status", "reason": "Forbidden", "message": "no", "details": {"causes": [cause]}}
    stage.cluster.fail(verb="create", path=f"{name}/eviction.field", status=403, text=json.dumps(body), count=2)
    done = await drain(stage)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert [s for pod, s in farm.evictions() if pod == name] == [403, 403, 201]


async def test_e8_without_the_right_to_evict_nothing_is_even_cordoned(stage, farm):
    await farm.plant(farm.deployment("web", 1))
    stage.cluster.fail(verb="create", path="/eviction", status=403, count=None)
    done = await drain(stage)
    assert done.end is StepEnd.FAILED
    assert "cannot be evicted" in done.detail
    assert stage.writes() == []
    assert done.run.steps[0].changes == ()


async def test_e8_a_pod_that_may_not_be_evicted_ends_it(stage, farm):
    await farm.plant(farm.deployment("web", 1))
    (name,) = farm.pods()
    stage.cluster.fail(verb="create", path=f"{name}/eviction.field", status=403, count=None)
    done = await drain(stage)
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.STEP_FAILED)
    assert result(done)[name]["outcome"] == "forbidden"
    assert [s for pod, s in farm.evictions() if pod == name] == [403]


async def test_e9_a_server_that_stumbles_is_asked_again_but_not_for_ever(stage, farm):
    await farm.plant(farm.deployment("web", 1))
    (name,) = farm.pods()
    stage.cluster.fail(verb="create", path=f"{name}/eviction.field", status=500, count=2)
    assert (await drain(stage)).end is StepEnd.SUCCEEDED
    assert [s for pod, s in farm.evictions() if pod == name] == [500, 500, 201]


async def test_e9_a_server_that_always_fails_ends_it(stage, farm):
    await farm.plant(farm.deployment("web", 1))
    (name,) = farm.pods()
    stage.cluster.fail(verb="create", path=f"{name}/eviction.field", status=503, count=None)
    done = await drain(stage, lasting="20m")
    assert done.end is StepEnd.FAILED
    assert result(done)[name]["outcome"] == "failed"
    assert 3 <= len(sent(farm, name)) <= 14


async def test_e10_between_two_tries_there_is_always_a_pause(stage, farm):
    await farm.plant(farm.deployment("web", 1), farm.pdb("web"))
    stage.cluster.hold_budget("web", "apps")
    done = await drain(stage, lasting="6m")
    assert done.reason is Reason.PDB
    times = [c.at for c in farm.calls("create", "/pods/web") if not c.dry_run]
    assert 3 <= len(times) <= 60
    assert min(b - a for a, b in itertools.pairwise(times)) >= timedelta(seconds=0.25)


async def test_e11_a_cancelled_drain_leaves_no_task_behind_and_every_outcome_on_disk(stage, farm, meanwhile):
    await farm.plant(farm.deployment("web", 4))
    stage.cluster.slow(timedelta(seconds=60), verb="create", path=REAL, count=None, when="after")

    def one_is_on_its_way():
        return any("deletionTimestamp" in pod["metadata"] for pod in farm.pods().values())

    done = await meanwhile(lambda run: stage.world.signals.cancel(run.id), when=one_is_on_its_way, parallel=2)
    assert (done.end, done.reason) == (StepEnd.CANCELLED, Reason.CANCELLED_BY)
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith(("evict", "reflector"))]
    states = [c.state for c in done.run.steps[0].changes]
    assert states[0] is ChangeState.APPLIED
    assert states[1:]
    assert set(states[1:]) == {ChangeState.KEPT}
    assert len(sent(farm)) <= 2


async def test_e11_the_deadline_ends_a_wait_at_once(stage, farm):
    await farm.plant(farm.deployment("web", 1), farm.pdb("web"))
    stage.cluster.hold_budget("web", "apps")
    began = stage.world.clock.now()
    done = await drain(stage, lasting="6m")
    assert done.reason is Reason.PDB
    assert stage.world.clock.now() - began < timedelta(minutes=12)


async def test_e12_a_pod_that_is_terminating_already_is_only_waited_for(stage, farm):
    await farm.plant(farm.deployment("web", 1, annotations={"controlplane/stop-after": "4m"}, terminationGracePeriodSeconds=300))
    (name,) = farm.pods()
    await stage.world.kube.delete(kinds.POD, name, "apps")
    done = await drain(stage, lasting="20m")
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert sent(farm, name) == []
    assert result(done)[name]["outcome"] == "gone"


@pytest.mark.parametrize("grace", [None, 20])
async def test_e13_grace_is_the_pods_own_unless_said(stage, farm, grace):
    await farm.plant(farm.deployment("web", 1))
    assert (await drain(stage, **({"grace_period": grace} if grace else {}))).end is StepEnd.SUCCEEDED
    options = [c.body["deleteOptions"] for c in farm.calls("create", "/pods/web")]
    assert [o.get("gracePeriodSeconds") for o in options] == [grace] * len(options)


def test_e13_a_grace_of_zero_is_refused():
    from pydantic import ValidationError

    from remediator.actions import actions

    with pytest.raises(ValidationError):
        actions()[ACTION].Parameters(grace_period=0)
    assert actions()[ACTION].Parameters().grace_period is None


async def test_e14_a_lost_answer_is_looked_into_before_anything_is_sent_again(stage, farm):
    await farm.plant(farm.deployment("web", 1))
    (name,) = farm.pods()
    stage.cluster.drop(verb="create", path=f"{name}/eviction.field", when="after")
    done = await drain(stage)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert sent(farm, name) == [name]
    (change,) = [c for c in done.run.steps[0].changes if c.resource.name == name]
    assert change.state is ChangeState.KEPT
    assert "seen to have taken effect" in change.detail


async def test_e14_a_request_that_got_lost_is_sent_again(stage, farm):
    await farm.plant(farm.deployment("web", 1))
    (name,) = farm.pods()
    stage.cluster.drop(verb="create", path=f"{name}/eviction.field", when="before")
    done = await drain(stage)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    states = [c.state for c in done.run.steps[0].changes if c.resource.name == name]
    assert states == [ChangeState.ABSENT, ChangeState.KEPT]


# --- W: waiting ---------------------------------------------------------------------------------------------------------


async def test_w1_a_stateful_sets_pod_that_is_back_elsewhere_is_gone_here(stage, farm):
    stateful = farm.deployment("db", 1) | {"kind": "StatefulSet"}
    stateful["spec"]["serviceName"] = "db"
    await farm.plant(stateful)
    old = farm.pods()["db-0"]["metadata"]["uid"]
    done = await drain(stage)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    await stage.until(lambda: (stage.cluster.get("Pod", "db-0", "apps") or {}).get("spec", {}).get("nodeName"))
    new = stage.cluster.get("Pod", "db-0", "apps")
    assert new["spec"]["nodeName"] != "node-3"
    assert new["metadata"]["uid"] != old
    assert sent(farm, "db-0") == ["db-0"]


async def test_w2_errors_while_it_waits_change_nothing(stage, farm, meanwhile):
    await farm.plant(farm.deployment("web", 2, annotations={"controlplane/stop-after": "40s"}, terminationGracePeriodSeconds=60))

    def trouble(_run):
        stage.cluster.drop_watches("Pod")
        stage.cluster.expire_watches("PodDisruptionBudget")
        stage.cluster.fail(verb="list", path="/pods", status=500, count=15)  # more than one call's own tries
        stage.cluster.drop(verb="watch", path="/pods", count=2)

    done = await meanwhile(trouble, when=lambda: len(sent(farm, "web")) == 2)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert farm.pods() == {}


async def test_w3_it_is_over_when_pods_are_gone_not_when_they_are_marked(stage, farm):
    await farm.plant(farm.deployment("slow", 1, annotations={"controlplane/stop-after": "50s"}, terminationGracePeriodSeconds=60))
    done = await drain(stage)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    step = done.run.steps[0]
    assert step.ended_at - step.started_at >= timedelta(seconds=50)


async def test_w4_a_finalizer_that_holds_a_pod_is_named(stage, farm):
    await farm.plant(farm.bare("held", owner=owner(), finalizers=["example.test/hold"]))
    done = await drain(stage, headroom="20s")
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.DEADLINE)
    assert "example.test/hold" in done.detail
    assert result(done)["held"] == {"pod": "apps/held", "outcome": "stuck_terminating", "detail": "held by finalizers example.test/hold"}


async def test_w5_each_pod_has_its_own_deadline_of_grace_and_headroom(stage, farm):
    await farm.plant(farm.bare("held", owner=owner(), finalizers=["example.test/hold"]))
    done = await drain(stage, headroom="20s", lasting="15m")
    step = done.run.steps[0]
    assert timedelta(seconds=25) <= step.ended_at - step.started_at < timedelta(minutes=10)


@pytest.mark.parametrize("unreachable", ["fail", "mark"])
async def test_w6_an_unreachable_node_is_never_called_drained(stage, farm, unreachable):
    await farm.plant(farm.deployment("web", 2), farm.pdb("web", maxUnavailable=1, unhealthyPodEvictionPolicy="AlwaysAllow"))
    stage.cluster.stop_kubelet("node-3")
    await stage.until(lambda: stage.cluster.get("Node", "node-3")["spec"].get("taints"))
    done = await drain(stage, unreachable=unreachable, lasting="10m")
    words = done.detail + done.run.steps[0].outcome
    assert done.end is (StepEnd.FAILED if unreachable == "fail" else StepEnd.SUCCEEDED), done.detail
    assert "unreachable" in words
    assert "it is not drained" in words
    assert all("deletionTimestamp" in pod["metadata"] for pod in farm.pods().values())
    assert len(farm.pods()) == 2
    graces = {c.body["deleteOptions"]["gracePeriodSeconds"] for c in farm.calls("create", "/pods/web") if not c.dry_run}
    assert graces == {1}


async def test_w7_waiting_costs_a_watch_and_no_get_for_each_pod(stage, farm):
    await farm.plant(farm.deployment("web", 20, annotations={"controlplane/stop-after": "20s"}, terminationGracePeriodSeconds=30))
    done = await drain(stage, parallel=20)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    ours = [c for c in stage.cluster.request_log.entries if "remediator" in c.user_agent and c.service == "kubernetes"]
    ours = ours[next(index for index, c in enumerate(ours) if c.verb == "watch") :]  # what the gates read comes before
    assert [c for c in ours if c.verb == "get" and "/pods/" in c.path] == []
    marks = ("/api/v1/nodes/node-3", "/api/v1/namespaces/apps")  # looked at before calls that go out, at most once a second
    assert len([c for c in ours if c.verb in ("list", "watch") or (c.verb == "get" and c.path not in marks)]) <= 20
    assert len([c for c in ours if c.verb == "watch" and c.path.endswith("/pods")]) == 1


async def test_w7_a_watch_that_says_nothing_is_made_good_by_a_list(stage, farm, monkeypatch):
    from remediator.drain.sight import Sight

    monkeypatch.setattr(Sight, "_drop", lambda *_: None)
    await farm.plant(farm.deployment("web", 1))
    done = await drain(stage)
    assert done.end is StepEnd.SUCCEEDED, done.detail


def volume(name, node="node-3"):
    spec = {"attacher": "csi.example.test", "nodeName": node, "source": {"persistentVolumeName": name}}
    return {"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment", "metadata": {"name": f"va-{name}-{node}"}, "spec": spec}


async def test_w8_volumes_are_detached_before_it_is_over(stage, farm, meanwhile):
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": "apps"},
        "spec": {"volumeName": "pv-1"},
    }
    there = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "pv-1"}, "spec": {}}
    for thing in (claim, there, volume("pv-1"), volume("pv-2"), volume("pv-1", "node-4")):
        farm.cluster.create(thing)
    await farm.plant(farm.deployment("db", 1, volumes=[{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]))

    async def detach(run):
        until = stage.world.clock.now() + timedelta(minutes=20)
        while (told := (await stage.world.journal.run(run.id)).steps[0]).detail != "every pod is gone; still attached: pv-1":
            assert stage.world.clock.now() < until, told.detail
            await stage.world.clock.sleep(timedelta(seconds=5))
        assert told.state == "running"
        await stage.world.kube.delete(kinds.VOLUME_ATTACHMENT, "va-pv-1-node-3")

    done = await meanwhile(detach, when=lambda: not farm.pods())
    assert done.end is StepEnd.SUCCEEDED, done.detail
    (change,) = [c for c in done.run.steps[0].changes if c.resource.name.startswith("db")]
    assert change.before["volumes"] == ["pv-1"]


# --- R: what is told ----------------------------------------------------------------------------------------------------


async def test_r1_a_partial_drain_failed_and_says_how_each_pod_ended(stage, farm):
    await farm.plant(
        farm.deployment("web", 2),
        farm.pdb("web"),
        farm.deployment("api", 1),
        farm.bare("static", annotations={"kubernetes.io/config.mirror": "x"}),
    )
    stage.cluster.hold_budget("web", "apps")
    done = await drain(stage, lasting="6m")
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.PDB)
    lines = result(done)
    by = {prefix: {line["outcome"] for name, line in lines.items() if name.startswith(prefix)} for prefix in ("web", "api", "static")}
    assert by["web"] == {"blocked_by_pdb"}
    assert by["api"] == {"evicted"}
    assert by["static"] == {"skipped"}
    assert any("needs" in line["detail"] and "healthy pods" in line["detail"] for line in lines.values())
    assert "2 of" in done.detail
    assert "web" in done.detail


async def test_r2_a_dry_run_ends_also_where_a_budget_never_yields(stage, farm):
    await farm.plant(farm.deployment("web", 2), farm.pdb("web"))
    stage.cluster.hold_budget("web", "apps")
    done = await drain(stage, dry_run=True)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert "2 would have to wait for a budget" in done.run.steps[0].outcome
    tried = [c.name for c in farm.calls("create", "/pods/web") if c.dry_run]
    assert set(tried) == set(farm.pods())
    assert len(tried) == len(farm.pods()) + 1, "one of them before the cordon, as a live drain does"
    assert farm.evictions() == []


async def test_r3_what_a_budget_says_is_shown_while_it_waits(stage, farm, meanwhile):
    await farm.plant(farm.deployment("web", 2), farm.pdb("web"))
    stage.cluster.hold_budget("web", "apps")
    said = []

    async def read(run):
        until = stage.world.clock.now() + timedelta(minutes=20)
        while "blocked_by_pdb" not in (told := (await stage.world.journal.run(run.id)).steps[0].detail):
            assert stage.world.clock.now() < until, told
            await stage.world.clock.sleep(timedelta(seconds=5))
        said.append(told)
        stage.cluster.release_budget("web", "apps")

    done = await meanwhile(read, when=lambda: [s for _, s in farm.evictions()].count(429) >= 2)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert "blocked_by_pdb" in said[0]
    assert "web" in said[0]
    assert "of 2 pods left" in said[0] or "pods left" in said[0]
    assert "apps/web (maxUnavailable 1, allows" in said[0], "the budget's headroom is told"


# --- more than the list -------------------------------------------------------------------------------------------------


async def test_a_budget_that_can_never_yield_refuses_unless_the_playbook_names_it(stage, farm, refused, meanwhile):
    await farm.plant(farm.deployment("db", 1), farm.pdb("db", minAvailable=1))
    await refused(Reason.PDB, "apps/db can never yield (minAvailable 1, allows 0 now: 1 of 1 healthy, 1 needed)")

    async def operator_clears(_run):
        await stage.world.kube.patch(kinds.PDB, "db", {"spec": {"minAvailable": 0}}, "apps", type="merge")

    done = await meanwhile(operator_clears, allow_zero_budget=["db"])
    assert done.end is StepEnd.SUCCEEDED, done.detail


async def test_ordinary_pods_are_gone_before_critical_ones_are_asked_to_go(stage, farm):
    slow = {"controlplane/stop-after": "15s"}
    await farm.plant(
        farm.deployment("dns", 1, priorityClassName="system-cluster-critical"),
        farm.deployment("web", 1, annotations=slow, terminationGracePeriodSeconds=30),
    )
    done = await drain(stage)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    at = {c.name.split("-")[0]: c.at for c in farm.calls("create", "/eviction") if not c.dry_run}
    assert at["dns"] - at["web"] >= timedelta(seconds=15)


async def test_evictions_behind_a_watched_budget_are_rarely_refused(stage, farm):
    await farm.plant(farm.deployment("web", 8), farm.pdb("web", maxUnavailable="25%"))
    done = await drain(stage, lasting="15m")
    assert done.end is StepEnd.SUCCEEDED, done.detail
    statuses = [status for name, status in farm.evictions() if name.startswith("web")]
    assert statuses.count(201) == 8
    assert statuses.count(429) <= 2


async def test_no_more_evictions_are_under_way_at_once_than_the_playbook_says(stage, farm):
    await farm.plant(farm.deployment("web", 6))
    stage.cluster.slow(timedelta(seconds=60), verb="create", path=REAL, count=None, when="before")
    done = await drain(stage, lasting="50m", parallel=2)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    evictions = [c for c in done.run.steps[0].changes if c.verb == "evict"]
    under_way = [sum(other.at <= one.at < other.ended_at for other in evictions) for one in evictions]
    assert max(under_way) == 2


async def test_a_pod_that_comes_back_since_it_tolerates_the_cordon_does_not_keep_it_busy(stage, farm):
    await farm.plant(
        farm.deployment("tolerant", 1, tolerations=[{"operator": "Exists"}], nodeSelector={"kubernetes.io/hostname": "node-3"})
    )
    done = await drain(stage)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert len(sent(farm, "tolerant")) == 1
    assert any(line["detail"] == "came back, since it tolerates the cordon" for line in result(done).values())
