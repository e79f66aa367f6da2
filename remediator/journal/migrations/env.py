"""Alembic's entry: runs on the connection that ``remediator.journal.migrate`` hands over, inside its transaction."""

from alembic import context

from remediator.journal.migrations import VERSION_TABLE
from remediator.journal.schema import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA, version_table=VERSION_TABLE)
context.run_migrations()
