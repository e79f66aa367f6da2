"""The only door to DBOS: durable runs. A run is a workflow whose id is the run's; each of its stages is a durable step.

In: run ids, and one body that carries a run through its stages. Out: the body is called for every run that has not ended, also after a
crash, and a stage whose result is on disk is not entered again. What may change the cluster is guarded once more by the journal's intents
(``remediator.run``), because a crash can fall between a call and the engine's checkpoint.

What is kept of a stage is JSON without secrets, and nothing that is read back can run anything
(``docs/adr/0028-the-engine-keeps-plain-data-without-secrets.md``).

DBOS keeps one instance a process, so this module does too.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import structlog
from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer, SetWorkflowID, WorkflowStatusString
from dbos._serialization import DefaultSerializer
from sqlalchemy.engine import make_url

from remediator.errors import RemediatorError
from remediator.journal import Redactor
from remediator.journal.store import given_up_after

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from datetime import timedelta

__all__ = ["Engine", "EngineError"]

log = structlog.get_logger(__name__)
R = TypeVar("R")

EXECUTOR = "remediator"
"""One executor id for every start, so that a pod with a new name takes up what the old one left."""
FORMAT = "1"
"""The version of the run body's shape that DBOS recovers by; it changes only when a stored run could not be continued."""
_DEADLINE = 10
"""Seconds after which a store that is gone without a word is given up, as the journal does."""
_RECOVERIES = 1_000_000
"""DBOS parks a workflow after so many recoveries; a run ends by its own deadline instead."""

_LISTEN = 0.1
"""Seconds that a thread of DBOS sleeps between two looks at messages, which no run sends. A stop waits for it to wake up."""


_OPEN = ("PENDING", "ENQUEUED", "DELAYED")
_OVER = [status.value for status in WorkflowStatusString if status.value not in _OPEN]
_FORGOTTEN_AT_ONCE = 50
"""Ended runs in one transaction: a few hundred rows, for which SQLite keeps the steps of open runs waiting for some milliseconds."""
_FORGET_WITHIN = 30
"""Seconds for one look or one such transaction. DBOS itself tries for ever where its store is gone."""


class EngineError(RemediatorError):
    """The engine cannot start or lost its store."""


class _StepError(RemediatorError):
    """What is kept of a step that failed: words without secrets. Nobody reads them back, since such a step is entered again."""


class _Plainly(pickle.Unpickler):
    """Reads plain data and nothing else: whatever a pickle wants to be made or called, it has to name first."""

    def find_class(self, module: str, name: str) -> NoReturn:
        """Called for every such name."""
        raise pickle.UnpicklingError(f"the run engine's store holds no plain data, but {module}.{name}")


def _read_plainly(_: DefaultSerializer, kept: str) -> Any:
    return _Plainly(BytesIO(base64.b64decode(kept))).load()


# The release before pickled what it kept, and each row says how it was written, so DBOS would unpickle whatever somebody put there.
DefaultSerializer.deserialize = _read_plainly  # type: ignore[method-assign, assignment]

_current: Engine | None = None


@DBOS.workflow(name="run", max_recovery_attempts=_RECOVERIES)
async def _workflow(run: str) -> str:
    if _current is None:
        raise EngineError("a run was recovered before the engine was ready")
    return await _current.carry(run)


