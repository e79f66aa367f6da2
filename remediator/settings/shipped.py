"""Where the playbooks are that come with the program, and the word for them."""

from __future__ import annotations

from pathlib import Path

__all__ = ["SHIPPED", "shipped"]

SHIPPED = "shipped"
"""What settings and commands call them, since their path is another one in each image."""


def shipped() -> Path:
    """The folder: inside of the package in an installed wheel, ``playbooks/`` of the repository in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "playbook" / "shipped"
    return inside if inside.is_dir() else package.parent / "playbooks"
