from __future__ import annotations

import pytest

from remediator.sim.prometheus import Sample, SeriesStore


@pytest.fixture
def query(sim, session):
    async def query(promql, path="query", method="GET", status=200, **form):
        url, form = f"{sim.prometheus_url}/api/v1/{path}", {"query": promql, **form}
        request = session.get(url, params=form) if method == "GET" else session.post(url, data=form)
        async with request as answer:
            body = await answer.json()
            assert answer.status == status, body
            return body

    return query


def _by(body, label="node"):
    return {s["metric"][label]: float(s["value"][1]) for s in body["data"]["result"]}


class TestApi:
    @pytest.mark.parametrize("method", ["GET", "POST"])
    async def test_an_instant_query(self, query, clock, method):
        body = await query('up{job="cilium-agent",node="node-3"}', method=method)
        metric = {"__name__": "up", "instance": "10.25.150.12:9962", "job": "cilium-agent", "node": "node-3"}
        result = [{"metric": metric, "value": [clock.now().timestamp(), "1"]}]
        assert body == {"status": "success", "data": {"resultType": "vector", "result": result}}

    async def test_scalars_strings_and_matrices(self, query, clock):
        now = clock.now().timestamp()
        assert (await query("time()"))["data"] == {"resultType": "scalar", "result": [now, str(int(now))]}
        assert (await query("'x'"))["data"] == {"resultType": "string", "result": [now, "x"]}
        (series,) = (await query('up{node="node-1",job="cilium-agent"}[1m]'))["data"]["result"]
        assert series["values"] == [[now, "1"]]
        assert (await query("1 / 0"))["data"]["result"][1] == "+Inf"
        assert (await query("0 / 0"))["data"]["result"][1] == "NaN"
        assert (await query("0.1 + 0.2"))["data"]["result"][1] == "0.30000000000000004"

    @pytest.mark.parametrize("moment", ["1767607200", "1767607200.5", "2026-01-05T10:00:00Z"])
    async def test_a_time_of_ones_own(self, query, seconds, moment):
        await seconds(600)
        assert (await query("up", time=moment))["data"]["result"]
        assert (await query("up", time="1767607199"))["data"]["result"] == []

    @pytest.mark.parametrize(
        ("form", "message"),
        [
            ({"promql": "up{"}, 'invalid parameter "query": 1:4: parse error: '),
            ({"promql": ""}, 'invalid parameter "query": 1:1: parse error: no expression found in input'),
            ({"promql": "max_over_time(up[5m:1m])"}, "does not support subquery"),
            ({"promql": "up", "time": "soon"}, 'invalid parameter "time": cannot parse "soon" to a valid timestamp'),
        ],
    )
    async def test_bad_data(self, query, form, message):
        body = await query(status=400, **form)
        assert (body["status"], body["errorType"]) == ("error", "bad_data")
        assert message in body["error"]

    async def test_an_error_of_execution(self, query):
        body = await query("up * on (job) kube_node_info", status=422)
        assert (body["status"], body["errorType"]) == ("error", "execution")

    async def test_a_range(self, query, seconds, clock):
        start = clock.now().timestamp()
        await seconds(30)
        body = await query('up{job="cilium-agent",node="node-1"}', "query_range", start=start, end=start + 30, step="10s")
        assert body["data"]["resultType"] == "matrix"
        assert body["data"]["result"][0]["values"] == [[start + i * 10, "1"] for i in range(4)]
        body = await query("vector(1) + time() * 0", "query_range", start=start, end=start, step="1")
        assert body["data"]["result"] == [{"metric": {}, "values": [[start, "1"]]}]

    @pytest.mark.parametrize("form", [{"step": "0"}, {"step": "x"}, {"end": "1"}, {"start": ""}, {"step": "0.001"}])
    async def test_bad_ranges(self, query, form):
        assert (await query("up", "query_range", status=400, **{"start": "100", "end": "200", "step": "10", **form}))[
            "errorType"
        ] == "bad_data"

    async def test_labels_and_health(self, sim, session):
        for path, wanted in (
            ("labels", "target_node"),
            ("label/__name__/values", "kube_node_status_condition"),
            ("label/node/values", "node-5"),
        ):
            async with session.get(f"{sim.prometheus_url}/api/v1/{path}") as answer:
                assert wanted in (await answer.json())["data"]
        async with session.get(f"{sim.prometheus_url}/-/ready") as answer:
            assert (answer.status, await answer.text()) == (200, "Prometheus Server is Ready.\n")
        async with session.get(f"{sim.prometheus_url}/api/v1/status/buildinfo") as answer:
            assert (await answer.json())["data"]["version"]
        async with session.get(f"{sim.prometheus_url}/api/v1/nope") as answer:
            assert answer.status == 404


