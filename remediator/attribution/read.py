"""Reads the observations of one symptom from Prometheus: whatever of the known sources this cluster has.

In: the door to Prometheus, the symptom with its limit, the nodes that may take part. Out: a Matrix; samples too old for ``max_age`` are not
in it. A source that this Prometheus refuses to be asked about is a gap, in words, and so is a series that names no listed node.
Raises MonitoringError if Prometheus does not answer, answers what cannot be used, or is not fresh: then nobody is blamed at all.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from remediator.attribution.model import Matrix, Observation
from remediator.attribution.places import Names
from remediator.attribution.sources import questions
from remediator.monitoring.errors import PrometheusRefused

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime, timedelta

    from remediator.attribution.model import Place, Symptom
    from remediator.attribution.sources import Question
    from remediator.monitoring import Sample
    from remediator.monitoring.answers import NaN

__all__ = ["Asked", "matrix"]


class Asked(Protocol):
    """What is needed of the door (``monitoring.Prometheus``)."""

    async def query(self, promql: str, *, nan: NaN = "refuse") -> list[Sample]:
        """The samples of an instant query."""
        ...

    async def require_fresh(self, *selectors: str) -> None:
        """Raise PrometheusStale unless samples are taken and are young."""
        ...


async def matrix(prometheus: Asked, symptom: Symptom, limit: float, nodes: Iterable[Place], *, now: datetime, max_age: timedelta) -> Matrix:
    """Everything that Prometheus knows of ``symptom`` between ``nodes`` at this moment; ``limit`` says from where on a pair is bad."""
    await prometheus.require_fresh()
    places = tuple(nodes)
    asked = questions(symptom, limit, max_age)
    answers = await asyncio.gather(*(_ask(prometheus, question) for question in asked))
    names = Names(places)
    seen: list[Observation] = []
    gaps: list[str] = []
    for question, answer in zip(asked, answers, strict=True):
        if isinstance(answer, str):
            gaps.append(f"{question.source}: {answer}")
            continue
        found = [_observation(names, question, sample) for sample in answer]
        seen += [observation for observation in found if observation is not None]
        if unnamed := found.count(None):
            gaps.append(f"{question.source}: {unnamed} of {len(found)} series name no listed node")
    return Matrix(symptom=symptom, limit=limit, nodes=places, observations=tuple(seen), at=now, gaps=tuple(dict.fromkeys(gaps)))


async def _ask(prometheus: Asked, question: Question) -> list[Sample] | str:
    try:
        return await prometheus.query(question.promql, nan="drop")
    except PrometheusRefused as error:
        return str(error)


def _observation(names: Names, question: Question, sample: Sample) -> Observation | None:
    """What the sample says, or None if it names no listed node."""
    observer = names.node(sample.labels, question.observer)
    peer = names.node(sample.labels, question.peer)
    if observer is None or (question.peer and peer is None):
        return None
    return Observation(observer=observer, peer=peer, value=sample.value, at=sample.at, source=question.source)
