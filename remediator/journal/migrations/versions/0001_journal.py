"""The first schema: deliveries, episodes, decisions, runs, steps, changes, pauses, revisions, and the chained log."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _key(name: str, *, null: bool = False) -> sa.Column[str]:
    """Text that compares byte by byte on both databases."""
    return sa.Column(name, sa.Text().with_variant(sa.TEXT(collation="C"), "postgresql"), nullable=null)


def _data() -> sa.Column[str]:
    return sa.Column("data", sa.Text(), nullable=False)


def _seq(name: str = "seq") -> sa.Column[int]:
    kind = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    return sa.Column(name, kind, autoincrement=False, nullable=False)


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


def _records() -> None:
    op.create_table(
        "delivery",
        _key("id"),
        _key("received_at"),
        _key("decided_at", null=True),
        _data(),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("delivery_received", "delivery", ["received_at", "id"])
    op.create_index("delivery_undecided", "delivery", ["id"], **_where("decided_at IS NULL"))

    op.create_table(
        "episode",
        _key("id"),
        _key("fingerprint"),
        _key("starts_at"),
        _key("name"),
        _key("resolved_at", null=True),
        _data(),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("episode_fingerprint", "episode", ["fingerprint", "starts_at", "id"])
    op.create_index("episode_name", "episode", ["name", "starts_at", "id"])
    op.create_index("episode_started", "episode", ["starts_at", "id"])
    op.create_index("episode_open", "episode", ["starts_at", "id"], **_where("resolved_at IS NULL"))

    op.create_table(
        "decision",
        _key("id"),
        _key("at"),
        _key("delivery", null=True),
        _key("name", null=True),
        _key("fingerprint", null=True),
        _key("playbook", null=True),
        _key("target", null=True),
        _key("decision"),
        _key("run", null=True),
        _data(),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("decision_at", "decision", ["at", "id"])
    op.create_index("decision_kind", "decision", ["decision", "at", "id"])
    for name in ("delivery", "name", "fingerprint", "playbook", "target", "run"):
        op.create_index(f"decision_{name}", "decision", [name, "at", "id"], **_where(f"{name} IS NOT NULL"))


def _work() -> None:
    op.create_table(
        "run",
        _key("id"),
        _key("playbook"),
        _key("target"),
        _key("state"),
        sa.Column("dry_run", sa.Boolean(), nullable=False),
        _key("started_at"),
        _key("ended_at", null=True),
        _data(),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("run_started", "run", ["started_at", "id"])
    for name in ("playbook", "target", "state"):
        op.create_index(f"run_{name}", "run", [name, "started_at", "id"])

    op.create_table(
        "step",
        _key("id"),
        _key("run"),
        sa.Column("position", sa.Integer(), nullable=False),
        _data(),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("step_run", "step", ["run", "position"])

    op.create_table(
        "change",
        _key("id"),
        _key("run"),
        _key("at"),
        sa.Column("left_behind", sa.Boolean(), nullable=False),
        _data(),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("change_at", "change", ["at", "id"])
    op.create_index("change_run", "change", ["run", "at", "id"])
    op.create_index("change_left", "change", ["left_behind", "at", "id"])

    op.create_table(
        "pause",
        _key("id"),
        _key("playbook", null=True),
        _key("target", null=True),
        _key("at"),
        _key("until", null=True),
        _key("ended_at", null=True),
        _data(),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("pause_open", "pause", ["id"], **_where("ended_at IS NULL"))

    op.create_table("revision", _key("id"), _key("playbook"), _data(), sa.PrimaryKeyConstraint("id"))


def _log() -> None:
    op.create_table(
        "entry",
        _seq(),
        _key("at"),
        _key("kind"),
        _key("ref"),
        _data(),
        _key("previous"),
        _key("hash"),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index("entry_ref", "entry", ["ref", "seq"])
    op.create_index("entry_kind", "entry", ["kind", "seq"])
    head = op.create_table(
        "head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        _seq(),
        _key("hash"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.bulk_insert(head, [{"id": 1, "seq": 0, "hash": "0" * 64}])


def upgrade() -> None:
    """From an empty database."""
    _records()
    _work()
    _log()
