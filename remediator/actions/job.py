"""Run a Job of Kubernetes from a template in the playbook's folder, wait for its end, and keep its result and logs as evidence.

In: the template, as it was when the run's playbook was loaded, and the namespace that the playbook names. Out: whether it completed. The
name comes from run and step, so that after a crash the same Job is found and none is made twice. What is there under that name without our
mark is somebody else's and stays (``foreign``). A Job ends by its own deadline, no later than the step; Kubernetes removes an ended one
after its TTL. One that still runs when its run ends (cancelled, paused, failed) is removed with its pods, whatever the playbook says of
undo.
"""

from __future__ import annotations

import hashlib
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final

from pydantic import Field

from remediator.actions import Action, Context, Observed, Parameters, Rule, scope_of
from remediator.actions.job_template import OWN, read_template
from remediator.actions.parts import Parts, logs_of, outline, sickest_first
from remediator.actions.workloads import refuse_marked
from remediator.errors import Refused, StepFailed
from remediator.kube import kinds, records
from remediator.kube.errors import NotFound
from remediator.model import Change, Resource, evolve
from remediator.reasons import Reason
from remediator.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from remediator.playbook import FileReader

__all__ = ["RunJob"]

_OF_STEP: Final = "parameters.namespace"
_LOOK: Final = timedelta(seconds=2)
_TTL: Final = 24 * 3600
"""Seconds that an ended Job is there for people to look at, where its template does not say: longer than a daemon is down."""
_MOST_PODS: Final = 20
_MOST_LOGS: Final = 5
"""Pods whose logs are kept."""
_LONGEST_WORD: Final = 40
_MARKS: Final = ("run", "step")
"""Labels, below our prefix, by which a Job and its pods are known as ours."""


class JobParameters(Parameters):
    """``{action: job.run, template: jobs/check.yaml, namespace: network-checks, timeout: 10m}``"""

    template: str = Field(min_length=1, max_length=500, description="file with a batch/v1 Job, relative to the playbook's own")
    namespace: str = Field(
        pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$", description="where it runs; written out in the playbook, or ${cilium.namespace}"
    )
    disruptive: bool = Field(default=False, description="whether it may disturb traffic or workloads; then every gate is asked before it")
    logs: int = Field(default=100, ge=0, le=1000, description="last lines of each container that are kept; 0 keeps none")


