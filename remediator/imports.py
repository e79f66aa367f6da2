"""Imports of libraries without what they take along only because it is installed, and what nobody needs of them."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["without"]


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Inside of it, whoever imports one of these is told that it is not installed. What is imported already stays."""
    modules: dict[str, Any] = sys.modules
    hidden = [name for name in names if name not in modules]
    modules.update(dict.fromkeys(hidden))  # None: the import raises ModuleNotFoundError
    try:
        yield
    finally:
        for name in hidden:
            del modules[name]
