from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.clock import iso
from remediator.sim.alerting import Receiver, Rule
from remediator.sim.alerting.alert import fingerprint, go_time
from remediator.sim.alerting.rules import query_rule
from remediator.sim.alerting.silences import Matcher

QUICK = {"group_wait": timedelta(seconds=1), "group_interval": timedelta(seconds=5)}


class TestFingerprints:
    @pytest.mark.parametrize(
        ("labels", "value"),
        [
            # from Alertmanager 0.25, GET /api/v2/alerts
            ({}, "cbf29ce484222325"),
            ({"alertname": "CiliumAgentDown", "node": "node-3"}, None),
        ],
    )
    def test_known_ones(self, labels, value):
        found = fingerprint(labels)
        assert len(found) == 16
        assert value in (None, found)

    @given(st.dictionaries(st.text(min_size=1), st.text(), max_size=5))
    def test_the_order_of_labels_does_not_matter(self, labels):
        assert fingerprint(labels) == fingerprint(dict(reversed(labels.items())))

    @given(
        st.dictionaries(st.from_regex(r"[a-z]{1,3}", fullmatch=True), st.from_regex(r"[a-z]{0,3}", fullmatch=True), max_size=3), st.data()
    )
    def test_another_value_gives_another_one(self, labels, data):
        other = data.draw(
            st.dictionaries(st.from_regex(r"[a-z]{1,3}", fullmatch=True), st.from_regex(r"[a-z]{0,3}", fullmatch=True), max_size=3)
        )
        assert (fingerprint(labels) == fingerprint(other)) == (labels == other)


class TestTheWholeWay:
    async def test_an_agent_dies_and_comes_back(self, sim, seconds, hook, session):
        sim.add_receiver(Receiver(hook.url, token="secret", **QUICK))
        sim.cluster.kill_agent("node-3")
        await seconds(29)
        assert sim.alertmanager.open_alerts() == []
        await seconds(12)
        payload = await hook.next()
        assert hook.tokens == ["Bearer secret"]
        (alert,) = payload["alerts"]
        labels = {"alertname": "CiliumAgentDown", "node": "node-3", "severity": "critical", "job": "cilium-agent"}
        assert (alert["labels"], alert["status"], alert["endsAt"]) == (labels, "firing", "0001-01-01T00:00:00Z")
        assert alert["fingerprint"] == fingerprint(labels)
        assert (payload["version"], payload["status"], payload["receiver"], payload["truncatedAlerts"]) == ("4", "firing", "remediator", 0)
        assert payload["groupLabels"] == {"alertname": "CiliumAgentDown"}
        assert payload["groupKey"] == '{}:{alertname="CiliumAgentDown"}'
        assert payload["commonLabels"] == labels
        async with session.get(f"{sim.alertmanager_url}/api/v2/alerts") as answer:
            (shown,) = await answer.json()
        assert (shown["fingerprint"], shown["status"]["state"], shown["receivers"]) == (
            alert["fingerprint"],
            "active",
            [{"name": "remediator"}],
        )
        await seconds(120)
        assert len(hook.got) == 1
        sim.cluster.heal_agent("node-3")
        await seconds(20)
        resolved = await hook.next()
        (ended,) = resolved["alerts"]
        assert (resolved["status"], ended["status"], ended["startsAt"]) == ("resolved", "resolved", alert["startsAt"])
        assert ended["endsAt"] > alert["startsAt"]
        assert sim.alertmanager.open_alerts() == []
        await seconds(600)
        assert len(hook.got) == 2

    async def test_a_second_alert_of_the_group_is_told_at_the_next_interval(self, sim, seconds, hook):
        sim.add_receiver(Receiver(hook.url, **QUICK))
        sim.cluster.kill_agent("node-3")
        await seconds(42)
        await hook.next()
        sim.cluster.kill_agent("node-4")
        await seconds(42)
        both = await hook.next()
        assert sorted(a["labels"]["node"] for a in both["alerts"]) == ["node-3", "node-4"]
        assert "node" not in both["commonLabels"]

    async def test_a_firing_one_is_repeated(self, sim, seconds, hook):
        sim.add_receiver(Receiver(hook.url, repeat_interval=timedelta(minutes=5), **QUICK))
        sim.cluster.kill_agent("node-3")
        await seconds(42)
        await hook.next()
        await seconds(290)
        assert len(hook.got) == 1
        await seconds(20)
        await hook.next()
        assert hook.got[0]["alerts"] == hook.got[1]["alerts"]

    async def test_the_server_may_fail_for_a_while(self, sim, seconds, hook, until):
        hook.answers += [503, 500]
        sim.add_receiver(Receiver(hook.url, group_wait=timedelta(seconds=1), group_interval=timedelta(seconds=60)))
        sim.cluster.kill_agent("node-3")
        await seconds(42)
        for count in (1, 2, 3):
            await until(lambda count=count: len(sim.alertmanager.sent) >= count)
            await seconds(2)
        assert [n.status for n in sim.alertmanager.sent] == [503, 500, 200]
        await seconds(600)
        assert len(hook.got) == 3

    async def test_what_it_refuses_is_not_tried_again(self, sim, seconds, hook, until):
        hook.answers += [400]
        sim.add_receiver(Receiver(hook.url, group_wait=timedelta(seconds=1), group_interval=timedelta(seconds=60)))
        sim.cluster.kill_agent("node-3")
        await seconds(42)
        await hook.next()
        await until(lambda: sim.alertmanager.sent)
        await seconds(30)
        assert [n.status for n in sim.alertmanager.sent] == [400]

    async def test_nobody_listens(self, sim, seconds, until):
        sim.add_receiver(Receiver("http://127.0.0.1:9/", group_wait=timedelta(0), group_interval=timedelta(seconds=2)))
        sim.cluster.kill_agent("node-3")
        await seconds(42)
        await until(lambda: sim.alertmanager.sent)
        assert sim.alertmanager.sent[0].status == 0

    async def test_a_long_payload_is_cut_and_says_so(self, sim, seconds, hook):
        sim.add_receiver(Receiver(hook.url, max_alerts=1, **QUICK))
        for node in ("node-2", "node-3", "node-4"):
            sim.cluster.kill_agent(node)
        await seconds(42)
        payload = await hook.next()
        assert (len(payload["alerts"]), payload["truncatedAlerts"]) == (1, 2)

    async def test_receivers_may_be_picky(self, sim, seconds, hook):
        sim.add_receiver(Receiver(hook.url, matchers=(Matcher.parse('node="node-4"'),), **QUICK))
        sim.cluster.kill_agent("node-3")
        sim.cluster.kill_agent("node-4")
        await seconds(60)
        payload = await hook.next()
        assert [a["labels"]["node"] for a in payload["alerts"]] == ["node-4"]

    async def test_resolved_ones_may_be_unwanted(self, sim, seconds, hook):
        sim.add_receiver(Receiver(hook.url, send_resolved=False, **QUICK))
        sim.cluster.kill_agent("node-3")
        await seconds(42)
        await hook.next()
        sim.cluster.heal_agent("node-3")
        await seconds(600)
        assert len(hook.got) == 1

    async def test_it_fires_again_as_a_new_episode(self, sim, seconds, hook):
        sim.add_receiver(Receiver(hook.url, **QUICK))
        starts = []
        for _ in range(2):
            sim.cluster.kill_agent("node-3")
            await seconds(60)
            starts.append((await hook.next())["alerts"][0]["startsAt"])
            sim.cluster.heal_agent("node-3")
            await seconds(60)
            assert (await hook.next())["status"] == "resolved"
        assert starts[0] != starts[1]


