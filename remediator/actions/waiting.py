"""Let time pass: for a system to settle before the next look."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

from pydantic import Field

from remediator.actions import Action, Context, Parameters
from remediator.fields import Duration
from remediator.units import format_duration


class WaitParameters(Parameters):
    """``wait: {action: wait, for: 30s}``"""

    for_: Duration = Field(alias="for", gt=timedelta(0), le=timedelta(hours=6), description="how long")


class Wait(Action[WaitParameters]):
    """Does nothing for a while. After a restart it waits the full time again, which errs on the slow side."""

    name: ClassVar[str] = "wait"
    summary: ClassVar[str] = "let time pass"
    Parameters: ClassVar[type[Parameters]] = WaitParameters

    async def act(self, ctx: Context, parameters: WaitParameters) -> str:
        """See Action."""
        words = format_duration(parameters.for_)
        if ctx.dry_run:
            return f"would wait {words}"
        until = ctx.clock.now() + parameters.for_

        async def over() -> bool | None:
            return ctx.clock.now() >= until or None

        await ctx.wait_for(f"{words} to pass", over, every=min(parameters.for_, timedelta(seconds=5)))
        return f"waited {words}"
