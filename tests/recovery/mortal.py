"""A daemon that dies at a chosen boundary, by SIGKILL from its own hand; the nursery forks it, and the product knows nothing of it.

In: settings, and an order as JSON: how fast its clock goes and since when, where to write down the boundaries that it passes, the one at
which it dies, and the faults that are planted in it. A boundary is named by what happens there and how often that happened in this life:
``before the commit of save_change patch Node intended #1``. Everything before it is on disk or in the cluster, nothing after it is.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

from dbos._sys_db import SystemDatabase

from remediator import carry, context, decide, facts
from remediator.actions import Observed
from remediator.clock import FastClock, parse_time
from remediator.daemon import Daemon
from remediator.gates import gates
from remediator.journal import Journal, writes
from remediator.journal.writer import Writer
from remediator.journal.writes import Deed
from remediator.kube import Kube
from remediator.model import Change, DecisionKind, Delivery, Run, Step
from remediator.monitoring import Alertmanager
from remediator.settings import load_settings


class Boundaries:
    """Writes each one down before it passes it, or dies there. Any thread may come along."""

    def __init__(self, record: Path, at: str) -> None:
        self._record = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._at = at
        self._seen: Counter[str] = Counter()
        self._lock = threading.Lock()

    def reach(self, name: str) -> None:
        with self._lock:
            self._seen[name] += 1
            label = f"{name} #{self._seen[name]}"
            os.write(self._record, f"{label}\n".encode())
            if label == self._at:
                os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(60)


def watch_the_journal(boundaries: Boundaries) -> None:
    """Its one door to the disk: before the transaction begins, and after its commit while nobody knows yet."""
    transact = Writer._transact

    def watched(self: Writer, batch: list[Any], *, apart: bool) -> list[Any]:
        names = [described(unit.work) for unit in batch]
        for name in names:
            boundaries.reach(f"before the commit of {name}")
        outcomes = transact(self, batch, apart=apart)
        for name in names:
            boundaries.reach(f"after the commit of {name}")
        return outcomes

    Writer._transact = watched


def described(work: functools.partial[Any]) -> str:
    """What tells this write from others of its kind."""
    words = [work.func.__name__]
    for name, value in work.keywords.items():
        match value:
            case Change():
                words += [value.verb, value.resource.kind, value.state.value, *(["to undo"] if value.undoes else [])]
            case Step():
                words += [value.name, value.state.value]
            case Run():
                words.append(value.state.value)
            case (*_, str(data)) if name == "row":
                words.append(json.loads(data)["status"])
            case Deed():
                words += [decision.decision.value for decision, _ in value.decisions]
            case str() if name == "kind":
                words.append(value)
    return " ".join(words)


def watch_the_engine(boundaries: Boundaries) -> None:
    """A run's start, the end of each of its stages, its own end."""

    def watch(method: str, name: Any) -> None:
        found = getattr(SystemDatabase, method)

        @functools.wraps(found)
        def watched(self: SystemDatabase, *args: Any, **kwargs: Any) -> Any:
            words = name(*args)
            boundaries.reach(f"before the engine keeps {words}")
            result = found(self, *args, **kwargs)
            boundaries.reach(f"after the engine kept {words}")
            return result

        setattr(SystemDatabase, method, watched)

    watch("init_workflow", lambda status, *_: f"the start of {_kind(status['workflow_uuid'])}")
    watch("record_operation_result", lambda result: f"the stage {result['function_name']}")
    watch("update_workflow_outcome", lambda run, *_: f"the end of {_kind(run)}")


def _kind(run: str) -> str:
    return "an undo" if carry.UNDO in run else "a run"


