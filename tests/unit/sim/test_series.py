"""What Prometheus keeps: told by a plain list of all that was scraped, in any order of labels, over any gaps."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from remediator.sim.prometheus.series import LOOKBACK, LabelMatcher, Sample, SeriesStore

KEEP = 900.0
LABELS = ({}, {"a": "1"}, {"a": "1", "b": "2"}, {"b": "2", "a": "1"}, {"a": "2", "b": "1"}, {"a": "1", "b": ""}, {"a": "b"}, {"b": "a"})
exposed = st.builds(Sample, st.sampled_from(["up", "down"]), st.sampled_from(LABELS), st.integers(0, 3))
scrapes = st.lists(st.tuples(st.sampled_from([1.0, 10.0, 299.0, 301.0, 600.0, 1200.0]), st.lists(exposed, max_size=6)), max_size=12)


def normal(sample):
    return sample.name, tuple(sorted((name, value) for name, value in sample.labels.items() if value))


class Plain:
    """Everything that was scraped, as (series, time, value or None where it ended)."""

    def __init__(self):
        self.told, self.live = [], set()

    def append(self, at, samples):
        seen = {normal(sample) for sample in samples}
        self.told += [(normal(sample), at, sample.value) for sample in samples]
        self.told += [(series, at, None) for series in self.live - seen]
        self.live = seen
        self.told = [one for one in self.told if one[1] >= at - KEEP]

    def newest(self, name, at):
        last = {}
        for series, when, value in self.told:
            if series[0] == name and when <= at:
                last[series] = when, value
        return {(*series, when, value) for series, (when, value) in last.items() if value is not None and at - when < LOOKBACK}

    def inside(self, name, start, end):
        found = {}
        for series, when, value in self.told:
            if series[0] == name and start < when <= end and value is not None:
                found.setdefault(series, []).append((when, value))
        return found


@given(scrapes)
def test_what_is_kept_is_what_was_scraped(scrapes):
    store, plain, at = SeriesStore(KEEP), Plain(), 1_000.0
    for gap, samples in scrapes:
        at += gap
        store.append(at, samples)
        plain.append(at, samples)
        for name in ("up", "down"):
            for when in (at, at - 150, at - 400):
                assert {tuple(point) for point in store.select(name, [], when)} == plain.newest(name, when)
            window = store.window(name, [], at - 700, at)
            assert {(found, labels): points for found, labels, points in window} == plain.inside(name, at - 700, at)
        assert store.label_values("__name__") == sorted({series[0] for series, *_ in plain.told})
        assert store.label_values("a") == sorted({dict(series[1]).get("a", "") for series, *_ in plain.told} - {""})


def test_an_absent_label_fits_the_empty_string():
    store = SeriesStore()
    store.append(1.0, [Sample("up", {"a": "1", "b": ""}, 1), Sample("up", {"a": "1", "b": "2"}, 0)])
    (point,) = store.select("up", [LabelMatcher("b", "=", "")], 1.0)
    assert point == ("up", (("a", "1"),), 1.0, 1.0)
