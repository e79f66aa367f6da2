"""Brings the store's schema up to date when the journal is opened.

In: a store. Out: its tables at the version of this program, whoever comes first; several replicas may start at once, one migrates and the
others wait for it. Refused with JournalUnavailable: a journal that a newer version of this program has written.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import inspect, text

from remediator.errors import JournalUnavailable
from remediator.journal.migrations import HEAD, VERSION_TABLE
from remediator.journal.store import outage_of

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from remediator.journal.store import Store

__all__ = ["migrate"]


def migrate(store: Store) -> None:
    """Run what is missing. Raises JournalUnavailable."""
    with store.snapshot() as connection:
        if _version(connection) == HEAD:
            return
    with outage_of("migrate", store.shown), store.writing.begin() as connection:
        store.lock_schema(connection)
        if _version(connection) != HEAD:
            _upgrade(connection)


def _version(connection: Connection) -> str | None:
    """None for an empty database."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608 - a constant
    return None if found is None else str(found)


def _upgrade(connection: Connection) -> None:
    # Alembic takes a third of a second to import; a journal that is up to date does not need it.
    from alembic import command  # noqa: PLC0415 - see above
    from alembic.config import Config  # noqa: PLC0415 - see above
    from alembic.util import CommandError  # noqa: PLC0415 - see above

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as problem:
        raise JournalUnavailable(
            f"a newer version of remediator wrote this journal (its schema is {_version(connection)}, this one knows {HEAD}); update"
        ) from problem
