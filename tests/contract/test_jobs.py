"""Jobs: what the API server fills in and refuses, how they end, how they go; and ``job.run``, on the simulated and a real control plane."""

from __future__ import annotations

import asyncio

import pytest
from contract.test_workload_actions import carry  # noqa: F401 - a fixture

from remediator.model import ChangeState
from remediator.run import StepEnd

ON_THE_REAL_ONE = pytest.mark.long

FILE = "jobs/check.yaml"
TEMPLATE = """\
apiVersion: batch/v1
kind: Job
spec:
  template:
    metadata: {annotations: {controlplane/runs-for: 1h}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: check, image: "example.test/check:1", command: [sh, -c, 'exit "${CODE:-0}"']}]
"""
CONTAINERS = [{"name": "c", "image": "example.test/c:1"}]


@pytest.fixture
def batch(space):
    return space.replace("/api/v1", "/apis/batch/v1") + "/jobs"


def job(name="check", *, policy="Never", **spec):
    """One whose pods end when the test says so."""
    pod = {"containers": CONTAINERS, "terminationGracePeriodSeconds": 1, **({"restartPolicy": policy} if policy else {})}
    template = {"metadata": {"annotations": {"controlplane/runs-for": "1h"}}, "spec": pod}
    return {"metadata": {"name": name}, "spec": {"template": template, **spec}}


@pytest.fixture
def pods(api, space):
    """The living pods of a Job that run."""

    async def running(name):
        found = (await api.get(f"{space}/pods", labelSelector=f"batch.kubernetes.io/job-name={name}")).body["items"]
        return [one for one in found if one["status"]["phase"] == "Running" and "deletionTimestamp" not in one["metadata"]]

    async def wait(name):
        return await api.until(lambda: running(name), f"a pod of {name}")

    return wait


@pytest.fixture
def exits(api, space):
    """A pod's container exits, as a kubelet reports it."""

    async def end(pod, code):
        at = pod["status"]["startTime"]
        state = {"terminated": {"exitCode": code, "reason": "Error" if code else "Completed", "startedAt": at, "finishedAt": at}}
        statuses = [{**one, "state": state, "ready": False} for one in pod["status"]["containerStatuses"]]
        status = {"phase": "Failed" if code else "Succeeded", "containerStatuses": statuses}
        answer = await api.patch(f"{space}/pods/{pod['metadata']['name']}/status", {"status": status})
        assert answer.status == 200, answer.body

    return end


async def conditions(api, path):
    status = (await api.get(path)).body.get("status", {})
    return {one["type"]: one.get("reason", "") for one in status.get("conditions", ()) if one["status"] == "True"}


async def ended(api, path, kind):
    async def look():
        return await conditions(api, path) if kind in await conditions(api, path) else None

    return await api.until(look, f"{path} {kind}")


async def test_what_is_filled_in(api, batch, pods):
    made = (await api.post(batch, job(activeDeadlineSeconds=3600))).body
    meta, spec = made["metadata"], made["spec"]
    wanted = {"parallelism": 1, "completions": 1, "backoffLimit": 6, "completionMode": "NonIndexed", "suspend": False}
    assert wanted.items() <= spec.items()
    assert spec["selector"]["matchLabels"] == {"batch.kubernetes.io/controller-uid": meta["uid"]}
    labels = spec["template"]["metadata"]["labels"]
    assert {k: labels[f"batch.kubernetes.io/{k}"] for k in ("controller-uid", "job-name")} == {
        "controller-uid": meta["uid"],
        "job-name": "check",
    }
    (pod,) = await pods("check")
    assert labels.items() <= pod["metadata"]["labels"].items()
    (owner,) = pod["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("Job", meta["uid"], True)

    async def counted():
        return (await api.get(f"{batch}/check")).body["status"].get("active") == 1

    await api.until(counted, "the status")
    again = await api.post(batch, job())
    assert (again.status, again.reason, again.message) == (409, "AlreadyExists", 'jobs.batch "check" already exists')


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (job(policy=""), "spec.template.spec.restartPolicy"),
        (job(policy="Always"), "spec.template.spec.restartPolicy"),
        (job(backoffLimit=-1), "spec.backoffLimit"),
    ],
    ids=("no policy", "always", "negative"),
)
async def test_what_is_refused(api, batch, body, field):
    answer = await api.post(batch, body)
    assert (answer.status, answer.reason) == (422, "Invalid"), answer.body
    assert field in {cause["field"] for cause in answer.body["details"]["causes"]}
    if field.endswith("restartPolicy"):
        assert answer.message.endswith(': Required value: valid values: "OnFailure", "Never"'), answer.message


