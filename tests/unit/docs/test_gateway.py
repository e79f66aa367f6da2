"""The Gateway lets through what the pages are made of, and nothing that is not theirs."""

from __future__ import annotations

import re

import pytest
import yaml

from remediator.server.app import ROUTES
from remediator.server.pages import ROUTES as PAGES

READ = {("GET", route.path) for route in PAGES if route.method == "GET"} | {("GET", "/events")}
STEER = {("POST", route.path) for route in PAGES if route.method == "POST"}
API = {(route.method, route.path) for route in ROUTES if route.method == "GET" and route.path.startswith("/api/v1/")}


def matched(route, method, path):
    """Whether a Gateway leads this request to the backend of the HTTPRoute: a prefix counts by whole parts of the path."""
    ways = [way for rule in route["spec"]["rules"] for way in rule["matches"]]
    assert {way["path"]["type"] for way in ways} <= {"Exact", "PathPrefix"}
    return any(
        way["method"] == method and (path == at or (way["path"]["type"] == "PathPrefix" and path.startswith(at.rstrip("/") + "/")))
        for way in ways
        for at in [way["path"]["value"]]
    )


@pytest.fixture
def routes(kustomize, helm):
    """routes(tool, steering): the HTTPRoute that a tool makes."""

    def made(tool, *, steering):
        if tool == "helm":
            things = helm({"gateway": {"enabled": True, **({"steering": True} if steering else {})}})
        else:
            deploy = "../remediator/deploy/kustomize"
            part = "gateway-steering" if steering else "gateway"
            things = kustomize({"resources": [f"{deploy}/overlays/staging"], "components": [f"{deploy}/components/{part}"]})
        (route,) = [thing for thing in things if thing["kind"] == "HTTPRoute"]
        return route

    return made


TOOLS = ["kustomize", pytest.param("helm", marks=pytest.mark.helm)]


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("steering", [False, True])
def test_every_page_comes_through_and_what_is_for_the_cluster_does_not(routes, tool, steering):
    route = routes(tool, steering=steering)
    paths = {(one.method, one.path, re.sub(r"\{\w+\}", "x-1", one.path)) for one in ROUTES}
    through = {(method, name) for method, name, path in paths if matched(route, method, path)}
    assert through == READ | API | (STEER if steering else set())
    for path in ("/metrics", "/-/healthy", "/-/ready", "/-/reload", "/api/v1/alerts", "/api/v1/runs", "/runsx", "/nothing"):
        assert not matched(route, "POST", path), path
        assert path.startswith("/api/v1/") or not matched(route, "GET", path), path


@pytest.mark.helm
@pytest.mark.parametrize("steering", [False, True])
def test_both_tools_make_the_same_route(routes, steering):
    assert routes("helm", steering=steering) == routes("kustomize", steering=steering)


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("steering", [False, True])
def test_nobody_brings_a_token_or_a_name_from_outside(routes, tool, steering):
    for rule in routes(tool, steering=steering)["spec"]["rules"]:
        assert len(rule["matches"]) <= 8, "more than Gateway API 1.1 takes, which is what Cilium 1.16 has"
        (only,) = rule["filters"]
        assert set(only["requestHeaderModifier"]["remove"]) == {"Authorization", "Remote-User", "Remote-Groups"}
        assert [one["name"] for one in rule["backendRefs"]] == ["authelia-proxy"]


def test_the_patch_of_the_guide_names_ones_own_host(root, kustomize):
    printed = re.search(r"^```\n(patches:\n.*?)^```$", (root / "docs" / "install.md").read_text(), re.DOTALL | re.MULTILINE)[1]
    deploy = "../remediator/deploy/kustomize"
    overlay = {"resources": [f"{deploy}/overlays/staging"], "components": [f"{deploy}/components/gateway-steering"]}
    (route,) = [thing for thing in kustomize({**overlay, **yaml.safe_load(printed)}) if thing["kind"] == "HTTPRoute"]
    assert route["spec"]["hostnames"] == ["remediator.example"]
    assert route["spec"]["parentRefs"] == [{"name": "external", "namespace": "gateway", "sectionName": "https"}]
