"""Where the cluster is and who we are there: a kubeconfig, a pod's service account, or a plain URL.

In: what the settings say. Out: an ``Access``: kubernetes-asyncio's Configuration, always explicit, and a way to read the token afresh.
Refused (BadKubeconfig): a file that is missing or malformed, an unknown context, nothing given outside of a cluster. A kubeconfig in the
home directory is never picked up by itself: software that changes nodes acts on the cluster that it was told, not on the last one in use.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog

from remediator.kube.errors import BadKubeconfig, cut
from remediator.kube.library import ConfigException, Configuration, load_incluster_config, load_kube_config

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

__all__ = ["SERVICE_ACCOUNT", "Access", "load"]

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TOKEN_LIFETIME: Final = 60.0
"""Seconds after which a token file is read again; the kubelet rotates it in place, long before the old token expires."""
_log = structlog.get_logger()


class _Source(Protocol):
    def __call__(self) -> Awaitable[str | None]: ...


class Access:
    """How to reach one cluster. ``renew`` reads the credential again after a 401."""

    def __init__(self, configuration: Configuration, *, token_file: Path | None = None, source: _Source | None = None) -> None:
        self.configuration = configuration
        self._file = token_file
        self._source = source
        self._read_at = time.monotonic()
        self._renewing = asyncio.Lock()
        # No models, so nothing to validate. Strict X.509 checks are off as in Go clients: CAs of older installers lack key identifiers.
        configuration.client_side_validation = False
        configuration.disable_strict_ssl_verification = True
        configuration.refresh_api_key_hook = self._before_call

    @property
    def token(self) -> str | None:
        """The value of the Authorization header now in use."""
        value: str | None = self.configuration.api_key.get("BearerToken")
        return value

    def _before_call(self, _: Configuration) -> None:
        if self._file is not None and time.monotonic() - self._read_at >= _TOKEN_LIFETIME:
            self._from_file(self._file)

    def _from_file(self, file: Path) -> None:
        """Takes the token from ``file``; an unreadable or empty file keeps the old one, which may still be good."""
        self._read_at = time.monotonic()
        try:
            self._use("Bearer " + read_token(file))
        except BadKubeconfig as error:
            _log.warning("kubernetes token not re-read", error=str(error))

    def _use(self, value: str | None) -> None:
        if value:
            self.configuration.api_key["BearerToken"] = value.strip()

    async def renew(self, refused: str | None) -> bool:
        """Read the credential again, unless another call did so since ``refused`` was used. False if there is nothing to read."""
        async with self._renewing:
            if self.token != refused:
                return True
            if self._file is not None:
                self._from_file(self._file)
                return True
            return self._source is not None and await self._from_source(self._source)

    async def _from_source(self, source: _Source) -> bool:
        try:
            self._use(await source())
        except BadKubeconfig as error:
            _log.warning("kubernetes credential not re-read", error=str(error))
            return False
        return True


async def load(
    *,
    kubeconfig: Path | None,
    context: str | None,
    server: str | None,
    environ: Mapping[str, str] = os.environ,
    service_account: Path = SERVICE_ACCOUNT,
) -> Access:
    """The access that the settings describe: ``server`` before ``kubeconfig`` before the pod's own account."""
    if server is not None:
        return Access(Configuration(host=server.rstrip("/")))
    if kubeconfig is not None:
        return await _from_kubeconfig(kubeconfig, context)
    if environ.get("KUBERNETES_SERVICE_HOST"):
        return _in_cluster(environ, service_account)
    raise BadKubeconfig("not running in a cluster, and no kubeconfig is given; set kubernetes.kubeconfig in the settings")


def _in_cluster(environ: Mapping[str, str], account: Path) -> Access:
    configuration = Configuration()
    token_file = account / "token"
    try:
        load_incluster_config(  # type: ignore[no-untyped-call] # the library has no annotations here
            client_configuration=configuration,
            try_refresh_token=False,
            token_filename=str(token_file),
            cert_filename=str(account / "ca.crt"),
            environ=environ,
        )
    except (ConfigException, OSError) as error:
        raise BadKubeconfig(f"the pod's service account cannot be used: {cut(str(error))}") from error
    configuration.api_key["BearerToken"] = "Bearer " + read_token(token_file)
    return Access(configuration, token_file=token_file)


async def _from_kubeconfig(path: Path, context: str | None) -> Access:
    configuration, token_file = await _read_kubeconfig(path, context)

    async def again() -> str | None:
        # Covers whatever the file says: a rewritten token, an exec plugin, an OIDC provider.
        fresh, _ = await _read_kubeconfig(path, context)
        value: str | None = fresh.api_key.get("BearerToken")
        return value

    return Access(configuration, token_file=token_file, source=again if "BearerToken" in configuration.api_key else None)


async def _read_kubeconfig(path: Path, context: str | None) -> tuple[Configuration, Path | None]:
    if not path.is_file():  # noqa: ASYNC240 - one small local file, read when a connection is made
        raise BadKubeconfig(f"{path}: no such kubeconfig")
    configuration = Configuration()
    try:
        loader = await load_kube_config(str(path), context=context, client_configuration=configuration, persist_config=False)
    except Exception as error:  # boundary: on a malformed file the loader raises what it stumbles over, TypeError and KeyError included
        raise BadKubeconfig(f"{path}: {cut(str(error) or type(error).__name__)}") from error
    token_file = _token_file(loader, path)
    token = "Bearer " + read_token(token_file) if token_file else configuration.api_key.get("BearerToken")
    if token:
        configuration.api_key["BearerToken"] = token.strip()
    return configuration, token_file


def _token_file(loader: Any, path: Path) -> Path | None:
    """The user's ``tokenFile``; as in client-go it goes before ``token``, and it is read again as time goes by."""
    user = loader._user  # noqa: SLF001 - the loader reads the file once and offers no way to ask for its name
    name = user.safe_get("tokenFile") if user is not None else None
    return path.parent / str(name) if name else None


def read_token(file: Path) -> str:
    """The token in ``file``, without the line end that editors add. Raises BadKubeconfig if there is none."""
    try:
        token = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadKubeconfig(f"token file {file}: {cut(str(error))}") from error
    if not token or any(character.isspace() for character in token):
        raise BadKubeconfig(f"token file {file}: does not hold one token")
    return token
