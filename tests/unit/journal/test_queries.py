"""Lists: filters, order, pages, and that each of them has an index."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, event

from remediator.journal import queries
from remediator.model import ChangeState, DecisionKind, RunState, Target, evolve


async def pages(ask):
    """Every page of a list, following its cursors."""
    cursor, found = None, []
    while True:
        page = await ask(cursor)
        found.append(page.items)
        cursor = page.next
        if cursor is None:
            return found


async def test_pages_are_newest_first_and_complete(journal, make):
    # Several at the same moment: the id decides then.
    deliveries = [make.delivery(at=number // 3) for number in range(10)]
    for delivery in deliveries:
        await journal.add_delivery(delivery)
    newest = sorted(deliveries, key=lambda delivery: (delivery.received_at, delivery.id), reverse=True)
    found = await pages(lambda cursor: journal.deliveries(limit=4, cursor=cursor))
    assert [len(page) for page in found] == [4, 4, 2]
    assert [delivery for page in found for delivery in page] == newest
    exactly = await pages(lambda cursor: journal.deliveries(limit=5, cursor=cursor))
    assert [len(page) for page in exactly] == [5, 5]
    assert [len(page) for page in await pages(lambda cursor: journal.deliveries(limit=0, cursor=cursor))] == [1] * 10


async def test_a_page_neither_repeats_nor_hides_what_comes_in_meanwhile(journal, make):
    for number in range(4):
        await journal.add_delivery(make.delivery(at=number))
    first = await journal.deliveries(limit=2)
    await journal.add_delivery(make.delivery(at=10))
    second = await journal.deliveries(limit=10, cursor=first.next)
    assert [delivery.received_at for delivery in (*first.items, *second.items)] == [make.time(at) for at in (3, 2, 1, 0)]


async def test_undecided_goes_on_after_an_id(journal, make):
    deliveries = [make.delivery(at=number) for number in range(5)]
    for delivery in reversed(deliveries):
        await journal.add_delivery(delivery)
    await journal.decide(deliveries[1].id, [])
    assert await journal.undecided(limit=2) == [deliveries[0], deliveries[2]]
    assert await journal.undecided(limit=2, after=deliveries[2].id) == deliveries[3:]
    assert await journal.undecided_names(2) == [deliveries[0].id, deliveries[2].id]
    assert await journal.undecided_names(10, deliveries[2].id) == [deliveries[3].id, deliveries[4].id]
    asked = [deliveries[3].id, "unknown", deliveries[1].id, deliveries[0].id]
    assert await journal.undecided_of(asked) == [deliveries[0], deliveries[3]], "what is decided is not among them"


async def test_decisions_by_each_filter(journal, make):
    node = Target(kind="Node", name="node-3", uid="u")
    wanted = make.decision(
        at=5,
        delivery="d1",
        alert=make.alert(name="A", fingerprint="f1"),
        playbook="p1",
        target=node,
        decision=DecisionKind.RUN,
        run="r1",
    )
    other = make.decision(
        at=1,
        delivery="d2",
        alert=make.alert(name="B", fingerprint="f2"),
        playbook="p2",
        target=Target(kind="Pod", namespace="kube-system", name="node-3"),
        run="r2",
    )
    manual = make.decision(at=2, alert=None)
    await journal.decide(None, [wanted, other, manual])
    filters = {
        "delivery": "d1",
        "fingerprint": "f1",
        "playbook": "p1",
        "target": "Node/node-3",
        "run": "r1",
        "decision": DecisionKind.RUN,
        "name": "A",
        "since": make.time(3),
    }
    for name, value in filters.items():
        assert (await journal.decisions(**{name: value})).items == (wanted,), name
    assert (await journal.decisions(**filters)).items == (wanted,)
    assert (await journal.decisions()).items == (wanted, manual, other)
    assert (await journal.decisions(target="Pod/kube-system/node-3")).items == (other,)
    assert (await journal.decisions(since=make.time(5))).items == (wanted,)


async def test_episodes_by_their_keys_however_many_are_asked_for(journal, make):
    there = [make.episode(at=number, fingerprint=f"f{number % 3}") for number in range(5)]
    await journal.decide(None, [], episodes=there)
    asked = [(one.fingerprint, one.starts_at) for one in there[1:]]
    asked += [("f0", make.time(1)), *(("unknown", make.time(number)) for number in range(700))]
    found = await journal.episodes_of(asked)
    assert sorted(found, key=lambda one: one.starts_at) == there[1:]
    assert await journal.episodes_of([]) == []


async def test_runs_by_each_filter(journal, make):
    wanted = make.run(at=5, playbook="p1", state=RunState.HEALED, dry_run=True)
    other = make.run(at=1, playbook="p2", target=Target(kind="Node", name="node-4"))
    for run in (wanted, other):
        await journal.save_run(run)
    filters = {
        "playbook": "p1",
        "target": "Node/node-3",
        "state": [RunState.HEALED, RunState.DONE],
        "since": make.time(3),
        "dry_run": True,
    }
    for name, value in filters.items():
        assert (await journal.runs(**{name: value})).items == (wanted,), name
    assert (await journal.runs(**filters)).items == (wanted,)
    assert (await journal.runs(dry_run=False)).items == (other,)
    assert (await journal.runs(state=[])).items == ()
    assert (await journal.runs()).items == (wanted, other)
    assert await journal.open_runs() == [other]


async def test_runs_without_their_steps_by_id_and_by_target(journal, make):
    runs = [make.run(at=at, target=Target(kind="Node", name=f"node-{at % 2}")) for at in range(4)]
    for run in runs:
        await journal.save_run(run)
    bare = [evolve(run, steps=()) for run in runs]
    assert await journal.bare_runs(ids=[runs[0].id, runs[3].id, "unknown"]) == [bare[3], bare[0]]
    assert await journal.bare_runs(target="Node/node-1") == [bare[3], bare[1]]
    assert await journal.bare_runs(target="Node/node-1", limit=1) == [bare[3]]
    assert await journal.bare_runs(ids=[]) == []
    assert await journal.runs_there([runs[0].id, runs[3].id, "unknown"]) == {runs[0].id, runs[3].id}
    assert await journal.runs_there([]) == frozenset()


async def test_which_playbooks_have_run(journal, make):
    for playbook, dry in (("a", False), ("b", True), ("c", True), ("c", False)):
        await journal.save_run(make.run(playbook=playbook, dry_run=dry))
    assert await journal.ran(["c", "never", "b", "a"]) == ["c", "a"]


async def test_what_was_done_is_what_took_effect_or_may_have_in_live_runs(journal, make):
    agent, node = "cilium.restart_agent", "Node/node-3"
    live, other = make.run(state=RunState.HEALED), make.run(target=Target(kind="Node", name="node-4"))
    dry = make.run(dry_run=True)
    for run in (live, other, dry):
        await journal.save_run(run)
    counted = [make.change(live.id, at=at, state=state) for at, state in ((1, ChangeState.KEPT), (2, ChangeState.UNKNOWN))]
    elsewhere = make.change(other.id, at=3, state=ChangeState.APPLIED)
    not_counted = [
        make.change(live.id, at=4, state=ChangeState.ABSENT),
        make.change(live.id, at=4, state=ChangeState.KEPT, undoes="x"),
        make.change(live.id, at=4, state=ChangeState.APPLIED, action="node.cordon"),
        make.change(dry.id, at=4, dry_run=True),
    ]
    for change in (*counted, elsewhere, *not_counted):
        await journal.save_change(change)
    found = await journal.done(frozenset({agent}), since=make.time(0))
    assert [(d.at, d.target, d.run, d.state) for d in found] == [
        (make.time(3), "Node/node-4", other.id, "running"),
        (make.time(2), node, live.id, "healed"),
        (make.time(1), node, live.id, "healed"),
    ]
    assert [d.at for d in await journal.done(frozenset({agent}), since=make.time(2), target=node)] == [make.time(2)]
    assert await journal.done(frozenset(), since=make.time(0)) == []


@pytest.fixture
def asked():
    """The statements that reach the database meanwhile."""
    seen = []

    def remember(_connection, _cursor, statement, parameters, _context, _many):
        seen.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", remember)
    yield seen
    event.remove(Engine, "before_cursor_execute", remember)


async def test_every_list_has_an_index(open_journal, tmp_path, make, asked):
    journal = await open_journal(f"sqlite:///{tmp_path}/journal.db")
    run = make.run()
    await journal.save_run(run)
    cursor = (await journal.runs(limit=1)).next
    assert cursor is None
    await journal.save_run(make.run(at=1))
    cursor = (await journal.runs(limit=1)).next
    asked.clear()
    await journal.undecided(after="x")
    await journal.deliveries(cursor=cursor)
    for name in ("delivery", "fingerprint", "playbook", "target", "run", "decision", "name"):
        await journal.decisions(**{name: "x"})
        await journal.decisions(**{name: "x"}, cursor=cursor)
    await journal.decisions(since=make.time(0))
    for filters in ({}, {"fingerprint": "x"}, {"name": "x"}):
        await journal.episodes(**filters)
        await journal.episodes(**filters, open_only=False, cursor=cursor)
    await journal.episodes_of([("x", make.time(0))])
    for filters in ({}, {"playbook": "x"}, {"target": "x"}, {"since": make.time(0)}, {"dry_run": False}):
        await journal.runs(**filters, cursor=cursor)
    await journal.run(run.id)
    await journal.bare_runs(ids=["x"])
    await journal.runs_there(["x"])
    await journal.bare_runs(target="x")
    await journal.ran(["x"])
    await journal.history("Node/node-3", since=make.time(0))
    for target in (None, "Node/node-3"):
        await journal.done(frozenset({"a"}), since=make.time(0), target=target)
    for filters in ({}, {"run": "x"}, {"left_behind": True}):
        await journal.changes(**filters)
    await journal.pauses(make.time(0))
    for filters in ({}, {"ref": "x"}, {"kind": "x"}):
        await journal.entries(**filters, after=5)
    plans = await plan(journal, [one for one in asked if one[0].startswith("SELECT")])
    assert len(plans) > 40
    for statement, detail in plans:
        assert "USING" in detail, (statement, detail)
        if "IN (" not in statement:  # the steps and changes of one page of runs are few enough to be sorted
            assert "TEMP B-TREE" not in detail, (statement, detail)


async def plan(journal, statements):
    def explain(connection):
        return [
            (statement, " | ".join(row.detail for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)))
            for statement, parameters in statements
        ]

    return await journal._read(explain)


@pytest.mark.parametrize("dry_run", [True, False])
async def test_dry_runs_among_live_ones_are_found_by_index_and_so_are_live_ones_among_dry_ones(plan_of, dry_run):
    """By the database's own plan, newest first without sorting."""
    found = await plan_of(lambda connection: queries.runs(connection, {}, None, None, dry_run, 50, None))
    assert "run_dry" in found
    assert "sort" not in found
    assert "temp b-tree" not in found
