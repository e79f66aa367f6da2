"""What a playbook can be told: ``--set name=value`` from a person, the defaults for an alert.

In: text or YAML values. Out: plain values that JSON can hold (a duration stays the text that it was written as). Refused: unknown names,
values of the wrong type, a missing value where there is no default.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictStr, model_validator

from remediator.document import describe, fault, suggest
from remediator.errors import UsageError
from remediator.units import parse_duration

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Parameter", "ParameterType", "fill"]

ParameterType = Literal["string", "int", "number", "bool", "duration", "list"]
_CEL = {"string": "string", "int": "int", "number": "double", "bool": "bool", "duration": "string", "list": "list(string)"}
_LONGEST = 1000
_BIGGEST = 2**53
"""Beyond it JSON readers lose digits."""


class Parameter(BaseModel):
    """``timeout: {type: duration, default: 15m, help: how long a drain may take}``"""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: ParameterType = "string"
    default: Any = Field(default=None, description="absent: the person who triggers a run must give it; null: none")
    help: StrictStr = Field(default="", max_length=_LONGEST)
    choices: tuple[StrictStr, ...] = Field(default=(), description="the only values of a string")

    @property
    def required(self) -> bool:
        """Whether there is no default."""
        return "default" not in self.model_fields_set

    @property
    def cel_type(self) -> str:
        """Its type in expressions; one that may be null is only known at run time."""
        return "dyn" if not self.required and self.default is None else _CEL[self.type]

    @model_validator(mode="after")
    def _consistent(self) -> Parameter:
        if self.choices and self.type != "string":
            raise fault(f"only a string has choices, not a {self.type}", key="choices")
        if self.default is not None:
            try:
                self.read(self.default)
            except ValueError as error:
                raise fault(str(error), key="default") from error
        return self

    def read(self, value: Any) -> Any:
        """``value`` as it came from YAML or JSON, if it fits the type. Raises ValueError."""
        if self.type == "list" and isinstance(value, list | tuple):
            return [_text(item) for item in value]
        if self.type in ("string", "duration"):
            return self._chosen(_text(value))
        if self.type == "bool" and isinstance(value, bool):
            return value
        number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _BIGGEST
        if self.type == "number" and number:
            return float(value)
        if self.type == "int" and number and isinstance(value, int):
            return value
        raise ValueError(f"must be {_words(self.type)}, not {describe(value)}")

    def parse(self, text: str) -> Any:
        """The value that ``--set name=text`` means. Raises ValueError."""
        if self.type == "bool":
            return self.read({"true": True, "false": False}.get(text.lower(), text))
        if self.type == "int":
            return self.read(int(text) if re.fullmatch(r"[-+]?[0-9]{1,16}", text) else text)
        if self.type == "number":
            return self.read(float(text) if re.fullmatch(r"[-+]?[0-9]{1,16}(\.[0-9]{1,16})?", text) else text)
        if self.type == "list":
            return self.read([part.strip() for part in text.split(",") if part.strip()])
        return self.read(text)

    def _chosen(self, text: str) -> str:
        if self.type == "duration":
            parse_duration(text)
        if self.choices and text not in self.choices:
            raise ValueError(f'"{text}" is not one of {", ".join(self.choices)}')
        return text


def _words(kind: str) -> str:
    return {"int": "a whole number", "number": "a number", "bool": "true or false", "list": "a list"}[kind]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be text, not {describe(value)}")  # noqa: TRY004 - pydantic and fill report ValueError
    if len(value) > _LONGEST or not value.isprintable():
        raise ValueError(f"must be at most {_LONGEST} printable characters")
    return value


def fill(parameters: Mapping[str, Parameter], given: Mapping[str, str]) -> dict[str, Any]:
    """Every parameter's value: what was given as text, else the default. Raises UsageError with everything that is wrong."""
    wrong = [f'no parameter "{name}"{suggest(name, parameters)}' for name in given if name not in parameters]
    values: dict[str, Any] = {}
    for name, parameter in parameters.items():
        if name not in given:
            values[name] = parameter.default
            if parameter.required:
                wrong.append(f'parameter "{name}" needs a value: --set {name}=...')
            continue
        try:
            values[name] = parameter.parse(given[name])
        except ValueError as error:
            wrong.append(f"parameter {name}: {error}")
    if wrong:
        raise UsageError("; ".join(wrong))
    return values
