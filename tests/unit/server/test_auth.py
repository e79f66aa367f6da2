"""Each route opens to its token and to no other; secrets show nowhere."""

from __future__ import annotations

import hmac
import re

import pytest

from remediator.server import Tokens
from remediator.server.app import ROUTES
from remediator.server.auth import Scope

OPENS = {
    "hook": {Scope.NONE, Scope.WEBHOOK},
    "read": {Scope.NONE, Scope.READ},
    "write": {Scope.NONE, Scope.READ, Scope.WRITE},
    "wrong": {Scope.NONE},
    None: {Scope.NONE},
}
QUIET = [route for route in ROUTES if not route.streams]


@pytest.mark.parametrize("route", QUIET, ids=lambda route: f"{route.method} {route.path}")
async def test_a_route_opens_to_its_tokens_only(api, route):
    path = re.sub(r"\{\w+\}", "x", route.path)
    for token, scopes in OPENS.items():
        response = await api(route.method, path, token=token)
        if route.scope in scopes:
            assert response.status not in (401, 403), token
        else:
            problem = await api.problem_in(response, 401 if token in (None, "wrong") else 403)
            assert "secret" not in str(problem)
            assert 'Bearer realm="remediator"' in response.headers["WWW-Authenticate"]


@pytest.mark.parametrize("path", ["/events", "/api/v1/runs/run-1/watch", "/api/v1/journal/export"])
async def test_streams_take_the_read_token(api, path):
    await api.problem("GET", path, 401, token=None)
    await api.problem("GET", path, 403, token="hook")


def test_the_table_says_what_the_interface_says():
    scopes = {(route.method, route.path): route.scope for route in ROUTES}
    assert scopes["POST", "/api/v1/alerts"] is Scope.WEBHOOK
    assert {path for (method, path), scope in scopes.items() if scope is Scope.NONE} == {
        "/-/healthy",
        "/-/ready",
        "/approve",
        "/login",
        "/logout",
        "/metrics",
        "/static/{name}",
    }
    changing = {key for key in scopes if key[0] != "GET" and scopes[key] is Scope.READ}
    assert changing == {("POST", "/api/v1/match")}
    assert all(scope in (Scope.READ, Scope.NONE) for (method, _), scope in scopes.items() if method == "GET")


@pytest.mark.parametrize("header", ["bearer read-secret", "BEARER  read-secret "])
async def test_the_scheme_is_read_as_http_reads_it(api, header):
    response = await api("GET", "/api/v1/status", token=None, headers={"Authorization": header})
    assert response.status == 200


@pytest.mark.parametrize(
    "header", ["read-secret", "Basic read-secret", "Bearer", "Bearer ", "Bearer read-secre", "Bearer read-secret2", "Bearer é"]
)
async def test_anything_else_is_no_token(api, header):
    await api.problem("GET", "/api/v1/status", 401, token=None, headers={"Authorization": header})


async def test_every_token_is_compared_in_constant_time(api, monkeypatch):
    compared = []

    def compare(left, right):
        compared.append((left, right))
        return left == right

    monkeypatch.setattr(hmac, "compare_digest", compare)
    await api.get("/api/v1/status", token="read")
    assert sorted(compared) == [(b"read-secret", known) for known in (b"hook-secret", b"read-secret", b"write-secret")]


async def test_one_secret_may_serve_two_scopes(serve, service):
    api = await serve(service, tokens=Tokens(webhook="write-secret", read="read-secret", write="write-secret"))
    assert (await api("POST", "/-/reload")).status == 200
    assert (await api("POST", "/api/v1/alerts", data=b"")).status == 400


async def test_a_scope_without_a_token_is_shut(serve, service):
    api = await serve(service, tokens=Tokens(webhook="hook-secret"))
    await api.problem("GET", "/api/v1/status", 401, token=None)
    await api.problem("GET", "/api/v1/status", 403, token="hook")


async def test_insecure_opens_what_has_no_token_and_nothing_else(serve, service):
    api = await serve(service, tokens=Tokens(write="write-secret", insecure=True))
    assert (await api("GET", "/api/v1/status", token=None)).status == 200
    assert (await api("POST", "/api/v1/alerts", token=None, data=b"")).status == 400
    await api.problem("POST", "/-/reload", 401, token=None)


def test_tokens_do_not_print_themselves():
    text = repr(Tokens(webhook="hook-secret", read="read-secret", insecure=True))
    assert "secret" not in text
    assert text == "Tokens(webhook, read, insecure)"


@pytest.mark.parametrize("token", ["", " ", "secret\n"])
def test_an_empty_token_is_refused(token):
    with pytest.raises(ValueError, match="the read token"):
        Tokens(read=token)
