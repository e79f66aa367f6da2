"""Questions to Alertmanager's API v2, over aiohttp.

In: nothing but the address. Out: the alerts that it holds as firing now, the muted ones included and marked.
Raised: only errors of ``remediator.monitoring.errors``. Alertmanager itself leaves resolved alerts out of its answer (api/v2, getAlerts:
an alert whose endsAt has passed is skipped), so what is missing here is not firing any more, as far as that one peer knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NoReturn

from remediator import __version__
from remediator.monitoring.answers import ActiveAlert, read_alerts
from remediator.monitoring.errors import AlertmanagerRefused, AlertmanagerUnreachable, AlertmanagerUnusable, cut
from remediator.monitoring.tokens import bearer
from remediator.telemetry import METRICS

if TYPE_CHECKING:
    from datetime import timedelta
    from pathlib import Path

    import aiohttp

    from remediator.errors import MonitoringError

__all__ = ["Alertmanager"]

_ALL: Final = {"active": "true", "silenced": "true", "inhibited": "true", "unprocessed": "true"}
_OK, _CLIENT_ERRORS = 200, range(400, 500)
_TOO_EARLY: Final = frozenset({408, 425, 429})
_NO_ROUNDING: Final = 1e9
"""aiohttp rounds deadlines above this many seconds up to whole seconds."""
_ERROR_BODY: Final = 4096


class Alertmanager:
    """One Alertmanager. ``url`` may have a path prefix. Proxies and ~/.netrc of the environment are not used."""

    def __init__(
        self, url: str, *, timeout: timedelta, token_file: Path | None = None, ca_file: Path | None = None, verify_tls: bool = True
    ) -> None:
        """Nothing is sent yet. ``token_file`` is read for every call, so that it may rotate; ``ca_file`` replaces the usual authorities."""
        self._url = url.rstrip("/")
        self._seconds = timeout.total_seconds()
        self._token_file = token_file
        self._ca_file = ca_file
        self._verify_tls = verify_tls
        self._session: aiohttp.ClientSession | None = None

    async def active(self) -> list[ActiveAlert]:
        """Every alert that it holds as firing. Raises AlertmanagerRefused, AlertmanagerUnreachable, AlertmanagerUnusable."""
        try:
            alerts = read_alerts(await self._get("/api/v2/alerts"))
        except (AlertmanagerRefused, AlertmanagerUnreachable, AlertmanagerUnusable) as error:
            METRICS.alertmanager_queries.labels(error.result).inc()
            raise
        METRICS.alertmanager_queries.labels("ok").inc()
        return alerts

    async def close(self) -> None:
        """Give all connections back."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _get(self, path: str) -> bytes:
        import aiohttp  # noqa: PLC0415 - a quarter of a second that --help must not pay

        limits = aiohttp.ClientTimeout(total=self._seconds, ceil_threshold=_NO_ROUNDING)
        try:
            session = self._session or self._open()
            async with session.get(
                self._url + path, params=_ALL, headers=bearer(self._token_file), timeout=limits, allow_redirects=False
            ) as answer:
                if answer.status != _OK:
                    self._refuse(answer.status, await answer.content.read(_ERROR_BODY))
                return await answer.read()
        except TimeoutError as error:
            raise AlertmanagerUnreachable(f"no answer within {self._seconds:g} s from {self._url}") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise AlertmanagerUnreachable(f"{self._url}: {cut(str(error) or type(error).__name__)}") from error

    def _open(self) -> aiohttp.ClientSession:
        import ssl  # noqa: PLC0415 - see above

        import aiohttp  # noqa: PLC0415 - see above

        tls: ssl.SSLContext | bool = self._verify_tls
        if self._ca_file is not None and self._verify_tls:
            tls = ssl.create_default_context(cafile=str(self._ca_file))
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": f"remediator/{__version__}", "Accept": "application/json"},
            trust_env=False,
        )
        return self._session

    def _refuse(self, status: int, body: bytes) -> NoReturn:
        told = f"{status} from {self._url}: {cut(body.decode('utf-8', 'replace')) or 'no further word'}"
        later = status not in _CLIENT_ERRORS or status in _TOO_EARLY
        kind: type[MonitoringError] = AlertmanagerUnreachable if later else AlertmanagerRefused
        raise kind(told)
