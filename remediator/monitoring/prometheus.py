"""Questions to Prometheus, over prometheus-api-client.

In: PromQL for one moment. Out: Samples. Raised: only errors of ``remediator.monitoring.errors``, all MonitoringErrors.
The client is synchronous, has no deadline of its own and retries by itself: here it runs in threads of its own, with a deadline on the
socket, on the whole call and in the server, without retries, redirects, or the proxies and ~/.netrc of the environment.

Freshness is a question of its own (``age``, ``require_fresh``): the time in an instant query's answer is when it was evaluated, while the
values may be as old as the lookback allows (5 minutes).
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from remediator import __version__
from remediator.monitoring.answers import NaN, Sample, read_complaint, read_points, read_samples
from remediator.monitoring.errors import PrometheusRefused, PrometheusStale, PrometheusUnreachable, PrometheusUnusable, cut
from remediator.monitoring.threads import Crowded, Threads
from remediator.monitoring.tokens import bearer
from remediator.telemetry import METRICS
from remediator.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    import requests

    from remediator.clock import Clock
    from remediator.errors import MonitoringError

__all__ = ["Prometheus", "is_selector"]

_THREADS: Final = 32
_SLACK: Final = 0.25
"""Seconds that the whole call may take longer than the socket's deadline, which names the fault better."""
_TOO_EARLY: Final = frozenset({408, 425, 429})
"""4xx that mean: later."""
_OK, _CLIENT_ERRORS = 200, range(400, 500)
_SELECTOR: Final = re.compile(
    r"""\s*(?=[{a-zA-Z_:])(?:[a-zA-Z_:][a-zA-Z0-9_:]*)?\s*(?:\{(?:[^"'`{}]|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`)*\}\s*)?""",
    re.ASCII | re.DOTALL,
)


class Prometheus:
    """One Prometheus, or something that answers like it (Thanos, Mimir). ``url`` may have a path prefix."""

    def __init__(
        self,
        url: str,
        *,
        timeout: timedelta,
        max_age: timedelta,
        clock: Clock,
        token_file: Path | None = None,
        ca_file: Path | None = None,
        verify_tls: bool = True,
    ) -> None:
        """Nothing is sent yet. ``token_file`` is read for every call, so that it may rotate; ``ca_file`` replaces the usual authorities."""
        self._url = url.rstrip("/")
        self._seconds = timeout.total_seconds()
        self._max_age = max_age
        self._clock = clock
        self._token_file = token_file
        self._verify: bool | str = str(ca_file) if ca_file else verify_tls
        self._threads = Threads(self._client, _Client.close, most=_THREADS)

    @property
    def max_age(self) -> timedelta:
        """Older samples are stale."""
        return self._max_age

    async def query(self, promql: str, *, nan: NaN = "refuse") -> list[Sample]:
        """The samples of an instant query, in the server's order; a scalar is one sample without labels.

        ``nan``: a series without a number makes the whole answer unusable (``refuse``), is left out (``drop``) or stays (``keep``).
        Raises PrometheusRefused (a bad query), PrometheusUnreachable, PrometheusUnusable (ranges, strings, partial results, NaN).
        """
        samples: list[Sample] = await self._counted(self._ask(promql, lambda body: read_samples(body, nan=nan)))
        return samples

    async def points(self, promql: str, *, start: datetime, end: datetime, step: timedelta) -> list[tuple[datetime, float]]:
        """How the first series went from ``start`` to ``end``, for a drawing. Raises as ``query`` does."""
        asked: list[tuple[datetime, float]] = await self._counted(
            self._answer(lambda client: client.ask_range(promql, (start, end, step), self._seconds, self._token_file), read_points)
        )
        return asked

    async def age(self, promql: str) -> timedelta | None:
        """How old the newest raw sample behind a plain selector (``up{job="x"}``) is, on Prometheus's own clock; None if there is none.

        Raises PrometheusRefused for anything but a selector: the timestamp of a computed value is always now.
        """
        if not is_selector(promql):
            raise PrometheusRefused(f"the age of a sample needs a plain selector, not {cut(promql)}")
        stamps = await self.query(f"timestamp({promql})")
        return min((timedelta(seconds=stamp.at.timestamp() - stamp.value) for stamp in stamps), default=None)

    async def require_fresh(self, *selectors: str) -> None:
        """Raise PrometheusStale unless each selector's newest sample is at most ``max_age`` old and the server lives at our time.

        Without selectors it asks about ``up``, which Prometheus writes at every scrape: whether it still takes samples at all.
        """
        await self._counted(self._require_now())
        for selector in selectors or ("up",):
            age = await self.age(selector)
            if age is None or age > self._max_age:
                METRICS.prometheus_queries.labels(PrometheusStale.result).inc()
                found = "there is no sample" if age is None else f"the newest sample is {format_duration(age)} old"
                raise PrometheusStale(f"{found} of {cut(selector)}; at most {format_duration(self._max_age)} is allowed")

    async def close(self) -> None:
        """Give all connections back."""
        self._threads.close()

    async def _require_now(self) -> None:
        samples = await self._ask("time()", read_samples)
        if not samples:
            raise PrometheusUnusable(f"{self._url} does not say what time it is there")
        apart = abs(self._clock.now() - samples[0].at)
        if apart > self._max_age:
            raise PrometheusStale(f"Prometheus answers for a moment {format_duration(apart)} from now: a cache, or clocks that differ")

    async def _counted(self, call: Any) -> Any:
        try:
            answer = await call
        except (PrometheusRefused, PrometheusUnreachable, PrometheusUnusable, PrometheusStale) as error:
            METRICS.prometheus_queries.labels(error.result).inc()
            raise
        METRICS.prometheus_queries.labels("ok").inc()
        return answer

    async def _ask(self, promql: str, read: Callable[[bytes], list[Sample]]) -> list[Sample]:
        found: list[Sample] = await self._answer(lambda client: client.ask(promql, self._seconds, self._token_file), read)
        return found

    async def _answer(self, ask: Callable[[_Client], bytes], read: Callable[[bytes], Any]) -> Any:
        try:
            body = await self._threads.run(ask, self._seconds + _SLACK)
        except TimeoutError as error:
            raise PrometheusUnreachable(f"no answer within {self._seconds:g} s from {self._url}") from error
        except Crowded as error:
            raise PrometheusUnreachable(f"{error}; {self._url} hangs") from error
        return read(body)

    def _client(self) -> _Client:
        return _Client(self._url, self._verify)


