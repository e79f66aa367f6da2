"""The simulation as a process of its own: ``python -m remediator.sim --port N [--rate R] [--nodes N] [--pods N]``.

Prints one JSON line with its URLs when it serves, and runs until SIGTERM or SIGINT.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import signal
import sys

from remediator.clock import Clock, FastClock, SystemClock, parse_time
from remediator.sim.control import Control
from remediator.sim.simulation import Simulation


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m remediator.sim", description="Runs the simulated cluster.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--rate", type=float, default=1.0, help="how many times as fast as the wall clock")
    parser.add_argument("--start", type=parse_time, help="when its time begins; now if absent")
    parser.add_argument("--nodes", type=int, default=5)
    parser.add_argument("--pods", type=int, default=0, help="so many further pods, spread over the nodes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--token", help="the bearer token that the Kubernetes API asks for; none if absent")
    parser.add_argument("--bare", action="store_true", help="without Cilium and workloads")
    return parser.parse_args(arguments)


async def _serve(options: argparse.Namespace) -> None:
    clock: Clock = SystemClock()
    if options.rate != 1 or options.start:
        clock = FastClock(options.rate, start=options.start)
    sim = Simulation(nodes=options.nodes, clock=clock, seed=options.seed, token=options.token, cilium=not options.bare, pods=options.pods)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    await sim.start(options.host, options.port)
    gc.freeze()  # what a large cluster begins with stays; walking it again and again would hold up answers for seconds
    sys.stdout.write(json.dumps(Control(sim).info()) + "\n")
    sys.stdout.flush()
    await ended.wait()
    await sim.stop()


def main(arguments: list[str] | None = None) -> int:
    """Run until told to stop."""
    asyncio.run(_serve(_options(arguments)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
