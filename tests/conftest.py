"""Fixtures of every test: real parts come from tests/plugins, each of which skips with a reason where its part is absent."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
_PLUGINS = sorted(path.stem for path in (ROOT / "tests" / "plugins").glob("*.py") if path.stem != "__init__")


def _load(name: str) -> str:
    """Register tests/plugins/NAME.py as an importable module, since tests are folders and not packages."""
    module_name = f"remediator_test_{name}"
    if module_name not in sys.modules:
        spec = importlib.util.spec_from_file_location(module_name, ROOT / "tests" / "plugins" / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        spec.loader.exec_module(module)
    return module_name


pytest_plugins = [_load(name) for name in _PLUGINS]


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT
