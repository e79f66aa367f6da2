"""Never a second restart: an agent that one restart did not cure is not cured by two (cilium/cilium#27922). Pure.

In: a run. Refused: the same action once more in that run, whatever its ladder says. Across runs the gate ``duplicate`` asks the journal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remediator.errors import Refused
from remediator.model import ChangeState, StepState
from remediator.reasons import Reason

if TYPE_CHECKING:
    from remediator.model import Run

__all__ = ["refuse_second"]


def refuse_second(run: Run, action: str, *, on: str = "") -> None:
    """Raise Refused if an earlier step of ``run`` did it already; ``on``: only what was done to that object (its key) counts."""
    for step in run.steps:
        if step.state in (StepState.PENDING, StepState.RUNNING):
            continue  # the step that asks, which looks at its own changes itself
        for change in step.changes:
            if (
                change.action == action
                and on in ("", change.resource.key)
                and not change.dry_run
                and change.state is not ChangeState.ABSENT
            ):
                detail = f"step {step.name} of this run did {action} on {change.resource.key} already; a second one does not help"
                raise Refused(Reason.ATTEMPTS_EXHAUSTED, detail)