class Engine:
    """Starts, recovers and stops runs. ``body`` must be safe to call again from its beginning.

    What comes of a step while ``may_act`` says no is not kept: another process works on the run, and must not take it for its own.
    ``redact`` takes secrets out of what is kept.
    """

    def __init__(
        self,
        store: str,
        body: Callable[[str], Awaitable[str]],
        *,
        may_act: Callable[[], bool] = lambda: True,
        redact: Redactor | None = None,
    ) -> None:
        self._store = store
        self._body = body
        self._may_act = may_act
        self._redact = redact or Redactor()
        self._forgetting = asyncio.Lock()
        self._tasks: dict[str, asyncio.Task[Any]] = {}
        self._stopping = False
        self._astray: frozenset[str] = frozenset()
        """Runs that the store held for being worked on at the last look, and nobody was seen to."""

    def launch(self) -> None:
        """Open the engine's store and take up every run that has not ended. Call it on the loop that runs shall live on.

        Raises EngineError.
        """
        global _current  # noqa: PLW0603 - DBOS itself is one to a process
        _current = self
        logging.getLogger("dbos").setLevel(logging.ERROR)
        config = DBOSConfig(
            name="remediator",
            system_database_url=_store_url(self._store),
            executor_id=EXECUTOR,
            application_version=FORMAT,
            enable_otlp=False,
            log_level="ERROR",
            serializer=DBOSPortableJSONSerializer(),
            notification_listener_polling_interval_sec=_LISTEN,
        )
        if not self._store.startswith("sqlite"):
            config["db_engine_kwargs"] = {"connect_args": {"application_name": "remediator engine", **given_up_after(_DEADLINE)}}
        try:
            _make_file(self._store)
            DBOS(config=config)
            DBOS.launch()
        except Exception as error:  # DBOS raises whatever its driver raises
            raise EngineError(f"the run engine could not open its store: {error}") from error

    async def start(self, run: str) -> None:
        """Begin ``run``, or do nothing if it has begun already. Returns when its start is on disk, not when it ends. Raises EngineError."""
        try:
            with SetWorkflowID(run):
                await DBOS.start_workflow_async(_workflow, run)
        except Exception as error:  # DBOS raises whatever its driver raises
            raise EngineError(f"the run engine could not store the start of {run}: {error}") from error

    async def take_up_astray(self) -> frozenset[str]:
        """Take up what the store holds for being worked on, and what this process did not work on at this look and the one before.

        DBOS hands a recovered run to whichever process asks first; that may be one that led before and is just about to end, or one that
        dies right then. Looks have to be some seconds apart, so that what is only just beginning or ending is not taken for astray; a run
        that is under way here is never begun beside itself. Out: the runs that are begun again. Raises EngineError.
        """
        try:
            held = await DBOS.list_workflows_async(status="PENDING", load_input=False, load_output=False)
            astray = frozenset(one.workflow_id for one in held) - self.running
            again, self._astray = astray & self._astray, astray
            for run in again:
                await DBOS.resume_workflow_async(run)
        except Exception as error:  # DBOS raises whatever its driver raises
            raise EngineError(f"the run engine could not tell which runs are under way: {error}") from error
        return again

    async def knows(self, run: str) -> bool:
        """Whether ``run`` was ever begun, here or elsewhere. Raises EngineError."""
        try:
            return await DBOS.get_workflow_status_async(run) is not None
        except Exception as error:  # DBOS raises whatever its driver raises
            raise EngineError(f"the run engine could not tell whether {run} was begun: {error}") from error

    async def ended(self, run: str) -> bool:
        """Whether the engine believes that ``run`` is over (the journal may know better)."""
        status = await DBOS.get_workflow_status_async(run)
        return status is not None and status.status not in _OPEN

    async def forget(self, gone: Callable[[frozenset[str]], Awaitable[frozenset[str]]], *, before: str) -> int:
        """Take away what the store holds of ended runs, oldest first, of those with ids below ``before`` that ``gone`` names; how many.

        A few at a time, each few in a transaction of its own, so that the steps of open runs never wait for long. What has not ended is
        not even asked about. Raises EngineError, and whatever ``gone`` does.
        """
        async with self._forgetting:
            stay = forgotten = 0
            while self._may_act():
                some = await self._ended(stay)
                if not some or min(some) >= before:
                    break
                go = (await gone(some) & some) - self.running
                await self._remove(go)
                forgotten += len(go)
                stay += len(some) - len(go)
            return forgotten

    async def _ended(self, but: int) -> frozenset[str]:
        """A few runs that have ended, those that began first, but for the first so many."""
        try:
            async with asyncio.timeout(_FORGET_WITHIN):
                some = await DBOS.list_workflows_async(
                    status=_OVER, limit=_FORGOTTEN_AT_ONCE, offset=but, load_input=False, load_output=False
                )
        except Exception as error:  # DBOS raises whatever its driver raises
            raise EngineError(f"the run engine could not tell which runs have ended: {error!r}") from error
        return frozenset(one.workflow_id for one in some)

    async def _remove(self, runs: frozenset[str]) -> None:
        if not runs:
            return
        try:
            async with asyncio.timeout(_FORGET_WITHIN):
                await DBOS.delete_workflows_async(sorted(runs))
        except Exception as error:  # DBOS raises whatever its driver raises
            raise EngineError(f"the run engine could not take away what it holds of {len(runs)} ended runs: {error!r}") from error

    async def step(self, name: str, work: Callable[[], Coroutine[Any, Any, R]]) -> R:
        """Do ``work`` once: if its result (plain data) is on disk from an earlier life, that is returned instead.

        ``work`` must be safe to enter again: it is, where the engine's store cannot tell or keep its result. The result is the one that
        is kept, without secrets, also in the life in which it came to be.
        """
        outcome: list[R] = []
        faults: list[Exception] = []

        async def once() -> R:  # DBOS tells a coroutine function by asking, which a lambda would not pass
            try:
                result = await work()
            except Exception as error:  # noqa: BLE001 - it is raised again below, as it was
                self._heed_leadership()
                faults.append(error)
                raise _StepError(self._words(error)) from None
            self._heed_leadership()
            outcome.append(self._redact.data(result))
            return outcome[0]

        try:
            return await DBOS.run_step_async({"name": name}, once)
        except Exception as error:  # noqa: BLE001 - DBOS raises whatever its driver raises
            trouble = self._words(error)
        if faults:
            raise faults[0]
        log.warning("the run engine could not tell or keep the end of a step", step=name, error=trouble)
        return outcome[0] if outcome else self._redact.data(await work())

    def _words(self, error: Exception) -> str:
        return self._redact.text(f"{type(error).__name__}: {error}")

    def _heed_leadership(self) -> None:
        if not self._may_act():
            raise asyncio.CancelledError  # as when the daemon stops; DBOS leaves the step and the run as they were

    async def carry(self, run: str) -> str:
        """The workflow's inside; DBOS calls it."""
        task = asyncio.current_task()
        if self._stopping or task is None or run in self._tasks:
            raise asyncio.CancelledError
        self._tasks[run] = task
        try:
            return await self._body(run)
        except Exception as error:
            log.exception("a run could not be brought to its end", run=run)
            raise EngineError(self._words(error)) from None  # DBOS keeps it, and writes it to a log of its own
        finally:
            self._tasks.pop(run, None)

    @property
    def running(self) -> frozenset[str]:
        """The runs that this process works on right now."""
        return frozenset(self._tasks)

    async def stop(self, within: timedelta) -> bool:
        """Interrupt every run where it waits, let the call under way end, and close. They continue at the next launch.

        Whether all stopped: False if a call may still be under way.
        """
        global _current  # noqa: PLW0603 - see launch
        self._stopping = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        late: set[asyncio.Task[Any]] = set()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=within.total_seconds())
            if late:
                log.warning("runs did not stop in time; they are taken up at the next start", runs=sorted(self._tasks))
        await asyncio.to_thread(DBOS.destroy)
        # DBOS had made its own thread pool the loop's, and has just shut it down.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(thread_name_prefix="worker"))
        _current = None
        return not late


def _make_file(journal: str) -> None:
    """A new SQLite file is for its owner alone, as the journal's is."""
    url = make_url(_store_url(journal))
    if url.get_backend_name() == "sqlite":
        with suppress(FileExistsError):
            os.close(os.open(url.database or "", os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _store_url(journal: str) -> str:
    """Beside the journal: the same PostgreSQL database (schema ``dbos``), or a file of its own beside the SQLite file."""
    url = make_url(journal)
    if url.get_backend_name() == "sqlite":
        return f"sqlite:///{url.database}.engine"
    return url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
