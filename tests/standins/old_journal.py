"""A journal as an earlier release began it: its tables at that version, and nothing in them."""

from __future__ import annotations

from importlib.resources import files

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine


def scripts() -> Config:
    """Alembic's settings for the journal's migrations."""
    config = Config()
    config.set_main_option("script_location", str(files("remediator.journal") / "migrations"))
    config.set_main_option("path_separator", "os")
    return config


def begin(url: str, version: str = "0001") -> None:
    """``url``: of an empty store."""
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    config = scripts()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, version)
    engine.dispose()
