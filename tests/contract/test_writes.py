"""Create, update, every patch type and delete: what they answer and what they refuse."""

from __future__ import annotations

import pytest

MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


@pytest.fixture
async def config(api, space):
    """A ConfigMap with data {a: 1}."""
    made = await api.post(f"{space}/configmaps", {"metadata": {"name": "a"}, "data": {"a": "1"}}, fieldManager="tester")
    assert made.status == 201
    return f"{space}/configmaps/a"


class TestCreate:
    async def test_the_server_gives_identity_version_and_time(self, api, space):
        made = (await api.post(f"{space}/configmaps", {"metadata": {"name": "x", "uid": "mine", "creationTimestamp": None}})).body
        meta = made["metadata"]
        assert meta["uid"] != "mine"
        assert meta["resourceVersion"].isdigit()
        assert meta["creationTimestamp"].endswith("Z")
        assert (made["kind"], made["apiVersion"]) == ("ConfigMap", "v1")
        assert "generation" not in meta

    async def test_names_are_generated(self, api, space):
        made = [(await api.post(f"{space}/configmaps", {"metadata": {"generateName": "g-"}})).body["metadata"]["name"] for _ in range(3)]
        assert len(set(made)) == 3
        assert all(name.startswith("g-") and len(name) == 7 for name in made)

    async def test_one_of_the_same_name_exists(self, api, config):
        answer = await api.post(config.removesuffix("/a"), {"metadata": {"name": "a"}})
        assert (answer.status, answer.reason, answer.message) == (409, "AlreadyExists", 'configmaps "a" already exists')
        assert answer.body["details"] == {"name": "a", "kind": "configmaps"}

    async def test_a_bad_name_is_invalid(self, api, space):
        answer = await api.post(f"{space}/configmaps", {"metadata": {"name": "A_b"}})
        assert (answer.status, answer.reason) == (422, "Invalid")
        assert answer.message.startswith(
            'ConfigMap "A_b" is invalid: metadata.name: Invalid value: "A_b": a lowercase RFC 1123 subdomain must'
        )
        details = answer.body["details"]
        assert (details["name"], details["kind"]) == ("A_b", "ConfigMap")
        assert [(c["reason"], c["field"]) for c in details["causes"]] == [("FieldValueInvalid", "metadata.name")]

    async def test_a_name_is_required(self, api, space):
        answer = await api.post(f"{space}/configmaps", {"metadata": {}})
        assert answer.message == 'ConfigMap "" is invalid: metadata.name: Required value: name or generateName is required'
        assert answer.body["details"]["causes"][0]["reason"] == "FieldValueRequired"

    async def test_a_bad_prefix_is_named_too(self, api, space):
        answer = await api.post(f"{space}/configmaps", {"metadata": {"generateName": "Ab-"}})
        assert (answer.status, [c["field"] for c in answer.body["details"]["causes"]]) == (422, ["metadata.generateName", "metadata.name"])

    async def test_several_bad_labels_are_named_together(self, api, space):
        answer = await api.post(f"{space}/configmaps", {"metadata": {"name": "a", "labels": {"x y": "b", "k": "bad value!"}}})
        assert answer.status == 422
        assert answer.message.startswith('ConfigMap "a" is invalid: [metadata.labels: Invalid value: ')
        assert {c["field"] for c in answer.body["details"]["causes"]} == {"metadata.labels"}

    async def test_a_value_of_a_wrong_type_is_a_bad_request(self, api, space):
        answer = await api.post(f"{space}/configmaps", {"metadata": {"name": "a", "labels": {"x": 1}}})
        assert (answer.status, answer.reason) == (400, "BadRequest")
        assert "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string" in answer.message
        assert "details" not in answer.body

    @pytest.mark.parametrize(
        "body",
        [
            {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a"}},
            {"kind": "ConfigMap", "apiVersion": "v2", "metadata": {"name": "a"}},
            b'{"metadata":',
        ],
    )
    async def test_a_body_of_another_kind_or_no_json_is_a_bad_request(self, api, space, body):
        answer = await api.post(f"{space}/configmaps", body)
        assert (answer.status, answer.reason) == (400, "BadRequest")

    async def test_another_namespace_in_the_body(self, api, space):
        answer = await api.post(f"{space}/configmaps", {"metadata": {"name": "a", "namespace": "kube-system"}})
        assert answer.status == 400
        assert answer.message == "the namespace of the provided object does not match the namespace sent on the request"

    async def test_no_such_namespace(self, api):
        answer = await api.post("/api/v1/namespaces/nowhere/configmaps", {"metadata": {"name": "a"}})
        assert (answer.status, answer.reason, answer.message) == (404, "NotFound", 'namespaces "nowhere" not found')
        assert answer.body["details"] == {"name": "nowhere", "kind": "namespaces"}

    async def test_a_custom_resource_must_name_its_kind(self, api):
        answer = await api.post("/apis/cilium.io/v2/ciliumnodes", {"metadata": {"name": "bad"}, "spec": {}})
        assert (answer.status, answer.reason) == (400, "BadRequest")
        assert "Object 'Kind' is missing in" in answer.message

    async def test_a_pod_must_have_containers_with_images(self, api, space):
        answer = await api.post(f"{space}/pods", {"metadata": {"name": "p"}, "spec": {}})
        assert answer.message == 'Pod "p" is invalid: spec.containers: Required value'
        answer = await api.post(f"{space}/pods", {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}})
        assert answer.message == 'Pod "p" is invalid: spec.containers[0].image: Required value'

    async def test_lease_times_have_six_digits(self, api, space):
        leases = space.replace("/api/v1", "/apis/coordination.k8s.io/v1") + "/leases"
        good = await api.post(leases, {"metadata": {"name": "l"}, "spec": {"renewTime": "2026-01-01T00:00:00.000000Z"}})
        assert good.status == 201
        bad = await api.post(leases, {"metadata": {"name": "m"}, "spec": {"renewTime": "2026-01-01T00:00:00Z"}})
        assert (bad.status, bad.reason) == (400, "BadRequest")
        assert "2006-01-02T15:04:05.000000Z07:00" in bad.message
        zero = await api.post(leases, {"metadata": {"name": "m"}, "spec": {"leaseDurationSeconds": 0}})
        message = 'Lease.coordination.k8s.io "m" is invalid: spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0'
        assert (zero.status, zero.message) == (422, message)

    async def test_a_pod_may_not_be_created_in_a_terminating_namespace(self, api, space):
        await api.post(f"{space}/configmaps", {"metadata": {"name": "x", "finalizers": ["example.test/hold"]}})
        marked = await api.delete(space)
        assert marked.body["status"]["phase"] == "Terminating"
        assert "deletionTimestamp" in marked.body["metadata"]
        answer = await api.post(f"{space}/configmaps", {"metadata": {"name": "y"}})
        assert (answer.status, answer.reason) == (403, "Forbidden")
        name = space.rpartition("/")[2]
        why = f"unable to create new content in namespace {name} because it is being terminated"
        assert answer.message == f'configmaps "y" is forbidden: {why}'
        cause = {"reason": "NamespaceTerminating", "message": f"namespace {name} is being terminated", "field": "metadata.namespace"}
        assert answer.body["details"]["causes"] == [cause]
        await api.patch(f"{space}/configmaps/x", {"metadata": {"finalizers": None}})
        await api.gone(space)


