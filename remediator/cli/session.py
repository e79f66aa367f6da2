"""From flags to a client: where the daemon is, and which token goes with which call.

The address and the token are taken from flags and environment, else from the daemon's settings file. Tokens of the settings file go only to
the address of the settings file: somebody who names another address has to name a token for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from remediator.cli.frame import flags
from remediator.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from remediator.client import Client, Scope
    from remediator.settings import Settings

__all__ = ["ask", "client", "daemon_is_named", "me", "settings_of"]

T = TypeVar("T")


def ask(call: Callable[[Client], Awaitable[T]], *, timeout: float = 10.0) -> T:
    """The answer to one question, or several in a row, to the daemon; ``timeout`` seconds for each call."""
    import asyncio

    async def asked() -> T:
        async with client(timeout=timeout) as daemon:
            return await call(daemon)

    return asyncio.run(asked())


def daemon_is_named() -> bool:
    """Whether flags or environment say which daemon to ask."""
    given = flags()
    return bool(given.server or given.config)


def client(*, timeout: float = 10.0) -> Client:
    """A client for the daemon that the flags name. Raises UsageError where they name none, DocumentError for bad settings."""
    from remediator.client import Client

    given = flags()
    token = read_token(given.token_file) if given.token_file else None
    if given.server:
        return Client(given.server, token=token, timeout=timeout)
    if not given.config:
        raise UsageError(
            "which daemon? Give its address with --server or REMEDIATOR_SERVER, or its settings file with --config or REMEDIATOR_CONFIG"
        )
    settings = settings_of(given.config)
    return Client(address_of(settings), token=token or (lambda scope: _token_for(settings, scope)), timeout=timeout)


def settings_of(path: str, said: Mapping[str, str] | None = None) -> Settings:
    """The settings file at ``path``, with what flags ``said`` instead. Raises DocumentError with everything that is wrong."""
    from pathlib import Path

    from remediator.settings import load_settings

    return load_settings(Path(path), flags=said)


def address_of(settings: Settings) -> str:
    """How to call a daemon on this machine that listens as its settings say."""
    host, port = settings.server.host, settings.server.port
    if port == 0:
        raise UsageError("the settings leave the port to chance (server.listen ends in :0); give the address with --server")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - nothing is bound here
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def read_token(path: str | Path) -> str:
    """The token in a file, without the white space around it. Raises UsageError."""
    from pathlib import Path

    try:
        token = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the token file {path} cannot be read: {getattr(error, 'strerror', None) or 'it is not text'}") from error
    if not token or not token.isascii() or not token.isprintable():
        raise UsageError(f"the token file {path} has to hold one token in plain ASCII, and nothing else")
    return token


def _token_for(settings: Settings, scope: Scope) -> str | None:
    """The token for one kind of call; whoever may act may also look, but not the other way round."""
    server = settings.server
    reading = server.read_token_file or server.write_token_file
    path = {"read": reading, "write": server.write_token_file, "webhook": server.webhook_token_file}[scope]
    return read_token(path) if path else None


def me() -> str:
    """Who asks, for the record: ``user@host``."""
    import getpass
    import os
    import socket

    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's uid without a name
        user = f"uid-{os.getuid()}"
    return f"{user}@{socket.gethostname()}"