class TestRules:
    async def test_what_stops_before_its_time_never_fires(self, sim, seconds):
        sim.cluster.kill_agent("node-3")
        await seconds(20)
        assert {dict(e.labels)["alertstate"] for e in sim.prometheus.query("ALERTS")} == {"pending"}
        sim.cluster.heal_agent("node-3")
        await seconds(60)
        assert sim.alertmanager.open_alerts() == []
        assert sim.prometheus.query("ALERTS") == []

    async def test_one_of_our_own(self, sim, seconds):
        sim.rules.rules.append(
            query_rule("Slow", "max by (target_node) (network_pair_latency_seconds) > 0.01", labels={"severity": "warning"})
        )
        sim.rules.rules.append(Rule("Always", lambda _cluster, _prometheus: [{"a": "b"}], annotations={"summary": "about {a}"}))
        sim.cluster.network.degrade_pair("node-1", "node-4", latency=0.02)
        await seconds(20)
        found = {a.labels["alertname"]: a for a in sim.alertmanager.open_alerts()}
        assert found["Slow"].labels == {"alertname": "Slow", "severity": "warning", "target_node": "node-4"}
        assert found["Always"].annotations == {"summary": "about b"}

    async def test_a_lost_node(self, sim, seconds):
        sim.cluster.stop_kubelet("node-2")
        await seconds(120)
        names = sorted((a.labels["alertname"], a.labels["node"]) for a in sim.alertmanager.open_alerts())
        assert names == [("CiliumAgentDown", "node-2"), ("NodeFailure", "node-2")]

    async def test_a_slow_node_is_blamed_and_not_its_observers(self, sim, seconds):
        sim.cluster.network.degrade_node("node-4", latency=0.05)
        await seconds(90)
        assert [a.labels["target_node"] for a in sim.alertmanager.open_alerts()] == ["node-4"]