class TestUpdate:
    async def test_a_stale_version_is_a_conflict(self, api, config):
        answer = await api.put(config, {"metadata": {"name": "a", "resourceVersion": "1"}})
        assert (answer.status, answer.reason) == (409, "Conflict")
        assert answer.message == f'Operation cannot be fulfilled on configmaps "a": {MODIFIED}'
        assert answer.body["details"] == {"name": "a", "kind": "configmaps"}

    async def test_the_current_version_is_taken(self, api, config):
        found = (await api.get(config)).body
        answer = await api.put(config, {**found, "data": {"b": "2"}})
        assert (answer.status, answer.body["data"]) == (200, {"b": "2"})
        assert answer.version != found["metadata"]["resourceVersion"]
        assert answer.body["metadata"]["uid"] == found["metadata"]["uid"]

    async def test_no_version_overwrites(self, api, config):
        answer = await api.put(config, {"metadata": {"name": "a"}})
        assert answer.status == 200
        assert "data" not in answer.body

    async def test_another_uid_is_a_conflict(self, api, config):
        answer = await api.put(config, {"metadata": {"name": "a", "uid": "other"}})
        assert (answer.status, answer.reason) == (409, "Conflict")
        assert "Precondition failed: UID in precondition: other, UID in object meta: " in answer.message

    async def test_another_name_is_a_bad_request(self, api, config):
        answer = await api.put(config, {"metadata": {"name": "b"}})
        assert (answer.status, answer.message) == (400, "the name of the object (b) does not match the name on the URL (a)")

    async def test_a_version_that_is_no_number(self, api, config):
        answer = await api.put(config, {"metadata": {"name": "a", "resourceVersion": "abc"}})
        assert (answer.status, answer.message) == (500, 'strconv.ParseUint: parsing "abc": invalid syntax')
        assert "reason" not in answer.body

    async def test_nothing_to_update(self, api, space):
        answer = await api.put(f"{space}/configmaps/no", {"metadata": {"name": "no"}})
        assert (answer.status, answer.reason) == (404, "NotFound")

    async def test_an_update_that_changes_nothing_keeps_the_version(self, api, config):
        found = (await api.get(config)).body
        assert (await api.put(config, found)).version == found["metadata"]["resourceVersion"]

    async def test_leases_are_created_by_put_and_need_a_version_after_that(self, api, space):
        lease = space.replace("/api/v1", "/apis/coordination.k8s.io/v1") + "/leases/l"
        made = await api.put(lease, {"metadata": {"name": "l"}, "spec": {"holderIdentity": "me"}})
        assert made.status == 201
        answer = await api.put(lease, {"metadata": {"name": "l"}, "spec": {}})
        assert (answer.status, answer.reason) == (422, "Invalid")
        start = 'leases.coordination.k8s.io "l" is invalid: metadata.resourceVersion: Invalid value: 0'
        assert answer.message == f"{start}: must be specified for an update"
        assert answer.body["details"]["kind"] == "leases"
        again = await api.put(lease, {"metadata": {"name": "l", "resourceVersion": made.version}, "spec": {"holderIdentity": "you"}})
        assert again.status == 200
        stale = await api.put(lease, {"metadata": {"name": "l", "resourceVersion": made.version}, "spec": {}})
        assert (stale.status, stale.reason) == (409, "Conflict")


