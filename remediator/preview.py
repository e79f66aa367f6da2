"""What steps would do, told before anybody allowed it: so that people who are asked see the plan, as things stand when they are asked.

In: a run and its playbook. Out: the evidence ``preview`` of each step that is still to come, as a list of lines. The actions themselves
look, as in a dry run, and stop before the first call that would change something; not even a call with dryRun=All is sent.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

import structlog

from remediator.actions import actions
from remediator.context import StepContext
from remediator.errors import RemediatorError, Unreadable
from remediator.model import PREVIEW, StepState, evolve

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from remediator.model import Resource, Run, Step
    from remediator.playbook import Playbook, StepSpec
    from remediator.world import World

__all__ = ["preview"]

log = structlog.get_logger(__name__)
_EACH = timedelta(seconds=20)
"""Real time for one step's look; people should not wait for a system that hangs."""


class _WouldChangeError(Exception):
    """The action came to its first call. ``str()`` says which."""


class _Look(StepContext):
    """A context in which nothing can be changed, kept or waited for."""

    def __init__(self, world: World, run: Run, step: Step, action: Any) -> None:
        super().__init__(world, run, step, action, deadline=world.clock.now() + _EACH)
        self.dry_run = True
        self.lines: list[str] = []

    async def plan(self, lines: Sequence[str]) -> None:
        """See Context: here is what it is all about."""
        self.lines += lines

    async def progress(self, words: str) -> None:
        """See Context: nothing is under way."""

    async def change(self, verb: str, resource: Resource, *_: Any, **__: Any) -> NoReturn:
        """See Context: up to here and no further."""
        raise _WouldChangeError(f"{verb} {resource.key}")

    async def _heed_people(self) -> None:
        """A pause forbids to act, not to look."""


async def preview(world: World, playbook: Playbook, run: Run, values: Mapping[str, Any]) -> None:
    """Keep with every step of ``run`` that has not begun what it would do. ``values`` are what templates may name."""
    specs = {(number, spec.name): spec for number, rung in enumerate(playbook.ladder) for spec in rung.steps}
    for step in run.steps:
        spec, action = specs[step.rung, step.name], actions()[step.action]
        if step.state is not StepState.PENDING or action.changes == "nothing":
            continue
        ctx = _Look(world, run, step, action())
        lines = await _lines(ctx, spec, values)
        ctx.seen.clear()  # what the action saw by the way it will see again when it acts
        ctx.evidence(PREVIEW, lines)
        async with world.signals.writing(run.id):
            stored = await world.journal.run(run.id)
            if stored is None:
                return
            now = stored.steps[step.index]
            kept = tuple(seen for seen in now.evidence if seen.name != PREVIEW)
            await world.journal.save_step(run.id, evolve(now, evidence=(*kept, *ctx.seen)))
    world.feed.publish("run", run.id)


async def _lines(ctx: _Look, spec: StepSpec, values: Mapping[str, Any]) -> list[str]:
    """What one step would do, in its action's own words where it has some."""
    action = actions()[spec.action]()
    try:
        async with asyncio.timeout(_EACH.total_seconds()):
            ctx.deadline = ctx.clock.now() + spec.timeout_for(values)  # an action may say that this is too short
            parameters = action.Parameters.model_validate(spec.render(values))
            ctx.files = spec.render_files(values)
            await action.check(ctx, parameters)
            said = await action.act(ctx, parameters)
    except _WouldChangeError as call:
        return ctx.lines or [f"first call: {call}"]
    except TimeoutError:
        return [*ctx.lines, f"could not be told within {_EACH.total_seconds():g} s"]
    except (RemediatorError, ValueError, Unreadable) as error:
        return [*ctx.lines, f"as things stand it would fail: {error}"]
    except Exception as error:  # a preview must never keep the question from being asked
        log.exception("a step's preview failed by a fault of this program", step=spec.name)
        return [*ctx.lines, f"could not be told: internal error: {type(error).__name__}: {error}"]
    return ctx.lines or [said]
