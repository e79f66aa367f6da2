"""Which worker runs which tests, where there are several: all that need the control plane are one worker's, so one API server runs.

Tests of a file that makes something for all of them stay together too. What takes long comes first, so that no worker is left with it
alone at the end. The long tests of the control plane are more than one worker's share, and are apart by their files.
"""

from __future__ import annotations

import gc
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from plugins.controlplane import ENDING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xdist.scheduler import LoadScopeScheduling

_ROOT = Path(__file__).parent.parent.parent
_CONTRACT = "tests/contract/"
"""Contracts hold on the simulated cluster and on the real one."""
_FIRST = ("tests/differential/", "tests/acceptance/", "tests/recovery/", "tests/pipeline/", "tests/cli/", "tests/unit/actions/")
"""The others follow."""

_GARBAGE = (50_000, 20, 100)
"""When garbage is looked for; Python's own are (700, 10, 10)."""


@cache
def _text(path: str) -> str:
    return (_ROOT / path).read_text()


@cache
def _with_controlplane(path: str) -> bool:
    return path.startswith(_CONTRACT) or "mark.controlplane" in _text(path)


def _path(nodeid: str) -> str:
    return nodeid.partition("::")[0]


def _group(nodeid: str, *, long: bool) -> str:
    path = _path(nodeid)
    if _with_controlplane(path):
        return path if long else "control plane"
    return path if 'scope="module"' in _text(path) else nodeid


def _rank(nodeid: str) -> int:
    if _with_controlplane(_path(nodeid)):
        return -1 if nodeid.startswith(_CONTRACT) else -2  # contracts leave pods on its nodes for a while
    return next((rank for rank, folder in enumerate(_FIRST) if nodeid.startswith(folder)), len(_FIRST))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Files without a long test need not be read by workers that take no other: reading all costs each of them seconds."""
    if not _long_only(config) or collection_path.suffix != ".py" or not collection_path.is_relative_to(_ROOT):
        return None
    return None if "mark.long" in _text(str(collection_path.relative_to(_ROOT))) else True


def _long_only(config: pytest.Config) -> bool:
    return bool(config.option.markexpr == "long")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """The control plane ends with the last test of those that need it: idle it takes a twentieth of a core, of each worker that has one."""
    yield
    if nextitem is not None and not _with_controlplane(_path(nextitem.nodeid)) and ENDING in item.config.stash:
        item.config.stash[ENDING]()


@pytest.hookimpl(trylast=True)  # after pytest-randomly, whose order stays within each rank
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The order in which workers take the tests."""
    items.sort(key=lambda item: _rank(item.nodeid))


def pytest_collection_finish() -> None:
    """What was imported and collected stays to the end. To walk it all again and again took a twentieth of the tests' time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GARBAGE)


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Groups in the order of their first test."""
    from xdist.scheduler import LoadScopeScheduling

    long = _long_only(config)

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _group(nodeid, long=long)

    config.option.loadscopereorder = False
    return ByGroup(config, log)