class TestPatches:
    async def test_merge(self, api, config):
        answer = await api.patch(config, {"data": {"a": None, "b": "2"}, "metadata": {"labels": {"x": "y"}}})
        assert (answer.status, answer.body["data"], answer.body["metadata"]["labels"]) == (200, {"b": "2"}, {"x": "y"})

    async def test_merge_with_a_stale_version_is_a_conflict(self, api, config):
        answer = await api.patch(config, {"metadata": {"resourceVersion": "1"}, "data": {"b": "2"}})
        assert (answer.status, answer.reason) == (409, "Conflict")
        assert answer.message.endswith(MODIFIED)

    async def test_merge_with_another_uid_is_invalid(self, api, config):
        answer = await api.patch(config, {"metadata": {"uid": "x"}})
        assert (answer.status, answer.reason) == (422, "Invalid")
        assert answer.body["details"]["causes"][0]["field"] == "metadata.uid"

    async def test_json(self, api, config):
        operations = [
            {"op": "test", "path": "/data/a", "value": "1"},
            {"op": "add", "path": "/metadata/labels", "value": {"x~y": "no"}},
            {"op": "replace", "path": "/metadata/labels", "value": {"a.b/c": "1"}},
            {"op": "add", "path": "/metadata/labels/d.e~1f", "value": "2"},
            {"op": "copy", "from": "/data/a", "path": "/data/b"},
            {"op": "move", "from": "/data/a", "path": "/data/c"},
        ]
        answer = await api.patch(config, operations, api.json_patch)
        assert answer.status == 200, answer.body
        assert answer.body["data"] == {"b": "1", "c": "1"}
        assert answer.body["metadata"]["labels"] == {"a.b/c": "1", "d.e/f": "2"}

    async def test_json_replaces_what_is_not_there(self, api, config):
        answer = await api.patch(config, [{"op": "replace", "path": "/data/z", "value": "7"}], api.json_patch)
        assert (answer.status, answer.body["data"]) == (200, {"a": "1", "z": "7"})

    @pytest.mark.parametrize(
        "operation",
        [
            {"op": "test", "path": "/data/a", "value": "7"},
            {"op": "test", "path": "/data/z", "value": "7"},
            {"op": "remove", "path": "/data/z"},
            {"op": "add", "path": "/nope/z", "value": "7"},
            {"op": "frob", "path": "/data/a"},
            {"op": "move", "from": "/data/z", "path": "/data/y"},
        ],
        ids=lambda o: f"{o['op']} {o['path']}",
    )
    async def test_json_that_does_not_apply_changes_nothing(self, api, config, operation):
        before = (await api.get(config)).version
        answer = await api.patch(config, [{"op": "add", "path": "/data/first", "value": "1"}, operation], api.json_patch)
        assert answer.body == {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": "the server rejected our request due to an error in our request",
            "reason": "Invalid",
            "details": {},
            "code": 422,
        }
        assert (await api.get(config)).version == before

    @pytest.mark.parametrize(("body", "kind"), [({"op": "add"}, "json_patch"), ([1], "merge"), (b'{"a":', "merge"), (b"[", "json_patch")])
    async def test_a_body_that_is_no_such_patch(self, api, config, body, kind):
        answer = await api.patch(config, body, getattr(api, kind))
        assert (answer.status, answer.reason) == (400, "BadRequest")
        assert answer.message.startswith("error decoding patch: ")

    @pytest.mark.parametrize("kind", ["application/json", "application/x-unknown"])
    async def test_an_unknown_patch_type(self, api, config, kind):
        answer = await api.patch(config, {"data": {"b": "2"}}, kind)
        assert (answer.status, answer.reason, answer.message) == (415, "UnsupportedMediaType", "415: Unsupported Media Type")

    async def test_strategic_merges_lists_by_key_and_replaces_the_others(self, api, space, make_pod):
        deployments = space.replace("/api/v1", "/apis/apps/v1") + "/deployments"
        template = {
            "metadata": {"labels": {"app": "x"}},
            "spec": {"containers": [{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:1"}]},
        }
        template["spec"]["tolerations"] = [{"key": "one", "operator": "Exists"}]
        spec = {"replicas": 0, "selector": {"matchLabels": {"app": "x"}}, "template": template}
        await api.post(deployments, {"metadata": {"name": "d"}, "spec": spec})
        change = {"containers": [{"name": "b", "image": "b:2"}], "tolerations": [{"key": "two", "operator": "Exists"}]}
        answer = await api.patch(f"{deployments}/d", {"spec": {"template": {"spec": change}}}, api.strategic)
        changed = answer.body["spec"]["template"]["spec"]
        assert {c["name"]: c["image"] for c in changed["containers"]} == {"a": "a:1", "b": "b:2"}
        assert [t["key"] for t in changed["tolerations"]] == ["two"]
        answer = await api.patch(
            f"{deployments}/d", {"spec": {"template": {"spec": {"containers": [{"name": "a", "$patch": "delete"}]}}}}, api.strategic
        )
        assert [c["name"] for c in answer.body["spec"]["template"]["spec"]["containers"]] == ["b"]
        assert answer.body["metadata"]["generation"] == 3

    async def test_strategic_taints_are_replaced_as_a_whole(self, api):
        node = "/api/v1/nodes/node-5"
        taints = [{"key": "a", "effect": "NoSchedule"}, {"key": "b", "effect": "NoSchedule"}]
        try:
            await api.patch(node, {"spec": {"taints": taints}}, api.strategic)
            answer = await api.patch(node, {"spec": {"taints": [{"key": "c", "effect": "NoSchedule"}]}}, api.strategic)
            assert [t["key"] for t in answer.body["spec"]["taints"]] == ["c"]
            twice = await api.patch(node, {"spec": {"taints": [taints[0], taints[0]]}}, api.merge)
            assert (twice.status, twice.reason) == (422, "Invalid")
        finally:
            await api.patch(node, {"spec": {"taints": None}})

    async def test_strategic_conditions_merge_by_type(self, api):
        node = "/api/v1/nodes/node-5"
        condition = {"type": "Contract", "status": "True", "reason": "Test", "message": ""}
        answer = await api.patch(f"{node}/status", {"status": {"conditions": [condition]}}, api.strategic)
        assert {"Contract", "Ready"} <= {c["type"] for c in answer.body["status"]["conditions"]}
        gone = {"status": {"conditions": [{"type": "Contract", "$patch": "delete"}]}}
        answer = await api.patch(f"{node}/status", gone, api.strategic)
        assert "Contract" not in {c["type"] for c in answer.body["status"]["conditions"]}

    async def test_strategic_is_not_for_custom_resources(self, api, custom):
        answer = await api.patch(custom, {"metadata": {"labels": {"a": "b"}}}, api.strategic)
        accepted = "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"
        assert (answer.status, answer.reason) == (415, "UnsupportedMediaType")
        assert answer.message == f"the body of the request was in an unknown format - accepted media types include: {accepted}"

    async def test_a_wrong_type_is_invalid(self, api, config):
        answer = await api.patch(config, {"data": {"b": 5}})
        assert (answer.status, answer.reason) == (422, "Invalid")
        assert answer.message.startswith(' "" is invalid: patch: Invalid value: ')
        assert answer.body["details"]["causes"][0]["field"] == "patch"

    async def test_a_wrong_type_in_a_node_is_invalid(self, api):
        answer = await api.patch("/api/v1/nodes/node-5", {"spec": {"unschedulable": "yes"}})
        assert (answer.status, answer.reason) == (422, "Invalid")

    async def test_another_name(self, api, config):
        answer = await api.patch(config, {"metadata": {"name": "other"}})
        assert (answer.status, answer.message) == (400, "the name of the object (other) does not match the name on the URL (a)")

    async def test_another_kind(self, api, config):
        assert (await api.patch(config, {"kind": "Pod"})).status == 422

    async def test_a_bad_label(self, api, config):
        answer = await api.patch(config, {"metadata": {"labels": {"a b": "c"}}})
        assert (answer.status, answer.body["details"]["causes"][0]["field"]) == (422, "metadata.labels")

    async def test_nothing_to_patch(self, api, space):
        answer = await api.patch(f"{space}/configmaps/no", {"data": {}})
        assert (answer.status, answer.message) == (404, 'configmaps "no" not found')

    async def test_a_patch_that_changes_nothing_keeps_the_version(self, api, config):
        before = (await api.get(config)).version
        assert (await api.patch(config, {"data": {"a": "1"}})).version == before

    async def test_a_node_is_cordoned_only_if_it_is_still_the_same(self, api):
        node = "/api/v1/nodes/node-5"
        uid = (await api.get(node)).body["metadata"]["uid"]
        wrong = [{"op": "test", "path": "/metadata/uid", "value": "other"}, {"op": "add", "path": "/spec/unschedulable", "value": True}]
        assert (await api.patch(node, wrong, api.json_patch)).status == 422
        right = [{"op": "test", "path": "/metadata/uid", "value": uid}, {"op": "add", "path": "/spec/unschedulable", "value": True}]
        try:
            answer = await api.patch(node, right, api.json_patch)
            assert (answer.status, answer.body["spec"]["unschedulable"]) == (200, True)
        finally:
            await api.patch(node, {"spec": {"unschedulable": None}})

    async def test_what_a_pod_is_cannot_be_changed(self, api, running, space):
        await running("p")
        answer = await api.patch(f"{space}/pods/p", {"spec": {"nodeName": "node-1"}})
        assert (answer.status, answer.reason) == (422, "Invalid")
        assert answer.body["details"]["causes"][0]["reason"] == "FieldValueForbidden"
        assert "pod updates may not change fields other than" in answer.message
        image = {"spec": {"containers": [{"name": "c", "image": "example.test/c:2"}]}}
        assert (await api.patch(f"{space}/pods/p", image, api.strategic)).status == 200


class TestApply:
    async def test_creates_and_updates(self, api, space):
        path = f"{space}/configmaps/s"
        config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "s"}, "data": {"a": "1", "b": "2"}}
        made = await api.patch(path, config, api.apply, fieldManager="one")
        assert made.status == 201
        entry = made.body["metadata"]["managedFields"][0]
        assert (entry["manager"], entry["operation"], entry["apiVersion"]) == ("one", "Apply", "v1")
        assert entry["fieldsV1"] == {"f:data": {"f:a": {}, "f:b": {}}}
        again = await api.patch(path, {**config, "data": {"a": "9"}}, api.apply, fieldManager="one")
        assert (again.status, again.body["data"]) == (200, {"a": "9"})

    async def test_a_field_of_somebody_else_is_a_conflict(self, api, config):
        wanted = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "2"}}
        answer = await api.patch(config, wanted, api.apply, fieldManager="m1")
        assert (answer.status, answer.reason) == (409, "Conflict")
        assert answer.message == 'Apply failed with 1 conflict: conflict with "tester" using v1: .data.a'
        cause = {"reason": "FieldManagerConflict", "message": 'conflict with "tester" using v1', "field": ".data.a"}
        assert answer.body["details"] == {"causes": [cause]}
        forced = await api.patch(config, wanted, api.apply, fieldManager="m1", force="true")
        assert (forced.status, forced.body["data"]) == (200, {"a": "2"})
        owned = {e["manager"]: e["fieldsV1"] for e in forced.body["metadata"]["managedFields"]}
        assert owned == {"m1": {"f:data": {"f:a": {}}}, "tester": {"f:data": {}}}

    async def test_the_same_value_is_shared(self, api, config):
        wanted = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "1"}}
        answer = await api.patch(config, wanted, api.apply, fieldManager="m1")
        assert answer.status == 200
        assert sorted(e["manager"] for e in answer.body["metadata"]["managedFields"]) == ["m1", "tester"]

    async def test_a_manager_is_required(self, api, config):
        answer = await api.patch(config, {"data": {}}, api.apply)
        message = 'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch'
        assert (answer.status, answer.message) == (422, message)

    async def test_a_kind_is_required(self, api, config):
        answer = await api.patch(config, {"data": {}}, api.apply, fieldManager="m")
        assert (answer.status, answer.message) == (400, "invalid object type: /, Kind=")

    async def test_force_is_for_apply_only(self, api, config):
        answer = await api.patch(config, {"data": {}}, force="true")
        message = 'PatchOptions.meta.k8s.io "" is invalid: force: Forbidden: may not be specified for non-apply patch'
        assert (answer.status, answer.message) == (422, message)

    async def test_labels_and_list_items(self, api, space):
        path = space.replace("/api/v1", "/apis/apps/v1") + "/deployments/d"
        container = {"name": "c", "image": "example.test/c:1"}
        template = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [container]}}
        spec = {"replicas": 0, "selector": {"matchLabels": {"app": "x"}}, "template": template}
        config = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "labels": {"l": "1"}}, "spec": spec}
        made = await api.patch(path, config, api.apply, fieldManager="one")
        (entry,) = (e for e in made.body["metadata"]["managedFields"] if e["manager"] == "one")
        fields = entry["fieldsV1"]
        assert fields["f:metadata"] == {"f:labels": {"f:l": {}}}
        assert fields["f:spec"]["f:template"]["f:spec"]["f:containers"] == {'k:{"name":"c"}': {".": {}, "f:image": {}, "f:name": {}}}
        two = {**config, "metadata": {"name": "d"}, "spec": {"replicas": 1}}
        conflict = await api.patch(path, two, api.apply, fieldManager="two")
        assert (conflict.status, conflict.body["details"]["causes"][0]["field"]) == (409, ".spec.replicas")
        second = {"name": "s", "image": "example.test/s:1"}
        more = {**config, "metadata": {"name": "d"}, "spec": {"template": {"spec": {"containers": [second]}}}}
        both = await api.patch(path, more, api.apply, fieldManager="two")
        assert [c["name"] for c in both.body["spec"]["template"]["spec"]["containers"]] == ["c", "s"]
        none = {**config, "metadata": {"name": "d"}, "spec": {"template": {"spec": {"containers": []}}}}
        less = await api.patch(path, none, api.apply, fieldManager="two")
        assert [c["name"] for c in less.body["spec"]["template"]["spec"]["containers"]] == ["c"]
        gone = await api.patch(path, {**config, "metadata": {"name": "d"}}, api.apply, fieldManager="one")
        assert "labels" not in gone.body["metadata"]

    async def test_an_update_takes_ownership_of_what_it_changes(self, api, config):
        answer = await api.patch(config, {"data": {"a": "5", "b": "6"}}, fieldManager="other")
        owners = {e["manager"]: e["fieldsV1"] for e in answer.body["metadata"]["managedFields"]}
        assert owners == {"other": {"f:data": {"f:a": {}, "f:b": {}}}, "tester": {"f:data": {}}}


