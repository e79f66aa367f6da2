"""A long history, put straight into an empty journal with true hashes: what daemons wrote over months, in minutes.

In: the URL of an empty store, how many entries. Out: a journal that ``journal verify`` finds whole. Every tenth entry begins a story: an
alert that comes, is decided and ends; one in four stories has a run with two steps and a change. Texts are those of real records, made once
and filled in, since making each as the daemon does would take an hour. Indexes are built when all rows are there.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects import sqlite as sqlite_dialect
from sqlalchemy.schema import CreateIndex

from benchmarks.processes import ROOT
from remediator.ids import new_id
from remediator.journal.chain import GENESIS, Chain, digest_of
from remediator.journal.redact import canonical
from remediator.journal.rows import episode_id, stamp
from remediator.journal.schema import CHANGE, DECISION, DELIVERY, ENTRY, EPISODE, METADATA, REVISION, RUN, STEP
from remediator.journal.store import Store
from remediator.model import (
    Alert,
    AlertStatus,
    Change,
    ChangeState,
    Decision,
    DecisionKind,
    Delivery,
    Episode,
    Evidence,
    Resource,
    Run,
    RunState,
    Step,
    StepState,
    Target,
    Trigger,
    TriggerKind,
    Verdict,
    encode,
    evolve,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Table

__all__ = ["ENTRIES_OF_A_STORY", "NODES", "PLAYBOOKS", "SPAN", "fill"]

ENTRIES_OF_A_STORY = 10
"""On average: eight of an alert that nobody takes, sixteen where there is a run, which is one in four."""
RUN_ONE_IN = 4
NODES = 1000
PLAYBOOKS = 20
SPAN = timedelta(days=120)
"""A quarter of it is older than what settings keep."""
STILL_OPEN = 40
"""The last alerts have not ended."""
LEFT_BEHIND = 20
"""The last changes were not put back."""
GATES = ("paused", "breaker", "cooldown", "attempts", "budget", "concurrent", "window", "quorum", "blast_radius", "target_exists")
_BATCH = 20_000
_T0, _T1, _T2, _T3 = (datetime(2001 + number, 1, 1, tzinfo=UTC) for number in range(4))
"""Stand for the moments of a story."""
_TABLES = (DELIVERY, EPISODE, DECISION, RUN, STEP, CHANGE, REVISION, ENTRY)


def fill(url: str, entries: int, *, until: datetime) -> int:
    """Fill the empty journal at ``url`` (its tables are there) with at least ``entries`` that end at ``until``; how many there are then."""
    rows = _Stories(entries, until)
    store = Store(url, deadline=timedelta(hours=1))
    try:
        if store.path is not None:
            with closing(sqlite3.connect(store.path, isolation_level=None)) as connection:
                _fill_sqlite(connection, rows)
        else:
            _fill_postgres(store, rows)
    finally:
        store.close()
    return rows.chain.seq


def _fill_sqlite(connection: sqlite3.Connection, rows: _Stories) -> None:
    for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -400000", "temp_store = FILE"):
        connection.execute(f"PRAGMA {pragma}")
    for index in _indexes():
        connection.execute(f"DROP INDEX {index.name}")
    into = {table: f"INSERT INTO {table.name} VALUES ({', '.join('?' * len(table.columns))})" for table in _TABLES}
    connection.execute("BEGIN")
    for table, some in rows.batches():
        connection.executemany(into[table], some)
    connection.execute("UPDATE head SET seq = ?, hash = ?", rows.chain.mark())
    connection.execute("COMMIT")
    for index in _indexes():
        connection.execute(str(CreateIndex(index).compile(dialect=sqlite_dialect.dialect())))
    connection.execute("PRAGMA journal_mode = WAL")


def _fill_postgres(store: Store, rows: _Stories) -> None:
    with store.writing.begin() as connection:
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
        connection.exec_driver_sql("SET LOCAL maintenance_work_mem = '512MB'")
        for index in _indexes():
            connection.exec_driver_sql(f"DROP INDEX {index.name}")
        raw: Any = connection.connection.driver_connection
        with raw.cursor() as cursor:
            for table, some in rows.batches():
                with cursor.copy(f"COPY {table.name} FROM STDIN") as copy:
                    copy.write("".join(map(_copied, some)))
        connection.exec_driver_sql("UPDATE head SET seq = %s, hash = %s", rows.chain.mark())
        for index in _indexes():
            connection.exec_driver_sql(str(CreateIndex(index).compile(dialect=postgresql.dialect())))
    # As autovacuum would have done long ago.
    with store.apart("vacuum") as connection:
        connection.exec_driver_sql("SET statement_timeout = 0")
        connection.exec_driver_sql("VACUUM (ANALYZE)")
        connection.invalidate()  # nobody else has its engine


def _indexes() -> list[Any]:
    return [index for table in METADATA.sorted_tables for index in sorted(table.indexes, key=lambda one: str(one.name))]


_ESCAPED = str.maketrans({"\\": "\\\\", "\n": "\\n", "\t": "\\t"})


def _copied(row: tuple[Any, ...]) -> str:
    """A line of PostgreSQL's COPY."""
    return "\t".join(["\\N" if value is None else str(value).translate(_ESCAPED) for value in row]) + "\n"


