"""Durations and sizes as people write them: ``30s`` ``5m`` ``1h30m`` ``7d``, ``512KiB`` ``4MiB``. A bare number is an error.

The notation of durations is Prometheus's (years and weeks included, largest unit first, each unit once).
"""

from __future__ import annotations

import re
from datetime import timedelta

__all__ = ["format_duration", "format_size", "parse_duration", "parse_size"]

_UNITS = {"y": 365 * 86400.0, "w": 7 * 86400.0, "d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DURATION = re.compile(
    r"(?:(?P<y>\d+)y)?(?:(?P<w>\d+)w)?(?:(?P<d>\d+)d)?(?:(?P<h>\d+)h)?(?:(?P<m>\d+)m)?(?:(?P<s>\d+)s)?(?:(?P<ms>\d+)ms)?",
    re.ASCII,
)
_SIZES = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "kB": 1000, "MB": 1000**2, "GB": 1000**3}
_SIZE = re.compile(r"(\d+)\s?(B|KiB|MiB|GiB|kB|MB|GB)", re.ASCII)
_LONGEST = timedelta(days=100 * 365)


def parse_duration(text: str) -> timedelta:
    """Read ``1h30m`` and the like. Raises ValueError with a hint where a unit is missing or unknown."""
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        if re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII):
            raise ValueError(f'"{text}" has no unit; write {text}s, {text}m or {text}h')
        raise ValueError(f'"{text}" is not a duration; write for example 30s, 5m, 1h30m or 7d')
    seconds = sum(int(count) * _UNITS[unit] for unit, count in match.groupdict().items() if count and len(count) < 16)
    if any(count and len(count) >= 16 for count in match.groupdict().values()) or seconds > _LONGEST.total_seconds():
        raise ValueError(f'"{text}" is longer than 100 years')
    return timedelta(seconds=seconds)


def format_duration(duration: timedelta) -> str:
    """The shortest notation that ``parse_duration`` reads back, down to milliseconds: ``1h30m``, ``0s``."""
    left = round(duration.total_seconds() * 1000)
    sign, left = ("-" if left < 0 else ""), abs(left)
    parts = []
    for unit in ("d", "h", "m", "s", "ms"):
        count, left = divmod(left, round(_UNITS[unit] * 1000))
        if count:
            parts.append(f"{count}{unit}")
    return sign + ("".join(parts) or "0s")


def parse_size(text: str) -> int:
    """Bytes of ``4MiB`` and the like. Raises ValueError with a hint."""
    match = _SIZE.fullmatch(text)
    if match is None:
        if text.isdigit():
            raise ValueError(f'"{text}" has no unit; write {text}KiB or {text}MiB')
        raise ValueError(f'"{text}" is not a size; write for example 512KiB or 4MiB')
    return int(match[1]) * _SIZES[match[2]]


def format_size(size: int) -> str:
    """``4194304`` -> ``4MiB``; exact, so an odd number stays in bytes."""
    for unit in ("GiB", "MiB", "KiB"):
        if size and size % _SIZES[unit] == 0:
            return f"{size // _SIZES[unit]}{unit}"
    return f"{size}B"
