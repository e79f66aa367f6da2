"""Tell people something in the middle of a run. Changes nothing, and no trouble with a receiver ever stops the run."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from remediator.actions import Action, Context, Parameters

__all__ = ["Tell"]


class NotifyParameters(Parameters):
    """``{action: notify, text: 'The path to ${target.name} is slow; nothing was changed'}``"""

    text: str = Field(min_length=1, max_length=2000)
    title: str = Field(default="", max_length=200, description="absent: as the settings word it")
    routes: tuple[str, ...] = Field(default=(), max_length=20, description="names of the settings' notify entries; absent: all that fit")


class Tell(Action[NotifyParameters]):
    """Hands one message to the notifier, which sends and repeats it by itself."""

    name: ClassVar[str] = "notify"
    summary: ClassVar[str] = "tell people something, by the routes of the settings"
    Parameters: ClassVar[type[Parameters]] = NotifyParameters

    async def act(self, ctx: Context, parameters: NotifyParameters) -> str:
        """See Action."""
        told = await ctx.tell(parameters.text, title=parameters.title, routes=parameters.routes)
        if not told:
            return "nobody is told: no route of the settings (notify) takes it"
        return f"{'would tell' if ctx.dry_run else 'tells'} {', '.join(told)}"
