"""Who somebody is: named tokens, a proxy's headers, and how often one may guess."""

from __future__ import annotations

import pytest

from remediator.server import Named, Proxy, Scope, Tokens
from remediator.server.attempts import Attempts
from remediator.telemetry import METRICS

ANNA = Named(name="anna", token="anna-secret", scope=Scope.WRITE)
BEN = Named(name="ben", token="ben-secret", scope=Scope.READ)
TOKENS = Tokens(webhook="hook-secret", read="read-secret", write="write-secret", named=(ANNA, BEN))
GROUPS = {"read": ["oncall"], "write": ["sre"]}
CANCEL = "/api/v1/runs/run-1/cancel"


def forged():
    return METRICS.forged_headers._value.get()


@pytest.fixture
def behind(serve, service, run):
    """A server whose peer, this test, is a listed proxy or is not."""
    service.journal.the_runs["run-1"] = run()

    async def start(*addresses):
        return await serve(service, tokens=TOKENS, proxy=Proxy(addresses, **GROUPS))

    return start


class TestNamedTokens:
    async def test_what_is_done_with_one_is_recorded_under_its_name_whatever_is_claimed(self, behind, service):
        api = await behind()
        assert (await api("POST", CANCEL, token="anna", json={"by": "mallory", "reason": "x"})).status == 200
        assert service.calls[-1] == ("cancel", ("run-1", "anna", "x"))

    async def test_it_counts_as_a_name_for_an_approval(self, behind, service):
        api = await behind()
        await api("POST", "/api/v1/runs/run-1/approve", token="anna")
        assert service.calls[-1] == ("approve", ("run-1", "anna", "", True))

    async def test_it_opens_its_scope_only(self, behind):
        api = await behind()
        assert (await api("GET", "/api/v1/status", token="ben")).status == 200
        await api.problem("POST", CANCEL, 403, token="ben")

    def test_a_token_of_two_people_is_refused(self):
        with pytest.raises(ValueError, match="does not tell who holds it"):
            Tokens(named=(ANNA, Named(name="ben", token="anna-secret", scope=Scope.READ)))
        with pytest.raises(ValueError, match="does not tell who holds it"):
            Tokens(write="anna-secret", named=(ANNA,))

    def test_it_does_not_print_itself(self):
        assert repr(TOKENS) == "Tokens(webhook, read, write, anna, ben)"
        assert "secret" not in repr(ANNA)


class TestProxy:
    async def test_groups_of_a_listed_proxy_read(self, behind):
        api = await behind("127.0.0.1")
        who = {"Remote-User": "carla", "Remote-Groups": "people, oncall"}
        assert (await api("GET", "/api/v1/status", token=None, headers=who)).status == 200
        await api.problem("POST", CANCEL, 403, token=None, headers=who)
        await api.problem("GET", "/api/v1/status", 403, token=None, headers={**who, "Remote-Groups": "people"})

    async def test_a_change_takes_a_token_of_a_page_too_since_a_browser_sends_the_rest_by_itself(self, behind, service):
        api = await behind("127.0.0.1")
        who = {"Remote-User": "dora", "Remote-Groups": "sre"}
        problem = await api.problem("POST", CANCEL, 403, token=None, headers=who)
        assert "X-CSRF-Token" in problem["detail"]
        assert not service.calls

    async def test_the_name_stands_beside_a_token_that_has_none(self, behind, service):
        api = await behind("127.0.0.1")
        await api("POST", CANCEL, token="write", headers={"Remote-User": "dora", "Remote-Groups": "sre"}, json={"by": "x"})
        assert service.calls[-1] == ("cancel", ("run-1", "dora", ""))

    @pytest.mark.parametrize("addresses", [(), ("10.0.0.0/8",)])
    async def test_from_elsewhere_it_is_ignored_and_counted(self, behind, service, addresses):
        api = await behind(*addresses)
        who = {"Remote-User": "root", "Remote-Groups": "sre"}
        before = forged()
        await api.problem("GET", "/api/v1/status", 401, token=None, headers=who)
        assert forged() == before + 1
        await api("POST", CANCEL, token="write", headers=who, json={"by": "ada"})
        assert service.calls[-1] == ("cancel", ("run-1", "ada", ""))
        assert forged() == before + 2

    @pytest.mark.parametrize("names", [["a", "b"], ["a\x1b[2J"], [" "]])
    async def test_a_name_that_is_none_lets_nobody_in(self, behind, names):
        from multidict import CIMultiDict

        headers = CIMultiDict([*(("Remote-User", name) for name in names), ("Remote-Groups", "sre")])
        identity = Proxy(["127.0.0.1"], **GROUPS).identity(_request(headers))
        assert identity is None


def _request(headers, remote="127.0.0.1"):
    from types import SimpleNamespace

    return SimpleNamespace(headers=headers, remote=remote)


