from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.sim.objects import clone
from remediator.sim.patches import json_patch, merge_patch, strategic_patch
from remediator.sim.status import ApiError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "~", "/", "c"]), inner, max_size=3),
    max_leaves=12,
)
OBJECT = st.dictionaries(st.sampled_from(["a", "b", "~", "/", "c"]), JSON, max_size=4)


def _without_nulls(value):
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    return value


class TestMerge:
    # the examples of RFC 7386, appendix A
    @pytest.mark.parametrize(
        ("target", "patch", "result"),
        [
            ({"a": "b"}, {"a": "c"}, {"a": "c"}),
            ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
            ({"a": "b"}, {"a": None}, {}),
            ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
            ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
            ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
            ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
            ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
            ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
            ({"a": "foo"}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
            ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        ],
    )
    def test_rfc(self, target, patch, result):
        assert merge_patch(target, patch) == result

    @given(OBJECT, OBJECT)
    def test_leaves_its_arguments_alone_and_is_idempotent(self, target, patch):
        before = clone(target), clone(patch)
        once = merge_patch(target, patch)
        assert (target, patch) == before
        assert merge_patch(once, patch) == once

    @given(OBJECT)
    def test_of_nothing_is_the_patch_without_its_nulls(self, patch):
        assert merge_patch({}, patch) == _without_nulls(patch)


class TestStrategic:
    @given(OBJECT, OBJECT)
    def test_is_a_merge_patch_where_no_list_merges(self, target, patch):
        assert strategic_patch(target, patch) == merge_patch(target, patch)

    def test_lists_of_a_key_merge(self):
        target = {"containers": [{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]}, {"name": "b"}]}
        patch = {"containers": [{"name": "a", "env": [{"name": "Y", "value": "2"}]}, {"name": "c"}]}
        merged = strategic_patch(target, patch)["containers"]
        assert [c["name"] for c in merged] == ["c", "a", "b"]
        assert merged[1] == {"name": "a", "image": "1", "env": [{"name": "Y", "value": "2"}, {"name": "X", "value": "1"}]}

    def test_an_order_may_be_asked_for(self):
        target = {"containers": [{"name": "a"}, {"name": "b"}]}
        patch = {"$setElementOrder/containers": [{"name": "b"}, {"name": "c"}, {"name": "a"}], "containers": [{"name": "c"}]}
        assert [c["name"] for c in strategic_patch(target, patch)["containers"]] == ["b", "c", "a"]

    @pytest.mark.parametrize(
        ("patch", "result"),
        [
            ({"a": {"$patch": "replace", "y": 2}}, {"a": {"y": 2}, "finalizers": ["x"]}),
            ({"a": {"$patch": "delete"}}, {"a": {}, "finalizers": ["x"]}),
            ({"a": {"$retainKeys": ["y"], "y": 2}}, {"a": {"y": 2}, "finalizers": ["x"]}),
            ({"finalizers": ["y", "x"]}, {"a": {"x": 1}, "finalizers": ["y", "x"]}),
            ({"$deleteFromPrimitiveList/finalizers": ["x"]}, {"a": {"x": 1}, "finalizers": []}),
            ({"finalizers": None}, {"a": {"x": 1}}),
        ],
    )
    def test_directives(self, patch, result):
        assert strategic_patch({"a": {"x": 1}, "finalizers": ["x"]}, patch) == result

    def test_an_item_without_its_key_is_refused(self):
        with pytest.raises(ApiError, match="does not contain declared merge key: name") as caught:
            strategic_patch({"containers": []}, {"containers": [{"image": "a"}]})
        assert caught.value.code == 500

    def test_ports_merge_by_what_they_have(self):
        assert strategic_patch({"ports": [{"port": 1}]}, {"ports": [{"port": 1, "name": "a"}]}) == {"ports": [{"port": 1, "name": "a"}]}
        container = {"ports": [{"containerPort": 1}]}
        assert strategic_patch(container, {"ports": [{"containerPort": 2}]})["ports"] == [{"containerPort": 2}, {"containerPort": 1}]


class TestJson:
    @given(OBJECT)
    def test_what_was_added_is_there_and_can_be_taken_back(self, target):
        added = json_patch(target, [{"op": "add", "path": "/new~1~0", "value": [1]}])
        assert added == {**target, "new/~": [1]}
        assert json_patch(added, [{"op": "test", "path": "/new~1~0/0", "value": 1}, {"op": "remove", "path": "/new~1~0"}]) == target

    @given(OBJECT, st.data())
    def test_a_test_of_what_is_there_holds_and_of_anything_else_does_not(self, target, data):
        paths = [("", target), *_paths(target, "")]
        path, value = data.draw(st.sampled_from(paths))
        assert json_patch(target, [{"op": "test", "path": path, "value": clone(value)}]) == target
        other = data.draw(JSON.filter(lambda v: v != value or isinstance(v, bool) != isinstance(value, bool)))
        if repr(other) != repr(value):
            with pytest.raises(ApiError) as caught:
                json_patch(target, [{"op": "test", "path": path, "value": other}])
            assert (caught.value.code, caught.value.reason, caught.value.details) == (422, "Invalid", {})

    @pytest.mark.parametrize(
        ("operation", "result"),
        [
            ({"op": "add", "path": "/a/-", "value": 9}, {"a": [1, 2, 3, 9]}),
            ({"op": "add", "path": "/a/0", "value": 9}, {"a": [9, 1, 2, 3]}),
            ({"op": "add", "path": "/a/3", "value": 9}, {"a": [1, 2, 3, 9]}),
            ({"op": "replace", "path": "/a/1", "value": 9}, {"a": [1, 9, 3]}),
            ({"op": "remove", "path": "/a/0"}, {"a": [2, 3]}),
            ({"op": "move", "from": "/a/0", "path": "/a/2"}, {"a": [2, 3, 1]}),
            ({"op": "copy", "from": "/a", "path": "/b"}, {"a": [1, 2, 3], "b": [1, 2, 3]}),
            ({"op": "replace", "path": "", "value": {"x": 1}}, {"x": 1}),
        ],
    )
    def test_lists(self, operation, result):
        assert json_patch({"a": [1, 2, 3]}, [operation]) == result

    @pytest.mark.parametrize(
        "operation",
        [
            {"op": "add", "path": "/a/4", "value": 9},
            {"op": "remove", "path": "/a/3"},
            {"op": "replace", "path": "/a/x", "value": 1},
            {"op": "replace", "path": "/a/-", "value": 1},
            {"op": "add", "path": "a", "value": 1},
            {"op": "add", "path": "/a/0/b", "value": 1},
            {"op": "remove", "path": ""},
            {"op": "test", "path": "/b", "value": 1},
            {"op": "test", "path": "/a/0", "value": True},
            {"op": "copy", "path": "/b"},
            {"op": "add", "value": 1},
            {"op": "replace", "path": "", "value": 1},
            {},
        ],
        ids=str,
    )
    def test_what_does_not_apply(self, operation):
        target = {"a": [1, 2, 3]}
        with pytest.raises(ApiError) as caught:
            json_patch(target, [{"op": "add", "path": "/first", "value": 1}, operation])
        assert caught.value.code == 422
        assert target == {"a": [1, 2, 3]}


def _paths(value, path):
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        below = f"{path}/{str(key).replace('~', '~0').replace('/', '~1')}"
        yield below, item
        yield from _paths(item, below)