@pytest.fixture
async def custom(api):
    """A CiliumNode with status as a subresource."""
    path = "/apis/cilium.io/v2/ciliumnodes"
    body = {"apiVersion": "cilium.io/v2", "kind": "CiliumNode", "metadata": {"name": "contract"}}
    made = await api.post(path, {**body, "spec": {"addresses": [{"ip": "10.0.0.1", "type": "InternalIP"}]}, "status": {"ipam": {}}})
    assert made.status == 201, made.body
    yield f"{path}/contract"
    await api.delete(f"{path}/contract")


class TestCustomResources:
    async def test_status_is_written_through_its_own_door_only(self, api, custom):
        assert "status" not in (await api.get(custom)).body
        both = {"metadata": {"labels": {"a": "b"}}, "status": {"ipam": {"used": {"x": {"owner": "y"}}}}, "spec": {"bootid": "z"}}
        main = (await api.patch(custom, both)).body
        assert "status" not in main
        assert (main["spec"]["bootid"], main["metadata"]["labels"], main["metadata"]["generation"]) == ("z", {"a": "b"}, 2)
        other = {"metadata": {"labels": {"a": "c"}}, "status": both["status"], "spec": {"bootid": "q"}}
        through = (await api.patch(f"{custom}/status", other)).body
        assert through["status"] == both["status"]
        assert (through["spec"]["bootid"], through["metadata"]["labels"], through["metadata"]["generation"]) == ("z", {"a": "b"}, 2)

    async def test_an_update_needs_a_version(self, api, custom):
        found = (await api.get(custom)).body
        version = found["metadata"].pop("resourceVersion")
        answer = await api.put(custom, found)
        assert (answer.status, answer.body["details"]["kind"]) == (422, "ciliumnodes")
        assert "metadata.resourceVersion: Invalid value: 0: must be specified for an update" in answer.message
        found["metadata"]["resourceVersion"] = version
        assert (await api.put(custom, found)).status == 200

    async def test_a_wrong_type_breaks_the_schema(self, api, custom):
        answer = await api.patch(custom, {"spec": {"addresses": 7}})
        assert (answer.status, answer.reason) == (422, "Invalid")
        assert answer.body["details"]["causes"][0]["field"] == "spec.addresses"
        assert answer.body["details"]["group"] == "cilium.io"

    async def test_json_patch(self, api, custom):
        await api.patch(custom, {"metadata": {"labels": {"a": "b"}}})
        answer = await api.patch(custom, [{"op": "add", "path": "/metadata/labels/x~1y", "value": "1"}], api.json_patch)
        assert answer.body["metadata"]["labels"] == {"a": "b", "x/y": "1"}


