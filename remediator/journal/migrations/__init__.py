"""The journal's schema, version by version (Alembic). ``HEAD`` names the last; a test keeps it and schema.py equal to what they build.

A new version: change schema.py, write ``versions/NNNN_what.py`` with ``down_revision`` naming the one before, set ``HEAD``.
Versions only go up: a journal is never taken back to an older schema.

``needs`` in it names the oldest version whose program can still work with the tables as they are then. The release before must be able to:
a version only adds (tables, indexes, columns that have a default or may be null), and says ``needs = "NNNN"`` of the last release; what is
no longer used goes one release later, when nobody reads it any more (docs/adr/0018). A test asks every version after 0004 for it, and
keeps ``NEEDS`` equal to the highest of them.
"""

HEAD = "0006"
NEEDS = "0004"
VERSION_TABLE = "journal_version"
