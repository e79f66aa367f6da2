"""A playbook as the stages use it: checked, compiled, frozen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field, SerializeAsAny

from remediator.expr import Template
from remediator.fields import Duration
from remediator.model import Mode
from remediator.playbook.parameters import Parameter, fill
from remediator.playbook.schema import FROZEN, ApprovalSpec, Verify, When
from remediator.playbook.scope import Timeout

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

__all__ = ["Playbook", "Rung", "StepSpec"]


_IDLE = {"approve", "wait"}
"""Actions that leave nothing behind, not even evidence."""


class StepSpec(BaseModel):
    """One step of a rung."""

    model_config = FROZEN

    name: str
    action: str
    timeout: Duration
    """With the defaults of the playbook's parameters; ``timeout_for`` knows the run's own."""
    parameters: dict[str, Any]
    """As the file has them, templates as strings."""
    disruptive: bool
    """As its action says of these parameters."""
    looks: bool = Field(exclude=True, repr=False)
    """Its action changes nothing: it looks, waits or tells."""
    timeout_source: Timeout = Field(exclude=True, repr=False)
    templates: Any = Field(exclude=True, repr=False)
    """``parameters`` with every string that holds ``${`` as a Template."""
    files: dict[str, Any] = Field(default_factory=dict, exclude=True, repr=False)
    """Parameter -> what stands in the file that it names, in the same way."""

    def render(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters with ``values`` in them, for the action's model to validate. Raises Unreadable."""
        rendered: dict[str, Any] = render(self.templates, values)
        return rendered

    def render_files(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What stands in the files, with ``values`` in it. Raises Unreadable."""
        rendered: dict[str, Any] = render(self.files, values)
        return rendered

    def timeout_for(self, values: Mapping[str, Any]) -> timedelta:
        """The time-out with ``values`` in it. Raises Unreadable."""
        return self.timeout_source.of(values)


class Rung(BaseModel):
    """What is tried together, and how often, before the next."""

    model_config = FROZEN

    name: str
    attempts: int = 1
    steps: tuple[StepSpec, ...]


class Playbook(BaseModel):
    """What to do about an alert, or when a person asks."""

    model_config = FROZEN

    name: str
    summary: str
    runbook: str
    parameters: dict[str, Parameter]
    when: When | None
    """None: only people trigger it."""
    mode: Mode
    approval: ApprovalSpec
    gates: dict[str, SerializeAsAny[BaseModel]]
    """The settings of gates, by the gates' keys."""
    ladder: tuple[Rung, ...]
    verify: Verify | None
    on_resolved: Literal["undo", "keep"]
    on_failure: Literal["undo", "keep"]
    deadline: Duration
    source: str
    """The file that it came from."""
    text: str = Field(exclude=True, repr=False)
    """The document's own source text, with the files that its steps name behind it; ``load_playbook`` makes the same playbook of it."""
    revision: str
    """The first 12 hexadecimal digits of the text's SHA-256."""

    @property
    def disruptive(self) -> bool:
        """Whether any step may disturb traffic or workloads."""
        return any(step.disruptive for rung in self.ladder for step in rung.steps)

    @property
    def looks(self) -> bool:
        """Whether it keeps evidence or tells people, and no more: there is nothing to allow, unless it says itself how people are asked."""
        steps = [step for rung in self.ladder for step in rung.steps]
        idle = all(step.action in _IDLE for step in steps)
        return not idle and not self.approval.model_fields_set and all(step.looks for step in steps)

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether it takes an alert with these labels."""
        return self.when is not None and all(matcher.matches(labels) for matcher in self.when.alerts)

    @property
    def defaults(self) -> dict[str, Any]:
        """What its parameters are where nobody says otherwise."""
        return {name: parameter.default for name, parameter in self.parameters.items()}

    def fill(self, given: Mapping[str, str]) -> dict[str, Any]:
        """Values for all parameters: what was given as text (``--set``), else the default. Raises UsageError with all that is wrong."""
        return fill(self.parameters, given)

    def describe(self) -> dict[str, Any]:
        """Everything about it as plain data, for the API and ``playbooks show``; expressions and matchers as their text."""
        return self.model_dump(mode="json")


def render(value: Any, values: Mapping[str, Any]) -> Any:
    """``value`` with every Template in it rendered."""
    if isinstance(value, Template):
        return value.render(values)
    if isinstance(value, dict):
        return {key: render(item, values) for key, item in value.items()}
    if isinstance(value, list):
        return [render(item, values) for item in value]
    return value