class TestApi:
    async def test_alerts_are_posted_and_end_by_themselves(self, sim, seconds, session, clock):
        url = f"{sim.alertmanager_url}/api/v2/alerts"
        now = clock.now()
        body = [
            {"labels": {"alertname": "A", "empty": ""}, "annotations": {"x": "y"}, "generatorURL": "http://p"},
            {"labels": {"alertname": "B"}, "startsAt": iso(now - timedelta(hours=1)), "endsAt": iso(now + timedelta(hours=1))},
        ]
        async with session.post(url, json=body) as answer:
            assert answer.status == 200
        async with session.get(url) as answer:
            shown = await answer.json()
        assert [a["labels"] for a in shown] == [{"alertname": "A"}, {"alertname": "B"}]
        assert shown[1]["startsAt"] == iso(now - timedelta(hours=1))
        await seconds(301)
        async with session.get(url) as answer:
            assert [a["labels"]["alertname"] for a in await answer.json()] == ["B"]
        async with session.post(url, json=[{**body[1], "endsAt": iso(clock.now())}]) as answer:
            assert answer.status == 200
        assert sim.alertmanager.open_alerts() == []

    @pytest.mark.parametrize("body", [b"no", b"{}", b'[{"labels": {}}]', b'[{"labels": {"a": 1}}]', b'[{"annotations": {}}]', b"[7]"])
    async def test_nonsense_is_refused(self, sim, session, body):
        async with session.post(f"{sim.alertmanager_url}/api/v2/alerts", data=body) as answer:
            assert answer.status == 400
        assert sim.alertmanager.open_alerts() == []

    async def test_silences(self, sim, seconds, session, clock, hook):
        sim.add_receiver(Receiver(hook.url, **QUICK))
        base = f"{sim.alertmanager_url}/api/v2"
        matcher = {"name": "node", "value": "node-.*", "isRegex": True, "isEqual": True}
        times = {"startsAt": iso(clock.now()), "endsAt": iso(clock.now() + timedelta(hours=1))}
        async with session.post(f"{base}/silences", json={"matchers": [matcher], **times, "createdBy": "me", "comment": "test"}) as answer:
            silence = (await answer.json())["silenceID"]
        sim.cluster.kill_agent("node-3")
        await seconds(60)
        assert hook.got == []
        for query, count in (
            ({}, 1),
            ({"silenced": "false"}, 0),
            ({"active": "false"}, 1),
            ({"filter": 'node="node-4"'}, 0),
            ({"filter": "node=~node-3"}, 1),
        ):
            async with session.get(f"{base}/alerts", params=query) as answer:
                assert len(await answer.json()) == count, query
        async with session.get(f"{base}/alerts") as answer:
            assert (await answer.json())[0]["status"] == {"inhibitedBy": [], "mutedBy": [], "silencedBy": [silence], "state": "suppressed"}
        async with session.get(f"{base}/silence/{silence}") as answer:
            assert (await answer.json())["status"] == {"state": "active"}
        async with session.delete(f"{base}/silence/{silence}") as answer:
            assert answer.status == 200
        await seconds(10)
        assert (await hook.next())["status"] == "firing"
        async with session.get(f"{base}/silences") as answer:
            assert [s["status"]["state"] for s in await answer.json()] == ["expired"]
        async with session.get(f"{base}/silence/none") as answer:
            assert answer.status == 404

    @pytest.mark.parametrize("change", [{"matchers": []}, {"endsAt": "2000-01-01T00:00:00Z"}, {"comment": None}, {"startsAt": "soon"}])
    async def test_bad_silences(self, sim, session, clock, change):
        body = {
            "matchers": [{"name": "a", "value": "b", "isRegex": False}],
            "startsAt": iso(clock.now()),
            "endsAt": iso(clock.now() + timedelta(hours=1)),
            "createdBy": "me",
            "comment": "test",
        }
        async with session.post(f"{sim.alertmanager_url}/api/v2/silences", json={**body, **change}) as answer:
            assert answer.status == 400

    async def test_status_and_health(self, sim, session):
        async with session.get(f"{sim.alertmanager_url}/api/v2/status") as answer:
            assert (await answer.json())["versionInfo"]["version"]
        async with session.get(f"{sim.alertmanager_url}/-/ready") as answer:
            assert (answer.status, await answer.text()) == (200, "OK")
        async with session.get(f"{sim.alertmanager_url}/nope") as answer:
            assert answer.status == 404


@pytest.mark.parametrize(
    ("micros", "text"), [(0, "2026-01-05T10:00:00Z"), (500_000, "2026-01-05T10:00:00.5Z"), (1, "2026-01-05T10:00:00.000001Z")]
)
def test_times_are_written_as_go_does(clock, micros, text):
    assert go_time(clock.now() + timedelta(microseconds=micros)) == text