@pytest.mark.parametrize(
    ("remote", "forwarded", "client"),
    [
        ("10.0.0.7", "203.0.113.9, 10.0.0.8", "203.0.113.9"),
        ("10.0.0.7", "1.1.1.1, 203.0.113.9", "203.0.113.9"),
        ("::ffff:10.0.0.7", "203.0.113.9", "203.0.113.9"),
        ("192.0.2.1", "203.0.113.9", "192.0.2.1"),
    ],
)
def test_the_client_is_the_last_hop_that_is_no_proxy_of_ours(remote, forwarded, client):
    from multidict import CIMultiDict

    found = Proxy(["10.0.0.0/8"], **GROUPS).client(_request(CIMultiDict({"X-Forwarded-For": forwarded}), remote))
    assert found == client


class TestGuessing:
    async def guess(self, api, times):
        for _ in range(times):
            await api.problem("GET", "/api/v1/status", 401, token="wrong")

    async def test_after_thirty_unknown_tokens_no_more_is_heard_from_there(self, behind):
        api = await behind()
        await self.guess(api, 30)
        problem = await api.problem("GET", "/api/v1/status", 429, token="write")
        assert "127.0.0.1" in problem["detail"]
        assert (await api("GET", "/api/v1/status", token="write")).headers["Retry-After"] == "3"
        assert (await api("GET", "/-/healthy", token=None)).status == 200

    async def test_alerts_still_come_in_since_alertmanager_drops_what_gets_a_429(self, behind, payload):
        api = await behind()
        await self.guess(api, 30)
        assert (await api.post_alerts(payload)).status == 200
        assert (await api.post_alerts(payload, token="read")).status == 429

    async def test_a_token_that_was_right_there_before_is_heard_all_the_same(self, behind):
        api = await behind()
        assert (await api("GET", "/api/v1/status", token="read")).status == 200
        await self.guess(api, 30)
        assert (await api("GET", "/api/v1/status", token="read")).status == 200
        await api.problem("GET", "/api/v1/status", 429, token="write")

    async def test_no_token_at_all_is_no_guess(self, behind):
        api = await behind()
        for _ in range(32):
            await api.problem("GET", "/api/v1/status", 401, token=None)
        assert (await api("GET", "/api/v1/status", token="read")).status == 200


class TestAttempts:
    def test_tries_come_back_with_time(self):
        from datetime import timedelta

        from remediator.clock import ManualClock

        clock = ManualClock()
        attempts = Attempts(clock)
        for _ in range(30):
            assert attempts.wait("192.0.2.1") == 0
            attempts.failed("192.0.2.1")
        assert attempts.wait("192.0.2.1") == 2
        assert attempts.wait("::ffff:192.0.2.1") == 2
        assert attempts.wait("192.0.2.2") == 0
        clock.advance(timedelta(seconds=2))
        assert attempts.wait("192.0.2.1") == 0

    def test_an_ipv6_network_is_one_place_and_memory_is_bounded(self):
        from remediator.clock import ManualClock

        attempts = Attempts(ManualClock())
        for last in range(30):
            attempts.failed(f"2001:db8::{last}")
        assert attempts.wait("2001:db8::ffff") > 0
        for other in range(5000):
            attempts.failed(f"10.0.{other // 250}.{other % 250}")
        assert attempts.wait("2001:db8::1") == 0

    def test_a_token_is_right_where_it_was_right_only(self):
        from remediator.clock import ManualClock

        attempts = Attempts(ManualClock())
        attempts.succeeded("192.0.2.1", b"t")
        for _ in range(30):
            attempts.failed("192.0.2.1")
            attempts.failed("192.0.2.2")
        assert attempts.wait("192.0.2.1", b"t") == 0
        assert attempts.wait("192.0.2.1", b"other") > 0
        assert attempts.wait("192.0.2.2", b"t") > 0


async def test_another_site_steers_nothing_even_where_everything_is_open(serve, service, run):
    service.journal.the_runs["run-1"] = run()
    api = await serve(service, tokens=Tokens(insecure=True))
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
        await api.problem("POST", CANCEL, 403, token=None, headers=headers)
    assert not service.calls
    assert (await api("POST", CANCEL, token=None)).status == 200


async def test_no_site_is_let_read_answers(api):
    response = await api("GET", "/api/v1/status", headers={"Origin": "https://evil.example"})
    assert not [name for name in response.headers if name.lower().startswith("access-control")]
    preflight = await api("OPTIONS", "/api/v1/status", headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "GET"})
    assert preflight.status == 405


async def test_lists_of_what_is_loaded_come_in_pages(api):
    page = await api.get("/api/v1/gates?limit=1")
    assert (len(page["items"]), page["next"]) == (1, None)
    assert (await api.get("/api/v1/gates?cursor=paused"))["items"] == []
    assert len((await api.get("/api/v1/gates?cursor=a"))["items"]) == 1
