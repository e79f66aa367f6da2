"""The OpenAPI 3.1 document, made from the table of routes and the nouns, so that it cannot fall behind either. Pure."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec

from remediator import __version__
from remediator.server.auth import Scope

if TYPE_CHECKING:
    from collections.abc import Iterable

    from remediator.server.query import Filter
    from remediator.server.routing import Route

__all__ = ["MEDIA_TYPE", "describe"]

MEDIA_TYPE = "application/json"
_PROBLEM = {
    "type": "object",
    "description": "RFC 9457; further members depend on the problem.",
    "required": ["title", "detail", "status"],
    "properties": {
        "title": {"type": "string"},
        "detail": {"type": "string"},
        "status": {"type": "integer"},
        "reason": {"type": "string", "description": "A reason code, where one applies."},
        "path": {"type": "string", "description": "Where the fault in the request is, such as alerts[3].startsAt."},
        "request_id": {"type": "string"},
    },
}


def describe(routes: Iterable[Route]) -> dict[str, Any]:
    """The document for ``routes``."""
    routes = list(routes)
    types = [kind for route in routes for kind in (route.answer, route.body) if kind is not None]
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    by_type = {repr(kind): schema for kind, schema in zip(types, schemas, strict=True)}
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, by_type)
    return {
        "openapi": "3.1.0",
        "info": {"title": "remediator", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": {**components, "Problem": _PROBLEM},
            "securitySchemes": {
                scope.value: {"type": "http", "scheme": "bearer", "description": f"The {scope} token."}
                for scope in Scope
                if scope is not Scope.NONE
            },
        },
    }


def _operation(route: Route, by_type: dict[str, Any]) -> dict[str, Any]:
    content = {route.media: {"schema": by_type[repr(route.answer)]} if route.answer is not None else {}}
    operation: dict[str, Any] = {
        "operationId": _name(route),
        "summary": route.summary,
        "security": [] if route.scope is Scope.NONE else [{route.scope.value: []}],
        "responses": {
            str(route.status): {"description": "As asked."}
            if route.fields is not None
            else {"description": "As asked.", "content": content},
            **{str(status): _problem(status, page=route.media == "text/html") for status in route.refusals},
        },
    }
    parameters = [*_of_path(route.path), *map(_of_query, route.query)]
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        operation["requestBody"] = {"content": {"application/json": {"schema": by_type[repr(route.body)]}}}
    if route.fields is not None:
        form = {"type": "object", "properties": {name: {"type": "string"} for name in route.fields}}
        operation["requestBody"] = {"content": {"application/x-www-form-urlencoded": {"schema": form}}}
    return operation


def _problem(status: int, *, page: bool) -> dict[str, Any]:
    content: dict[str, Any] = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    if page:
        content["text/html"] = {"schema": {"type": "string"}}
    return {"description": f"{HTTPStatus(status).phrase}.", "content": content}


def _name(route: Route) -> str:
    """``GET /api/v1/runs/{id}`` -> ``get_runs_id``; of the page ``get_page_runs_id``."""
    words = re.findall(r"[A-Za-z]+", route.path.removeprefix("/api/v1"))
    return "_".join([route.method.lower(), *(["page"] if route.media == "text/html" else []), *words])


def _of_path(path: str) -> list[dict[str, Any]]:
    names = re.findall(r"\{(\w+)\}", path)
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _of_query(known: Filter) -> dict[str, Any]:
    return {
        "name": known.name,
        "in": "query",
        "required": known.needed,
        "description": known.help,
        "schema": dict(known.schema),
    }
