"""10,000 alerts within 10 s while somebody watches: how soon what happens is on the screen, and how long the daemon's loop stands still.

Two watch. A bare client of ``/events`` notes when the notice of each delivery arrives. Chromium, where it is installed, has the first page
open: every quarter of a second a pause of a node that is not there begins, and the browser says when its words stand on the page. The
daemon's own histogram tells how late its event loop was.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Self

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from benchmarks import load
from benchmarks.flood import ALERTS, CONNECTIONS, LONGEST_WAIT, NODES, WITHIN, flooded
from benchmarks.processes import TOKEN
from benchmarks.table import Row

if TYPE_CHECKING:
    from benchmarks.processes import Daemon

__all__ = ["rows"]

EVERY = 0.25
"""Seconds between two pauses that the browser is to show."""
SCREEN_MS = 1000
STALL_MS = 50
GIVE_UP = 60.0
HISTOGRAM = "remediator_event_loop_delay_seconds"
IDLE = """
import asyncio, json, select, sys, time
async def main():
    late = []
    while not select.select([sys.stdin], [], [], 0)[0]:
        due = time.monotonic() + 0.01
        await asyncio.sleep(0.01)
        late.append(max(0.0, time.monotonic() - due))
    print(json.dumps(late))
asyncio.run(main())
"""
WATCH = """() => {
  window.shown = {};
  const look = () => {
    for (const [, name] of document.getElementById("banner").textContent.matchAll(/probe (\\d+)\\./g))
      window.shown[name] ??= performance.timeOrigin + performance.now();
  };
  new MutationObserver(() => requestAnimationFrame(look)).observe(document.getElementById("banner"), {childList: true, subtree: true});
}"""


def rows() -> list[Row]:
    with flooded() as daemon, load.Generator() as generator:
        generator.prepare(bodies=ALERTS // load.ALERTS, nodes=NODES)
        return asyncio.run(_measure(daemon, generator))


async def _measure(daemon: Daemon, generator: load.Generator) -> list[Row]:
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(
            aiohttp.ClientSession(f"http://127.0.0.1:{daemon.port}", headers={"Authorization": f"Bearer {TOKEN}"})
        )
        notices = Notices(session)
        listening = asyncio.create_task(notices.listen())
        stack.callback(listening.cancel)
        browser = await _browser(stack, daemon)
        await notices.connected.wait()
        rest = await _delays(session)
        idle = stack.enter_context(Idle())
        bodies = ALERTS // load.ALERTS
        began = time.perf_counter()
        flood = asyncio.create_task(
            asyncio.to_thread(
                generator.run, daemon.port, seconds=WITHIN * 3, connections=CONNECTIONS, requests=bodies, pace=WITHIN / bodies
            )
        )
        decided = asyncio.create_task(_until_decided(daemon, flood))
        probes = await _probe(session, decided)
        answered, took = await flood, time.perf_counter() - began
        delays, beside = await _delays(session), await asyncio.to_thread(idle.lateness)
        screens = await _screens(browser, probes)
        await notices.have(answered["ids"])
    told = sorted(max(0.0, notices.at[one] - at) for one, at in zip(answered["ids"], answered["times"], strict=True) if one in notices.at)
    taken = answered["statuses"].get("200", 0) * load.ALERTS
    return [
        Row(
            name="alerts a second taken", measured=taken / answered["seconds"], unit="/s", note=f"{taken:,} in {answered['seconds']:.1f} s"
        ),
        Row(name="all decided after", measured=took, unit="s", note=f"{taken / took:,.0f} alerts/s"),
        Row(name="webhook answered after, p99", measured=_ms(sorted(answered["latencies"]), 0.99), unit="ms"),
        *_times("on disk -> notice", told, beside=f"{len(notices.at):,} notices, {notices.cut} times cut off"),
        *(_times("pause -> on the screen", screens, beside=f"{len(screens)} of {len(probes)} in Chromium") if browser else _no_browser()),
        *_stalls(rest, delays, beside),
    ]


class Idle:
    """A process with the same timer as the daemon's and nothing else to do: how late the machine itself lets it be. As ``with``."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen([sys.executable, "-c", IDLE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def lateness(self) -> list[float]:
        """Seconds, sorted; it ends with this."""
        return sorted(json.loads(self._process.communicate("\n", timeout=30)[0]))


