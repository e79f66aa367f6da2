"""Every error that this program raises on purpose, as one tree.

::

    RemediatorError
    ├── InputError               something that a person or another program gave us is wrong; says where
    │   ├── DocumentError        one or more problems in YAML files, each with file, line and column
    │   ├── ExpressionError      a CEL expression or a ${...} template that cannot be accepted
    │   ├── PayloadError         an HTTP body that is not what the route takes; says the path of the fault
    │   │   └── PayloadTooLarge
    │   └── UsageError           a command or request that makes no sense as asked
    ├── Refused                  a gate or an action's own check says no, before anything changed; carries a reason code
    ├── Unreadable               a signal that a decision needs could not be read; whoever asked must refuse
    ├── StepFailed               an action was tried and did not do what it promises
    ├── JournalError
    │   ├── JournalUnavailable   the journal cannot keep anything now; see there what is in doubt
    │   │   └── Deposed          another replica leads since; this process must end
    │   ├── Occupied             another daemon acts on this store
    │   └── ChainBroken          the journal was altered from outside
    ├── NotLeading               a standby was asked for what only the leader does
    │   └── HandsOver            the leader leaves it to another replica, and ends
    ├── KubeError                the Kubernetes API said no or did not answer; see remediator.kube.errors
    ├── MonitoringError          Prometheus or Alertmanager said no or did not answer
    └── ServerError              our own daemon, seen from the CLI
        ├── ServerUnreachable
        └── ServerRefused        it answered with problem+json

Each says what happened, where, and what to do. None of them carries a secret: bodies are cut at their door.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from remediator.reasons import Reason

__all__ = [
    "ChainBroken",
    "Deposed",
    "DocumentError",
    "ExpressionError",
    "HandsOver",
    "InputError",
    "JournalError",
    "JournalUnavailable",
    "KubeError",
    "MonitoringError",
    "NotLeading",
    "Occupied",
    "PayloadError",
    "PayloadTooLarge",
    "Problem",
    "Refused",
    "RemediatorError",
    "ServerError",
    "ServerRefused",
    "ServerUnreachable",
    "StepFailed",
    "Unreadable",
    "UsageError",
]


class RemediatorError(Exception):
    """Base of all errors raised on purpose; ``str()`` of it is a sentence for a person."""


class InputError(RemediatorError):
    """Something that was given to us is wrong."""


class Problem:
    """One fault in a file, printed as ``path:line:col: message`` (lines and columns count from 1)."""

    __slots__ = ("column", "line", "message", "path")

    def __init__(self, path: str, line: int, column: int, message: str) -> None:
        self.path = path
        self.line = line
        self.column = column
        self.message = message

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}: {self.message}"

    def __repr__(self) -> str:
        return f"Problem({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Problem) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


class DocumentError(InputError):
    """One or more problems in YAML files; all of them, not only the first."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class ExpressionError(InputError):
    """An expression or template that cannot be accepted; ``column`` counts from 1 within its source."""

    def __init__(self, message: str, *, column: int = 1) -> None:
        super().__init__(message)
        self.column = column


class PayloadError(InputError):
    """A body that is not what the route takes. ``path`` names the fault as ``alerts[3].startsAt``."""

    title = "Not a valid payload"
    status = 400

    def __init__(self, detail: str, *, path: str = "") -> None:
        super().__init__(f"{path}: {detail}" if path else detail)
        self.detail = detail
        self.path = path


class PayloadTooLarge(PayloadError):  # noqa: N818 - named after the HTTP status that it becomes
    """A body beyond the limit on bytes, depth or count."""

    title = "Payload too large"
    status = 413


class UsageError(InputError):
    """A command or request that makes no sense as asked."""


class Refused(RemediatorError):  # noqa: N818 - a refusal is an answer, not an accident
    """A no before anything was changed, with its reason code."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Unreadable(RemediatorError):  # noqa: N818 - the reason code of the same name
    """A signal could not be read. ``signal`` says which, ``detail`` why."""

    def __init__(self, signal: str, detail: str) -> None:
        super().__init__(f"{signal} could not be read: {detail}")
        self.signal = signal
        self.detail = detail


class StepFailed(RemediatorError):  # noqa: N818 - the reason code step_failed
    """An action was tried and did not do what it promises.

    ``unknown`` if nobody can say whether it took effect; ``reason`` where a closer code than ``step_failed`` fits.
    """

    def __init__(self, detail: str, *, unknown: bool = False, reason: Reason | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.unknown = unknown
        self.reason = reason


class JournalError(RemediatorError):
    """The journal could not do what was asked."""


class JournalUnavailable(JournalError):  # noqa: N818 - a state, named as such
    """The journal cannot keep anything now. Nothing of the request is stored, unless its commit hangs: then it may be a moment later."""


class Deposed(JournalUnavailable):
    """Another replica leads since we did; this process may write nothing any more."""


class Occupied(JournalError):  # noqa: N818 - a state, named as such
    """Another daemon acts on this store, and neither would know of the other; this one must not begin."""


class NotLeading(RemediatorError):  # noqa: N818 - a state, named as such
    """A standby was asked for what only the leader does; nothing was done."""


class HandsOver(NotLeading):
    """The leader must not do this itself and another replica can: it decides nothing more, and lets that one lead."""


class ChainBroken(JournalError):  # noqa: N818 - a finding, named as such
    """An entry does not follow from the one before it: the journal was altered from outside."""


class KubeError(RemediatorError):
    """The Kubernetes API said no or did not answer. ``retryable`` says whether the same call may succeed later."""

    retryable = False
    maybe_applied = False
    """True where a write got no clear answer and may have taken effect: look before trying again."""


class MonitoringError(RemediatorError):
    """Prometheus or Alertmanager said no, answered nonsense or did not answer in time."""

    retryable = False
    maybe_applied = False
    """As of KubeError."""


class ServerError(RemediatorError):
    """Our own daemon, seen from the CLI, did not do what was asked."""


class ServerUnreachable(ServerError):  # noqa: N818 - a state, named as such
    """No daemon answers at the given address."""


class ServerRefused(ServerError):  # noqa: N818 - an answer, named as such
    """The daemon answered with problem+json; ``problem`` is that document."""

    def __init__(self, status: int, problem: dict[str, object]) -> None:
        super().__init__(f"{problem.get('title') or 'refused'}: {problem.get('detail') or status}")
        self.status = status
        self.problem = problem
