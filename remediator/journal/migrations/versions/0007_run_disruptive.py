"""An index for the runs that may disturb, which are few among those that only collect evidence."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0005"
branch_labels = None
depends_on = None
needs = "0004"


def upgrade() -> None:
    """As in schema.py."""
    op.create_index(
        "run_disruptive",
        "run",
        ["dry_run", "started_at", "id"],
        sqlite_where=sa.text("""instr(data, '"disruptive"\\:true') > 0"""),
        postgresql_where=sa.text("""strpos(data, '"disruptive"\\:true') > 0"""),
    )
