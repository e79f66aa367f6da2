"""A flood of alerts while somebody watches: the page shows the last of them by itself, from the event stream alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

pytestmark = [pytest.mark.chromium, pytest.mark.long, pytest.mark.timeout(240)]

DELIVERIES, ALERTS = 400, 5
ONLY_EVENTS = "window.setInterval = () => 0;"
"""No look every few seconds, which would show everything in the end."""


def flood(number):
    minute, second = divmod(number, 60)
    return [
        {
            "status": "firing",
            "labels": {"alertname": "Nobody", "node": f"node-{number}-{index}"},
            "startsAt": f"2026-01-05T10:{minute:02d}:{second:02d}.00{index}Z",
            "fingerprint": f"{number * ALERTS + index:016x}",
        }
        for index in range(ALERTS)
    ]


def test_the_page_shows_the_last_event_after_a_flood(browser, simulation_process, daemon, payload, one_alert):
    keeper = daemon(**simulation_process().settings)
    page = browser.new_page()
    page.set_default_timeout(120_000)
    page.add_init_script(ONLY_EVENTS)
    page.goto(keeper.url)
    page.fill("[name=token]", keeper.token_file.read_text())
    page.click("main button")
    page.locator("#live", has_text="live").wait_for()
    with ThreadPoolExecutor(8) as senders:
        stored = list(senders.map(lambda number: keeper.send(payload(*flood(number))), range(DELIVERIES)))
    assert len({one["delivery"] for one in stored}) == DELIVERIES
    last = {**one_alert(starts_at="2026-01-05T12:00:00Z", fingerprint="f" * 16), "labels": {"alertname": "LastOfAll"}}
    keeper.send(payload(last))
    page.locator("#now li", has_text="LastOfAll").wait_for()
    page.get_by_text("and 175 more").wait_for()  # of the two hundred that are looked at, 25 are shown
    found = keeper.metrics()
    assert 'remediator_webhook_requests_total{code="200"} ' + f"{DELIVERIES + 1:.1f}" in found
