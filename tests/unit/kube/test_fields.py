"""Who set a field, by managedFields."""

from __future__ import annotations

import pytest

from remediator.kube.fields import managers_of


def entry(manager, *path):
    tree = {}
    for name in reversed(path):
        tree = {f"f:{name}": tree}
    return {"manager": manager, "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": tree}


@pytest.mark.parametrize(
    ("entries", "managers"),
    [
        ([], set()),
        ([entry("remediator", "spec", "unschedulable")], {"remediator"}),
        ([entry("remediator", "metadata", "annotations"), entry("kubectl", "spec", "unschedulable")], {"kubectl"}),
        ([entry("remediator", "spec", "unschedulable"), entry("gitops", "spec", "unschedulable")], {"remediator", "gitops"}),
        ([entry("remediator", "spec", "taints")], set()),
        ([{"manager": "remediator", "operation": "Update"}], set()),
        ([{"manager": "remediator", "fieldsV1": {"f:spec": None}}], set()),
    ],
)
def test_who_owns_a_field(entries, managers):
    assert managers_of({"metadata": {"managedFields": entries}}, "spec", "unschedulable") == managers


@pytest.mark.parametrize("metadata", [{}, {"managedFields": None}])
def test_an_object_without_managed_fields_says_nothing(metadata):
    assert managers_of({"metadata": metadata}, "spec", "unschedulable") == frozenset()
