"""Watches: replay, selectors, bookmarks, the end, and versions that are gone."""

from __future__ import annotations

import asyncio
import json

import pytest


def _told(events):
    return [(e["type"], e["object"]["metadata"]["name"]) for e in events if e["type"] != "BOOKMARK"]


async def _make(api, space, name, **labels):
    return await api.post(f"{space}/configmaps", {"metadata": {"name": name, "labels": labels}})


async def test_from_a_version_on_everything_is_told_again(api, space):
    version = (await api.get(f"{space}/configmaps")).version
    await _make(api, space, "a")
    await api.patch(f"{space}/configmaps/a", {"data": {"x": "1"}})
    await _make(api, space, "b")
    await api.delete(f"{space}/configmaps/a")
    events = await api.watch(f"{space}/configmaps", resourceVersion=version, timeoutSeconds=1)
    assert _told(events) == [("ADDED", "a"), ("MODIFIED", "a"), ("ADDED", "b"), ("DELETED", "a")]
    versions = [int(e["object"]["metadata"]["resourceVersion"]) for e in events]
    assert versions == sorted(set(versions))
    assert all((e["object"]["kind"], e["object"]["apiVersion"]) == ("ConfigMap", "v1") for e in events)
    assert events[3]["object"]["data"] == {"x": "1"}


async def test_without_a_version_it_begins_with_what_is_there(api, space):
    await _make(api, space, "a")
    for version in ({}, {"resourceVersion": "0"}):

        async def told(version=version):
            return ("ADDED", "a") in _told(await api.watch(f"{space}/configmaps", timeoutSeconds=1, **version))

        await api.until(told)


async def test_what_happens_during_the_watch_is_told_at_once(api, space):
    version = (await api.get(f"{space}/configmaps")).version
    async with api.session.get(
        f"{api.url}{space}/configmaps", params={"watch": "true", "resourceVersion": version, "timeoutSeconds": "600"}
    ) as answer:
        await _make(api, space, "a")
        event = json.loads(await asyncio.wait_for(answer.content.readline(), 10))
        assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "a")


async def test_objects_come_and_go_as_selectors_begin_and_cease_to_fit(api, space):
    version = (await api.get(f"{space}/configmaps")).version
    await _make(api, space, "a", x="no")
    for labels in ({"x": "yes"}, {"y": "1"}, {"x": "no"}, {"x": "yes"}):
        await api.patch(f"{space}/configmaps/a", {"metadata": {"labels": labels}})
    await api.delete(f"{space}/configmaps/a")
    events = await api.watch(f"{space}/configmaps", resourceVersion=version, timeoutSeconds=1, labelSelector="x=yes")
    assert [e["type"] for e in events] == ["ADDED", "MODIFIED", "DELETED", "ADDED", "DELETED"]
    assert events[2]["object"]["metadata"]["labels"] == {"x": "yes", "y": "1"}
    versions = [int(e["object"]["metadata"]["resourceVersion"]) for e in events]
    assert versions == sorted(set(versions))


async def test_a_field_selector(api, space):
    version = (await api.get(f"{space}/configmaps")).version
    await _make(api, space, "a")
    await _make(api, space, "b")
    events = await api.watch(f"{space}/configmaps", resourceVersion=version, timeoutSeconds=1, fieldSelector="metadata.name=b")
    assert _told(events) == [("ADDED", "b")]


async def test_a_bookmark_comes_before_the_end(api, space):
    """An API server sends none that would say nothing new (cacher.go): something has to happen, even if this watch does not see it."""
    version = (await api.get(f"{space}/configmaps")).version
    await _make(api, space, "a")
    watched = {"allowWatchBookmarks": "true", "fieldSelector": "metadata.name=zz"}
    watch = asyncio.create_task(api.watch(f"{space}/configmaps", resourceVersion=version, timeoutSeconds=5, **watched))
    count = 0
    while not watch.done():
        count += 1
        await api.patch(f"{space}/configmaps/a", {"data": {"count": str(count)}})
        await asyncio.wait((watch,), timeout=0.3)
    events = await watch
    assert {e["type"] for e in events} == {"BOOKMARK"}
    last = events[-1]["object"]
    assert (last["kind"], last["apiVersion"]) == ("ConfigMap", "v1")
    assert int(last["metadata"]["resourceVersion"]) > int(version)
    again = await api.watch(f"{space}/configmaps", resourceVersion=last["metadata"]["resourceVersion"], timeoutSeconds=1, **watched)
    assert _told(again) == []


async def test_no_bookmarks_unless_asked_for(api, space):
    version = (await api.get(f"{space}/configmaps")).version
    assert await api.watch(f"{space}/configmaps", resourceVersion=version, timeoutSeconds=4) == []


async def test_initial_events_end_with_a_bookmark(api, space):
    await _make(api, space, "a")
    events = await api.watch(
        f"{space}/configmaps",
        timeoutSeconds=2,
        sendInitialEvents="true",
        resourceVersionMatch="NotOlderThan",
        allowWatchBookmarks="true",
        fieldSelector="metadata.name=a",
    )
    ends = [i for i, e in enumerate(events) if e["object"]["metadata"].get("annotations", {}).get("k8s.io/initial-events-end") == "true"]
    assert [e["type"] for e in events[: ends[0] + 1]] == ["ADDED", "BOOKMARK"]


async def test_a_version_that_is_gone(api):
    (event,) = await api.watch("/apis/cilium.io/v2/ciliumnodes", resourceVersion=1, timeoutSeconds=5)
    status = event["object"]
    assert (event["type"], status["code"], status["reason"], status["status"]) == ("ERROR", 410, "Expired", "Failure")
    assert status["message"].startswith("too old resource version: 1 (")


async def test_a_version_that_is_no_number(api, space):
    answer = await api.get(f"{space}/configmaps", watch=1, resourceVersion="abc")
    assert (answer.status, answer.message) == (
        500,
        'resourceVersion: Invalid value: "abc": strconv.ParseUint: parsing "abc": invalid syntax',
    )


@pytest.mark.parametrize("flag", ["1", "true", "True"])
async def test_how_it_is_asked_for(api, space, flag):
    version = (await api.get(f"{space}/configmaps")).version
    async with api.session.get(
        f"{api.url}{space}/configmaps", params={"watch": flag, "resourceVersion": version, "timeoutSeconds": "1"}
    ) as answer:
        assert answer.status == 200
        assert await answer.text() == ""


async def test_the_old_path(api, space):
    version = (await api.get(f"{space}/configmaps")).version
    await _make(api, space, "a")
    path = space.replace("/api/v1/", "/api/v1/watch/")
    async with api.session.get(f"{api.url}{path}/configmaps", params={"resourceVersion": version, "timeoutSeconds": "1"}) as answer:
        events = [json.loads(line) async for line in answer.content]
    assert _told(events) == [("ADDED", "a")]