class _Client:
    """PrometheusConnect for one thread. It keeps the last response, of which the library only hands on the result."""

    def __init__(self, url: str, verify: bool | str) -> None:  # noqa: FBT001 - the shape that requests has for it
        # Imported here, in the thread: 135 ms that neither the loop nor --help pays.
        import requests  # noqa: PLC0415 - see above
        from prometheus_api_client.exceptions import PrometheusApiClientException  # noqa: PLC0415 - see above
        from prometheus_api_client.prometheus_connect import PrometheusConnect  # noqa: PLC0415 - see above

        session = requests.Session()
        session.trust_env = False
        session.verify = verify
        session.max_redirects = 0
        session.hooks["response"].append(self._keep)
        self._url = url
        self._session = session
        self._requests = requests
        self._refusal = PrometheusApiClientException
        # 0 retries: whoever asks decides whether to ask again.
        self._connect = PrometheusConnect(url=url, session=session, retry=0)
        self._last: requests.Response | None = None

    def _keep(self, response: requests.Response, **_: Any) -> None:
        self._last = response

    def ask(self, promql: str, seconds: float, token_file: Path | None) -> bytes:
        """The body of the answer. Raises MonitoringErrors only."""
        params = {"timeout": f"{seconds:.3f}"}
        # requests takes fractions of a second
        return self._call(lambda: self._connect.custom_query(promql, params, timeout=seconds), seconds, token_file)  # type: ignore[arg-type]

    def ask_range(self, promql: str, span: tuple[datetime, datetime, timedelta], seconds: float, token_file: Path | None) -> bytes:
        """The same for a range query."""
        start, end, step = span
        params, text = {"timeout": f"{seconds:.3f}"}, f"{step.total_seconds():g}"
        return self._call(
            lambda: self._connect.custom_query_range(promql, start, end, text, params, timeout=seconds),  # type: ignore[arg-type] # as above
            seconds,
            token_file,
        )

    def _call(self, ask: Callable[[], Any], seconds: float, token_file: Path | None) -> bytes:
        self._connect.headers = {"User-Agent": f"remediator/{__version__}", **bearer(token_file)}
        self._last = None
        try:
            ask()
        except self._requests.TooManyRedirects as error:
            raise PrometheusUnreachable(f"{self._url} redirects; the settings should name the final address") from error
        except self._requests.Timeout as error:
            raise PrometheusUnreachable(f"no answer within {seconds:g} s from {self._url}") from error
        except self._refusal as error:
            raise self._complaint() from error
        except (KeyError, TypeError, AttributeError, self._requests.exceptions.JSONDecodeError) as error:
            raise PrometheusUnusable(f"{self._url} does not answer like Prometheus's query API") from error
        except (OSError, ValueError) as error:  # RequestException is an OSError; a missing CA file is a bare one
            raise PrometheusUnreachable(f"{self._url}: {cut(str(error))}") from error
        return self._body()

    def _body(self) -> bytes:
        return self._last.content if self._last is not None else b""

    def _complaint(self) -> MonitoringError:
        status = self._last.status_code if self._last is not None else 0
        told = f"{status} from {self._url}: {read_complaint(self._body())}"
        if status in _CLIENT_ERRORS and status not in _TOO_EARLY:
            return PrometheusRefused(told)
        return PrometheusUnreachable(told)

    def close(self) -> None:
        """Give the connection back."""
        self._connect.close()


def is_selector(promql: str) -> bool:
    """Whether it is a plain instant selector: a name, label matchers, or both; no function, range, offset or operator."""
    return _SELECTOR.fullmatch(promql) is not None
