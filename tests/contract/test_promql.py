"""The simulated Prometheus' PromQL beside the real one's: the same expressions over the same series.

The real one is asked through ``promtool test rules``: what the simulated one answers is written down as what is expected of the real one.
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess

import pytest

from remediator.sim.prometheus import QueryError, Sample, SeriesStore, evaluate, parse

INTERVAL, AT = 10, 60
SERIES = {
    'up{job="agent",node="n1"}': [1, 1, 1, 1, 1, 1, 1],
    'up{job="agent",node="n2"}': [1, 1, 1, 0, 0, 0, 0],
    'up{job="agent",node="n3"}': [1, 1, 1, 1, None],
    'up{job="operator",node="n1"}': [0, 1, 0, 1, 0, 1, 0],
    'latency{node="n1",target="n2"}': [0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064],
    'latency{node="n1",target="n3"}': [0.5, 0.25, 0.5, 0.25, 0.5, 0.25, 0.5],
    'latency{node="n2",target="n1"}': [0.003, 0.003, 0.003, 0.003, 0.003, 0.003, 0.003],
    'latency{node="n2",target="n3"}': [-1, -1, -1, -1, -1, -1, -1],
    'cordoned{node="n1"}': [0, 0, 0, 0, 0, 0, 0],
    'cordoned{node="n2"}': [1, 1, 1, 1, 1, 1, 1],
    'cordoned{node="n9",extra="x"}': [5, 5, 5, 5, 5, 5, 5],
    'sent{node="n1"}': [10, 25, 40, 55, 60, 75, 105],
    'sent{node="n2"}': [100, 130, 5, 20, 50, 50, 65],
    'sent{node="n3"}': [None, None, None, None, None, None, 7],
    'sent{node="n4"}': [None, None, None, 0, 3, 6, 9],
    'took_bucket{le="0.005",node="n1"}': [0, 1, 2, 3, 4, 5, 6],
    'took_bucket{le="0.02",node="n1"}': [0, 3, 6, 9, 12, 15, 18],
    'took_bucket{le="0.1",node="n1"}': [0, 4, 8, 12, 16, 20, 24],
    'took_bucket{le="+Inf",node="n1"}': [0, 5, 10, 15, 20, 25, 30],
    'took_bucket{le="0.02",node="n2"}': [0, 0, 0, 0, 0, 0, 0],
    'took_bucket{le="+Inf",node="n2"}': [0, 0, 0, 0, 0, 0, 0],
    'took_bucket{le="0.02",node="n3"}': [0, 1, 2, 3, 4, 5, 6],
}
# promtool gives its series in no fixed order, and the last digit of a sum of fractions depends on it: such sums are rounded.
# Windows end between two samples: Prometheus 3 no longer counts the sample at the very beginning of one, Prometheus 2 does.
EXPRESSIONS = [
    "up",
    'up{job="agent"}',
    'up{job!="agent"}',
    'up{node=~"n[12]",job=~"a.*"}',
    'up{node!~"n1|n9"}',
    'up{nope=""}',
    'up{nope!=""}',
    '{__name__="cordoned"}',
    '{__name__=~"up|cordoned",node="n1"}',
    "absent_metric",
    "up == 0",
    "up != 0",
    "up == bool 0",
    "0 == up",
    "latency > 0.01",
    "0.01 < latency",
    "latency >= 0.5",
    "latency * 1000",
    "1 / (latency + 1)",
    "-latency",
    "+latency",
    "2 ^ 3 ^ 2",
    "-2 ^ 2",
    "7 % 4 + 10 / 4 * 2 - 1",
    "1 > bool 2",
    "1 / 0",
    "latency % 0.002",
    "sum(up)",
    "sum by (job) (up)",
    "sum(up) by (job)",
    "sum without (node) (up)",
    "avg by (job) (up)",
    "min(latency)",
    "max by (target) (latency)",
    "count(up) by (job)",
    "count by () (up)",
    "group by (job) (up)",
    "quantile(0.5, latency)",
    "quantile by (target) (0.9, latency)",
    "quantile(2, latency)",
    "count(up == 0) / count(up)",
    "absent(up)",
    'absent(nothing{job="agent",node="n3"})',
    'absent(nothing{job=~"agent"})',
    'absent(up{node="n3"})',
    "absent(sum(nothing))",
    "time()",
    "time() - timestamp(up)",
    "timestamp(up)",
    "vector(1)",
    "scalar(sum(up))",
    "abs(latency)",
    "ceil(latency)",
    "floor(latency)",
    "clamp_min(latency, 0.1)",
    "clamp_max(latency, 0.1)",
    "up and cordoned",
    "up and on (node) cordoned",
    "up and on (node) cordoned == 1",
    "up unless on (node) cordoned",
    "up or cordoned",
    "up or on (node) cordoned",
    "cordoned or up",
    'up{job="agent"} * on (node) cordoned',
    'up{job="agent"} * ignoring (job) cordoned',
    'up{job="agent"} + ignoring (job, extra) cordoned',
    'up{job="agent"} > ignoring (job) cordoned',
    'up{job="agent"} > bool on (node) cordoned',
    'up{job="agent"} == on (node) cordoned',
    'cordoned - ignoring (extra) (up{job="agent"} and on (node) cordoned) * on (node) cordoned',
    'up{job="agent"} == 1 and on (node) cordoned == 0',
    'max_over_time(up{job="agent"}[55s])',
    "min_over_time(up[25s])",
    "avg_over_time(latency[45s])",
    "sum_over_time(up[55s])",
    "count_over_time(up[55s])",
    "last_over_time(up[55s])",
    "present_over_time(up[55s])",
    "absent_over_time(up[55s])",
    'absent_over_time(nothing{a="b"}[55s])',
    "changes(up[55s])",
    "latency offset 30s",
    "max_over_time(latency[15s] offset 20s)",
    "max(up) by (node) == 1 unless on (node) cordoned == 1",
    'min by (target) (latency{target="n3"} > 0) < 1',
    "(up)",
    "up # a comment",
    "1e-3 + 0x10 + .5",
    "Inf",
    "-Inf < bool Inf",
    "rate(sent[55s])",
    "round(rate(sent[25s]), 0.001)",
    "rate(sent[5s])",
    "increase(sent[55s])",
    "increase(sent[45s] offset 10s)",
    "delta(latency[55s])",
    "irate(sent[55s])",
    "irate(sent[55s] offset 30s)",
    "idelta(latency[55s])",
    "resets(sent[55s])",
    "deriv(latency[55s])",
    "deriv(cordoned[55s])",
    "predict_linear(latency[55s], 120)",
    "round(stddev_over_time(latency[55s]), 0.0001)",
    "stdvar_over_time(latency[55s])",
    "quantile_over_time(0.9, latency[55s])",
    'histogram_quantile(0.5, took_bucket{node="n1"})',
    "histogram_quantile(0.5, took_bucket) != bool histogram_quantile(0.5, took_bucket)",
    'histogram_quantile(0.95, rate(took_bucket{node="n1"}[55s]))',
    'histogram_quantile(0.1, took_bucket{node="n1"})',
    "round(histogram_quantile(0.99, sum by (le) (rate(took_bucket[55s]))), 0.000001)",
    "histogram_quantile(2, took_bucket)",
    "histogram_quantile(-1, took_bucket)",
    "histogram_quantile(0.5, up)",
    "topk(2, latency)",
    "topk by (node) (1, latency)",
    "bottomk(3, latency)",
    "topk(0, latency)",
    "round(stddev by (node) (latency), 0.000001)",
    "round(stdvar(latency), 0.000001)",
    "round(latency * 100)",
    "round(latency, 0.005)",
    "clamp(latency, 0.01, 0.1)",
    "clamp(latency, 1, 0)",
    "sqrt(latency) >= 0",
    "sqrt(latency) != bool sqrt(latency)",
    "exp(latency)",
    "round(ln(latency), 0.0001) < 0",
    "round(log2(latency), 0.0001) < 0",
    "round(log10(cordoned), 0.0001)",
    "sgn(latency)",
    "sort(latency)",
    "sort_desc(latency)",
    "hour()",
    "minute(vector(3700))",
    "day_of_week(vector(86400 * 3))",
    "day_of_month(vector(86400 * 40))",
    "month(vector(86400 * 40))",
    "year(vector(86400 * 400))",
    'label_replace(up, "host", "$1-${1}x", "node", "(n)[0-9]")',
    'label_replace(up, "job", "", "job", "agent")',
    'label_replace(up, "host", "x", "node", "n")',
    'label_join(up, "both", "/", "job", "node")',
    "latency * on (node) group_left cordoned",
    "latency * on (node) group_left (extra) cordoned",
    "cordoned * on (node) group_right latency",
    "latency > on (node) group_left cordoned",
    "latency < on (node) group_left cordoned",
    "cordoned > on (node) group_right latency",
    "latency > bool on (node) group_left cordoned",
    "up * ignoring (job, extra) group_left (extra) cordoned",
    "rate(sent[55s]) / on (node) group_left cordoned",
    "(rate(sent[55s]) == 0) + 5 and rate(sent[55s]) > 0",
]


@pytest.fixture(scope="module")
def series():
    store = SeriesStore()
    for step in range(AT // INTERVAL + 1):
        samples = []
        for text, values in SERIES.items():
            if step < len(values) and values[step] is not None:
                name, _, labels = text.rstrip("}").partition("{")
                pairs = (pair.split("=") for pair in labels.split(","))
                samples.append(Sample(name, {k: v.strip('"') for k, v in pairs}, values[step]))
        store.append(step * INTERVAL, samples)
    return store


def _text(name, labels):
    inside = ",".join(f"{k}={json.dumps(v)}" for k, v in labels)
    return f"{name}{{{inside}}}"


def _number(value):
    if math.isnan(value):
        return "NaN"
    return ("+Inf" if value > 0 else "-Inf") if math.isinf(value) else repr(value)


def _expected(expression, series):
    value = evaluate(parse(expression), series, AT)
    if isinstance(value, float):
        return [{"labels": "{}", "value": _number(value)}]
    return [{"labels": _text(e.name, e.labels), "value": _number(e.value)} for e in value]


@pytest.mark.prometheus
def test_the_same_answers(tmp_path, series):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian package prometheus)")
    values = {text: " ".join("stale" if v is None else str(v) for v in vs) for text, vs in SERIES.items()}
    tests = [
        {
            "interval": f"{INTERVAL}s",
            "input_series": [{"series": text, "values": vs} for text, vs in values.items()],
            "promql_expr_test": [{"expr": e, "eval_time": f"{AT}s", "exp_samples": _expected(e, series)} for e in EXPRESSIONS],
        }
    ]
    path = tmp_path / "tests.yml"
    path.write_text(_yaml({"rule_files": [], "evaluation_interval": f"{INTERVAL}s", "tests": tests}))
    done = subprocess.run([promtool, "test", "rules", str(path)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _yaml(data):
    """JSON is YAML, but numbers that JSON does not know stand without quotes."""
    text = json.dumps(data)
    for entry in data["tests"][0]["promql_expr_test"]:
        for sample in entry["exp_samples"]:
            text = text.replace(f'"value": {json.dumps(sample["value"])}', f'"value": {_plain(sample["value"])}')
    return text


def _plain(value):
    return {"NaN": ".nan", "+Inf": ".inf", "-Inf": "-.inf"}.get(value, value)


BAD = [
    "",
    "up{",
    "up}",
    "up{job}",
    'up{job="a"',
    "up{job=a}",
    "{}",
    '{job=""}',
    "up ==",
    "1 == 2",
    "sum up",
    "sum(1)",
    "sum by node (up)",
    "nosuch(up)",
    "time(1)",
    "max_over_time(up)",
    "absent(up[1m])",
    "up[1m] + 1",
    "up[5]",
    "up[-1m]",
    '"text" + 1',
    "up and 1",
    "up + bool 1",
    "1 + on (a) 2",
    "-up[1m]",
    "up offset",
    "(up",
    'up{job=~"("}',
    "up $ 1",
    "timestamp()",
    "quantile(up)",
    "foo bar",
    "count_over_time(1)",
    "rate(up)",
    "rate(up[1m], 1)",
    "histogram_quantile(up)",
    "histogram_quantile(up, 0.9)",
    "topk(latency)",
    "topk(latency, latency)",
    "round(up, 1, 2)",
    "label_replace(up, 1, 2, 3, 4)",
    'label_join(up, "a")',
    "up and on (node) group_left cordoned",
    "up + on (node) group_left (node) cordoned",
    "1 + group_left 2",
    "up + group_left cordoned",
]


@pytest.mark.parametrize("expression", BAD)
def test_what_is_malformed_is_refused(expression):
    with pytest.raises(QueryError) as caught:
        parse(expression)
    assert caught.value.error_type == "bad_data"
    assert str(caught.value).startswith('invalid parameter "query": 1:')


@pytest.mark.prometheus
def test_the_real_one_refuses_it_too(tmp_path):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian package prometheus)")
    for number, expression in enumerate(BAD):
        path = tmp_path / f"{number}.yml"
        path.write_text(json.dumps({"groups": [{"name": "x", "rules": [{"record": "x", "expr": expression}]}]}))
        done = subprocess.run([promtool, "check", "rules", str(path)], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode != 0, expression


@pytest.mark.parametrize(
    "expression",
    [
        "max_over_time(up[5m:1m])",
        "sum(up)[5m:1m]",
        "up @ 5",
        'count_values("v", up)',
        "holt_winters(up[5m], 0.5, 0.5)",
        "histogram_count(up)",
    ],
)
def test_what_it_cannot_do_it_says(expression):
    with pytest.raises(QueryError, match="the simulated Prometheus does not support") as caught:
        parse(expression)
    assert caught.value.error_type == "bad_data"


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("cordoned * on (node) up", "found duplicate series for the match group"),
        ("up * on (node) cordoned", "multiple matches for labels: many-to-one matching must be explicit"),
    ],
)
def test_what_cannot_be_matched(series, expression, message):
    with pytest.raises(QueryError, match=message) as caught:
        evaluate(parse(expression), series, AT)
    assert caught.value.error_type == "execution"


def test_a_scalar_of_several_series_is_not_a_number(series):
    assert math.isnan(evaluate(parse("scalar(up)"), series, AT))


def test_a_window_begins_after_its_first_moment(series):
    assert {e.value for e in evaluate(parse("count_over_time(cordoned[30s])"), series, AT)} == {3}


def test_samples_grow_stale_after_five_minutes(series):
    assert len(evaluate(parse("cordoned"), series, AT + 299)) == 3
    assert evaluate(parse("cordoned"), series, AT + 301) == []
    assert [e.value for e in evaluate(parse('timestamp(cordoned{node="n1"})'), series, AT + 200)] == [AT]