class RunJob(Action[JobParameters]):
    """One Job."""

    name: ClassVar[str] = "job.run"
    summary: ClassVar[str] = "run a Job from a template beside the playbook, wait for its end, and keep its result and logs"
    changes: ClassVar[str] = "one Job and its pods, which Kubernetes removes once the Job's ttlSecondsAfterFinished is over"
    undone_by: ClassVar[str] = "removing the Job and its pods while it runs; what it did itself stays"
    rbac: ClassVar[tuple[Rule, ...]] = (
        Rule(groups=("batch",), resources=("jobs",), verbs=("get", "create", "delete"), scope=_OF_STEP),
        Rule(resources=("pods",), verbs=("list",), scope=_OF_STEP),
        Rule(resources=("pods/log",), verbs=("get",), scope=_OF_STEP),
        Rule(resources=("namespaces",), verbs=("get",)),
    )
    ends_with_run: ClassVar[bool] = True
    files: ClassVar[Mapping[str, FileReader]] = {"template": read_template}
    fixed: ClassVar[Mapping[str, frozenset[str]]] = {
        "template": frozenset(),
        "namespace": frozenset({"cilium.namespace"}),
        "disruptive": frozenset(),
    }
    Parameters: ClassVar[type[Parameters]] = JobParameters

    @classmethod
    def needs(cls, parameters: Mapping[str, Any]) -> tuple[Rule, ...]:
        """See Action: in the namespace that the step names."""
        where = scope_of(str(parameters.get("namespace", "")))
        return tuple(evolve(rule, scope=where) if rule.scope == _OF_STEP else rule for rule in cls.rbac)

    @classmethod
    def disturbs(cls, parameters: Mapping[str, Any]) -> bool:
        """See Action: only the playbook can tell."""
        return parameters.get("disruptive", False) is not False

    @classmethod
    def brought(cls, parameters: Mapping[str, Any]) -> tuple[str, ...]:
        """See Action: what disturbs is done once for one firing."""
        return ("duplicate",) if cls.disturbs(parameters) else ()

    async def check(self, ctx: Context, parameters: JobParameters) -> None:
        """See Action."""
        if ctx.changes:
            return  # it was begun before a crash
        job = _resource(ctx, parameters)
        try:
            await refuse_marked(ctx, {"kind": "Job", "metadata": {"namespace": job.namespace, "name": job.name}})
        except NotFound as error:
            raise Refused(Reason.TARGET_MISSING, f"there is no namespace {job.namespace}") from error

    async def act(self, ctx: Context, parameters: JobParameters) -> str:
        """See Action."""
        job = _resource(ctx, parameters)
        made = ctx.changes[-1] if ctx.changes else await self._create(ctx, job, parameters)
        if ctx.dry_run:
            return f"would run {job.key}"
        try:
            ended = await ctx.wait_for(f"{job.key} to end", lambda: _ended(ctx, job), every=_LOOK)
        except StepFailed as error:
            if error.reason is Reason.DEADLINE:
                await _keep(ctx, job, parameters.logs)
            raise
        await _keep(ctx, job, parameters.logs)
        words = _outcome(ended)
        await ctx.settle(made, f"{words}; Kubernetes removes it after {ended['spec'].get('ttlSecondsAfterFinished')} s")
        if not _condition(ended, "Complete"):
            raise StepFailed(f"{job.key} {words}")
        return f"{job.key} {words}"

    async def _create(self, ctx: Context, job: Resource, parameters: JobParameters) -> Change:
        body = _body(ctx, job)
        await ctx.plan(_plan(job, body, parameters, ctx.files["template"]["spec"].get("activeDeadlineSeconds")))

        async def call(request_id: str, dry_run: bool) -> Any:  # noqa: FBT001 - the shape that ctx.change calls
            return await ctx.kube.create(kinds.JOB, body, job.namespace, dry_run=dry_run, request_id=request_id)

        # The name is the same each time, so sent twice it makes no more than one.
        return await ctx.change("create", job, call, after={"labels": _labels(ctx)}, repeatable=True)

    async def observe(self, ctx: Context, change: Change) -> Observed:
        """See Action: name and labels tell."""
        found = await _find(ctx, change.resource)
        if change.undoes:
            gone = found is None or found["metadata"]["uid"] != change.resource.uid or "deletionTimestamp" in found["metadata"]
            return Observed.APPLIED if gone else Observed.ABSENT
        if found is None:
            return Observed.ABSENT
        return Observed.APPLIED if _is_ours(ctx, found) else Observed.FOREIGN

    async def undo(self, ctx: Context, change: Change) -> str | None:
        """See Action."""
        found = await _find(ctx, change.resource)
        if found is None:
            return f"{change.resource.key} is gone already"
        if not _is_ours(ctx, found):
            return None
        uid = str(found["metadata"]["uid"])
        job = Resource(kind="Job", namespace=change.resource.namespace, name=change.resource.name, uid=uid)

        async def call(request_id: str, dry_run: bool) -> Any:  # noqa: FBT001 - the shape that ctx.change calls
            return await ctx.kube.delete(
                kinds.JOB, job.name, job.namespace, uid=uid, propagation="Background", dry_run=dry_run, request_id=request_id
            )

        await ctx.change("delete", job, call, undoable=False, repeatable=True)
        return f"removed {job.key} and its pods"


# --- the Job -------------------------------------------------------------------------------------------------------------


def _resource(ctx: Context, parameters: JobParameters) -> Resource:
    """Where it is, the same however often it is asked: no longer than the label that Kubernetes makes of a Job's name (63)."""
    word = re.sub(r"[^a-z0-9]+", "-", ctx.step.name)[:_LONGEST_WORD].strip("-")
    digest = hashlib.sha256(f"{ctx.run.id}/{ctx.step.index}".encode()).hexdigest()[:10]
    return Resource(kind="Job", namespace=parameters.namespace, name=f"remediator-{word}-{digest}")


def _labels(ctx: Context) -> dict[str, str]:
    ours = dict(zip(_MARKS, (ctx.run.id, str(ctx.step.index)), strict=True))
    return {"app.kubernetes.io/managed-by": "remediator", **{f"{OWN}{key}": value for key, value in ours.items()}}


def _is_ours(ctx: Context, job: Mapping[str, Any]) -> bool:
    return _labels(ctx).items() <= (job["metadata"].get("labels") or {}).items()


