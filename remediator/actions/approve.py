"""Ask people in mid-run: the rungs and steps after this one need their yes."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

from pydantic import Field

from remediator.actions import Action, Context, Parameters
from remediator.fields import Duration


class ApproveParameters(Parameters):
    """``ask: {action: approve, message: "The agent did not help. Drain the node?", people: 2}``"""

    message: str = Field(default="", max_length=500, description="what people are asked; absent: whether the run may go on")
    expires: Duration | None = Field(
        default=None, gt=timedelta(0), description="the run ends if nobody answered by then; absent: as the playbook says"
    )
    people: int | None = Field(
        default=None, ge=1, le=5, strict=True, description="how many different people must say yes; absent: as the playbook says"
    )


class Approve(Action[ApproveParameters]):
    """Waits until people said yes; a no, or none in time, ends the run. Then every gate is asked again. A dry run asks nobody.

    The step's own time-out does not count here, and the run's deadline moves on by the time that people took.
    """

    name: ClassVar[str] = "approve"
    summary: ClassVar[str] = "ask people whether the run may go on, and wait for their yes"
    Parameters: ClassVar[type[Parameters]] = ApproveParameters

    async def act(self, ctx: Context, parameters: ApproveParameters) -> str:
        """See Action."""
        text = parameters.message or f"May this run go on, on {ctx.run.target.key}?"
        if ctx.dry_run:
            return f"would ask: {text}"
        return await ctx.ask(text, expires=parameters.expires, people=parameters.people)
