"""The dashboard is what Grafana imports: whole, without two panels in one place, and every query is PromQL on metrics that there are."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
from itertools import combinations

import pytest


@pytest.fixture(scope="module")
def folder(root):
    return root / "deploy" / "grafana"


@pytest.fixture(scope="module")
def dashboard(folder):
    return json.loads((folder / "remediator.json").read_text())


@pytest.fixture(scope="module")
def queries(dashboard):
    return [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]


def filled(query):
    """As Grafana fills its variables in."""
    return query.replace("$__rate_interval", "1m").replace("$__range", "1h").replace("$playbook", ".*")


def test_it_is_made_from_its_panels(folder):
    assert (folder / "remediator.json").read_text() == runpy.run_path(str(folder / "dashboard.py"))["text"](), "make dashboard"


def test_it_has_what_grafana_asks_for(dashboard):
    assert {"uid", "title", "schemaVersion", "panels", "templating", "time"} <= dashboard.keys()
    assert "id" not in dashboard, "an id is that of one Grafana"
    assert dashboard["schemaVersion"] >= 36
    source, playbook = dashboard["templating"]["list"]
    assert (source["name"], source["type"], source["query"]) == ("datasource", "datasource", "prometheus")
    assert (playbook["name"], playbook["allValue"]) == ("playbook", ".*")
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids) > 30
    for panel in dashboard["panels"]:
        assert panel["title"]
        assert panel["type"] in ("row", "stat", "timeseries"), panel["title"]
        for target in panel.get("targets", ()):
            assert target["datasource"] == panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]
        refs = [target["refId"] for target in panel.get("targets", ())]
        assert len(set(refs)) == len(refs)
        assert bool(refs) == (panel["type"] != "row")


def test_no_two_panels_are_in_one_place(dashboard):
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    for place in places:
        assert place["x"] >= 0
        assert place["x"] + place["w"] <= 24
    for one, other in combinations(places, 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)


def test_it_has_the_rows_that_people_look_for(dashboard):
    rows = [panel["title"] for panel in dashboard["panels"] if panel["type"] == "row"]
    assert rows == ["State", "Decisions", "Runs", "Gates", "Time to heal", "Calls", "Journal and messages"]


def test_it_asks_for_metrics_and_labels_that_exist(queries):
    from remediator.telemetry import METRICS

    labels = {}
    for metric in (m for m in vars(METRICS).values() if hasattr(m, "_labelnames")):
        ends = {"counter": ["_total"], "histogram": ["_bucket"]}.get(metric._type, [""])
        labels |= {metric._name + end: set(metric._labelnames) for end in ends}
    named = {name for query in queries for name in re.findall(r"\bremediator_[a-z_]+", query)}
    assert len(named) > 25
    assert named <= labels.keys()
    for query in queries:
        (first, *_) = re.findall(r"\bremediator_[a-z_]+", query)
        used = {label for group in re.findall(r"by \(([^)]*)\)", query) for label in re.split(r",\s*", group)}
        used |= set(re.findall(r"(\w+)(?:=~|!=|=)\"", query))
        assert used - {"le"} <= labels[first], query


@pytest.mark.prometheus
def test_every_query_is_promql(queries, tmp_path):
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian package prometheus)")
    rules = [{"record": f"q:{number}", "expr": filled(query)} for number, query in enumerate(queries)]
    (tmp_path / "rules.json").write_text(json.dumps({"groups": [{"name": "g", "rules": rules}]}))
    command = ["promtool", "check", "rules", str(tmp_path / "rules.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(queries)} rules found" in done.stdout