def watch_the_cluster(boundaries: Boundaries) -> None:
    """Each call that may change it: before it is sent, and once it was answered."""
    write = Kube._write

    async def watched(self: Kube, verb: str, method: str, path: str, *args: Any, dry_run: bool, **kwargs: Any) -> Any:
        if dry_run:
            return await write(self, verb, method, path, *args, dry_run=dry_run, **kwargs)
        resource = path.removesuffix("/eviction").split("/")[-1 if verb == "create" else -2]
        boundaries.reach(f"before the call {verb} {resource}")
        try:
            return await write(self, verb, method, path, *args, dry_run=dry_run, **kwargs)
        finally:
            boundaries.reach(f"after the call {verb} {resource}")

    Kube._write = watched


def watch_the_alertmanager(boundaries: Boundaries) -> None:
    """The same for silences."""
    ask = Alertmanager._ask

    async def watched(self: Alertmanager, method: str, path: str, **kwargs: Any) -> Any:
        if method == "GET":
            return await ask(self, method, path, **kwargs)
        boundaries.reach(f"before the call {method.lower()} silences")
        try:
            return await ask(self, method, path, **kwargs)
        finally:
            boundaries.reach(f"after the call {method.lower()} silences")

    Alertmanager._ask = watched


# --- faults, to see that the checks find them -----------------------------------------------------------------------------


def sends_again_blindly() -> None:
    """After a crash nobody looks: what was intended counts as never sent."""

    async def blind(self: Any, change: Change) -> Observed:
        await self._close(change, context.ChangeState.ABSENT, "not looked at")
        return Observed.ABSENT

    context.StepContext.recover = blind


def answers_before_the_commit() -> None:
    """200 for a delivery that is still in memory only."""
    add, tasks = Journal.add_delivery, set()

    async def hasty(self: Journal, delivery: Delivery) -> None:
        async def later() -> None:
            await asyncio.sleep(0.2)
            await add(self, delivery)

        tasks.add(asyncio.create_task(later()))

    Journal.add_delivery = hasty


def changes_without_a_record() -> None:
    """One more label on every node that it patches, of which the journal knows nothing."""
    patch = Kube.patch

    async def more(self: Kube, kind: Any, name: str, body: Any, namespace: str = "", **kwargs: Any) -> Any:
        answer = await patch(self, kind, name, body, namespace, **kwargs)
        if kind.kind == "Node" and not kwargs.get("dry_run"):
            await patch(self, kind, name, {"metadata": {"labels": {"secret": "yes"}}}, type="merge")
        return answer

    Kube.patch = more


def forgets_episodes() -> None:
    """An episode that led to a run leads to another one when it is delivered again, and the journal does not refuse it."""
    plain = decide.Decider._without_questions

    def forgetful(*args: Any) -> Any:
        found = plain(*args)
        return None if found and found.decision is DecisionKind.DUPLICATE else found

    decide.Decider._without_questions = forgetful
    for name in ("duplicate", "cooldown"):
        gates()[name].judge = lambda self, _, snapshot: self.allow(snapshot)
    writes._heed_first_run = lambda *_: None


FAULTS = {fault.__name__: fault for fault in (sends_again_blindly, answers_before_the_commit, changes_without_a_record, forgets_episodes)}


async def _live(settings: str, clock: FastClock) -> None:
    daemon = await Daemon.build(load_settings(Path(settings), env={}), clock=clock)
    await daemon.start()
    await asyncio.Event().wait()


def main() -> None:
    settings, order = sys.argv[1], json.loads(sys.argv[2])
    # The clock of the cluster, which goes on while nobody lives.
    began, rate = parse_time(order["began"]), order["rate"]
    clock = FastClock(rate, start=began + timedelta(seconds=(time.monotonic() - order["origin"]) * rate))
    boundaries = Boundaries(Path(order["record"]), order["at"])
    facts._DEADLINE = timedelta(seconds=20)  # in real time, so on a busy machine the gates would refuse what they cannot read in time
    for watch in (watch_the_journal, watch_the_engine, watch_the_cluster, watch_the_alertmanager):
        watch(boundaries)
    for fault in order["faults"]:
        FAULTS[fault]()
    asyncio.run(_live(settings, clock))
