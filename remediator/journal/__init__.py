"""The journal: what came in, what was decided, what was done; on SQLite or PostgreSQL, append-only and hash-chained. The only SQL.

``Journal`` is the door. Behind it: ``schema`` (tables), ``migrations``, ``store`` (the databases), ``writer`` and ``transaction``
(group commit), ``writes`` and ``rows`` (what a write keeps), ``queries`` and ``paging`` (what can be asked), ``chain``, ``anchor``,
``audit``, ``leaf``, ``glance`` and ``verification`` (whether it is what was written), ``prune`` and ``checkpoint`` (what may go after a
time), ``exchange`` (out as lines and in again), ``redact`` (what never gets in).
"""

from remediator.journal.audit import ChainReport
from remediator.journal.exchange import Imported, lines_of, take_in
from remediator.journal.journal import Journal
from remediator.journal.prune import Pruned
from remediator.journal.redact import Redactor, secrets_of
from remediator.journal.verification import MOST_JOBS

__all__ = ["MOST_JOBS", "ChainReport", "Imported", "Journal", "Pruned", "Redactor", "lines_of", "secrets_of", "take_in"]
