"""The prober against real servers on this machine: pages with and without TLS, a name server, ports."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta

import dns.message
import dns.rcode
import dns.rrset
import pytest
import trustme
from aiohttp import web
from aiohttp.test_utils import TestServer

from remediator.probing import Prober

PATIENT = timedelta(seconds=20)
BRIEF = timedelta(milliseconds=200)
probe = Prober()


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def ca_file(authority, tmp_path):
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return tmp_path / "ca.pem"


@pytest.fixture
async def serve():
    running = []

    async def start(*, tls=None, status=200, hang=None, **headers):
        seen = []

        async def answer(request):
            seen.append(request)
            if hang:
                await hang.wait()
            return web.Response(status=status, body=b"x" * (0 if status < 400 else 5000), headers=headers)

        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", answer)
        server = TestServer(app, host="127.0.0.1")
        context = None
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.configure_cert(context)
        await server.start_server(ssl=context)
        running.append(server)
        server.seen = seen
        return server

    yield start
    for server in running:
        await server.close()


async def test_a_page_with_its_certificate_by_a_name_that_resolves_nowhere(serve, authority, ca_file):
    ends = datetime(2099, 1, 2, 3, 4, 5, tzinfo=UTC)
    server = await serve(tls=authority.issue_cert("grafana.test", not_after=ends))
    seen = await probe.http(f"https://grafana.test:{server.port}/x", within=PATIENT, address="127.0.0.1", ca_file=ca_file)
    assert (seen.status, seen.trouble, seen.address) == (200, "", "127.0.0.1")
    assert seen.certificate.not_after.startswith("2099-01-02T03:04:05")
    assert server.seen[0].headers["Host"] == f"grafana.test:{server.port}"
    assert 0 < seen.connect_seconds <= seen.seconds


async def test_tls_is_verified_by_authority_and_by_name(serve, authority, ca_file):
    server = await serve(tls=authority.issue_cert("grafana.test"))
    url = f"https://grafana.test:{server.port}/"
    unknown = await probe.http(url, within=PATIENT, address="127.0.0.1")
    assert unknown.status is None
    assert "certificate" in unknown.trouble
    other = await probe.http(url.replace("grafana", "other"), within=PATIENT, address="127.0.0.1", ca_file=ca_file)
    assert (other.status, "certificate" in other.trouble) == (None, True)
    assert server.seen == []


async def test_an_error_page_has_its_beginning_and_a_redirect_is_not_followed(serve):
    bad = await serve(status=503)
    seen = await probe.http(str(bad.make_url("/")), within=PATIENT)
    assert (seen.status, seen.body, seen.certificate) == (503, "x" * 512, None)
    moved = await serve(status=302, Location="http://127.0.0.1:1/login")
    seen = await probe.http(str(moved.make_url("/")), within=PATIENT)
    assert (seen.status, seen.location, seen.trouble) == (302, "http://127.0.0.1:1/login", "")


async def test_who_is_silent_or_absent_is_told_within_the_time(serve, unused_tcp_port):
    held = asyncio.Event()
    server = await serve(hang=held)
    silent = await probe.http(str(server.make_url("/")), within=BRIEF)
    assert (silent.status, silent.trouble) == (None, "no answer within 0.2 s")
    assert silent.connect_seconds is not None
    held.set()
    absent = await probe.http(f"http://127.0.0.1:{unused_tcp_port}/", within=PATIENT)
    assert (absent.status, bool(absent.trouble), absent.connect_seconds) == (None, True, None)


class NameServer(asyncio.DatagramProtocol):
    """Knows one name; over UDP and TCP on one port."""

    def __init__(self):
        self.silent = False

    def answer(self, wire):
        query = dns.message.from_wire(wire)
        answer = dns.message.make_response(query)
        if str(query.question[0].name) == "whoami.test.":
            answer.answer.append(dns.rrset.from_text("whoami.test.", 60, "IN", "A", "10.25.150.223"))
        else:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        return answer.to_wire()

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        if not self.silent:
            self.transport.sendto(self.answer(data), address)

    async def stream(self, reader, writer):
        with closing(writer), suppress(asyncio.IncompleteReadError):  # who only connects asks nothing
            size = int.from_bytes(await reader.readexactly(2))
            wire = self.answer(await reader.readexactly(size))
            writer.write(len(wire).to_bytes(2) + wire)
            await writer.drain()


@pytest.fixture
async def name_server():
    known = NameServer()
    tcp = await asyncio.start_server(known.stream, "127.0.0.1", 0)
    known.port = tcp.sockets[0].getsockname()[1]
    udp, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: known, local_addr=("127.0.0.1", known.port))
    yield known
    udp.close()
    tcp.close()


@pytest.mark.parametrize("tcp", [False, True])
async def test_a_name_server_is_asked_over_udp_and_tcp(name_server, tcp):
    seen = await probe.dns("127.0.0.1", name_server.port, "whoami.test", "a", tcp=tcp, within=PATIENT)
    assert (seen.rcode, seen.answers, seen.transport, seen.trouble) == ("NOERROR", ("A 10.25.150.223",), "tcp" if tcp else "udp", "")
    none = await probe.dns("127.0.0.1", name_server.port, "other.test", "A", tcp=tcp, within=PATIENT)
    assert (none.rcode, none.answers) == ("NXDOMAIN", ())


async def test_a_silent_name_server_and_none_at_all(name_server, unused_tcp_port):
    name_server.silent = True
    seen = await probe.dns("127.0.0.1", name_server.port, "whoami.test", "A", tcp=False, within=BRIEF)
    assert (seen.rcode, seen.trouble) == ("", "no answer within 0.2 s")
    assert (await probe.dns("127.0.0.1", unused_tcp_port, "whoami.test", "A", tcp=True, within=PATIENT)).trouble
    with pytest.raises(ValueError, match="NOTYPE"):
        await probe.dns("127.0.0.1", 53, "whoami.test", "NOTYPE", tcp=True, within=PATIENT)


async def test_ports(name_server, unused_tcp_port):
    assert (await probe.tcp("127.0.0.1", name_server.port, within=PATIENT)).trouble == ""
    assert (await probe.tcp("127.0.0.1", unused_tcp_port, within=PATIENT)).trouble
