"""Field types that YAML documents share: durations and sizes with units, as pydantic types."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from remediator.units import format_duration, format_size, parse_duration, parse_size

__all__ = ["Duration", "Size"]


def _duration(value: Any) -> timedelta:
    if isinstance(value, timedelta):
        return value
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("must be a duration such as 30s, 5m or 1h30m")  # noqa: TRY004 - pydantic reports ValueError
    return parse_duration(str(value))


def _size(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("must be a size such as 512KiB or 4MiB")  # noqa: TRY004 - pydantic reports ValueError
    return parse_size(str(value))


Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^(\d+(y|w|d|h|m|s|ms))+$", "examples": ["30s", "5m", "1h30m"]}),
]
"""A length of time with a unit: ``30s``. Bare numbers are refused with a hint."""

Size = Annotated[
    int,
    BeforeValidator(_size),
    PlainSerializer(format_size, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^\d+\s?(B|KiB|MiB|GiB|kB|MB|GB)$", "examples": ["512KiB", "4MiB"]}),
]
"""Bytes with a unit: ``4MiB``."""
