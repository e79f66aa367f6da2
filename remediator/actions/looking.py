"""What probes share: their patience, what an answer is worth, and when a step that looked has succeeded."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from remediator.actions import Parameters
from remediator.errors import StepFailed
from remediator.fields import Duration

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from remediator.probing import HttpSeen, Seen

__all__ = ["ProbeParameters", "judged", "status_fault"]


class ProbeParameters(Parameters):
    """What all probes have."""

    expect: Literal["success", "failure", "any"] = Field(
        default="success", description="what the step needs in order to succeed; any: it only records"
    )
    within: Duration = Field(
        default=timedelta(seconds=5), gt=timedelta(0), le=timedelta(minutes=1), description="patience with one answer, in real time"
    )


def status_fault(seen: HttpSeen, wanted: Collection[int] = ()) -> str:
    """Why the status of an answer is no success; empty if it is one of ``wanted``, or where there are none, below 400."""
    assert seen.status is not None  # noqa: S101 - there is one where there was no trouble
    return "" if (seen.status in wanted if wanted else seen.status < 400) else f"status {seen.status}"


def judged(expect: str, found: Sequence[tuple[Seen, str]], well: str) -> str:
    """The step's words, or StepFailed where that is not what was expected. Nothing asked is no success."""
    faults = [f"{seen.what}: {fault}" for seen, fault in found if fault]
    if not found:
        faults = ["there is no address to ask"]
    if expect == "failure" and not faults:
        raise StepFailed(f"expected to fail, and did not: {well}")
    if expect == "success" and faults:
        raise StepFailed("; ".join(faults[:5]))
    return "; ".join(faults[:5]) or well
