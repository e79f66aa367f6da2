"""The journal's schema, version by version (Alembic). ``HEAD`` names the last; a test keeps it and schema.py equal to what they build.

A new version: change schema.py, write ``versions/NNNN_what.py`` with ``down_revision`` naming the one before, set ``HEAD``.
Versions only go up: a journal is never taken back to an older schema.
"""

HEAD = "0005"
VERSION_TABLE = "journal_version"
