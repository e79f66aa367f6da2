"""Lists: pages, selectors and versions."""

from __future__ import annotations

import asyncio

import pytest


@pytest.fixture
async def five(api, space):
    """Five ConfigMaps c0..c4 with labels n and, for the even ones, even."""
    for number in range(5):
        labels = {"n": str(number), **({"even": "yes"} if number % 2 == 0 else {})}
        assert (await api.post(f"{space}/configmaps", {"metadata": {"name": f"c{number}", "labels": labels}})).status == 201
    return f"{space}/configmaps"


class TestPages:
    async def test_they_add_up_and_show_one_version(self, api, five):
        first = await api.get(five, limit=2)
        meta = first.body["metadata"]
        assert first.names == ["c0", "c1"]
        assert (meta["remainingItemCount"], bool(meta["continue"])) == (4, True)
        await api.delete(f"{five}/c3")
        await api.post(five, {"metadata": {"name": "c2a"}})
        second = await api.get(five, **{"limit": 2, "continue": meta["continue"]})
        assert (second.names, second.version) == (["c2", "c3"], first.version)
        third = await api.get(five, **{"limit": 2, "continue": second.body["metadata"]["continue"]})
        assert third.names == ["c4", "kube-root-ca.crt"]
        assert third.body["metadata"] == {"resourceVersion": first.version}
        assert "c3" not in (await api.get(five)).names

    async def test_with_a_selector_nobody_knows_how_many_remain(self, api, five):
        meta = (await api.get(five, limit=2, labelSelector="n")).body["metadata"]
        assert meta["continue"]
        assert "remainingItemCount" not in meta

    async def test_a_limit_that_is_large_enough(self, api, five):
        assert set((await api.get(five, limit=500)).body["metadata"]) == {"resourceVersion"}

    async def test_a_bad_token(self, api, five):
        answer = await api.get(five, **{"limit": 2, "continue": "abc"})
        assert (answer.status, answer.reason) == (400, "BadRequest")
        assert answer.message.startswith("invalid continue token: continue key is not valid: ")

    async def test_a_token_and_a_version(self, api, five):
        token = (await api.get(five, limit=2)).body["metadata"]["continue"]
        answer = await api.get(five, **{"continue": token, "resourceVersion": 5})
        assert (answer.status, answer.message) == (400, "specifying resource version is not allowed when using continue")

    async def test_a_limit_that_is_no_number(self, api, five):
        answer = await api.get(five, limit="x")
        assert (answer.status, answer.message) == (400, 'strconv.ParseInt: parsing "x": invalid syntax')


class TestVersions:
    async def test_an_exact_old_version(self, api, five):
        version = (await api.get(five, labelSelector="n")).version
        await api.delete(f"{five}/c0")
        old = await api.get(five, labelSelector="n", resourceVersion=version, resourceVersionMatch="Exact")
        assert (old.version, len(old.names)) == (version, 5)

    async def test_a_version_from_the_future(self, api, five):
        answer = await api.get(five, resourceVersion=99999999)
        assert (answer.status, answer.reason, answer.headers["Retry-After"]) == (504, "Timeout", "1")
        assert answer.message.startswith("Timeout: Too large resource version: 99999999, current: ")
        cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
        assert answer.body["details"] == {"causes": [cause], "retryAfterSeconds": 1}

    async def test_a_match_without_a_version(self, api, five):
        answer = await api.get(five, resourceVersionMatch="Exact")
        assert (answer.status, answer.body["details"]["causes"][0]["field"]) == (422, "resourceVersionMatch")

    async def test_any_version_will_do(self, api, five):
        async def all_there():
            return len((await api.get(five, resourceVersion=0, labelSelector="n")).names) == 5

        await api.until(all_there, "the cache's catching up")


