"""Which names expressions and templates may use where, and the field types that are compiled against them.

``when.target`` may name the alert and nothing else; everything else may name the target, the parameters and Cilium's place, and never the
alert: its text comes from outside. Parameters are declared one by one with their types, so the scope comes as validation context.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import PlainSerializer, PlainValidator, ValidationInfo, WithJsonSchema

from remediator.document import describe, fault, suggest
from remediator.errors import ExpressionError, Unreadable
from remediator.expr import Expression, Template, Undeclared, Variables
from remediator.units import format_duration, parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from remediator.playbook.parameters import Parameter

__all__ = ["ALERT", "Condition", "Scope", "StepTimeout", "TargetTemplate", "TextTemplate", "Timeout", "compile_template"]

ALERT: Variables = {"alert.name": "string", "alert.labels": "map(string, string)", "alert.annotations": "map(string, string)"}
_TARGET = {f"target.{part}": "string" for part in ("kind", "label", "name", "namespace", "uid")}
_CILIUM = {"cilium.namespace": "string", "cilium.agent_selector": "string"}
_OBJECTS = {"objects": "list(dyn)"}

_NOT_ALERT = (
    "the alert may only be named in when.target: its text comes from outside and must not reach queries, selectors or parameters; "
    "use target.name or a parameter"
)
_ONLY_ALERT = "only the alert is known where the target is chosen; use alert.labels"


@dataclass(frozen=True)
class Scope:
    """The parameters of one playbook; what else may be named is the same for all."""

    parameters: Mapping[str, Parameter] = field(default_factory=dict)

    @property
    def steps(self) -> Variables:
        """For steps, queries and selectors."""
        return _TARGET | _CILIUM | {f"parameters.{name}": parameter.cel_type for name, parameter in self.parameters.items()}

    @property
    def holds(self) -> Variables:
        """For ``verify.holds``."""
        return {**self.steps, **_OBJECTS}


def explain(error: ExpressionError, variables: Variables) -> str:
    """The error in words that say what may be named instead."""
    if not isinstance(error, Undeclared):
        return str(error)
    head = error.name.partition(".")[0]
    if variables is ALERT and head in ("target", "parameters", "cilium"):
        return f'"{error.name}": {_ONLY_ALERT}'
    if variables is not ALERT and head == "alert":
        return f'"{error.name}": {_NOT_ALERT}'
    if head == "parameters":
        declared = [name.partition(".")[2] for name in variables if name.startswith("parameters.")]
        name = error.name.partition(".")[2]
        if not name:
            return "name one parameter, as parameters.NAME"
        return f'no parameter "{name}" is declared{suggest(name, declared) or "; add it under parameters"}'
    return f"{error}{suggest(error.name, variables)}"


def compile_template(text: Any, variables: Variables) -> Template:
    """A template, or the fault that pydantic reports at the right character."""
    if not isinstance(text, str):
        raise fault(f"must be a string, not {describe(text)}")
    try:
        return Template.compile(text, variables=variables)
    except ExpressionError as error:
        raise fault(explain(error, variables), offset=error.column - 1) from error


def _text_template(variables: Callable[[Scope], Variables]) -> Any:
    def compiled(value: Any, info: ValidationInfo) -> Template:
        template = value if isinstance(value, Template) else compile_template(value, variables(_scope(info)))
        if template.constant is not None and not template.constant.strip():
            raise fault("must not be empty")
        if template.only is not None and template.only.type not in ("string", "dyn"):
            raise fault(f"must give text, but {template.only.source} is a {template.only.type}")
        return template

    return PlainValidator(compiled)


def _scope(info: ValidationInfo) -> Scope:
    scope = (info.context or {}).get("scope")
    return scope if isinstance(scope, Scope) else Scope()


def _condition(value: Any, info: ValidationInfo) -> Expression:
    if isinstance(value, Expression):
        return value
    if not isinstance(value, str):
        raise fault(f"must be a CEL expression, not {describe(value)}")
    variables = _scope(info).holds
    try:
        return Expression.compile(value, variables=variables, want="bool")
    except ExpressionError as error:
        raise fault(explain(error, variables), offset=error.column - 1) from error


@dataclass(frozen=True)
class Timeout:
    """A duration that may depend on a parameter."""

    template: Template

    def of(self, values: Mapping[str, Any]) -> timedelta:
        """The duration, rendered with ``values``. Raises Unreadable if that gives none that is longer than 0s."""
        text = self.template.text(values)
        try:
            duration = parse_duration(text)
        except ValueError as error:
            raise Unreadable("timeout", str(error)) from error
        if duration <= timedelta(0):
            raise Unreadable("timeout", f"{self.template.source} gives {text}, which is no time at all")
        return duration


def _timeout(value: Any, info: ValidationInfo) -> Timeout:
    if isinstance(value, Timeout):
        return value
    text = format_duration(value) if isinstance(value, timedelta) else str(value) if isinstance(value, int | float) else value
    template = compile_template(text, _scope(info).steps)
    if template.constant is not None and parse_duration(template.constant) <= timedelta(0):
        raise fault("must be longer than 0s")
    return Timeout(template)


_TEXT = WithJsonSchema({"type": "string", "minLength": 1})
_SOURCE = PlainSerializer(lambda thing: thing.source, return_type=str)

TargetTemplate = Annotated[Template, _text_template(lambda _: ALERT), _SOURCE, _TEXT]
TextTemplate = Annotated[Template, _text_template(lambda scope: scope.steps), _SOURCE, _TEXT]
Condition = Annotated[Expression, PlainValidator(_condition), _SOURCE, _TEXT]
StepTimeout = Annotated[
    Timeout,
    PlainValidator(_timeout),
    PlainSerializer(lambda timeout: timeout.template.source, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^((\d+(y|w|d|h|m|s|ms))+|.*\$\{.+\}.*)$", "examples": ["5m", "${parameters.timeout}"]}),
]