class TestDryRun:
    async def test_nothing_is_kept(self, api, config, space):
        made = await api.post(f"{space}/configmaps", {"metadata": {"name": "b"}}, dryRun="All")
        assert made.status == 201
        assert "resourceVersion" not in made.body["metadata"]
        assert (await api.get(f"{space}/configmaps/b")).status == 404
        before = (await api.get(config)).version
        patched = await api.patch(config, {"data": {"b": "2"}}, dryRun="All")
        assert patched.body["data"] == {"a": "1", "b": "2"}
        updated = await api.put(config, {"metadata": {"name": "a"}}, dryRun="All")
        assert "data" not in updated.body
        for options in ({"dryRun": "All"}, {}):
            body = None if options else {"dryRun": ["All"]}
            gone = await api.delete(config, body, **options)
            assert (gone.status, gone.body["status"], gone.body["details"]["kind"]) == (200, "Success", "configmaps")
        assert (await api.get(config)).version == before

    async def test_it_is_validated_all_the_same(self, api, config, space):
        assert (await api.post(f"{space}/configmaps", {"metadata": {"name": "a"}}, dryRun="All")).reason == "AlreadyExists"
        assert (await api.patch(config, {"metadata": {"resourceVersion": "1"}}, dryRun="All")).status == 409
        assert (await api.delete(config, {"preconditions": {"uid": "x"}}, dryRun="All")).status == 409

    async def test_all_is_the_only_value(self, api, space):
        answer = await api.post(f"{space}/configmaps", {"metadata": {"name": "b"}}, dryRun="Some")
        message = 'CreateOptions.meta.k8s.io "" is invalid: dryRun: Unsupported value: ["Some"]: supported values: "All"'
        assert (answer.status, answer.message) == (422, message)


