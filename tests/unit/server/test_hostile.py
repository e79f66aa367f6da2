"""Whatever stands in a request, it is the sender's fault: no route answers 500."""

from __future__ import annotations

import asyncio
import re

import pytest

from remediator.server import Proxy
from remediator.server.app import ROUTES
from remediator.server.auth import COOKIE

LONG = b"9" * 5000
SOON = b"9999999999"
HEADERS = {
    "a cookie's time that int() does not take": b"Cookie: %b=%b.a.b.c" % (COOKIE.encode(), LONG),
    "one in other digits": b"Cookie: %b=%b.a.b.c" % (COOKIE.encode(), "\u0669".encode() * 12),
    "one with a part that is no text": b"Cookie: %b=%b.\xff.b.c" % (COOKIE.encode(), SOON),
    "one whose seal is no text": b"Cookie: %b=%b.a.b.\xff" % (COOKIE.encode(), SOON),
    "one with letters beyond ASCII": b"Cookie: %b=%b.\xc3\xa9.b.\xc3\xa9" % (COOKIE.encode(), SOON),
    "a quoted one": b'Cookie: %b="%b.\\355\\240\\200.b.c"' % (COOKIE.encode(), SOON),
    "an origin that is no address": b"Origin: http://[",
    "an origin with half an address": b"Origin: //[::1",
    "an expectation that is no text": b"Expect: \xff\xfe",
    "an expectation that nobody meets": b"Expect: a-miracle",
    "a token that is no text": b"Authorization: Bearer \xff\xed\xa0\x80",
    "an id that is no text": b"X-Request-ID: \xff",
    "a trace that is none": b"traceparent: 00-%b-%b-01" % (LONG[:32], b"0" * 16),
    "hops that are none": b"X-Forwarded-For: ::g, fe80::1%eth0, \xff",
    "a person who is no text": b"Remote-User: \xff",
    "a length beyond all": b"Content-Length: " + LONG,
    "a length that is none": b"Content-Length: -1",
    "a length in other digits": b"Content-Length: \xd9\xa1",
    "an encoding that is none": b"Content-Encoding: \xff",
    "a type that is none": b"Content-Type: \xff/\xff; charset=\xff",
    "a host that is none": b"Host: [::1",
    "a port beyond all": b"Host: x:" + LONG,
    "a weight that is none": b"Accept: text/html;q=" + LONG,
    "a range beyond all": b"Range: bytes=" + LONG + b"-",
    "an id of an event beyond all": b"Last-Event-ID: " + LONG,
}
KINDS = list({(r.method, r.scope, r.browser, r.fields is None, r.body is None): r for r in ROUTES if not r.streams}.values())
"""One route of each kind."""


async def asked(api, route, line, token):
    """The status of one request with this header, as bytes; the body of a form is empty."""
    path = re.sub(r"\{\w+\}", "x", route.path)
    host = b"" if line.startswith(b"Host:") else b"Host: x\r\n"
    credentials = b"Authorization: Bearer %b-secret\r\n" % token.encode() if token and not line.startswith(b"Authorization") else b""
    async with api.raw() as (reader, writer):
        writer.write(f"{route.method} {path} HTTP/1.1\r\n".encode() + host + credentials + line + b"\r\nConnection: close\r\n\r\n")
        return (await asyncio.wait_for(reader.read(), 20))[9:12]


@pytest.mark.parametrize("what", HEADERS)
async def test_no_header_is_a_fault_of_ours(serve, service, what):
    api = await serve(service, proxy=Proxy(["127.0.0.0/8"], read=["a"], write=["b"]), body_seconds=0.05)
    for token in (None, "write"):
        answers = {(route.method, route.path): await asked(api, route, HEADERS[what], token) for route in KINDS}
        assert {key: status for key, status in answers.items() if status[:1] not in (b"2", b"3", b"4") and status != b"503"} == {}


async def test_who_asks_whether_to_go_on_is_told_so(api):
    async with api.raw() as (reader, writer):
        writer.write(b"POST /api/v1/alerts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer hook-secret\r\nContent-Length: 2\r\n")
        writer.write(b"Expect: 100-Continue\r\nConnection: close\r\n\r\n")
        assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20) == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"{}")
        assert (await asyncio.wait_for(reader.read(), 20)).startswith(b"HTTP/1.1 400")
