"""An answer that is written in one piece. In: JSON, and headers that are all our own; out: what aiohttp writes, byte by byte.

aiohttp's way looks up, folds and checks each header of each answer, which is a tenth of what a webhook costs. That is spared where nothing
depends on it: HTTP/1.1, status 200, a connection that stays open. Everything else goes its way.
"""

from __future__ import annotations

import time
from email.utils import formatdate
from functools import lru_cache
from typing import TYPE_CHECKING

from aiohttp import HttpVersion11, web

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.abc import AbstractStreamWriter

__all__ = ["Whole"]


class Whole(web.Response):
    """A response with a body of bytes. No header of it may come from a stranger, unless it was checked to hold no line break."""

    _written = False

    def __init__(self, *, body: bytes, headers: Mapping[str, str], status: int = 200) -> None:
        super().__init__(body=body, status=status)
        self.own = dict(headers)
        """Its headers; ``headers`` has them only where aiohttp writes them."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """See web.Response."""
        body, transport = self.body, request.transport
        usual = self.status == 200 and request.version == HttpVersion11 and request.keep_alive and self.keep_alive is not False
        if (
            not usual
            or self._written
            or transport is None
            or transport.is_closing()
            or request.method == "HEAD"
            or not isinstance(body, bytes)
        ):
            self.headers.update(self.own)
            return await super().prepare(request)
        self._written = True
        own = "".join([f"{name}: {value}\r\n" for name, value in self.own.items()])
        head = f"HTTP/1.1 200 OK\r\n{own}Content-Length: {len(body)}\r\nDate: {_date(int(time.time()))}\r\n\r\n"
        transport.write(head.encode() + body)
        await request.writer.drain()  # a client that sends on and reads nothing is made to wait
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """See web.Response."""
        if not self._written:
            await super().write_eof(data)

    @property
    def keep_alive(self) -> bool | None:
        """See web.Response."""
        return True if self._written else super().keep_alive

    @property
    def prepared(self) -> bool:
        """See web.Response."""
        return self._written or super().prepared


@lru_cache(maxsize=2)
def _date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)
