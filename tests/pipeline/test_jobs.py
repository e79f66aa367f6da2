"""Runs whose step is a Job, through the whole daemon: what becomes of the Job when its run ends, and which text a run goes on with."""

from __future__ import annotations

import pytest

from remediator.sim.controllers import JobEnd

STEP = {"check": {"action": "job.run", "template": "jobs/check.yaml", "namespace": "apps", "timeout": "20m"}}
JOB = """\
apiVersion: batch/v1
kind: Job
spec:
  template:
    spec:
      containers: [{name: check, image: "example.test/check:1"}]
"""


def jobs(house):
    return house.stage.cluster.objects("Job", "apps")


@pytest.fixture
def begun(house, text):
    """``await begun()``: a run whose Job is at work."""

    async def begin(end=None, **more):
        house.stage.cluster.jobs.tell("*", end or JobEnd(after=None))
        (house.folder / "playbooks" / "jobs").mkdir(exist_ok=True)
        house.put("jobs/check.yaml", JOB)
        house.put("remedy.yaml", text(steps=[STEP], **more))
        await house.start(mode="auto")
        status, run = await house.http("POST", "/api/v1/runs", {"playbook": "remedy", "target": "Node/node-3"})
        assert status == 201, run

        async def at_work():
            return [job for job in jobs(house) if job["status"].get("active")]

        await house.until(at_work, "the Job")
        return run["id"]

    return begin


async def no_pods(house):
    return not [pod for pod in house.stage.cluster.objects("Pod", "apps") if "example.test/check:1" in str(pod)]


@pytest.mark.parametrize("on_failure", ["keep", "undo"])
async def test_a_cancelled_run_takes_its_job_along(begun, house, on_failure):
    run = await begun(on_failure=on_failure)
    await house.operations.cancel(run, by="berta", reason="wrong node")
    done = await house.ended(run)
    assert (done.state, done.reason) == ("cancelled", "cancelled_by")
    assert "removed Job/apps/remediator-check-" in done.detail
    assert jobs(house) == []
    await house.until(lambda: no_pods(house), "the end of its pods")
    assert not [change for step in done.steps for change in step.changes if change.left_behind]


async def test_a_paused_one_too(begun, house):
    run = await begun()
    await house.http("PUT", "/api/v1/pause", {"reason": "change freeze", "by": "berta"})
    done = await house.ended(run)
    assert (done.state, done.reason) == ("failed", "paused"), done.detail
    assert jobs(house) == []


async def test_a_run_goes_on_with_its_own_job_and_text_after_a_restart_and_a_changed_template(begun, house):
    run = await begun()
    (job,) = jobs(house)
    await house.stop()
    house.put("jobs/check.yaml", JOB.replace("check:1", "check:2"))
    await house.start(mode="auto")
    pod = next(one for one in house.stage.cluster.store.list(("", "pods"), "apps") if "example.test/check:1" in str(one))
    ended = house.stage.cluster.store.edit(house.stage.cluster.kind("Pod"), pod)
    ended["status"]["phase"] = "Succeeded"
    house.stage.cluster.store.replace(house.stage.cluster.kind("Pod"), ended)
    done = await house.ended(run)
    assert done.steps[0].state == "succeeded", done
    assert [one["metadata"]["uid"] for one in jobs(house)] == [job["metadata"]["uid"]]
    (revision,) = {done.revision}
    assert "check:1" in await house.journal.revision(revision)
    status, shown = await house.http("GET", "/api/v1/playbooks/remedy", token="read")
    assert status == 200
    assert shown["revision"] != revision
    assert "check:2" in shown["text"], "people see the template with the playbook"