class _Text:
    """The JSON of a record with names in it that are replaced."""

    def __init__(self, data: bytes) -> None:
        self._text = data.decode()

    def __call__(self, values: dict[str, str]) -> str:
        text = self._text
        for name, value in values.items():
            text = text.replace(name, value)
        return text


def _samples() -> dict[str, _Text]:
    target = Target(kind="Node", name="@NODE", uid="@NODE-uid")
    alert = Alert(
        name="@ALERT",
        fingerprint="@PRINT",
        starts_at=_T0,
        status=AlertStatus.FIRING,
        labels={"alertname": "@ALERT", "node": "@NODE", "severity": "warning", "job": "node-exporter"},
        annotations={"summary": "What @ALERT says of @NODE"},
        generator_url="http://prometheus:9090/graph",
    )
    resolved = evolve(alert, status=AlertStatus.RESOLVED, ends_at=_T3)
    delivery = Delivery(
        id="@D", received_at=_T1, receiver="remediator", group_key='{}:{alertname="@ALERT"}', status="firing", truncated=0, alerts=(alert,)
    )
    ended = evolve(delivery, received_at=_T3, status="resolved", alerts=(resolved,))
    unmatched = Decision(id="@X", at=_T1, delivery="@D", alert=alert, decision=DecisionKind.UNMATCHED)
    gates = tuple(Verdict(gate=name, allowed=True, detail="nothing speaks against it", at=_T1) for name in GATES)
    allowed = evolve(unmatched, decision=DecisionKind.RUN, playbook="@PLAYBOOK", target=target, gates=gates, run="@R")
    over = evolve(unmatched, at=_T3, alert=resolved, decision=DecisionKind.RESOLVED)
    episode = Episode(
        fingerprint="@PRINT",
        starts_at=_T0,
        name="@ALERT",
        labels=alert.labels,
        first_seen=_T1,
        last_seen=_T1,
        decision=DecisionKind.UNMATCHED,
    )
    led = evolve(episode, decision=DecisionKind.RUN, playbook="@PLAYBOOK", target=target, run="@R")
    seen = Evidence(name="pod", at=_T2, data={"phase": "Running", "restarts": 3, "log": ["a line of a container's log"] * 5})
    first = Step(name="restart", action="cilium.restart_agent", rung=0, index=0, state=StepState.PENDING, parameters={"timeout": "30s"})
    second = evolve(first, name="look", action="wait", index=1)
    begun = evolve(first, state=StepState.RUNNING, started_at=_T1, attempts=1)
    done = evolve(begun, state=StepState.SUCCEEDED, ended_at=_T2, outcome="restarted", evidence=(seen,))
    looked = evolve(second, state=StepState.SUCCEEDED, started_at=_T2, ended_at=_T2, attempts=1, outcome="ok")
    run = Run(
        id="@R",
        playbook="@PLAYBOOK",
        revision="0123456789ab",
        trigger=Trigger(kind=TriggerKind.ALERT, by="alertmanager"),
        alert=alert,
        target=target,
        state=RunState.RUNNING,
        started_at=_T1,
        deadline=_T3,
        steps=(first, second),
    )
    whole = evolve(run, state=RunState.HEALED, ended_at=_T2, steps=(done, looked))
    change = Change(
        id="@C",
        run="@R",
        step="restart",
        action="cilium.restart_agent",
        verb="delete",
        resource=Resource(kind="Pod", namespace="kube-system", name="cilium-@NODE"),
        before={"uid": "@C-uid"},
        state=ChangeState.INTENDED,
        at=_T1,
    )
    nouns = {
        "unmatched": unmatched,
        "allowed": allowed,
        "over": over,
        "episode": episode,
        "episode ended": evolve(episode, resolved_at=_T3, last_seen=_T3, deliveries=2),
        "led": led,
        "led ended": evolve(led, resolved_at=_T3, last_seen=_T3, deliveries=2),
        "step begun": begun,
        "step": done,
        "look begun": evolve(second, state=StepState.RUNNING, started_at=_T2, attempts=1),
        "look": looked,
        "run begun": run,
        "run": whole,
        "run row": evolve(whole, steps=()),
        "intended": change,
        "kept": evolve(change, state=ChangeState.KEPT, ended_at=_T2),
        "applied": evolve(change, state=ChangeState.APPLIED, ended_at=_T2),
    }
    texts = {name: _Text(canonical(noun)) for name, noun in nouns.items()}
    return texts | {"delivery": _Text(encode(delivery)), "ended": _Text(encode(ended))}


