"""Questions to Alertmanager's API v2, over aiohttp; and silences.

In: nothing but the address. Out: the alerts that it holds as firing now, the muted ones included and marked; silences; the configuration.
Raised: only errors of ``remediator.monitoring.errors``. Alertmanager itself leaves resolved alerts out of its answer (api/v2, getAlerts:
an alert whose endsAt has passed is skipped), so what is missing here is not firing any more, as far as that one peer knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar
from urllib.parse import quote

from remediator import __version__
from remediator.clock import iso
from remediator.model import to_json
from remediator.monitoring.answers import (
    ActiveAlert,
    Match,
    Silence,
    read_alerts,
    read_configuration,
    read_silence_id,
    read_silences,
)
from remediator.monitoring.errors import AlertmanagerRefused, AlertmanagerUnreachable, AlertmanagerUnusable, cut
from remediator.monitoring.tokens import bearer
from remediator.telemetry import METRICS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from datetime import datetime, timedelta
    from pathlib import Path

    import aiohttp

    from remediator.errors import MonitoringError

__all__ = ["Alertmanager"]

_ALL: Final = {"active": "true", "silenced": "true", "inhibited": "true", "unprocessed": "true"}
T = TypeVar("T")
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
        return await self._counted(lambda: self._ask("GET", "/api/v2/alerts", params=_ALL), read_alerts)

    async def silences(self) -> list[Silence]:
        """Every silence that it remembers, those that are over among them. Raises as ``active``."""
        return await self._counted(lambda: self._ask("GET", "/api/v2/silences"), read_silences)

    async def configuration(self) -> str:
        """Its configuration as it writes it itself, without secrets; lines and comments of the file are lost. Raises as ``active``."""
        return await self._counted(lambda: self._ask("GET", "/api/v2/status"), read_configuration)

    async def silence(self, matchers: Sequence[Match], *, starts: datetime, ends: datetime, by: str, comment: str) -> str:
        """Mute what fits all ``matchers``; the id of the silence. Raises as ``active``; unless refused, it may have been made then."""
        wanted = {"matchers": to_json(matchers), "startsAt": iso(starts), "endsAt": iso(ends), "createdBy": by, "comment": comment}
        return await self._counted(lambda: self._ask("POST", "/api/v2/silences", body=wanted), read_silence_id)

    async def end_silence(self, id: str) -> None:  # noqa: A002 - Alertmanager's own word
        """End a silence now; no harm if it is over already. Raises as ``active``."""
        await self._counted(lambda: self._ask("DELETE", f"/api/v2/silence/{quote(id, safe='')}"), lambda _: None)

    async def _counted(self, ask: Callable[[], Awaitable[bytes]], read: Callable[[bytes], T]) -> T:
        try:
            answer = read(await ask())
        except (AlertmanagerRefused, AlertmanagerUnreachable, AlertmanagerUnusable) as error:
            METRICS.alertmanager_queries.labels(error.result).inc()
            raise
        METRICS.alertmanager_queries.labels("ok").inc()
        return answer

    async def close(self) -> None:
        """Give all connections back."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _ask(self, method: str, path: str, *, params: Mapping[str, str] | None = None, body: Any = None) -> bytes:
        import aiohttp  # noqa: PLC0415 - a quarter of a second that --help must not pay

        limits = aiohttp.ClientTimeout(total=self._seconds, ceil_threshold=_NO_ROUNDING)
        try:
            session = self._session or self._open()
            async with session.request(
                method,
                self._url + path,
                params=params,
                json=body,
                headers=bearer(self._token_file),
                timeout=limits,
                allow_redirects=False,
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
