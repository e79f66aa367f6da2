"""The run engine's file as it is before its first run. DBOS makes it in sixty steps, which takes longer than many a test that needs one."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory


@cache
def _empty() -> bytes:
    from dbos import DBOS

    with TemporaryDirectory() as folder:
        path = Path(folder) / "engine"
        DBOS.migrate(f"sqlite:///{path}")
        return path.read_bytes()


def engine_beside(journal: Path) -> None:
    """``journal``: where the SQLite file of the journal will be."""
    journal.with_name(f"{journal.name}.engine").write_bytes(_empty())
