"""Fixtures of every test: real parts come from tests/plugins, each of which skips with a reason where its part is absent."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

pytest_plugins = sorted(f"plugins.{path.stem}" for path in (ROOT / "tests" / "plugins").glob("*.py") if path.stem != "__init__")


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several workers: one of them has the control plane, the tests of a file stay together."""
    for item in items:
        alone = item.get_closest_marker("controlplane") is not None
        item.add_marker(pytest.mark.xdist_group("controlplane" if alone else str(item.path)))