class TestScrapes:
    async def test_values_stay_as_they_are_between_two(self, query, sim, seconds):
        sim.cluster.kill_agent("node-3")
        await seconds(9)
        assert _by(await query('up{job="cilium-agent"}'))["node-3"] == 1
        await seconds(1)
        up = _by(await query('up{job="cilium-agent"}'))
        assert up == {"node-1": 1, "node-2": 1, "node-3": 0, "node-4": 1, "node-5": 1}

    async def test_samples_carry_the_time_of_the_scrape(self, query, seconds):
        assert set(_by(await query('time() - timestamp(up{job="cilium-agent"})')).values()) == {0}
        await seconds(7)
        assert set(_by(await query('time() - timestamp(up{job="cilium-agent"})')).values()) == {7}
        await seconds(3)
        assert set(_by(await query('time() - timestamp(up{job="cilium-agent"})')).values()) == {0}

    async def test_a_prometheus_that_scrapes_nothing_grows_stale(self, query, sim, seconds):
        sim.prometheus.scraping = False
        await seconds(120)
        assert set(_by(await query('time() - timestamp(up{job="cilium-agent"})')).values()) == {120}
        await seconds(181)
        assert (await query("up"))["data"]["result"] == []

    async def test_a_series_of_ones_own(self, query, sim, seconds):
        sim.prometheus.extra.append(lambda: [Sample("mine", {"a": "b"}, 7)])
        await seconds(10)
        assert _by(await query("mine"), "a") == {"b": 7}

    def test_old_samples_are_forgotten(self):
        store = SeriesStore(keep=100)
        store.append(0, [Sample("a", {}, 1), Sample("b", {}, 1)])
        for at in range(10, 200, 10):
            store.append(at, [Sample("b", {}, 1)])
        assert store.label_values("__name__") == ["b"]
        ((_, _, values),) = store.window("b", (), -1, 200)
        assert values[0][0] == 90