class TestDelete:
    async def test_a_plain_object_is_gone_at_once(self, api, config):
        uid = (await api.get(config)).body["metadata"]["uid"]
        answer = await api.delete(config)
        success = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
        assert answer.body == {**success, "details": {"name": "a", "kind": "configmaps", "uid": uid}}
        assert (await api.delete(config)).status == 404

    async def test_uid_and_version_are_preconditions(self, api, config):
        found = (await api.get(config)).body["metadata"]
        answer = await api.delete(config, {"preconditions": {"uid": "x"}})
        assert (answer.status, answer.reason) == (409, "Conflict")
        assert answer.message == (
            f'Operation cannot be fulfilled on ConfigMap "a": the UID in the precondition (x) does not match the UID in record '
            f"({found['uid']}). The object might have been deleted and then recreated"
        )
        assert answer.body["details"] == {"name": "a", "kind": "ConfigMap"}
        answer = await api.delete(config, {"preconditions": {"resourceVersion": "1"}})
        assert answer.status == 409
        assert "the ResourceVersion in the precondition (1) does not match the ResourceVersion in record" in answer.message
        preconditions = {"uid": found["uid"], "resourceVersion": found["resourceVersion"]}
        assert (await api.delete(config, {"preconditions": preconditions})).status == 200

    async def test_a_finalizer_holds_it(self, api, config):
        await api.patch(config, {"metadata": {"finalizers": ["example.test/hold"]}})
        answer = await api.delete(config)
        assert (answer.status, answer.body["kind"]) == (200, "ConfigMap")
        assert answer.body["metadata"]["deletionGracePeriodSeconds"] == 0
        assert (await api.get(config)).body["metadata"]["deletionTimestamp"]
        await api.patch(config, {"metadata": {"finalizers": None}})
        assert (await api.get(config)).status == 404

    async def test_a_collection(self, api, space):
        for name in "abc":
            await api.post(f"{space}/configmaps", {"metadata": {"name": name, "labels": {"x": name}}})
        answer = await api.delete(f"{space}/configmaps", labelSelector="x in (a,b)")
        assert (answer.status, answer.body["kind"]) == (200, "ConfigMapList")
        assert (await api.get(f"{space}/configmaps", labelSelector="x")).names == ["c"]

    async def test_a_running_pod_has_its_grace(self, api, running, space):
        found = await running("p", annotations={"controlplane/stop-after": "4s"})
        path = f"{space}/pods/p"
        would = (await api.delete(path, dryRun="All")).body["metadata"]
        assert (would["deletionGracePeriodSeconds"], would["generation"]) == (5, found["metadata"]["generation"] + 1)
        wrong = await api.delete(path, {"preconditions": {"uid": "x"}})
        assert (wrong.status, wrong.body["details"]) == (409, {"name": "p", "kind": "Pod"})
        gone = await api.delete(path, {"preconditions": {"uid": found["metadata"]["uid"]}})
        assert gone.body["kind"] == "Pod"
        assert gone.body["metadata"]["deletionGracePeriodSeconds"] == 5
        assert (await api.get(path)).body["metadata"]["deletionTimestamp"] == gone.body["metadata"]["deletionTimestamp"]
        longer = await api.delete(path, {"gracePeriodSeconds": 60})
        assert longer.body["metadata"]["deletionGracePeriodSeconds"] == 5
        shorter = await api.delete(path, {"gracePeriodSeconds": 4})
        assert shorter.body["metadata"]["deletionGracePeriodSeconds"] == 4
        await api.gone(path)

    async def test_no_grace_removes_a_pod_at_once(self, api, running, space):
        await running("p")
        answer = await api.delete(f"{space}/pods/p", {"gracePeriodSeconds": 0})
        assert answer.body["metadata"]["deletionGracePeriodSeconds"] == 0
        assert (await api.get(f"{space}/pods/p")).status == 404

    async def test_dependents_go_with_their_owner(self, api, space):
        owner = (await api.post(f"{space}/configmaps", {"metadata": {"name": "owner"}})).body["metadata"]
        reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["uid"]}
        await api.post(f"{space}/configmaps", {"metadata": {"name": "child", "ownerReferences": [reference]}})
        await api.delete(f"{space}/configmaps/owner")
        await api.gone(f"{space}/configmaps/child")

    async def test_dependents_may_be_left_as_orphans(self, api, space):
        owner = (await api.post(f"{space}/configmaps", {"metadata": {"name": "owner"}})).body["metadata"]
        reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["uid"]}
        await api.post(f"{space}/configmaps", {"metadata": {"name": "child", "ownerReferences": [reference]}})
        answer = await api.delete(f"{space}/configmaps/owner", {"propagationPolicy": "Orphan"})
        assert answer.body["metadata"]["finalizers"] == ["orphan"]
        await api.gone(f"{space}/configmaps/owner")
        assert "ownerReferences" not in (await api.get(f"{space}/configmaps/child")).body["metadata"]

    async def test_a_foreground_deletion_waits_for_dependents(self, api, space):
        owner = (await api.post(f"{space}/configmaps", {"metadata": {"name": "owner"}})).body["metadata"]
        reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["uid"], "blockOwnerDeletion": True}
        child = {"metadata": {"name": "child", "ownerReferences": [reference], "finalizers": ["example.test/hold"]}}
        await api.post(f"{space}/configmaps", child)
        answer = await api.delete(f"{space}/configmaps/owner", {"propagationPolicy": "Foreground"})
        assert answer.body["metadata"]["finalizers"] == ["foregroundDeletion"]

        async def child_marked():
            return "deletionTimestamp" in (await api.get(f"{space}/configmaps/child")).body["metadata"]

        await api.until(child_marked, "the child's deletion")
        assert (await api.get(f"{space}/configmaps/owner")).status == 200
        await api.patch(f"{space}/configmaps/child", {"metadata": {"finalizers": None}})
        await api.gone(f"{space}/configmaps/owner")