class TestLabelSelectors:
    @pytest.mark.parametrize(
        ("selector", "names"),
        [
            ("even", ["c0", "c2", "c4"]),
            ("n,!even", ["c1", "c3"]),
            ("n=1", ["c1"]),
            ("n==1", ["c1"]),
            ("n,n!=1", ["c0", "c2", "c3", "c4"]),
            ("n in (1,3)", ["c1", "c3"]),
            ("n,n notin (1, 3)", ["c0", "c2", "c4"]),
            ("n in (1,3),even=yes", []),
            ("n>2", ["c3", "c4"]),
            ("n<1", ["c0"]),
            ("n in ()", []),
            ("even=", []),
            ("absent", []),
            (" n = 2 ", ["c2"]),
        ],
    )
    async def test_select(self, api, five, selector, names):
        assert (await api.get(five, labelSelector=selector)).names == names

    async def test_what_is_absent_fits_a_negation(self, api, five):
        assert "kube-root-ca.crt" in (await api.get(five, labelSelector="n notin (1)")).names
        assert "kube-root-ca.crt" in (await api.get(five, labelSelector="n!=1")).names

    @pytest.mark.parametrize(
        ("selector", "message"),
        [
            ("a===", "unable to parse requirement: found '=', expected: identifier"),
            ("a in (x", "unable to parse requirement: found '', expected: ',' or ')'"),
            ("a gt 5", "unable to parse requirement: found 'gt', expected: in, notin, =, ==, !=, gt, lt"),
        ],
    )
    async def test_nonsense(self, api, five, selector, message):
        answer = await api.get(five, labelSelector=selector)
        assert (answer.status, answer.reason, answer.message) == (400, "BadRequest", message)


class TestFieldSelectors:
    async def test_names(self, api, five):
        assert (await api.get(five, fieldSelector="metadata.name=c1")).names == ["c1"]
        namespace = five.split("/")[4]
        everywhere = await api.get(
            "/api/v1/configmaps", fieldSelector=f"metadata.namespace={namespace},metadata.name!=c1", labelSelector="n"
        )
        assert everywhere.names == ["c0", "c2", "c3", "c4"]

    async def test_pods(self, api, running, space):
        await asyncio.gather(running("a", node="node-4"), running("b", node="node-5"))
        for selector, names in {
            "spec.nodeName=node-4": ["a"],
            "spec.nodeName!=node-4": ["b"],
            "status.phase=Running": ["a", "b"],
            "status.phase!=Running": [],
            "spec.nodeName=node-5,status.phase==Running": ["b"],
            "spec.restartPolicy=Always": ["a", "b"],
            "spec.schedulerName=x": [],
            "spec.hostNetwork=false": ["a", "b"],
            "status.podIP=1.2.3.4": [],
            "metadata.name=a": ["a"],
        }.items():
            assert (await api.get(f"{space}/pods", fieldSelector=selector)).names == names, selector

    async def test_nodes(self, api):
        nodes = ["node-1", "node-2", "node-3", "node-4", "node-5"]
        assert (await api.get("/api/v1/nodes", fieldSelector="spec.unschedulable=false")).names == nodes
        assert (await api.get("/api/v1/nodes", fieldSelector="spec.unschedulable=true")).names == []
        assert (await api.get("/api/v1/nodes", fieldSelector="metadata.name=node-2")).names == ["node-2"]

    @pytest.mark.parametrize(
        ("path", "selector", "message"),
        [
            ("pods", "spec.foo=x", "field label not supported: spec.foo"),
            ("pods", "spec.nodeName", "invalid selector: 'spec.nodeName'; can't understand 'spec.nodeName'"),
            ("configmaps", "data.x=x", '"data.x" is not a known field selector: only "metadata.name", "metadata.namespace"'),
            ("events", "foo=x", "field label not supported: foo"),
        ],
    )
    async def test_what_is_not_supported(self, api, path, selector, message):
        answer = await api.get(f"/api/v1/{path}", fieldSelector=selector)
        assert (answer.status, answer.reason, answer.message) == (400, "BadRequest", message)

    async def test_custom_resources_know_only_names(self, api):
        answer = await api.get("/apis/cilium.io/v2/ciliumnodes", fieldSelector="spec.x=x")
        assert (answer.status, answer.message) == (400, "field label not supported: spec.x")


