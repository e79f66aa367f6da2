"""The bearer token for a monitoring system, from a file that may be rewritten at any time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remediator.errors import MonitoringError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["bearer"]


def bearer(file: Path | None) -> dict[str, str]:
    """The Authorization header, or nothing without a file. Raises MonitoringError, without its content, if the file holds no one token."""
    if file is None:
        return {}
    try:
        token = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise MonitoringError(f"token file {file} cannot be read: {type(error).__name__}") from error
    if not token or any(character.isspace() for character in token):
        raise MonitoringError(f"token file {file} does not hold one token")
    return {"Authorization": f"Bearer {token}"}