async def test_one_completes(api, batch, pods, exits):
    await api.post(batch, job(ttlSecondsAfterFinished=1))
    (pod,) = await pods("check")
    await exits(pod, 0)
    await api.gone(f"{batch}/check")  # by its TTL, with its pod
    await api.gone(f"{batch.replace('/apis/batch/v1', '/api/v1').removesuffix('/jobs')}/pods/{pod['metadata']['name']}")


async def test_conditions_of_one_that_completed(api, batch, pods, exits):
    await api.post(batch, job())
    (pod,) = await pods("check")
    await exits(pod, 0)
    assert set(await ended(api, f"{batch}/check", "Complete")) == {"SuccessCriteriaMet", "Complete"}
    status = (await api.get(f"{batch}/check")).body["status"]
    assert status["succeeded"] == 1
    assert status["completionTime"]


async def test_one_fails_when_too_many_pods_did(api, batch, pods, exits):
    await api.post(batch, job(backoffLimit=0))
    (pod,) = await pods("check")
    await exits(pod, 3)
    found = await ended(api, f"{batch}/check", "Failed")
    assert found == {"FailureTarget": "BackoffLimitExceeded", "Failed": "BackoffLimitExceeded"}
    assert (await api.get(f"{batch}/check")).body["status"]["failed"] == 1


async def test_one_fails_when_its_time_is_up(api, batch, pods):
    await api.post(batch, job(activeDeadlineSeconds=2))
    found = await ended(api, f"{batch}/check", "Failed")
    assert found["Failed"] == "DeadlineExceeded"


async def test_who_deletes_one_must_say_what_becomes_of_its_pods(api, space, batch, pods):
    for name in ("kept", "gone"):
        await api.post(batch, job(name))
    (kept,), (gone,) = await pods("kept"), await pods("gone")
    assert (await api.delete(f"{batch}/kept")).status == 200
    assert (await api.delete(f"{batch}/gone", {"propagationPolicy": "Background"})).status == 200
    await api.gone(f"{batch}/gone")
    await api.gone(f"{batch}/kept")
    await api.gone(f"{space}/pods/{gone['metadata']['name']}")

    async def orphaned():
        return not (await api.get(f"{space}/pods/{kept['metadata']['name']}")).body["metadata"].get("ownerReferences")

    await api.until(orphaned, "the pod that outlives its Job")


@pytest.mark.parametrize("code", [0, 1])
async def test_the_action(api, batch, namespace_name, pods, exits, carry, code):  # noqa: F811 - the fixture
    going = asyncio.create_task(carry("job.run", files={FILE: TEMPLATE}, template=FILE, namespace=namespace_name, logs=5))

    async def there():
        return (await api.get(batch)).names or None

    (name,) = await api.until(there, "the Job")
    (pod,) = await pods(name)
    await exits(pod, code)
    done = await going
    assert done.end is (StepEnd.FAILED if code else StepEnd.SUCCEEDED), done.detail
    (step,) = done.run.steps
    assert step.changes[0].state is ChangeState.KEPT
    seen = {one.name: one.data for one in step.evidence}
    assert seen["pods"][0]["exit codes"] == {"check": code}
    assert ("BackoffLimitExceeded" in done.detail) is bool(code)
