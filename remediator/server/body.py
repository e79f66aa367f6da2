"""Request bodies, bounded while they are read. In: the stream; out: bytes, or a noun.

Refused: too long (413), too slow (503), not what the route takes (400).

A body that says it is too long is refused before a byte of it is read; one that does not say is cut off at the limit. One that does not
arrive in time gets a 503, since Alertmanager sends again after that and gives up after any 4xx.
"""

from __future__ import annotations

import asyncio
import difflib
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web
from aiohttp.client_exceptions import ClientError

from remediator.errors import PayloadError, PayloadTooLarge
from remediator.payload import Limits, convert, strict
from remediator.server.problems import RETRY_AFTER, HttpProblem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiohttp import StreamReader

__all__ = ["read_body", "read_form", "read_noun", "suggestion"]

T = TypeVar("T")
SMALL = 256 * 1024
"""What a request of the API, other than a delivery, may have at most."""
_FORM = 64 * 1024


async def read_body(request: web.Request, *, limit: int, seconds: float) -> bytes:
    """The whole body. Raises PayloadTooLarge above ``limit`` bytes, HttpProblem 503 if it takes longer than ``seconds``."""
    content = request.content
    try:
        if content.is_eof():  # nearly always: it came together with the headers, so there is nothing to wait for
            body = content.read_nowait()
        else:
            length = request.content_length or 0
            if length > limit:
                raise PayloadTooLarge(f"{length} bytes, at most {limit} are taken")
            async with asyncio.timeout(seconds):
                body = await _read(content, limit)
    except TimeoutError:
        detail = f"The body did not arrive within {seconds:g} s."
        raise HttpProblem(503, "The request is too slow", detail, headers=RETRY_AFTER) from None
    except (ClientError, web.RequestPayloadError) as error:
        raise HttpProblem(400, "The body is broken", f"It could not be read to its end ({type(error).__name__}).") from None
    if len(body) > limit:
        raise PayloadTooLarge(f"more than {limit} bytes, which is the most that is taken")
    return body


async def _read(content: StreamReader, limit: int) -> bytes:
    """Up to the end or just beyond ``limit``."""
    pieces: list[bytes] = []
    size = 0
    while size <= limit and (piece := await content.readany()):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)


async def read_noun(request: web.Request, kind: type[T], *, seconds: float) -> T:
    """The body as a request's noun. An unknown member is an error, since it may be a misspelt ``dry_run``; no body stands for ``{}``."""
    body = await read_body(request, limit=SMALL, seconds=seconds)
    data = strict(body, Limits(body=SMALL)) if body else {}
    if isinstance(data, dict):
        fields = msgspec.structs.fields(kind)  # type: ignore[arg-type]  # every noun is a struct
        names = [field.encode_name for field in fields]
        for name in data:
            if name not in names:
                raise PayloadError(f"is not known here{suggestion(name, names)}", path=name[:100])
    return convert(data, kind)


async def read_form(request: web.Request, names: Iterable[str], *, seconds: float) -> dict[str, str]:
    """The fields ``names`` of a form as browsers send it, the last of several; ``""`` for what is missing. Raises HttpProblem 400."""
    body = await read_body(request, limit=_FORM, seconds=seconds)
    if body and request.content_type != "application/x-www-form-urlencoded":
        raise HttpProblem(400, "Bad request", "Send the fields as application/x-www-form-urlencoded.")
    try:
        sent = dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=50))
    except ValueError:
        raise HttpProblem(400, "Bad request", "The fields of the form cannot be read.") from None
    if any("\0" in value for value in sent.values()):
        raise HttpProblem(400, "Bad request", "The form holds a NUL character.")
    return {name: sent.get(name, "") for name in names}


def suggestion(name: str, names: Iterable[str]) -> str:
    """``; did you mean "limit"?``, or what there is."""
    names = list(names)
    near = difflib.get_close_matches(name[:100], names, 1)
    if near:
        return f'; did you mean "{near[0]}"?'
    return f"; known are {', '.join(names)}" if names else ""
