"""Cordon and uncordon, with ownership: a cordon that we set carries an annotation that names the run, and only such a cordon is lifted.

How that is kept is in ``remediator.drain.cordon``; ``node.drain`` cordons in the same way.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from remediator.actions import Action, Context, NoParameters, Observed, Parameters, Rule
from remediator.drain.cordon import ANNOTATION, cordon, cordoned, is_ours, lift, lift_of, owner, owner_of, took_effect
from remediator.drain.health import sickness, unready_daemons
from remediator.errors import Refused
from remediator.kube import kinds
from remediator.kube.records import Node
from remediator.reasons import Reason

if TYPE_CHECKING:
    from remediator.model import Change

__all__ = ["ANNOTATION", "Cordon", "Uncordon", "owner"]

_RBAC = (Rule(resources=("nodes",), verbs=("get", "patch")),)


class Cordon(Action[NoParameters]):
    """Marks the target node unschedulable, as ``kubectl cordon`` does, and leaves a note of who did it."""

    name: ClassVar[str] = "node.cordon"
    summary: ClassVar[str] = "mark the target node unschedulable"
    changes: ClassVar[str] = f"spec.unschedulable and the annotation {ANNOTATION} of the Node"
    undone_by: ClassVar[str] = "removing both, if the annotation is still the run's own and nobody has set the cordon anew"
    rbac: ClassVar[tuple[Rule, ...]] = _RBAC

    async def act(self, ctx: Context, parameters: NoParameters) -> str:
        """See Action."""
        del parameters
        return "cordoned" if ctx.changes else await cordon(ctx, ctx.run.target.name)

    async def observe(self, ctx: Context, change: Change) -> Observed:
        """See Action: annotation and cordon come together, so the annotation tells."""
        return Observed.APPLIED if await took_effect(ctx, change) else Observed.ABSENT

    async def undo(self, ctx: Context, change: Change) -> str | None:
        """See Action: lifts the cordon if it is still this run's."""
        return await lift_of(ctx, change)


class UncordonParameters(Parameters):
    """``{action: node.uncordon, only_if_healthy: true}``"""

    only_if_healthy: bool = Field(
        default=False, description="refuse while the node is sick, and wait afterwards until its DaemonSet pods are ready"
    )


class Uncordon(Action[UncordonParameters]):
    """Lifts a cordon that remediator set, whichever run it was; refuses one that somebody else set."""

    name: ClassVar[str] = "node.uncordon"
    summary: ClassVar[str] = "make the target node schedulable again, if remediator cordoned it"
    changes: ClassVar[str] = f"spec.unschedulable and the annotation {ANNOTATION} of the Node"
    undone_by: ClassVar[str] = "nothing: a node is not cordoned again to undo this"
    rbac: ClassVar[tuple[Rule, ...]] = (*_RBAC, Rule(resources=("pods",), verbs=("list",)))
    Parameters: ClassVar[type[Parameters]] = UncordonParameters

    async def check(self, ctx: Context, parameters: UncordonParameters) -> None:
        """See Action: somebody else's cordon is not ours to lift."""
        node = await ctx.kube.get(kinds.NODE, ctx.run.target.name)
        if cordoned(node) and not is_ours(node):
            raise Refused(Reason.PROTECTED, f"{ctx.run.target.key} was cordoned by somebody else; lift it with kubectl uncordon")
        if parameters.only_if_healthy and not ctx.changes:
            wrong = sickness(await ctx.kube.get(kinds.NODE, ctx.run.target.name, decode=Node))
            if wrong:
                raise Refused(Reason.AGENT_NOT_READY, f"{ctx.run.target.key} should get no pods yet: {wrong}")

    async def act(self, ctx: Context, parameters: UncordonParameters) -> str:
        """See Action."""
        if not ctx.changes:
            await ctx.plan([f"lift the cordon of {ctx.run.target.key}, if remediator set it"])
        said = await self._lift(ctx)
        if not parameters.only_if_healthy or ctx.dry_run:
            return said

        async def settled() -> str | None:
            waiting = await unready_daemons(ctx.kube, ctx.run.target.name)
            if waiting:
                await ctx.progress(f"{said}; {waiting}")
            return None if waiting else said

        return await ctx.wait_for("the DaemonSet pods of the node to be ready", settled, every=timedelta(seconds=2))

    async def _lift(self, ctx: Context) -> str:
        """Once, also over a crash; the run whose cordon it was is told that nothing of it is left."""
        if not ctx.changes:
            return await lift(ctx, ctx.run.target.name)
        change = ctx.changes[-1]
        await ctx.put_back(owner_of(change), change.resource, ANNOTATION)
        return "uncordoned"

    async def observe(self, ctx: Context, change: Change) -> Observed:
        """See Action."""
        return Observed.APPLIED if await took_effect(ctx, change) else Observed.ABSENT
