from __future__ import annotations

import math

import pytest

from remediator.reasons import Reason
from remediator.run import StepEnd
from remediator.sim.prometheus import Sample


def half_measured(stage):
    """One pair with a number and one without, as a quantile over no pings is; scraped once."""
    pairs = {"node-1": 0.04, "node-2": math.nan}
    stage.simulation.prometheus.extra.append(lambda: [Sample("pair_seconds", {"node": node}, value) for node, value in pairs.items()])
    stage.simulation.prometheus.scrape_once()


async def test_a_query_keeps_what_prometheus_said(stage):
    done = await stage.step("prometheus.query", query='up{job="cilium-agent",node="node-3"}')
    assert (done.end, done.detail) == (StepEnd.SUCCEEDED, "1 samples")
    (evidence,) = done.run.steps[0].evidence
    assert evidence.data[0]["labels"]["node"] == "node-3"
    assert evidence.data[0]["value"] == 1


async def test_an_expectation_that_fails_fails_the_step(stage):
    done = await stage.step("prometheus.query", query='up{job="cilium-agent"} == 0', expect="some")
    assert (done.end, done.reason) == (StepEnd.FAILED, Reason.STEP_FAILED)
    done = await stage.step("prometheus.query", query="up", expect="none")
    assert done.end is StepEnd.FAILED


async def test_what_has_no_number_is_left_out_and_counted(stage):
    half_measured(stage)
    done = await stage.step("prometheus.query", query="pair_seconds")
    assert (done.end, done.detail) == (StepEnd.SUCCEEDED, "1 samples; 1 more have no number")
    (evidence,) = done.run.steps[0].evidence
    assert [one["labels"]["node"] for one in evidence.data] == ["node-1"]


async def test_an_expectation_is_not_met_by_what_has_no_number(stage):
    half_measured(stage)
    for expect in ("some", "none"):
        done = await stage.step("prometheus.query", query='pair_seconds{node="node-2"}', expect=expect)
        assert (done.end, done.reason) == (StepEnd.FAILED, Reason.STEP_FAILED)


async def test_a_query_that_prometheus_refuses_fails_with_its_words(stage):
    done = await stage.step("prometheus.query", query="up{")
    assert done.end is StepEnd.FAILED
    assert done.run.steps[0].evidence == ()


async def test_without_prometheus_the_step_says_which_setting_is_missing(stage):
    stage.world.prometheus = None
    done = await stage.step("prometheus.query", query="up")
    assert done.end is StepEnd.FAILED
    assert "prometheus.url" in done.detail


async def test_objects_are_kept_without_noise(stage):
    done = await stage.step("kube.get", kind="Pod", namespace="kube-system", labels="k8s-app=cilium", fields="spec.nodeName=node-3")
    assert (done.end, done.detail) == (StepEnd.SUCCEEDED, "1 found")
    (evidence,) = done.run.steps[0].evidence
    assert evidence.data[0]["spec"]["nodeName"] == "node-3"
    assert "managedFields" not in evidence.data[0]["metadata"]


async def test_what_is_not_there_is_evidence_too(stage):
    done = await stage.step("kube.get", kind="Node", name="node-99")
    assert (done.end, done.detail) == (StepEnd.SUCCEEDED, "0 found")


@pytest.mark.parametrize(
    ("there", "words"),
    [(50, "50 found"), (51, "more than 50 found"), (120, "more than 50 found")],
)
async def test_no_more_is_read_than_is_kept_and_one_that_tells_of_more(stage, there, words):
    for number in range(there):
        metadata = {"name": f"of-{number}", "namespace": "default", "labels": {"of": "many"}}
        stage.cluster.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    before = stage.cluster.request_log.count
    done = await stage.step("kube.get", kind="ConfigMap", namespace="default", labels="of=many")
    assert (done.end, done.detail) == (StepEnd.SUCCEEDED, words)
    asked = [call for call in stage.cluster.request_log if call.seq > before and call.resource == "configmaps"]
    assert [call.query.get("limit") for call in asked] == ["51"]


async def test_large_evidence_is_cut(stage):
    for number in range(40):
        metadata = {"name": f"big-{number}", "namespace": "default"}
        stage.cluster.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"x": "y" * 4000}})
    done = await stage.step("kube.get", kind="ConfigMap", namespace="default")
    (evidence,) = done.run.steps[0].evidence
    assert "cut" in evidence.data
    assert len(evidence.data["text"]) <= 64 * 1024


async def test_wait_lets_simulated_time_pass(stage):
    before = stage.world.clock.now()
    done = await stage.step("wait", **{"for": "40s"})
    assert (done.end, done.detail) == (StepEnd.SUCCEEDED, "waited 40s")
    assert (stage.world.clock.now() - before).total_seconds() >= 40
    assert (await stage.step("wait", dry_run=True, **{"for": "5h"})).detail == "would wait 5h"
