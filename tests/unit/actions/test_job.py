"""``job.run`` on the simulated cluster: what is made of the template, how its end is told, whose Job it is, when it is removed."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import timedelta

import pytest
import yaml

from remediator.actions import Cilium
from remediator.kube import kinds
from remediator.model import ChangeState, StepState, evolve
from remediator.preview import preview
from remediator.reasons import Reason
from remediator.rights import needed
from remediator.run import StepEnd, template_values
from remediator.sim.controllers import JobEnd
from remediator.undo import undo

FILE = "jobs/check.yaml"
JOB = """\
apiVersion: batch/v1
kind: Job
metadata:
  name: check
  labels: {team: network}
spec:
  template:
    metadata: {labels: {app: check}}
    spec:
      nodeSelector: {kubernetes.io/hostname: "${target.name}"}
      containers:
      - name: check
        image: example.test/check:1
        command: [sh, -c, 'ping -c3 "${REMEDIATOR_TARGET_NAME}"']
        env: [{name: DEPTH, value: "2"}]
"""


@pytest.fixture(autouse=True)
def space(stage):
    stage.cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "checks"}})


@pytest.fixture
def playbook(stage):
    def make(text=JOB, **parameters):
        return stage.playbook("job.run", files={FILE: text}, **{"template": FILE, "namespace": "checks", **parameters})

    return make


@pytest.fixture
def step(stage, playbook):
    async def go(*, dry_run=False, **parameters):
        book = playbook(**parameters)
        return await stage.carry(book, await stage.begin(book, node="node-3", dry_run=dry_run))

    return go


def jobs(stage):
    return stage.cluster.objects("Job", "checks")


def evidence(done):
    return {one.name: one.data for one in done.run.steps[0].evidence}


async def test_it_runs_to_its_end_and_result_and_logs_are_kept(stage, step):
    stage.cluster.jobs.tell("remediator-it-*", JobEnd(log=("3 packets transmitted, 3 received", "token=hunter2secret")))
    done = await step()
    assert done.end is StepEnd.SUCCEEDED, done.detail
    (job,) = jobs(stage)
    assert done.run.steps[0].outcome == f"Job/checks/{job['metadata']['name']} completed, with 1 pods succeeded"
    seen = evidence(done)
    assert seen["job"]["status"]["succeeded"] == 1
    (pod,) = seen["pods"]
    assert (pod["phase"], pod["node"], pod["exit codes"]) == ("Succeeded", "node-3", {"check": 0})
    assert "3 packets transmitted, 3 received" in seen[f"log {pod['name']}/check"]
    assert "hunter2secret" not in str(seen)
    assert seen["plan"][0].startswith(f"create Job/checks/{job['metadata']['name']} from {FILE}: example.test/check:1")
    (change,) = done.run.steps[0].changes
    assert (change.verb, change.state) == ("create", ChangeState.KEPT), "an ended Job is left to its TTL, and to nobody's undo"
    assert not change.left_behind


async def test_what_is_made_of_the_template(stage, playbook):
    book = playbook(lasting="10m")
    run = await stage.begin(book, node="node-3")
    await stage.carry(book, run)
    (job,) = jobs(stage)
    labels = {"app.kubernetes.io/managed-by": "remediator", "remediator.dev/run": run.id, "remediator.dev/step": "0"}
    assert labels.items() <= job["metadata"]["labels"].items()
    assert job["metadata"]["labels"]["team"] == "network"
    spec, template = job["spec"], job["spec"]["template"]
    assert (spec["backoffLimit"], spec["ttlSecondsAfterFinished"]) == (0, 86400)
    assert 0 < spec["activeDeadlineSeconds"] <= 600
    assert (labels | {"app": "check"}).items() <= template["metadata"]["labels"].items()
    assert template["spec"]["nodeSelector"] == {"kubernetes.io/hostname": "node-3"}
    assert template["spec"]["restartPolicy"] == "Never"
    (container,) = template["spec"]["containers"]
    assert container["command"][2] == 'ping -c3 "${REMEDIATOR_TARGET_NAME}"', "a command line is the shell's"
    told = {one["name"]: one.get("value", "") for one in container["env"]}
    assert told == {
        "REMEDIATOR_RUN": run.id,
        "REMEDIATOR_PLAYBOOK": "one-step",
        "REMEDIATOR_TARGET_KIND": "Node",
        "REMEDIATOR_TARGET_NAME": "node-3",
        "REMEDIATOR_TARGET_NAMESPACE": "",
        "DEPTH": "2",
    }


async def test_limits_of_the_template_count(stage, step):
    limits = "  activeDeadlineSeconds: 45\n  backoffLimit: 2\n  ttlSecondsAfterFinished: 600\n  template:"
    done = await step(text=JOB.replace("  template:", limits))
    assert done.end is StepEnd.SUCCEEDED, done.detail
    spec = jobs(stage)[0]["spec"]
    assert [spec[key] for key in ("activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished")] == [45, 2, 600]


async def test_one_that_fails_fails_the_step_with_its_reason_and_its_logs(stage, step):
    stage.cluster.jobs.tell("*", JobEnd(exit_code=3, log=("no route to host",)))
    done = await step()
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.STEP_FAILED)
    assert "failed: BackoffLimitExceeded" in done.detail
    seen = evidence(done)
    (pod,) = seen["pods"]
    assert pod["exit codes"] == {"check": 3}
    assert "no route to host" in seen[f"log {pod['name']}/check"]
    assert done.run.steps[0].changes[0].state is ChangeState.KEPT


async def test_one_that_never_ends_is_over_with_the_step_and_is_then_removed(stage, step):
    stage.cluster.jobs.tell("*", JobEnd(after=None))
    done = await step(lasting="30s")
    assert done.end is StepEnd.FAILED
    assert done.reason is Reason.DEADLINE or "DeadlineExceeded" in done.detail
    assert evidence(done)["job"]["name"].startswith("Job/checks/remediator-it-")


async def test_no_logs_where_none_are_wanted(step):
    done = await step(logs=0)
    assert not [name for name in evidence(done) if name.startswith("log ")]


async def test_a_dry_run_asks_the_server_and_runs_nothing(stage, step):
    done = await step(dry_run=True)
    assert done.end is StepEnd.SUCCEEDED, done.detail
    assert done.run.steps[0].outcome.startswith("would run Job/checks/remediator-it-")
    assert jobs(stage) == []
    (asked,) = [one for one in stage.cluster.request_log if one.resource == "jobs.batch" and one.verb == "create"]
    assert not asked.writes, "with dryRun=All"
    assert "plan" in evidence(done)


async def test_what_the_server_refuses_fails_the_step_and_leaves_nothing(stage, step):
    done = await step(text=JOB.replace("example.test/check:1", '"${target.namespace}"'))
    assert done.end is StepEnd.FAILED
    assert "spec.template.spec.containers[0].image" in done.detail
    assert done.run.steps[0].changes[0].state is ChangeState.ABSENT


async def test_people_who_are_asked_see_what_it_would_do(stage, playbook):
    limited = playbook(text=JOB.replace("  template:", "  activeDeadlineSeconds: 45\n  template:", 1))
    for book, words in ((playbook(), "as long as the step may take"), (limited, "for 45s at most")):
        run = await stage.begin(book, node="node-3")
        await preview(stage.world, book, run, template_values(run, stage.world))
        (seen,) = (await stage.world.journal.run(run.id)).steps[0].evidence
        assert seen.data[0].endswith(f"from {FILE}: example.test/check:1")
        assert seen.data[1] == f"wait for its end, {words}, while up to 0 failed pods are tried again"
    assert jobs(stage) == []


class TestWhoseItIs:
    async def test_a_job_of_that_name_without_our_mark_is_somebody_elses(self, stage, playbook):
        book = playbook()
        run = await stage.begin(book, node="node-3")
        name = f"remediator-it-{hashlib.sha256(f'{run.id}/0'.encode()).hexdigest()[:10]}"
        their = JOB.replace("${target.name}", "node-3").replace("      containers:", "      restartPolicy: Never\n      containers:")
        stage.cluster.create({**yaml.safe_load(their), "metadata": {"name": name, "namespace": "checks"}})
        (theirs,) = jobs(stage)
        done = await stage.carry(book, run)
        assert done.end is StepEnd.FAILED
        assert "somebody else's is there" in done.detail
        assert done.run.steps[0].changes[-1].state is ChangeState.FOREIGN
        assert (await undo(stage.world, done.run)).words == "nothing to undo"
        assert [one["metadata"]["uid"] for one in jobs(stage)] == [theirs["metadata"]["uid"]]

    async def test_an_answer_that_is_lost_makes_no_second_one(self, stage, step):
        stage.cluster.drop(verb="create", path="/jobs$", when="after")
        done = await step()
        assert done.end is StepEnd.SUCCEEDED, done.detail
        assert len(jobs(stage)) == 1
        assert len([path for verb, path in stage.writes() if verb == "create" and "/jobs" in path]) == 1

    async def test_a_protected_namespace_is_left_alone(self, stage, step):
        mark = {"metadata": {"annotations": {"remediator.dev/protected": "true"}}}
        await stage.world.kube.patch(kinds.NAMESPACE, "checks", mark, type="merge")
        done = await step()
        assert (done.end, done.reason) == (StepEnd.FAILED, Reason.PROTECTED)
        assert jobs(stage) == []

    async def test_a_namespace_that_is_not_there(self, step):
        done = await step(namespace="nowhere")
        assert (done.end, done.reason) == (StepEnd.FAILED, Reason.TARGET_MISSING)


class TestUndo:
    @pytest.fixture
    async def begun(self, stage, playbook):
        """A run whose Job is at work, as a crash would leave it."""
        stage.cluster.jobs.tell("*", JobEnd(after=None))
        book = playbook(lasting="50m")
        run = await stage.begin(book, node="node-3")
        carried = asyncio.create_task(stage.carry(book, run))
        await stage.until(lambda: jobs(stage) and jobs(stage)[0]["status"].get("ready"))
        carried.cancel()
        await asyncio.gather(carried, return_exceptions=True)
        return book, await stage.world.journal.run(run.id)

    async def test_it_is_removed_with_its_pods(self, stage, begun):
        _, run = begun
        (job,) = jobs(stage)
        undone = await undo(stage.world, run, unfinished=True)
        assert undone.undone == (f"removed Job/checks/{job['metadata']['name']} and its pods",)
        assert jobs(stage) == []
        await stage.until(lambda: not stage.cluster.objects("Pod", "checks"))
        (deleted,) = [one for one in stage.cluster.writes() if one.verb == "delete" and "/jobs/" in one.path]
        assert deleted.body["preconditions"] == {"uid": job["metadata"]["uid"]}
        assert deleted.body["propagationPolicy"] == "Background"

    async def test_gone_already(self, stage, begun):
        _, run = begun
        kind = stage.cluster.kind("Job")
        stage.cluster.store.remove(kind, stage.cluster.store.get(kind, jobs(stage)[0]["metadata"]["name"], "checks"))
        assert "is gone already" in (await undo(stage.world, run)).words

    async def test_the_run_goes_on_with_the_same_job(self, stage, begun):
        book, run = begun
        (job,) = jobs(stage)
        going = asyncio.create_task(stage.carry(book, run))
        kind = stage.cluster.kind("Pod")
        (pod,) = stage.cluster.store.list(kind, "checks")
        ended = stage.cluster.store.edit(kind, pod)
        ended["status"]["phase"] = "Succeeded"
        stage.cluster.store.replace(kind, ended)
        done = await going
        assert done.end is StepEnd.SUCCEEDED, done.detail
        assert [one["metadata"]["uid"] for one in jobs(stage)] == [job["metadata"]["uid"]]

    async def test_one_that_somebody_removed_fails_the_step(self, stage, begun):
        book, run = begun
        kind = stage.cluster.kind("Job")
        stage.cluster.store.remove(kind, stage.cluster.store.get(kind, jobs(stage)[0]["metadata"]["name"], "checks"))
        done = await stage.carry(book, run)
        assert done.end is StepEnd.FAILED
        assert "somebody removed it" in done.detail


class TestDisruptive:
    def test_the_playbook_says_so(self, playbook):
        assert not playbook().disruptive
        assert playbook(disruptive=True).disruptive

    async def test_then_the_gates_are_asked_right_before_it(self, stage, step):
        node = {"metadata": {"annotations": {"remediator.dev/protected": "true"}}}
        await stage.world.kube.patch(kinds.NODE, "node-3", node, type="merge")
        done = await step(disruptive=True)
        assert (done.end, done.reason) == (StepEnd.REFUSED, Reason.PROTECTED)
        assert jobs(stage) == []


def test_the_rights_are_those_of_the_one_namespace(playbook):
    who = {str(need): by for need, by in needed([playbook()], Cilium()).items() if "action job.run" in by}
    assert set(who) >= {
        "create jobs.batch in checks",
        "delete jobs.batch in checks",
        "get jobs.batch in checks",
        "get pods/log in checks",
    }
    assert not [need for need in who if "secrets" in need or need.endswith("jobs.batch")]


async def test_the_time_that_a_job_may_take_is_what_the_step_has_left(stage, playbook):
    book = playbook(lasting="10m")
    run = await stage.begin(book, node="node-3")
    late = evolve(run.steps[0], state=StepState.RUNNING, started_at=stage.world.clock.now() - timedelta(minutes=8))
    await stage.world.journal.save_step(run.id, late)
    await stage.carry(book, run)
    assert jobs(stage)[0]["spec"]["activeDeadlineSeconds"] <= 120
