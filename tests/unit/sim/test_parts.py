"""Selectors, kinds, the store's log, protobuf: small things that others stand on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.clock import ManualClock
from remediator.errors import UsageError
from remediator.sim import Simulation
from remediator.sim.kinds import BUILTIN, Kinds
from remediator.sim.objects import matches_selector, micro_time, rfc3339, tolerates
from remediator.sim.protobuf import is_protobuf, read_delete_options
from remediator.sim.selectors import label_test
from remediator.sim.status import ApiError
from remediator.sim.store import Store, TooOldError

CONFIG = next(r for r in BUILTIN if r.kind == "ConfigMap")
KEYS, VALUES = st.sampled_from(["a", "b", "c/d"]), st.sampled_from(["", "1", "2", "x.y"])


def _obj(labels):
    return {"metadata": {"labels": labels}}


class TestSelectors:
    @given(st.dictionaries(KEYS, VALUES), KEYS, st.lists(VALUES.filter(bool), min_size=1, max_size=3))
    def test_in_and_notin_are_opposites_where_the_key_is_there(self, labels, key, values):
        inside = label_test(f"{key} in ({','.join(values)})")(_obj(labels))
        outside = label_test(f"{key} notin ({','.join(values)})")(_obj(labels))
        assert inside != outside
        assert inside == (labels.get(key) in values)

    @given(st.dictionaries(KEYS, VALUES), KEYS)
    def test_existence(self, labels, key):
        assert label_test(key)(_obj(labels)) == (key in labels)
        assert label_test(f"!{key}")(_obj(labels)) == (key not in labels)

    @given(st.text(alphabet="ab,=!()<> in", max_size=12))
    def test_any_text_is_a_test_or_a_bad_request(self, text):
        try:
            test = label_test(text)
        except ApiError as error:
            assert error.code == 400  # noqa: PT017 - either way is right
        else:
            assert test is None or test(_obj({})) in (True, False)

    @pytest.mark.parametrize(
        ("selector", "labels", "fits"),
        [
            (None, {}, False),
            ({}, {}, True),
            ({"matchLabels": {"a": "1"}}, {"a": "1", "b": "2"}, True),
            ({"matchLabels": {"a": "1"}}, {"a": "2"}, False),
            ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "2"]}]}, {"a": "2"}, True),
            ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}, {}, True),
            ({"matchExpressions": [{"key": "a", "operator": "Exists"}]}, {}, False),
            ({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}, {}, True),
        ],
    )
    def test_of_objects(self, selector, labels, fits):
        assert matches_selector(selector, labels) is fits

    @pytest.mark.parametrize(
        ("toleration", "tolerated"),
        [
            ({"operator": "Exists"}, True),
            ({"key": "k", "operator": "Exists"}, True),
            ({"key": "k", "value": "v"}, True),
            ({"key": "k", "value": "w"}, False),
            ({"key": "k", "operator": "Exists", "effect": "NoExecute"}, False),
            ({"key": "other", "operator": "Exists"}, False),
        ],
    )
    def test_tolerations(self, toleration, tolerated):
        pod = {"spec": {"tolerations": [toleration]}}
        assert tolerates(pod, {"key": "k", "value": "v", "effect": "NoSchedule"}) is tolerated


class TestStore:
    @given(st.lists(st.sampled_from(["add", "change", "remove"]), max_size=20), st.integers(2, 8))
    def test_every_version_that_the_log_covers_can_be_shown_as_it_was(self, moves, history):
        store = Store(ManualClock(), history=history)
        table, shown, count = store.table(CONFIG), {store.version: {}}, 0
        for move in moves:
            present = list(table.objects.values())
            if move == "add" or not present:
                count += 1
                store.add(CONFIG, {"metadata": {"name": f"c{count}", "namespace": "n"}})
            elif move == "change":
                copy = store.edit(CONFIG, present[0])
                copy["data"] = {"v": str(store.version)}
                store.replace(CONFIG, copy)
            else:
                store.remove(CONFIG, present[0])
            shown[store.version] = dict(table.objects)
        for version, objects in shown.items():
            if version >= table.oldest:
                assert table.at(version) == objects
                assert [c.version for c in table.since(version)] == [v for v in shown if v > version]
            else:
                with pytest.raises(TooOldError):
                    table.at(version)

    def test_equal_objects_are_not_written_again(self):
        store = Store(ManualClock())
        made = store.add(CONFIG, {"metadata": {"name": "c", "namespace": "n"}})
        version = store.version
        assert store.replace(CONFIG, store.edit(CONFIG, made)) is made
        assert store.version == version

    def test_subscribers_hear_of_everything_until_they_leave(self):
        store, heard = Store(ManualClock()), []
        leave = store.subscribe(heard.append, CONFIG.table)
        made = store.add(CONFIG, {"metadata": {"name": "c", "namespace": "n"}})
        store.remove(CONFIG, made)
        leave()
        store.add(CONFIG, {"metadata": {"name": "d", "namespace": "n"}})
        assert [(c.kind, c.obj["metadata"]["name"]) for c in heard] == [("ADDED", "c"), ("DELETED", "c")]
        assert int(heard[1].obj["metadata"]["resourceVersion"]) == heard[1].version > heard[0].version


class TestKinds:
    def test_names_are_unique(self):
        kinds = Kinds()
        assert len({(r.group, r.plural) for r in kinds.all()}) == len(BUILTIN)

    async def test_a_crd_is_served_in_all_its_versions(self, clock, session):
        crd = {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": "things.example.test"},
            "spec": {
                "group": "example.test",
                "scope": "Namespaced",
                "names": {"kind": "Thing", "plural": "things", "shortNames": ["th"]},
                "versions": [
                    {"name": "v1", "served": True, "storage": True, "subresources": {"status": {}}},
                    {"name": "v1alpha1", "served": True, "storage": False, "subresources": {"status": {}}},
                    {"name": "v0", "served": False, "storage": False},
                ],
            },
        }
        async with Simulation(clock=clock, cilium=False) as sim:
            async with session.post(f"{sim.url}/apis/apiextensions.k8s.io/v1/customresourcedefinitions", json=crd) as answer:
                assert answer.status == 201
                conditions = {c["type"]: c["status"] for c in (await answer.json())["status"]["conditions"]}
                assert conditions["Established"] == "True"
            things = f"{sim.url}/apis/example.test/{{}}/namespaces/default/things"
            body = {"apiVersion": "example.test/v1", "kind": "Thing", "metadata": {"name": "a"}, "spec": {"x": 1}, "status": {"y": 2}}
            async with session.post(things.format("v1"), json=body) as answer:
                made = await answer.json()
                assert (answer.status, made["spec"], made.get("status"), made["metadata"]["generation"]) == (201, {"x": 1}, None, 1)
            async with session.get(things.format("v1alpha1")) as answer:
                shown = await answer.json()
                assert (shown["apiVersion"], shown["items"][0]["apiVersion"]) == ("example.test/v1alpha1", "example.test/v1alpha1")
            async with session.get(things.format("v0")) as answer:
                assert answer.status == 404
            async with session.delete(f"{sim.url}/apis/apiextensions.k8s.io/v1/customresourcedefinitions/things.example.test") as answer:
                assert answer.status == 200
            async with session.get(things.format("v1")) as answer:
                assert answer.status == 404

    async def test_unknown_ones(self, sim):
        with pytest.raises(UsageError, match="serves no kind Nope"):
            sim.cluster.kind("Nope")
        with pytest.raises(UsageError, match=r"serves no example\.test/v1 Thing"):
            sim.cluster.create({"apiVersion": "example.test/v1", "kind": "Thing", "metadata": {"name": "a"}})


class TestProtobuf:
    def test_delete_options_as_kubectl_sends_them(self):
        options = b"\x08\x05\x12\x06\x0a\x04uid1\x22\x0aBackground\x2a\x03All"
        type_meta = b"\x0a\x02v1\x12\x0dDeleteOptions"
        envelope = b"\x0a" + bytes([len(type_meta)]) + type_meta + b"\x12" + bytes([len(options)]) + options
        raw = b"k8s\0" + envelope
        assert is_protobuf(raw)
        assert read_delete_options(raw) == {
            "kind": "DeleteOptions",
            "gracePeriodSeconds": 5,
            "preconditions": {"uid": "uid1"},
            "propagationPolicy": "Background",
            "dryRun": ["All"],
        }

    @given(st.binary(max_size=40))
    def test_anything_else_is_a_bad_request(self, data):
        try:
            read_delete_options(b"k8s\0" + data)
        except ApiError as error:
            assert error.code == 400  # noqa: PT017 - either way is right


def test_times(clock):
    assert rfc3339(clock.now()) == "2026-01-05T10:00:00Z"
    assert micro_time(clock.now()) == "2026-01-05T10:00:00.000000Z"
