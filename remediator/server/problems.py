"""Every error as application/problem+json (RFC 9457): ``title``, ``detail``, ``status``, and ``reason`` where a reason code applies.

In: an exception that a handler raised; out: what the client may know of it. An answer carries no traceback, and no words of an error that
nobody foresaw, or of the store, since those may name secrets; the log has them under the request's id.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import web

from remediator.errors import (
    InputError,
    JournalUnavailable,
    KubeError,
    MonitoringError,
    NotLeading,
    PayloadError,
    Refused,
    RemediatorError,
    Unreadable,
)
from remediator.model import encode
from remediator.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["MEDIA_TYPE", "RETRY_AFTER", "HttpProblem", "no_such", "problem_of", "respond"]

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = {"Retry-After": "5"}


class HttpProblem(RemediatorError):  # noqa: N818 - named after RFC 9457
    """An answer that is not the one asked for. ``extra`` are further members of the document, ``headers`` of the response."""

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        *,
        reason: Reason | None = None,
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(f"{title}: {detail}")
        self.status = status
        self.headers = dict(headers or {})
        named = {} if reason is None else {"reason": reason}
        self.document: dict[str, Any] = {"title": title, "detail": detail, "status": status, **named, **extra}

    def without(self, known: Callable[[str], str]) -> HttpProblem:
        """The same with texts as ``known`` leaves them."""
        self.document = {key: known(value) if isinstance(value, str) else value for key, value in self.document.items()}
        return self


def no_such(what: str, name: str) -> HttpProblem:
    """404 for a record."""
    return HttpProblem(404, "Not found", f'There is no {what} "{name[:100]}".')


def problem_of(error: Exception) -> HttpProblem | None:
    """What to answer; None for an error that nobody foresaw."""
    if isinstance(error, HttpProblem):
        return error
    return next((make(error) for kind, make in _FORESEEN if isinstance(error, kind)), None)


def _unavailable(error: JournalUnavailable) -> HttpProblem:
    del error  # it may quote the database, whose address may hold a password
    detail = (
        "The log says why. What was asked for may have been kept, or may be in a moment: look before you ask again (remediator runs list)."
    )
    return HttpProblem(503, "The journal is unavailable", detail, headers=RETRY_AFTER)


def _of_aiohttp(error: web.HTTPException) -> HttpProblem:
    details = {
        404: "There is no such route; GET /openapi.json lists them.",
        405: f"The route takes {error.headers.get('Allow', 'another method')}.",
    }
    title = HTTPStatus(error.status).phrase.capitalize()
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    return HttpProblem(error.status, title, details.get(error.status, title + "."), headers=headers)


_FORESEEN: tuple[tuple[type[Exception] | tuple[type[Exception], ...], Callable[[Any], HttpProblem]], ...] = (
    (PayloadError, lambda error: HttpProblem(error.status, error.title, str(error), path=error.path)),
    (JournalUnavailable, _unavailable),
    (Refused, lambda error: HttpProblem(409, "Refused", error.detail, reason=error.reason)),
    (Unreadable, lambda error: HttpProblem(503, "A signal could not be read", str(error), reason=Reason.UNREADABLE)),
    (NotLeading, lambda error: HttpProblem(503, "This replica is a standby", str(error), headers=RETRY_AFTER)),
    (InputError, lambda error: HttpProblem(400, "Bad request", str(error))),
    ((KubeError, MonitoringError), lambda error: HttpProblem(502, "Another system failed", str(error))),
    (web.HTTPException, _of_aiohttp),
)


def respond(problem: HttpProblem, request_id: str) -> web.Response:
    """The response for ``problem``."""
    body = encode({**problem.document, "request_id": request_id})
    return web.Response(status=problem.status, body=body, content_type=MEDIA_TYPE, headers=problem.headers)