class TestPathsAndMethods:
    @pytest.mark.parametrize("path", ["/api/v1/foos", "/api/v2", "/apis/apps/v1/foos", "/apis/cilium.io/v2/foos"])
    async def test_no_such_resource(self, api, path):
        answer = await api.get(path)
        assert answer.status == 404
        if isinstance(answer.body, dict):
            assert answer.body["reason"] == "NotFound"

    @pytest.mark.parametrize("path", ["/apis/foo/v1/bars", "/nothing"])
    async def test_no_such_path_is_plain_text(self, api, path):
        answer = await api.get(path)
        assert (answer.status, answer.body) == (404, "404 page not found\n")

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("POST", "/api/v1/namespaces/default/configmaps/a"),
            ("PUT", "/api/v1/namespaces/default/configmaps"),
            ("POST", "/api/v1/configmaps"),
            ("GET", "/api/v1/namespaces/default/pods/a/eviction"),
            ("DELETE", "/api/v1/configmaps"),
        ],
    )
    async def test_a_method_that_is_not_allowed(self, api, method, path):
        answer = await api(method, path, {"metadata": {"name": "a"}} if method != "GET" else None)
        assert (answer.status, answer.reason) == (405, "MethodNotAllowed")
        assert answer.message == "the server does not allow this method on the requested resource"

    @pytest.mark.parametrize(
        ("path", "message", "details"),
        [
            ("/api/v1/nodes/nope", 'nodes "nope" not found', {"name": "nope", "kind": "nodes"}),
            (
                "/apis/apps/v1/namespaces/default/daemonsets/nope",
                'daemonsets.apps "nope" not found',
                {"name": "nope", "group": "apps", "kind": "daemonsets"},
            ),
            (
                "/apis/cilium.io/v2/ciliumnodes/nope",
                'ciliumnodes.cilium.io "nope" not found',
                {"name": "nope", "group": "cilium.io", "kind": "ciliumnodes"},
            ),
        ],
    )
    async def test_not_found(self, api, path, message, details):
        assert (await api.get(path)).body == {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": "NotFound",
            "details": details,
            "code": 404,
        }

    @pytest.mark.parametrize("path", ["/readyz", "/livez", "/healthz"])
    async def test_health(self, api, path):
        answer = await api.get(path)
        assert (answer.status, answer.body) == (200, "ok")

    async def test_discovery(self, api):
        version = (await api.get("/version")).body
        assert {"major", "minor", "gitVersion", "platform", "goVersion", "buildDate"} <= version.keys()
        assert (await api.get("/api")).body["versions"] == ["v1"]
        groups = {g["name"]: g for g in (await api.get("/apis")).body["groups"]}
        assert {"apps", "policy", "coordination.k8s.io", "events.k8s.io", "cilium.io"} <= groups.keys()
        for path in ("/api/v1", "/api/v1/"):
            resources = {r["name"]: r for r in (await api.get(path)).body["resources"]}
            assert resources["nodes"]["namespaced"] is False
            assert {"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"} == set(resources["pods"]["verbs"])
            eviction = resources["pods/eviction"]
            assert (eviction["group"], eviction["version"], eviction["kind"], eviction["verbs"]) == ("policy", "v1", "Eviction", ["create"])
        listed = (await api.get("/apis/apps/v1")).body
        assert (listed["kind"], listed["groupVersion"]) == ("APIResourceList", "apps/v1")
        assert {"daemonsets", "daemonsets/status", "deployments", "controllerrevisions"} <= {r["name"] for r in listed["resources"]}

    async def test_access_review(self, api):
        body = {"spec": {"resourceAttributes": {"verb": "delete", "resource": "pods"}}}
        answer = await api.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body)
        assert (answer.status, answer.body["status"]["allowed"]) == (201, True)

    async def test_rules_review(self, api):
        """Of a namespace that nobody has, too: what holds there holds everywhere."""
        path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
        answer = await api.post(path, {"spec": {"namespace": "namespace-that-nobody-has"}})
        told = answer.body["status"]
        assert (answer.status, told["incomplete"]) == (201, False)
        assert {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]} in told["resourceRules"]
        answer = await api.post(path, {"spec": {}})
        assert (answer.status, answer.reason, answer.message) == (400, "BadRequest", "no namespace on request")

    async def test_reviews_are_discovered(self, api):
        listed = (await api.get("/apis/authorization.k8s.io/v1")).body["resources"]
        found = {r["name"]: (r["kind"], r["singularName"], r["namespaced"], r["verbs"]) for r in listed}
        for kind in ("SelfSubjectAccessReview", "SelfSubjectRulesReview"):
            assert found[f"{kind.lower()}s"] == (kind, kind.lower(), False, ["create"])
