"""The release before this one, taken out of the clone's history: what a rolling upgrade begins with, and what a downgrade goes back to.

``previous_release`` is a folder (session): with it on PYTHONPATH the same Python runs that release's ``remediator``. Which commit it is
stands in ``tests/previous_release``. A clone without that part of the history skips, and says so.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from io import BytesIO
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

NAMED_IN = "tests/previous_release"


def commit_of(root: Path) -> str:
    """The commit that the file names; lines with ``#`` are for people."""
    (commit,) = [line for line in (root / NAMED_IN).read_text().splitlines() if line.strip() and not line.startswith("#")]
    return commit.strip()


def taken_out(root: Path, folder: Path) -> Path:
    """Its program and playbooks, in ``folder``."""
    commit = commit_of(root)
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "archive", "--format=tar", commit, "remediator", "playbooks"],
            capture_output=True,
            check=False,
            timeout=60,
        )
    except FileNotFoundError:
        pytest.skip("no previous release: there is no git here")
    if done.returncode:
        pytest.skip(f"no previous release: {NAMED_IN} names {commit[:12]}, which this clone has not (git fetch --unshallow)")
    with tarfile.open(fileobj=BytesIO(done.stdout)) as archive:
        archive.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))  # Debian 12 has 3.11.2
    return folder


@pytest.fixture(scope="session")
def previous_release(tmp_path_factory, root):
    folder = taken_out(root, tmp_path_factory.mktemp("previous-release"))
    asked = subprocess.run(
        [sys.executable, "-c", "import remediator; print(remediator.__file__)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=folder.parent,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )
    assert asked.stdout.startswith(str(folder)), "else the tests would show nothing: both sides were this release"
    return folder
