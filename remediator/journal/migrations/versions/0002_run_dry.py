"""Dry runs among many live ones, and live runs among many dry ones, are found by index."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """From 0001."""
    op.create_index("run_dry", "run", ["dry_run", "started_at", "id"])
