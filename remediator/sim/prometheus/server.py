"""The scraper, and Prometheus' HTTP query API in front of what it scraped.

In come requests below ``/prometheus``; out come answers of Prometheus' shape: ``{"status": "success", ...}``, or 400 ``bad_data`` and 422
``execution`` errors. Scrapes happen every ten seconds of the simulated clock; between them every value stays as it is.
"""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from aiohttp import web

from remediator.clock import parse_time
from remediator.sim.objects import encode
from remediator.sim.prometheus.evaluate import Element, evaluate
from remediator.sim.prometheus.metrics import States, Told, collect
from remediator.sim.prometheus.parse import QueryError, kind_of, parse
from remediator.sim.prometheus.series import Sample, SeriesStore
from remediator.units import parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from remediator.sim.cluster import Cluster
    from remediator.sim.prometheus.evaluate import Matrix, Value, Vector
    from remediator.sim.prometheus.parse import Expr
    from remediator.sim.prometheus.series import Labels

__all__ = ["Prometheus"]

_MOST_POINTS = 11_000
_BUILD = {"version": "3.0.0-simulated", "revision": "", "branch": "", "buildUser": "", "buildDate": "", "goVersion": ""}


class Prometheus:
    """Scrapes one cluster and answers questions about it."""

    def __init__(self, cluster: Cluster, *, interval: timedelta = timedelta(seconds=10)) -> None:
        self.cluster = cluster
        self.interval = interval
        self.series = SeriesStore()
        self.extra: list[Callable[[], Iterable[Sample]]] = []
        """Further sources of samples: the alerting rules' ALERTS, or what a test adds."""
        self.after_scrape: list[Callable[[], None]] = []
        self.scraping = True
        """False: Prometheus is up and scrapes nothing, so everything grows stale."""
        self.unreachable: set[tuple[str, str]] = set()
        """(job, node) of targets that it cannot scrape, however well they are; ``*`` is any."""
        self._ticks = 0
        self._told: Told = {}
        self._states: States = {}

    def start(self) -> None:
        """Scrape now and from now on."""
        self._scrape()

    def scrape_once(self) -> None:
        """One scrape at the current time."""
        self._ticks += 1
        scraped: Iterable[Sample] = collect(self.cluster, self._ticks, self._told, self._states)
        if self.unreachable:
            scraped = (sample for found in scraped for sample in self._reached(found))
        self.series.append(self._now(), [*scraped, *(sample for source in self.extra for sample in source())])

    def _reached(self, sample: Sample) -> Iterator[Sample]:
        """The sample, if its target can be scraped; else only that it cannot."""
        job, node = sample.labels.get("job", ""), sample.labels.get("node", "")
        if not self.unreachable & {(job, node), (job, "*"), ("*", node), ("*", "*")}:
            yield sample
        elif sample.name == "up":
            yield sample._replace(value=0)

    def query(self, text: str) -> Value:
        """An instant query at the current time, for rules and tests. Raises QueryError."""
        return evaluate(parse(text), self.series, self._now())

    def _scrape(self) -> None:
        if self.scraping:
            self.scrape_once()
            for hook in self.after_scrape:
                hook()
        self.cluster.loop.after(self.interval, self._scrape)

    def _now(self) -> float:
        return self.cluster.clock.now().timestamp()

    # --- HTTP --------------------------------------------------------------------------------------------------------

    async def handle(self, request: web.Request) -> web.Response:
        """One request; its path begins with ``/prometheus``."""
        path = request.path.removeprefix("/prometheus").rstrip("/")
        if path in ("/-/ready", "/-/healthy"):
            return web.Response(text="Prometheus Server is Ready.\n")
        form = {**request.query, **{k: str(v) for k, v in (await request.post()).items()}} if request.method == "POST" else request.query
        try:
            return self._route(path, form)
        except QueryError as error:
            code = 400 if error.error_type == "bad_data" else 422
            return _json({"status": "error", "errorType": error.error_type, "error": str(error)}, code)

    def _route(self, path: str, form: Mapping[str, str]) -> web.Response:
        routes: dict[str, Callable[[Mapping[str, str]], Any]] = {
            "/api/v1/query": self._instant,
            "/api/v1/query_range": self._range,
            "/api/v1/labels": lambda _: self.series.label_names(),
            "/api/v1/status/buildinfo": lambda _: dict(_BUILD),
        }
        if path in routes:
            return _success(routes[path](form))
        if path.startswith("/api/v1/label/") and path.endswith("/values"):
            return _success(self.series.label_values(path.split("/")[4]))
        if path == "":
            return web.Response(text="the simulated Prometheus")
        return web.Response(status=404, text="404 page not found\n")

    def _instant(self, form: Mapping[str, str]) -> dict[str, Any]:
        at = self._time(form, "time", self._now())
        expr = _parsed(form)
        value = evaluate(expr, self.series, at)
        kind = kind_of(expr)
        if isinstance(value, float | str):
            shown = _number(value) if isinstance(value, float) else value
            return {"resultType": kind, "result": [at, shown]}
        if kind == "matrix":
            return {"resultType": kind, "result": [_series(n, ls, vs) for n, ls, vs in _matrix(value)]}
        return {
            "resultType": kind,
            "result": [{"metric": _metric(e.name, e.labels), "value": [at, _number(e.value)]} for e in _vector(value)],
        }

    def _range(self, form: Mapping[str, str]) -> dict[str, Any]:
        start, end, step = self._time(form, "start"), self._time(form, "end"), self._step(form)
        if end < start:
            raise QueryError('invalid parameter "end": end timestamp must not be before start time')
        if (end - start) / step > _MOST_POINTS:
            raise QueryError("exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)")
        expr = _parsed(form)
        if kind_of(expr) not in ("scalar", "vector"):
            raise QueryError(f"invalid expression type {kind_of(expr)!r} for range query, must be Scalar or instant Vector")
        found: dict[tuple[str, Labels], list[tuple[float, float]]] = {}
        for number in range(math.floor((end - start) / step) + 1):
            at = start + number * step
            value = evaluate(expr, self.series, at)
            vector = [Element("", (), value, at)] if isinstance(value, float) else _vector(value)
            for element in vector:
                found.setdefault((element.name, element.labels), []).append((at, element.value))
        return {"resultType": "matrix", "result": [_series(n, ls, vs) for (n, ls), vs in sorted(found.items())]}

    def _time(self, form: Mapping[str, str], name: str, default: float | None = None) -> float:
        text = form.get(name, "")
        if not text and default is not None:
            return default
        try:
            return float(text)
        except ValueError:
            pass
        try:
            return parse_time(text).timestamp()
        except ValueError:
            raise QueryError(f'invalid parameter "{name}": cannot parse "{text}" to a valid timestamp') from None

    def _step(self, form: Mapping[str, str]) -> float:
        text = form.get("step", "")
        try:
            step = float(text) if text.replace(".", "", 1).isdigit() else parse_duration(text).total_seconds()
        except ValueError:
            raise QueryError(f'invalid parameter "step": cannot parse "{text}" to a valid duration') from None
        if step <= 0:
            raise QueryError(
                'invalid parameter "step": zero or negative query resolution step widths are not accepted. Try a positive integer'
            )
        return step


def _parsed(form: Mapping[str, str]) -> Expr:
    return parse(form.get("query", ""))


def _vector(value: Value) -> Vector:
    return value if isinstance(value, list) else []  # type: ignore[return-value] # a vector, as kind_of said


def _matrix(value: Value) -> Matrix:
    return value if isinstance(value, list) else []  # type: ignore[return-value] # a matrix, as kind_of said


def _metric(name: str, labels: Labels) -> dict[str, str]:
    return {"__name__": name, **dict(labels)} if name else dict(labels)


def _series(name: str, labels: Labels, values: list[tuple[float, float]]) -> dict[str, Any]:
    return {"metric": _metric(name, labels), "values": [[at, _number(value)] for at, value in values]}


def _number(value: float) -> str:
    """As Prometheus writes a sample."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)


def _success(data: Any) -> web.Response:
    return _json({"status": "success", "data": data})


def _json(data: dict[str, Any], code: int = 200) -> web.Response:
    return web.Response(status=code, body=encode(data), content_type="application/json")