class TestShapes:
    async def test_items_of_built_in_lists_do_not_repeat_their_kind(self, api, five):
        answer = (await api.get(five)).body
        assert (answer["kind"], answer["apiVersion"]) == ("ConfigMapList", "v1")
        assert all("kind" not in item and "apiVersion" not in item for item in answer["items"])

    async def test_an_unknown_namespace_is_empty(self, api):
        answer = await api.get("/api/v1/namespaces/nowhere/pods")
        assert (answer.status, answer.names) == (200, [])

    async def test_tables(self, api, five):
        answer = await api("GET", "/api/v1/nodes", accept="application/json;as=Table;v=v1;g=meta.k8s.io,application/json")
        assert answer.body["kind"] == "Table"
        names = [c["name"] for c in answer.body["columnDefinitions"]]
        assert names[:5] == ["Name", "Status", "Roles", "Age", "Version"]
        first = answer.body["rows"][0]
        assert first["cells"][:3] == ["node-1", "Ready", "control-plane"]
        assert first["object"]["kind"] == "PartialObjectMetadata"

    async def test_metadata_only(self, api, five):
        accept = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json"
        answer = await api("GET", five, accept=accept, labelSelector="n=1")
        assert answer.body["kind"] == "PartialObjectMetadataList"
        assert [sorted(i) for i in answer.body["items"]] == [["apiVersion", "kind", "metadata"]]

    async def test_nodes_of_the_test_bed(self, api):
        nodes = {n["metadata"]["name"]: n for n in (await api.get("/api/v1/nodes")).body["items"]}
        assert sorted(nodes) == ["node-1", "node-2", "node-3", "node-4", "node-5"]
        assert nodes["node-1"]["metadata"]["labels"]["node-role.kubernetes.io/control-plane"] == ""
        zones = [nodes[n]["metadata"]["labels"]["topology.kubernetes.io/zone"] for n in sorted(nodes)]
        assert zones == ["zone-b", "zone-c", "zone-a", "zone-b", "zone-c"]
        addresses = [a["address"] for n in sorted(nodes) for a in nodes[n]["status"]["addresses"] if a["type"] == "InternalIP"]
        assert addresses == [f"10.25.150.{10 + n}" for n in range(5)]
        for node in nodes.values():
            conditions = {c["type"]: c["status"] for c in node["status"]["conditions"]}
            assert conditions["Ready"] == "True"
            assert conditions["DiskPressure"] == "False"


class TestEvents:
    async def test_one_event_in_two_groups(self, api, space):
        namespace = space.rpartition("/")[2]
        new = f"/apis/events.k8s.io/v1/namespaces/{namespace}/events"
        regarding = {"kind": "Node", "name": "node-2", "namespace": namespace}
        event = {
            "metadata": {"name": "e"},
            "regarding": regarding,
            "reason": "Healed",
            "note": "all is well",
            "type": "Normal",
            "action": "Heal",
            "reportingController": "example.test/contract",
            "reportingInstance": "one",
            "eventTime": "2026-01-01T00:00:00.000000Z",
        }
        made = await api.post(new, event)
        assert made.status == 201, made.body
        assert (made.body["apiVersion"], made.body["note"]) == ("events.k8s.io/v1", "all is well")
        old = (await api.get(f"{space}/events/e")).body
        assert (old["apiVersion"], old["involvedObject"], old["message"]) == ("v1", regarding, "all is well")
        assert (old["reportingComponent"], old["eventTime"]) == ("example.test/contract", "2026-01-01T00:00:00.000000Z")
        found = await api.get(f"{space}/events", fieldSelector="involvedObject.name=node-2,reason=Healed")
        assert found.names == ["e"]
        assert (await api.get(f"{space}/events", fieldSelector="involvedObject.name=node-3")).names == []

    async def test_new_events_need_a_time_and_a_type(self, api, space):
        namespace = space.rpartition("/")[2]
        body = {"metadata": {"name": "e"}, "regarding": {"kind": "Node", "name": "node-2", "namespace": namespace}, "reason": "A"}
        answer = await api.post(f"/apis/events.k8s.io/v1/namespaces/{namespace}/events", body)
        assert (answer.status, [c["field"] for c in answer.body["details"]["causes"]]) == (422, ["eventTime", "type"])

    @pytest.mark.parametrize("named", [{}, {"namespace": "kube-system"}], ids=["none", "another"])
    async def test_an_event_is_in_the_namespace_of_what_it_is_about(self, api, space, named):
        about = {"kind": "Node", "name": "node-2", **named}
        answer = await api.post(f"{space}/events", {"metadata": {"name": "e"}, "involvedObject": about, "reason": "A", "type": "Normal"})
        (cause,) = answer.body["details"]["causes"]
        value = named.get("namespace", "")
        assert cause == {
            "reason": "FieldValueInvalid",
            "message": f'Invalid value: "{value}": does not match event.namespace',
            "field": "involvedObject.namespace",
        }

    async def test_an_event_about_a_node_is_in_default(self, api):
        about = {"kind": "Node", "name": "node-2"}
        made = await api.post(
            "/api/v1/namespaces/default/events",
            {"metadata": {"generateName": "contract-"}, "involvedObject": about, "reason": "A", "type": "Normal"},
        )
        assert made.status == 201
        await api.delete(f"/api/v1/namespaces/default/events/{made.body['metadata']['name']}")