class Notices:
    """What ``/events`` says: delivery -> when, by the clock that the load generator has too."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.at: dict[str, float] = {}
        self.cut = -1
        """How often the stream ended before its time."""
        self.connected = asyncio.Event()
        self._session = session

    async def listen(self) -> None:
        while True:
            self.cut += 1
            try:
                async with self._session.get("/events", timeout=aiohttp.ClientTimeout(total=None)) as stream:
                    self.connected.set()
                    async for line in stream.content:
                        if line.startswith(b"data: "):
                            self._note(json.loads(line[6:]))
            except aiohttp.ClientError:
                await asyncio.sleep(0.1)

    def _note(self, notice: dict[str, Any]) -> None:
        if notice["kind"] == "delivery":
            self.at.setdefault(notice["ref"], time.perf_counter())

    async def have(self, ids: list[str]) -> None:
        """Wait until all of ``ids`` were told, unless the stream was cut off, which loses some."""
        until = time.perf_counter() + GIVE_UP
        while not self.cut and not self.at.keys() >= set(ids) and time.perf_counter() < until:  # noqa: ASYNC110 - a few times at the end
            await asyncio.sleep(0.05)


async def _until_decided(daemon: Daemon, flood: asyncio.Task[Any]) -> None:
    await flood
    await asyncio.to_thread(daemon.wait_until_decided, LONGEST_WAIT)


async def _probe(session: aiohttp.ClientSession, decided: asyncio.Task[None]) -> dict[str, float]:
    """Pause something every now and then until all is decided: name -> when it was on disk, in milliseconds since 1970."""
    found: dict[str, float] = {}
    target = ""
    while not decided.done():
        name, before, target = str(len(found)), target, f"Node/nowhere-{len(found)}"
        async with session.put("/api/v1/pause", json={"target": target, "reason": f"probe {name}."}) as answer:
            answer.raise_for_status()
            found[name] = time.time() * 1000
        if before:
            async with session.delete("/api/v1/pause", params={"target": before}) as answer:
                answer.raise_for_status()
        await asyncio.sleep(EVERY)
    await decided
    return found


async def _browser(stack: AsyncExitStack, daemon: Daemon) -> Any:
    """A page of the daemon that is live and notes what it shows; None where there is no Chromium."""
    chromium = shutil.which("chromium")
    if chromium is None:
        return None
    from playwright.async_api import async_playwright  # noqa: PLC0415 - not every machine that measures has a browser

    playwright = await stack.enter_async_context(async_playwright())
    browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"])
    stack.push_async_callback(browser.close)
    page = await browser.new_page()
    await page.goto(f"http://127.0.0.1:{daemon.port}/login")
    await page.fill("[name=token]", TOKEN)
    await page.click("main button")
    await page.locator("#live", has_text="live").wait_for()
    await page.evaluate(WATCH)
    return page


async def _screens(page: Any, probes: dict[str, float]) -> list[float]:
    """Seconds from each pause to its words on the screen. One that another replaced before it was drawn is not there."""
    if page is None:
        return []
    await page.wait_for_function("(name) => name in window.shown", arg=max(probes, key=int), timeout=GIVE_UP * 1000)
    shown: dict[str, float] = await page.evaluate("window.shown")
    return sorted(max(0.0, at - probes[name]) / 1000 for name, at in shown.items())


def _no_browser() -> list[Row]:
    return [Row(name="pause -> on the screen", measured=0, unit="browsers", note="Chromium is not installed: apt-get install chromium")]


async def _delays(session: aiohttp.ClientSession) -> dict[float, float]:
    """The daemon's histogram: bound in seconds -> how many were at most that."""
    async with session.get("/metrics") as answer:
        text = await answer.text()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    return {float(one.labels["le"]): one.value for one in families[HISTOGRAM].samples if one.name == f"{HISTOGRAM}_bucket"}


def _stalls(before: dict[float, float], after: dict[float, float], beside: list[float]) -> list[Row]:
    held = {bound: after[bound] - before[bound] for bound in after}
    count = held[float("inf")]

    def within(part: float) -> float:
        return next(bound for bound, number in sorted(held.items()) if number >= part * count) * 1000

    over = f"{count - held[STALL_MS / 1000]:,.0f} above {STALL_MS} ms"
    note = f"of {count:,.0f} timers of 10 ms"
    idle = "a process that does nothing"
    return [
        Row(name="loop late, p99, at most", measured=within(0.99), unit="ms", beside=idle, compared=_ms(beside, 0.99), note=note),
        Row(
            name="loop late, longest, at most", measured=within(1), unit="ms", beside=idle, compared=_ms(beside, 1), aim=STALL_MS, note=over
        ),
    ]


def _times(name: str, seconds: list[float], *, beside: str) -> list[Row]:
    return [
        Row(name=f"{name}, p50", measured=_ms(seconds, 0.5), unit="ms", note=beside),
        Row(name=f"{name}, p99", measured=_ms(seconds, 0.99), unit="ms"),
        Row(name=f"{name}, longest", measured=_ms(seconds, 1), unit="ms", aim=SCREEN_MS),
    ]


def _ms(seconds: list[float], part: float) -> float:
    """Milliseconds that this part of the sorted ``seconds`` does not exceed."""
    return seconds[min(len(seconds) - 1, int(len(seconds) * part))] * 1000
