"""The tables of the journal: what is filtered by is a column with an index that fits, the record itself is JSON in ``data``.

In: nothing. Out: ``METADATA`` and the tables, the same on SQLite and PostgreSQL; the migrations build exactly these (a test compares).
Every table but the log has a text key ``id`` that is also the ``ref`` of its entries in the log. Times are text in RFC 3339 UTC with
microseconds, so that they sort as text and can be read in any database shell.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, MetaData, Table, Text, text
from sqlalchemy.dialects import postgresql

__all__ = [
    "CHANGE",
    "CHECKPOINT",
    "DECISION",
    "DELIVERY",
    "ENTRY",
    "EPISODE",
    "HEAD",
    "MAY_DISTURB",
    "METADATA",
    "PAUSE",
    "REVISION",
    "RUN",
    "STEP",
    "TABLES",
    "VERIFIED",
]

METADATA = MetaData()

# Keys and times compare byte by byte on both databases; PostgreSQL would otherwise sort by the server's language.
_Key = Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
_Json = Text()  # text, not jsonb: the digest in the log is over exactly these bytes
_Seq = BigInteger().with_variant(Integer(), "sqlite")


def _id() -> Column[str]:
    return Column("id", _Key, primary_key=True)


def _key(name: str, *, null: bool = False) -> Column[str]:
    return Column(name, _Key, nullable=null)


def _data() -> Column[str]:
    return Column("data", _Json, nullable=False)


DELIVERY = Table(
    "delivery",
    METADATA,
    _id(),
    _key("received_at"),
    _key("decided_at", null=True),
    _data(),
)
Index("delivery_received", DELIVERY.c.received_at, DELIVERY.c.id)
_waits = DELIVERY.c.decided_at.is_(None)
Index("delivery_undecided", DELIVERY.c.id, sqlite_where=_waits, postgresql_where=_waits)

EPISODE = Table(
    "episode",
    METADATA,
    _id(),  # fingerprint@starts_at
    _key("fingerprint"),
    _key("starts_at"),
    _key("name"),
    _key("resolved_at", null=True),
    _data(),
)
Index("episode_fingerprint", EPISODE.c.fingerprint, EPISODE.c.starts_at, EPISODE.c.id)
Index("episode_name", EPISODE.c.name, EPISODE.c.starts_at, EPISODE.c.id)
Index("episode_started", EPISODE.c.starts_at, EPISODE.c.id)
_fires = EPISODE.c.resolved_at.is_(None)
Index("episode_open", EPISODE.c.starts_at, EPISODE.c.id, sqlite_where=_fires, postgresql_where=_fires)

DECISION = Table(
    "decision",
    METADATA,
    _id(),
    _key("at"),
    _key("delivery", null=True),
    _key("name", null=True),
    _key("fingerprint", null=True),
    _key("playbook", null=True),
    _key("target", null=True),
    _key("decision"),
    _key("run", null=True),
    _data(),
)
Index("decision_at", DECISION.c.at, DECISION.c.id)
Index("decision_kind", DECISION.c.decision, DECISION.c.at, DECISION.c.id)
for _name in ("delivery", "name", "fingerprint", "playbook", "target", "run"):
    # Most decisions of a storm have no playbook, target or run: those indexes stay small and cheap to keep.
    _set = DECISION.c[_name].is_not(None)
    Index(f"decision_{_name}", DECISION.c[_name], DECISION.c.at, DECISION.c.id, sqlite_where=_set, postgresql_where=_set)

RUN = Table(
    "run",
    METADATA,
    _id(),
    _key("playbook"),
    _key("target"),
    _key("state"),
    Column("dry_run", Boolean(create_constraint=False), nullable=False),
    _key("started_at"),
    _key("ended_at", null=True),
    _data(),  # without its steps
)
Index("run_started", RUN.c.started_at, RUN.c.id)
Index("run_playbook", RUN.c.playbook, RUN.c.started_at, RUN.c.id)
Index("run_target", RUN.c.target, RUN.c.started_at, RUN.c.id)
Index("run_state", RUN.c.state, RUN.c.started_at, RUN.c.id)
# Not for dry runs alone: a daemon that was in dry run for months has as few live ones.
Index("run_dry", RUN.c.dry_run, RUN.c.started_at, RUN.c.id)
# Found in the text and not by a column, which a release before this one would not fill. A quote within a string is escaped, so that this is
# a key; one further inside may be called so too, and who reads looks again. Not parsed: PostgreSQL refuses JSON with a NUL in it.
MAY_DISTURB = {name: text(f"""{find}(data, '"disruptive"\\:true') > 0""") for name, find in (("sqlite", "instr"), ("postgresql", "strpos"))}
Index(
    "run_disruptive",
    RUN.c.dry_run,
    RUN.c.started_at,
    RUN.c.id,
    sqlite_where=MAY_DISTURB["sqlite"],
    postgresql_where=MAY_DISTURB["postgresql"],
)

STEP = Table(
    "step",
    METADATA,
    _id(),  # run/index
    _key("run"),
    Column("position", Integer, nullable=False),
    _data(),  # without its changes
)
Index("step_run", STEP.c.run, STEP.c.position)

CHANGE = Table(
    "change",
    METADATA,
    _id(),
    _key("run"),
    _key("at"),
    Column("left_behind", Boolean(create_constraint=False), nullable=False),
    _data(),
)
Index("change_at", CHANGE.c.at, CHANGE.c.id)
Index("change_run", CHANGE.c.run, CHANGE.c.at, CHANGE.c.id)
Index("change_left", CHANGE.c.left_behind, CHANGE.c.at, CHANGE.c.id)

PAUSE = Table(
    "pause",
    METADATA,
    _id(),
    _key("playbook", null=True),
    _key("target", null=True),
    _key("at"),
    _key("until", null=True),
    _key("ended_at", null=True),
    _data(),
)
_holds = PAUSE.c.ended_at.is_(None)
Index("pause_open", PAUSE.c.id, sqlite_where=_holds, postgresql_where=_holds)

REVISION = Table(
    "revision",
    METADATA,
    _id(),
    _key("playbook"),
    _data(),  # the playbook's text, which is not JSON
)

ENTRY = Table(
    "entry",
    METADATA,
    Column("seq", _Seq, primary_key=True, autoincrement=False),
    _key("at"),
    _key("kind"),
    _key("ref"),
    _data(),
    _key("previous"),
    _key("hash"),
)
Index("entry_ref", ENTRY.c.ref, ENTRY.c.seq)
Index("entry_kind", ENTRY.c.kind, ENTRY.c.seq)

HEAD = Table(
    "head",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", _Seq, nullable=False),
    _key("hash"),
    Column("epoch", _Seq, nullable=False, server_default="0"),
)
"""One row: the last entry. Whoever writes takes it first, so replicas cannot fork the chain, and a cut tail shows.

``epoch`` counts who led; whoever led before writes nothing more.
"""

CHECKPOINT = Table(
    "checkpoint",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", _Seq, nullable=False),
    _key("hash"),
    _data(),
)
"""No row, or one: what was pruned. The log's first entry follows from its number and hash."""

VERIFIED = Table(
    "verified",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    _data(),
)
"""No row, or one: how far the last verification came. Nothing vouches for it; it saves work and proves nothing."""

TABLES = (DELIVERY, EPISODE, DECISION, RUN, STEP, CHANGE, PAUSE, REVISION)
"""The tables whose rows the log vouches for."""
