"""Brings the store's schema up to date when the journal is opened.

In: a store. Out: its tables at the version of this program or a later one that it can work with, whoever comes first; several replicas may
start at once, one migrates and the others wait for it. An empty database gets the tables of schema.py at once; a test compares them with
what the migrations build one after the other. Refused with JournalUnavailable: a journal whose schema needs a newer program.

Which programs can work with a schema stands beside its version (``needs``): each migration says which is the oldest. So a release and the
one before it run side by side while one takes the other's place, and the older one can come back (docs/adr/0018).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import structlog
from sqlalchemy import Column, MetaData, PrimaryKeyConstraint, String, Table, Text, create_mock_engine, inspect, text

from remediator.errors import JournalUnavailable
from remediator.imports import without
from remediator.journal.chain import GENESIS
from remediator.journal.migrations import HEAD, NEEDS, VERSION_TABLE
from remediator.journal.schema import HEAD as LOG_HEAD
from remediator.journal.schema import METADATA
from remediator.journal.store import outage_of

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.schema import ExecutableDDLElement

    from remediator.journal.store import Store

__all__ = ["migrate"]

log = structlog.get_logger(__name__)

_VERSION = Table(
    VERSION_TABLE,
    MetaData(),
    Column("version_num", String(32), nullable=False),
    Column("needs", Text),
    PrimaryKeyConstraint("version_num", name=f"{VERSION_TABLE}_pkc"),
)
"""As Alembic makes it, and our own column."""


class _Version(NamedTuple):
    """Of the schema that is there, and of the oldest program that can work with it; numbers of four digits, which sort as text."""

    number: str = ""
    """Empty: an empty database."""
    needs: str = ""
    """Empty: written before this was kept, so only a program of this very version can."""

    @property
    def fits(self) -> bool:
        """Whether this program can work with it as it is."""
        return self.number == HEAD or (bool(self.needs) and self.needs <= HEAD < self.number)


def migrate(store: Store) -> None:
    """Run what is missing. Raises JournalUnavailable."""
    with store.snapshot() as connection:
        found = _version(connection)
    if not found.fits:
        with outage_of("migrate", store.shown), store.writing.begin() as connection:
            store.lock_schema(connection)
            found = _version(connection)
            if not found.number:
                _create(connection)
                return
            if not found.fits:
                _upgrade(connection)
                return
    if found.number != HEAD:
        log.warning("a newer version of remediator wrote this journal; this one can work with it", schema=found.number, known=HEAD)


def _version(connection: Connection) -> _Version:
    if not inspect(connection).has_table(VERSION_TABLE):
        return _Version()
    found = connection.execute(text(f"SELECT * FROM {VERSION_TABLE}")).mappings().first()  # noqa: S608 - a constant
    return _Version() if found is None else _Version(str(found["version_num"]), str(found.get("needs") or ""))


def _create(connection: Connection) -> None:
    for statement in _tables(connection.dialect.name):
        connection.exec_driver_sql(statement)
    connection.execute(LOG_HEAD.insert().values(id=1, seq=0, hash=GENESIS))
    connection.execute(_VERSION.insert().values(version_num=HEAD, needs=NEEDS))


@cache
def _tables(dialect: str) -> tuple[str, ...]:
    """The statements that make them. A rehearsal makes one journal after the other, and to write these takes longer than to run them."""
    found: list[str] = []

    def take(statement: ExecutableDDLElement, *_: object, **__: object) -> None:
        found.append(str(statement.compile(dialect=engine.dialect)))

    engine = create_mock_engine(f"{dialect}://", take)
    for tables in (METADATA, _VERSION.metadata):
        tables.create_all(engine, checkfirst=False)
    return tuple(found)


def _upgrade(connection: Connection) -> None:
    # Alembic takes a third of a second to import; a journal that is new or up to date does not need it.
    with without("pygments"):  # half of its memory, to colour templates that nobody writes
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
            f"a newer version of remediator wrote this journal (its schema is {_version(connection).number}, this one knows {HEAD}); update"
        ) from problem
    if "needs" not in {column["name"] for column in inspect(connection).get_columns(VERSION_TABLE)}:
        connection.execute(text(f"ALTER TABLE {VERSION_TABLE} ADD COLUMN needs TEXT"))
    connection.execute(_VERSION.update().values(needs=NEEDS))
