"""Of several replicas: the number of the one that leads, beside the head of the chain that every writer takes anyway."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nobody led before."""
    kind = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.add_column("head", sa.Column("epoch", kind, nullable=False, server_default="0"))
