"""docs/testing-playbooks.md and the schema follow the models."""

from __future__ import annotations

import json

import pytest

from remediator.testing.cases import Case, Decided, Given, Happening, Ran, Then, schema_test


@pytest.fixture(scope="module")
def page(root):
    return (root / "docs" / "testing-playbooks.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("model", [Case, Given, Happening, Then, Decided, Ran])
def test_every_key_is_named(page, model):
    assert [name for name in model.model_fields if f"`{name}" not in page] == []


def test_the_schema_in_the_tree_is_the_one_of_the_models(root):
    assert json.loads((root / "docs" / "schema" / "test.schema.json").read_text(encoding="utf-8")) == schema_test()