class _Stories:
    """Rows by table, in batches; the chain's head is right when they are through."""

    def __init__(self, entries: int, until: datetime) -> None:
        self._count = -(-entries // ENTRIES_OF_A_STORY)
        self._apart = SPAN / self._count
        self._began = until - SPAN
        self._texts = _samples()
        self._rows: dict[Table, list[tuple[Any, ...]]] = defaultdict(list)
        self.chain = Chain(0, GENESIS, "")

    def batches(self) -> Iterator[tuple[Table, list[tuple[Any, ...]]]]:
        """In bounded memory."""
        text = (ROOT / "playbooks" / "bgp-session-operator.yaml").read_text(encoding="utf-8")
        self.chain.at = stamp(self._began)
        self._rows[REVISION].append(("0123456789ab", "playbook-0", text))
        self._log("revision", "0123456789ab", digest_of(text))
        for number in range(self._count):
            self._tell(number)
            if len(self._rows[ENTRY]) >= _BATCH:
                yield from self._rows.items()
                self._rows.clear()
        yield from self._rows.items()

    def _log(self, kind: str, ref: str, data: str) -> None:
        self._rows[ENTRY].append(self.chain.append(kind, ref, data))

    def _tell(self, number: int) -> None:
        has_run, still = number % RUN_ONE_IN == RUN_ONE_IN - 1, self._count - number <= STILL_OPEN
        begin = (self._began + number * self._apart).replace(microsecond=0)
        moments = [begin + timedelta(seconds=seconds) for seconds in (-30, 0, 40, 300)]
        stamps = [stamp(moment) for moment in moments]
        values = {f"{2001 + n}-01-01T00:00:00Z": f"{one[:19]}Z" for n, one in enumerate(stamps)}
        node, playbook = f"node-{number % NODES}", f"playbook-{number // RUN_ONE_IN % PLAYBOOKS}"
        alert = f"PlaybookAlert{number // RUN_ONE_IN % PLAYBOOKS}" if has_run else f"NobodyTakes{number % 30}"
        print_ = f"{number % 50_000:016x}"
        values |= {"@NODE": node, "@ALERT": alert, "@PRINT": print_, "@PLAYBOOK": playbook}
        if has_run:
            values |= {"@R": new_id(moments[1]), "@C": new_id(moments[1])}
        self._begins(moments, stamps, values, has_run=has_run, ended=not still)
        if has_run:
            self._runs(stamps, values, left=self._count - number <= LEFT_BEHIND * RUN_ONE_IN)
        if not still:
            self._ends(moments, stamps, values, "led ended" if has_run else "episode ended")

    def _begins(self, moments: list[datetime], stamps: list[str], values: dict[str, str], *, has_run: bool, ended: bool) -> None:
        self._delivered("delivery", "allowed" if has_run else "unmatched", moments[1], stamps[1], values)
        text = self._texts["led" if has_run else "episode"](values)
        episode = episode_id(values["@PRINT"], moments[0])
        self._log("episode", episode, digest_of(text))
        if not ended:
            self._rows[EPISODE].append((episode, values["@PRINT"], stamps[0], values["@ALERT"], None, text))

    def _delivered(self, delivery: str, decision: str, at: datetime, stamp_: str, values: dict[str, str]) -> None:
        self.chain.at = stamp_
        values["@D"], values["@X"] = id_, decided = new_id(at), new_id(at)
        text = self._texts[delivery](values)
        self._rows[DELIVERY].append((id_, stamp_, stamp_, text))
        self._log("delivery", id_, digest_of(text))
        self._log("decided", id_, f'{{"at":"{stamp_}"}}')
        text = self._texts[decision](values)
        run = decision == "allowed"
        of_run = (values["@PLAYBOOK"], f"Node/{values['@NODE']}") if run else (None, None)
        kind = {"allowed": "run", "unmatched": "unmatched", "over": "resolved"}[decision]
        row = decided, stamp_, id_, values["@ALERT"], values["@PRINT"], *of_run, kind, values["@R"] if run else None, text
        self._rows[DECISION].append(row)
        self._log("decision", decided, text)

    def _runs(self, stamps: list[str], values: dict[str, str], *, left: bool) -> None:
        def said(kind: str, ref: str, name: str) -> str:
            text = self._texts[name](values)
            self._log(kind, ref, text)
            return text

        run, change = values["@R"], values["@C"]
        said("run", run, "run begun")
        said("step", f"{run}/0", "step begun")
        said("change", change, "intended")
        self.chain.at = stamps[2]
        text = said("change", change, "applied" if left else "kept")
        self._rows[CHANGE].append((change, run, stamps[1], left, text))
        self._rows[STEP].append((f"{run}/0", run, 0, said("step", f"{run}/0", "step")))
        said("step", f"{run}/1", "look begun")
        self._rows[STEP].append((f"{run}/1", run, 1, said("step", f"{run}/1", "look")))
        said("run", run, "run")
        row = values["@PLAYBOOK"], f"Node/{values['@NODE']}", "healed", False, stamps[1], stamps[2], self._texts["run row"](values)
        self._rows[RUN].append((run, *row))

    def _ends(self, moments: list[datetime], stamps: list[str], values: dict[str, str], name: str) -> None:
        self._delivered("ended", "over", moments[3], stamps[3], values)
        text = self._texts[name](values)
        episode = episode_id(values["@PRINT"], moments[0])
        self._rows[EPISODE].append((episode, values["@PRINT"], stamps[0], values["@ALERT"], stamps[3], text))
        self._log("episode", episode, digest_of(text))
