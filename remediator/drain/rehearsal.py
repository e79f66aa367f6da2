"""What is tried before anything changes: dry runs of the API server. In: a plan. Out: nothing, or the sentence of a dry run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remediator.drain.cordon import cordon
from remediator.drain.eviction import Answer, evict, read
from remediator.drain.result import Outcome, PodResult
from remediator.errors import KubeError, StepFailed
from remediator.model import to_json
from remediator.reasons import Reason

if TYPE_CHECKING:
    from remediator.actions import Context
    from remediator.drain.plan import Plan
    from remediator.kube.records import Pod

__all__ = ["probe", "rehearse"]


async def probe(ctx: Context, plan: Plan, grace: int | None) -> None:
    """One eviction for each namespace as a dry run of the API server: rights and webhooks show before the cordon."""
    first: dict[str, Pod] = {}
    for wave in plan.waves:
        for one in wave:
            first.setdefault(one.pod.namespace, one.pod)
    for pod in first.values():
        try:
            await ctx.kube.evict(pod.name, pod.namespace, uid=pod.uid, grace=grace, dry_run=True)
        except KubeError as error:
            reply = await read(ctx.kube, pod, error)
            if reply.answer in (Answer.FORBIDDEN, Answer.FAILED):
                raise StepFailed(f"pods of namespace {pod.namespace} cannot be evicted: {reply.words}") from error


async def rehearse(ctx: Context, plan: Plan, node: str, grace: int | None) -> str:
    """The dry run: the cordon and each pod once, never again. What a budget allows is counted here, since the server does not."""
    await cordon(ctx, node)
    results = []
    for one in (one for wave in plan.waves for one in wave):
        reply = await evict(ctx, one.pod, grace=grace, claims=())
        results.append(PodResult(pod=f"{one.pod.namespace}/{one.pod.name}", outcome=_rehearsed(reply.answer), detail=reply.words))
    ctx.evidence("pods", to_json(results))
    never = [result for result in results if result.outcome.lost]
    if never:
        reason = Reason.PDB if never[0].outcome is Outcome.MULTI_PDB else None
        raise StepFailed("; ".join(f"{result.pod} {result.outcome}: {result.detail}" for result in never), reason=reason)
    held = sum(result.outcome is Outcome.BLOCKED_BY_PDB for result in results)
    wait = f"; {held} would have to wait for a budget" if held else ""
    return f"would evict {plan.evictions} pods and leave {len(plan.skipped)}{wait}"


def _rehearsed(answer: Answer) -> Outcome:
    return {
        Answer.BUDGET: Outcome.BLOCKED_BY_PDB,
        Answer.SEVERAL: Outcome.MULTI_PDB,
        Answer.FORBIDDEN: Outcome.FORBIDDEN,
        Answer.FAILED: Outcome.FAILED,
        Answer.GONE: Outcome.GONE,
    }.get(answer, Outcome.LEFT)
