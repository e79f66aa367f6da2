"""Cordon and uncordon, with ownership: a cordon of ours carries an annotation that names the run, and only such a cordon is lifted.

How that is kept is in ``remediator.drain.cordon``; ``node.drain`` cordons in the same way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from remediator.actions import Action, Context, NoParameters, Observed, Rule
from remediator.drain.cordon import ANNOTATION, cordon, cordoned, lift, lift_of, owner, took_effect
from remediator.errors import Refused
from remediator.kube import kinds
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
    undone_by: ClassVar[str] = "removing both, if the annotation is still the run's own"
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


class Uncordon(Action[NoParameters]):
    """Lifts a cordon that remediator set, whichever run it was; refuses one that somebody else set."""

    name: ClassVar[str] = "node.uncordon"
    summary: ClassVar[str] = "make the target node schedulable again, if remediator cordoned it"
    changes: ClassVar[str] = f"spec.unschedulable and the annotation {ANNOTATION} of the Node"
    undone_by: ClassVar[str] = "nothing: a node is not cordoned again to undo this"
    rbac: ClassVar[tuple[Rule, ...]] = _RBAC

    async def check(self, ctx: Context, parameters: NoParameters) -> None:
        """See Action: somebody else's cordon is not ours to lift."""
        del parameters
        node = await ctx.kube.get(kinds.NODE, ctx.run.target.name)
        if cordoned(node) and owner(node) is None:
            raise Refused(Reason.PROTECTED, f"{ctx.run.target.key} was cordoned by somebody else; lift it with kubectl uncordon")

    async def act(self, ctx: Context, parameters: NoParameters) -> str:
        """See Action."""
        del parameters
        return "uncordoned" if ctx.changes else await lift(ctx, ctx.run.target.name)

    async def observe(self, ctx: Context, change: Change) -> Observed:
        """See Action."""
        return Observed.APPLIED if await took_effect(ctx, change) else Observed.ABSENT