class TestMetrics:
    async def test_an_agent_that_hangs_exposes_only_that_it_is_down(self, query, sim, seconds):
        sim.cluster.kill_agent("node-3")
        await seconds(10)
        assert set(_by(await query("cilium_unreachable_nodes"))) == {"node-1", "node-2", "node-4", "node-5"}
        assert set(_by(await query("cilium_unreachable_nodes")).values()) == {1}
        assert (await query('cilium_endpoint_state{node="node-3"}'))["data"]["result"] == []
        assert _by(await query('kube_pod_status_ready{condition="true"} * on (pod) kube_pod_info{created_by_name="cilium"}'), "pod") == {
            p["metadata"]["name"]: float(p["spec"]["nodeName"] != "node-3")
            for p in sim.cluster.objects("Pod", "kube-system")
            if p["metadata"]["labels"].get("k8s-app") == "cilium"
        }
        assert _by(await query('kube_node_spec_taint{key="node.cilium.io/agent-not-ready"}')) == {"node-3": 1}
        number = await query('kube_daemonset_status_number_unavailable{daemonset="cilium"}')
        assert _by(number, "daemonset") == {"cilium": 1}

    async def test_a_node_without_an_agent_has_no_target(self, query, sim, seconds):
        pod = sim.cluster.agent_pod("node-3")
        sim.cluster.store.remove(sim.cluster.kind("DaemonSet"), sim.cluster.get("DaemonSet", "cilium", "kube-system"))
        await seconds(10)
        assert sim.cluster.agent_pod("node-3") is None
        assert pod is not None
        assert (await query('up{job="cilium-agent"}'))["data"]["result"] == []
        assert _by(await query('absent(up{job="cilium-agent"})'), "job") == {"cilium-agent": 1}

    async def test_endpoints(self, query, sim):
        found = _by(await query('sum by (node) (cilium_endpoint_state{endpoint_state="ready"})'))
        assert sum(found.values()) == len(sim.cluster.objects("CiliumEndpoint"))
        assert set(_by(await query("cilium_endpoint_state"), "endpoint_state")) == {"ready"}

    async def test_a_state_of_endpoints_has_a_series_once_one_was_in_it_and_invalid_never(self, query, sim, seconds):
        endpoint = sim.cluster.objects("CiliumEndpoint")[0]
        (node,) = (n for n in sim.cluster.node_names() if sim.cluster.node_address(n) == endpoint["status"]["networking"]["node"])

        async def counted(state):
            stored = sim.cluster.get("CiliumEndpoint", endpoint["metadata"]["name"], endpoint["metadata"]["namespace"])
            changed = {**stored, "status": {**stored["status"], "state": state}}
            sim.cluster.store.replace(sim.cluster.kind("CiliumEndpoint"), changed)
            await seconds(10)
            return _by(await query(f'cilium_endpoint_state{{node="{node}"}}'), "endpoint_state")

        ready = (await counted("ready"))["ready"]
        assert await counted("regenerating") == {"ready": ready - 1, "regenerating": 1}
        assert await counted("invalid") == {"ready": ready - 1, "regenerating": 0}
        assert await counted("ready") == {"ready": ready, "regenerating": 0}
        agent = sim.cluster.agent_pod(node)["metadata"]
        sim.cluster.store.remove(sim.cluster.kind("Pod"), sim.cluster.agent_pod(node))
        await seconds(120)
        assert sim.cluster.agent_pod(node)["metadata"]["uid"] != agent["uid"]
        assert await counted("ready") == {"ready": ready}

    async def test_pairs(self, query, sim, seconds):
        sim.cluster.network.degrade_node("node-4", latency=0.03, loss=0.05)
        await seconds(10)
        slow = _by(await query("quantile by (target_node) (0.5, network_pair_latency_seconds) > 0.02"), "target_node")
        assert set(slow) == {"node-4"}
        loss = _by(await query("min by (target_node) (network_pair_loss_ratio)"), "target_node")
        assert loss == {"node-1": 0, "node-2": 0, "node-3": 0, "node-4": pytest.approx(0.05), "node-5": 0}
        body = await query('cilium_node_connectivity_status{source_node_name="node-1"}')
        assert _by(body, "target_node_name") == dict.fromkeys(sim.cluster.node_names(), 1)

    async def test_a_lost_node(self, query, sim, seconds):
        sim.cluster.stop_kubelet("node-2")
        await seconds(60)
        assert _by(await query('kube_node_status_condition{condition="Ready",status="unknown"} == 1')) == {"node-2": 1}
        assert _by(await query('kube_node_status_condition{condition="Ready",status="true"} == 0')) == {"node-2": 0}
        assert _by(await query('up{job="cilium-agent"} == 0')) == {"node-2": 0}

    async def test_a_cordon(self, query, sim, session, seconds):
        body, kind = {"spec": {"unschedulable": True}}, {"Content-Type": "application/merge-patch+json"}
        async with session.patch(f"{sim.url}/api/v1/nodes/node-2", json=body, headers=kind) as answer:
            assert answer.status == 200
        await seconds(10)
        assert _by(await query("kube_node_spec_unschedulable == 1")) == {"node-2": 1}
