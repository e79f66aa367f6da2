"""A command in a container, over one websocket: what goes out, and what comes back on its channels.

In: a program with its arguments; there is no shell, so nothing in them is interpreted. Out: an ``Executed``: exit code, and the first bytes
of output, of which more is read and dropped. Raised: errors of ``remediator.kube.errors``; a code other than 0 is an answer, no error.

Each message is bytes: the first names the channel, and a character of UTF-8 may be split between two, so nothing is decoded on the way.
The exit code comes as a Status on channel 3 (kubernetes, staging/src/k8s.io/client-go/tools/remotecommand, v4.go; pkg/kubelet/server/
remotecommand). ``v5`` is the form that API servers since 1.30 translate themselves (KEP-4006), ``v4`` the one that kubelets always took.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import msgspec

from remediator.kube.errors import CallFailed, Malformed, Unreachable, from_answer
from remediator.model import Noun

if TYPE_CHECKING:
    from collections.abc import Sequence

    from remediator.kube.connection import Connection, Request

__all__ = ["LIMIT", "PROTOCOLS", "Executed", "query", "run"]

PROTOCOLS: Final = ("v5.channel.k8s.io", "v4.channel.k8s.io")
LIMIT: Final = 64 * 1024
"""Bytes of output that are kept where the caller does not say."""
_STDOUT, _STDERR, _STATUS = 1, 2, 3
_LONGEST_STATUS: Final = 64 * 1024
_NON_ZERO: Final = "NonZeroExitCode"
_EXIT_CODE: Final = "ExitCode"


class Executed(Noun, frozen=True, kw_only=True):
    """A command that ran to its end."""

    code: int
    stdout: bytes
    stderr: bytes
    cut: bool
    """Whether there was more output than is kept."""


class _Cause(msgspec.Struct):
    reason: str = ""
    message: str = ""


class _Details(msgspec.Struct):
    causes: list[_Cause] | None = None


class _Status(msgspec.Struct):
    status: str = ""
    reason: str = ""
    code: int = 0
    details: _Details | None = None


def query(container: str, argv: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """What a PodExecOptions looks like as a query: no terminal, no input."""
    return (("container", container), ("stdout", "true"), ("stderr", "true"), *(("command", word) for word in argv))


async def run(connection: Connection, request: Request, *, seconds: float, limit: int) -> Executed:
    """Send it, and read until the Status is there."""
    heard = _Heard(limit)
    deadline = asyncio.get_running_loop().time() + seconds
    async with connection.upgrade(request, PROTOCOLS, deadline) as socket:
        if socket.protocol not in PROTOCOLS:
            raise Malformed(f"a websocket of none of {', '.join(PROTOCOLS)}", call=str(request), maybe_applied=True)
        while not heard.status:
            message = await socket.receive()
            if not isinstance(message.data, bytes):  # closed, broken, or text, which nobody sends by these protocols
                words = "the stream ended before the exit code came"
                raise Unreachable(words, call=str(request), maybe_applied=True)
            heard.take(message.data)
    return heard.end(request)


class _Heard:
    """What came so far, on all channels together no more than ``limit`` bytes of it."""

    def __init__(self, limit: int) -> None:
        self.status = b""
        self._left = limit
        self._cut = False
        self._output = {_STDOUT: bytearray(), _STDERR: bytearray()}

    def take(self, message: bytes) -> None:
        channel, data = message[:1], message[1:]
        if channel == bytes([_STATUS]):
            self.status = data[:_LONGEST_STATUS]
        elif channel and channel[0] in self._output and data:
            self._output[channel[0]] += data[: self._left]
            self._cut = self._cut or len(data) > self._left
            self._left = max(0, self._left - len(data))

    def end(self, request: Request) -> Executed:
        out, err = (bytes(self._output[channel]) for channel in (_STDOUT, _STDERR))
        return Executed(code=_code(self.status, str(request)), stdout=out, stderr=err, cut=self._cut)


def _code(status: bytes, call: str) -> int:
    """The exit code. Raises what the Status says where the command did not even start: no such container, no kubelet."""
    try:
        told = msgspec.json.decode(status, type=_Status)
        if told.status == "Success":
            return 0
        if told.reason == _NON_ZERO:
            causes = told.details.causes or [] if told.details else []
            return next(int(cause.message) for cause in causes if cause.reason == _EXIT_CODE)
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, StopIteration) as error:
        raise Malformed(f"not an exit code: {status[:100]!r}", call=call, maybe_applied=True) from error
    raise _failed(status, told.code, call)


def _failed(status: bytes, code: int, call: str) -> CallFailed:
    """As an ordinary answer of that code; on the channel a Status comes without its kind."""
    whole = {**msgspec.json.decode(status, type=dict[str, Any]), "kind": "Status"}
    return from_answer(msgspec.json.encode(whole), status=code or 500, call=call, write=True)
