"""The pictures of the pages: an incident on the simulated cluster, seen in Chromium, in both themes. Needs the Debian package chromium.

``python docs/pictures/make.py [FOLDER]`` writes PNGs there, beside itself if no folder is named.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from playwright.async_api import async_playwright

from remediator.clock import FastClock
from remediator.sim import Simulation, scenario
from remediator.sim.alerting import Receiver
from remediator.testing.house import House

RATE = 15
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1000, "height": 900}


async def main(folder: Path) -> None:
    """Play, and take a picture of each page at its moment."""
    chromium = shutil.which("chromium") or sys.exit("chromium is not installed: apt-get install chromium")
    with tempfile.TemporaryDirectory() as files:
        clock = FastClock(RATE, start=datetime.now(UTC) - timedelta(minutes=30))
        modes = {"modes": {"node-latency": "suggest", "*": "auto"}}
        async with (
            Simulation(nodes=5, clock=clock, seed=1) as simulation,
            House(simulation, clock, Path(files), modes) as house,
            async_playwright() as playwright,
        ):
            browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            context = await browser.new_context()
            page = await context.new_page()
            await page.goto(house.daemon.url)
            await _both(page, folder / "sign-in", PHONE)
            await page.fill("[name=token]", house.tokens["write"])
            await page.fill("[name=name]", "anna")
            await page.click("main button")
            await _story(page, simulation, house, folder)
            await browser.close()


async def _story(page: Any, simulation: Simulation, house: House, folder: Path) -> None:
    simulation.add_receiver(Receiver(url=house.webhook, token=house.tokens["webhook"]))
    await simulation.play(scenario("agent-down", demo=True))
    healed = await _run(house, "cilium-agent-down", ended=True)
    await simulation.play(scenario("slow-node", demo=True))
    waits = await _run(house, "node-latency", ended=False)
    url = house.daemon.url
    await page.goto(url)
    await page.wait_for_selector(".card.ask")
    await _both(page, folder / "now", PHONE)
    await page.goto(f"{url}/runs/{waits}")
    await _both(page, folder / "approval", PHONE)
    await page.goto(f"{url}/runs/{healed}")
    await _both(page, folder / "run", DESK)
    await page.goto(f"{url}/playbooks/node-latency")
    await _both(page, folder / "playbook", DESK)
    await page.goto(f"{url}/cluster")
    await _both(page, folder / "cluster", DESK)
    await page.goto(f"{url}/report")
    await _both(page, folder / "report", DESK)


async def _run(house: House, playbook: str, *, ended: bool) -> str:
    for _ in range(1200):
        runs = (await house.client.runs(playbook=playbook, limit=1)).items
        if runs and (runs[0].ended_at is not None or not ended):
            return runs[0].id
        await asyncio.sleep(0.1)
    raise SystemExit(f"no run of {playbook} came about")


async def _both(page: Any, path: Path, size: Any) -> None:
    await page.set_viewport_size(size)
    for theme in ("light", "dark"):
        await page.emulate_media(color_scheme=theme)
        await page.screenshot(path=f"{path}-{theme}.png", full_page=False)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent))
