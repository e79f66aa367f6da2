"""The chain: what it is computed over, and that every kind of tampering shows."""

from __future__ import annotations

import asyncio
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine

from remediator.journal import audit
from remediator.journal.chain import GENESIS, Chain, check_links, digest, link
from remediator.journal.schema import METADATA
from remediator.model import ChangeState, DecisionKind, StepState, encode, evolve

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3),
    max_leaves=8,
)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(at=text, kind=text, ref=text, data=plain)
def test_the_hash_is_over_json_with_sorted_keys(at, kind, ref, data):
    def spelled(value):
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    entry = {"seq": 7, "at": at, "kind": kind, "ref": ref, "data": data, "previous": GENESIS}
    # Control characters may be escaped in two ways in JSON; everything else has one form.
    told = link(7, at, kind, ref, encode(data).decode(), GENESIS)
    if not any(ord(char) < 32 or ord(char) == 127 for char in spelled(entry)) and "\\u" not in spelled(entry):
        data_text = spelled(data)
        assert link(7, at, kind, ref, data_text, GENESIS) == hashlib.sha256(spelled(entry).encode()).hexdigest()
    assert told == link(7, at, kind, ref, encode(data).decode(), GENESIS)
    assert told != link(8, at, kind, ref, encode(data).decode(), GENESIS)


@pytest.mark.parametrize("size", [0, 1, 2047, 2048, 5000, 65536, 65537, 200_000])
def test_a_digest_is_that_of_the_text(size):
    text = "é" * (size // 2) + "x" * (size % 2)
    assert digest(text) == hashlib.sha256(text.encode()).hexdigest()


def links(count):
    chain = Chain(0, GENESIS, "2026-01-05T10:00:00.000000Z")
    rows = [list(chain.append("note", f"ref-{number}", f'{{"n":{number}}}')) for number in range(count)]
    return rows, chain.mark()


def test_an_untouched_chain_is_fine():
    assert list(check_links(*links(5))) == []
    assert list(check_links([], (0, GENESIS))) == []


@given(number=st.integers(0, 4), field=st.integers(1, 6))
def test_any_altered_field_shows(number, field):
    rows, head = links(5)
    rows[number][field] += " "
    assert any(f"entry {number + 1} " in problem or "head" in problem for problem in check_links(rows, head))


@given(number=st.integers(0, 4))
def test_a_missing_entry_shows(number):
    rows, head = links(5)
    del rows[number]
    assert list(check_links(rows, head))


def test_a_rewound_chain_goes_on_from_there():
    chain = Chain(0, GENESIS, "now")
    mark = chain.mark()
    first = chain.append("note", "a", "1")
    chain.rewind(mark)
    assert chain.append("note", "a", "1") == first


@pytest.fixture
async def filled(journal, make):
    """A journal with one of everything."""
    delivery, run = make.delivery(id="d1"), make.run(id="r1")
    await journal.add_delivery(delivery)
    decision = make.decision(id="x1", delivery="d1", decision=DecisionKind.RUN, run="r1")
    await journal.decide("d1", [decision], episodes=[make.episode()], runs=[run])
    await journal.save_step("r1", make.step(1, state=StepState.SUCCEEDED))
    change = make.change("r1", id="c1")
    await journal.save_change(change)
    await journal.save_change(evolve(change, state=ChangeState.APPLIED))
    await journal.add_pause(make.pause(id="p1"))
    await journal.end_pauses(playbook=None, target=None, by="anna", at=make.time(1))
    await journal.keep_revision("v1", "p", "text")
    assert (await journal.verify()).ok
    return journal


TAMPERINGS = [
    ("UPDATE delivery SET data = replace(data, 'node-3', 'node-4')", "delivery d1 is not what entry 1 says"),
    ("UPDATE delivery SET decided_at = NULL", "delivery d1: the column decided_at says None"),
    ("UPDATE delivery SET received_at = '2026'", "delivery d1: the column received_at says '2026'"),
    ("DELETE FROM delivery", "delivery d1 is gone"),
    ("UPDATE decision SET data = replace(data, '\"run\"', '\"held\"')", "decision x1 is not what entry 3 says"),
    ("UPDATE decision SET playbook = 'other'", "decision x1: the column playbook says 'other', its record None"),
    ("INSERT INTO decision (id, at, decision, data) SELECT 'x2', at, decision, data FROM decision", "decision x2 has no entry"),
    ("UPDATE episode SET resolved_at = '2026'", "the column resolved_at says '2026'"),
    ("DELETE FROM episode", "is gone; entry 4"),
    ("UPDATE run SET state = 'healed'", "run r1: the column state says 'healed', its record 'running'"),
    ("UPDATE run SET data = replace(data, 'cilium-agent-down', 'other')", "run r1 is not what entry 5 says"),
    ("UPDATE run SET data = 'no json'", "run r1 is not what entry 5 says"),
    ("DELETE FROM run", "run r1 is gone"),
    ("DELETE FROM run", "step r1/0 belongs to no run"),
    ("UPDATE step SET data = replace(data, 'succeeded', 'failed')", "step r1/1 is not what the log says"),
    ("UPDATE step SET position = 9 WHERE position = 0", "step 0 (step-0) of a run is gone"),
    ("DELETE FROM step WHERE position = 1", "step 1 (step-1) of a run is gone"),
    ("INSERT INTO step SELECT 'r1/2', run, 2, data FROM step WHERE position = 1", "step r1/2 is not what the log says"),
    ("UPDATE change SET data = replace(data, 'applied', 'intended')", "change c1 is not what entry 8 says"),
    ("UPDATE change SET left_behind = NOT left_behind", "change c1: the column left_behind"),
    ("UPDATE change SET data = 'no json'", "change c1 cannot be read"),
    ("UPDATE pause SET ended_at = NULL", "pause p1: the column ended_at says None"),
    ("UPDATE revision SET data = 'other text'", "revision v1 is not what entry 11 says"),
    ("DELETE FROM entry WHERE seq = 4", "entries 4 to 4 are missing"),
    ("DELETE FROM entry WHERE seq = 11", "the log ends at entry 10"),
    ("DELETE FROM entry", "the log ends at entry 0"),
    ("DELETE FROM head", "its head says entry -1"),
    ("UPDATE entry SET data = '{}' WHERE seq = 7", "entry 7 (change c1) was altered"),
    ("UPDATE entry SET hash = previous WHERE seq = 7", "entry 7 (change c1) was altered"),
]


@pytest.fixture
def outsider(store_url):
    """A connection that somebody opens past the journal."""
    engine = create_engine(store_url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@pytest.mark.usefixtures("filled")
async def test_tampering_shows(outsider):
    for tampering, problem in TAMPERINGS:
        outsider.exec_driver_sql(tampering.replace("%", "%%"))
        report = audit.verify(outsider)
        assert not report.ok, tampering
        assert any(problem in found for found in report.problems), (tampering, report.problems)
        outsider.rollback()
    assert audit.verify(outsider).ok


async def test_a_report_is_bounded(journal, outsider):
    await asyncio.gather(*[journal.keep_revision(f"v{number}", "p", f"text {number}") for number in range(130)])
    outsider.exec_driver_sql("UPDATE revision SET data = 'x'")
    outsider.commit()
    report = await journal.verify()
    assert (report.ok, report.entries, len(report.problems)) == (False, 130, 100)


def test_all_tables_are_audited():
    audited = {book.table.name for book in audit.BOOKS} | {"run", "step", "entry", "head", "checkpoint", "verified"}
    assert audited == set(METADATA.tables)