def _body(ctx: Context, job: Resource) -> dict[str, Any]:
    """The template with what is ours to say. A deadline of its own counts where it is shorter than what the step has left."""
    given: dict[str, Any] = ctx.files["template"]
    spec, labels = {**given["spec"]}, _labels(ctx)
    left = max(1, int((ctx.deadline - ctx.clock.now()).total_seconds()))
    spec["activeDeadlineSeconds"] = min(left, spec.get("activeDeadlineSeconds", left))
    spec = {"backoffLimit": 0, "ttlSecondsAfterFinished": _TTL, **spec}
    pod = {"restartPolicy": "Never", **spec["template"]["spec"]}
    for key in ("initContainers", "containers"):
        if key in pod:
            pod[key] = [{**one, "env": [*_environment(ctx), *one.get("env", ())]} for one in pod[key]]
    spec["template"] = {**spec["template"], "metadata": _marked(spec["template"].get("metadata", {}), labels), "spec": pod}
    metadata = {**_marked(given.get("metadata", {}), labels), "name": job.name, "namespace": job.namespace}
    return {"metadata": metadata, "spec": spec}


def _marked(metadata: Mapping[str, Any], labels: Mapping[str, str]) -> dict[str, Any]:
    return {**metadata, "labels": {**metadata.get("labels", {}), **labels}}


def _environment(ctx: Context) -> list[dict[str, str]]:
    """What a container is told, so that nothing needs to be written into a command line."""
    run, target = ctx.run, ctx.run.target
    told = {"RUN": run.id, "PLAYBOOK": run.playbook, "TARGET_KIND": target.kind, "TARGET_NAME": target.name}
    return [{"name": f"REMEDIATOR_{key}", "value": value} for key, value in (told | {"TARGET_NAMESPACE": target.namespace}).items()]


def _plan(job: Resource, body: Mapping[str, Any], parameters: JobParameters, own_deadline: int | None) -> list[str]:
    spec = body["spec"]
    longest = f"for {format_duration(timedelta(seconds=own_deadline))} at most" if own_deadline else "as long as the step may take"
    images = ", ".join(str(one["image"]) for one in spec["template"]["spec"]["containers"])
    kept = format_duration(timedelta(seconds=spec["ttlSecondsAfterFinished"]))
    return [
        f"create {job.key} from {parameters.template}: {images}",
        f"wait for its end, {longest}, while up to {spec['backoffLimit']} failed pods are tried again",
        "keep its result and logs; if the run ends before it does, remove it with its pods",
        f"an ended Job is removed by Kubernetes after {kept}",
    ]


# --- its end -------------------------------------------------------------------------------------------------------------


async def _find(ctx: Context, job: Resource) -> dict[str, Any] | None:
    try:
        return await ctx.kube.get(kinds.JOB, job.name, job.namespace)
    except NotFound:
        return None


def _condition(job: Mapping[str, Any], kind: str) -> dict[str, Any] | None:
    conditions = (job.get("status") or {}).get("conditions") or ()
    return next((one for one in conditions if one.get("type") == kind and one.get("status") == "True"), None)


async def _ended(ctx: Context, job: Resource) -> dict[str, Any] | None:
    """The Job once it is over. Raises StepFailed where it is gone, or another one is in its place."""
    found = await _find(ctx, job)
    if found is None:
        raise StepFailed(f"{job.key} is gone: somebody removed it before its end was seen")
    if not _is_ours(ctx, found):
        raise StepFailed(f"{job.key} is another one now, which is not ours")
    if _condition(found, "Complete") or _condition(found, "Failed"):
        return found
    status = found.get("status") or {}
    await ctx.progress(f"{status.get('active', 0)} pods of {job.name} at work, {status.get('failed', 0)} failed")
    return None


def _outcome(job: Mapping[str, Any]) -> str:
    failed = _condition(job, "Failed")
    if failed is None:
        return f"completed, with {(job.get('status') or {}).get('succeeded', 0)} pods succeeded"
    return f"failed: {': '.join(str(failed[key]) for key in ('reason', 'message') if failed.get(key)) or 'no reason given'}"


async def _keep(ctx: Context, job: Resource, lines: int) -> None:
    """Status, pods and logs. What cannot be read is named, and changes nothing about the outcome."""
    parts = Parts(ctx)
    await parts.keep("job", _status(ctx, job))
    labels = ",".join(f"{key}={value}" for key, value in _labels(ctx).items())
    listing = await parts.read("pods", ctx.kube.list(kinds.POD, job.namespace, labels=labels, limit_total=_MOST_PODS, decode=records.Pod))
    pods = listing.items if listing is not None else []
    ctx.evidence("pods", [outline(pod) for pod in pods])
    for pod in sickest_first(pods)[:_MOST_LOGS] if lines else ():
        await logs_of(parts, pod, lines)
    parts.said()


async def _status(ctx: Context, job: Resource) -> dict[str, Any]:
    found = await ctx.kube.get(kinds.JOB, job.name, job.namespace)
    return {"name": job.key, "uid": found["metadata"]["uid"], "status": found.get("status") or {}}
