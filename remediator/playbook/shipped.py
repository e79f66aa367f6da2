"""Where the playbooks are that come with the program."""

from __future__ import annotations

from pathlib import Path

__all__ = ["shipped"]


def shipped() -> Path:
    """The folder: inside of the package in an installed wheel, ``playbooks/`` of the repository in a checkout."""
    here = Path(__file__).resolve().parent
    inside = here / "shipped"
    return inside if inside.is_dir() else here.parents[1] / "playbooks"
