"""The OpenAPI document has every route, is sound, and the answers are as it says."""

from __future__ import annotations

import pytest
from jsonschema import Draft202012Validator

from remediator.server.app import ROUTES


@pytest.fixture
async def document(api):
    return await api.get("/openapi.json", token="read")


def references(node):
    if isinstance(node, dict):
        yield from ([node["$ref"]] if "$ref" in node else [])
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            yield from references(item)


async def test_every_route_is_in_it_under_a_name_of_its_own(document):
    assert document["openapi"] == "3.1.0"
    described = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert described == {(route.method, route.path) for route in ROUTES}
    names = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    assert len(names) == len(set(names))


async def test_every_reference_leads_somewhere_and_every_schema_is_one(document):
    schemas = document["components"]["schemas"]
    assert {"Run", "Decision", "Status", "Problem"} <= set(schemas)
    for reference in references(document):
        assert reference.removeprefix("#/components/schemas/") in schemas
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)


async def test_it_says_which_token_opens_what(document):
    assert document["paths"]["/api/v1/alerts"]["post"]["security"] == [{"webhook": []}]
    assert document["paths"]["/-/healthy"]["get"]["security"] == []
    assert document["paths"]["/api/v1/runs"]["post"]["security"] == [{"write": []}]


ANSWERS = [
    "/api/v1/runs",
    "/api/v1/alerts",
    "/api/v1/decisions",
    "/api/v1/changes",
    "/api/v1/playbooks",
    "/api/v1/actions",
    "/api/v1/status",
    "/api/v1/cluster",
    "/api/v1/pause",
    "/api/v1/breaker",
    "/api/v1/why?ref=x",
    "/api/v1/report/recurrence?since=3d&at_least=3",
    "/api/v1/report/effect?since=3d",
    "/api/v1/journal/verify",
]


@pytest.mark.parametrize("path", ANSWERS)
async def test_answers_fit_it(api, service, run, document, path):
    service.journal.the_runs["run-1"] = run()
    operation = document["paths"][path.partition("?")[0]]["get"]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    whole = {**schema, "components": document["components"]}
    Draft202012Validator(whole).validate(await api.get(path))
    assert not Draft202012Validator(whole).is_valid([])


async def test_problems_fit_it(api, document):
    schema = document["components"]["schemas"]["Problem"]
    Draft202012Validator(schema).validate(await api.problem("GET", "/api/v1/runs?limit=0", 400))
