"""Out as lines and in again: on either store, with all that is open, and nothing of a file that is broken."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import tracemalloc
from datetime import timedelta

import pytest

from remediator.errors import ChainBroken, JournalError, UsageError
from remediator.journal import audit, exchange, leaf, lines_of, take_in
from remediator.journal import journal as journal_module
from remediator.model import Answer, Approval, Episode, RunState, StepState, evolve


async def lines(journal):
    return [line async for line in lines_of(journal.export())]


@pytest.fixture
def taken(clock):
    """Imports lines."""

    async def take(url, given):
        return await asyncio.to_thread(take_in, url, given, source="j.jsonl", by="anna", now=clock.now())

    return take


@pytest.fixture
async def source(open_journal, tmp_path, make):
    """A journal in SQLite with something of everything, over and open."""
    journal = await open_journal(f"sqlite:///{tmp_path}/source.db")
    await make.story(journal, "over")
    await make.story(journal, "left", left=True)
    await make.story(journal, "fires", resolved=False)
    question = Approval(
        asked_at=make.time(1), expires_at=make.time(60), answers=(Answer(by="bert", at=make.time(2), approved=True),), people=2
    )
    await journal.save_run(make.run(id="r-asks", state=RunState.AWAITING_APPROVAL, approvals=(question,)))
    await make.story(journal, "running", state=RunState.RUNNING)
    await journal.save_run(evolve(await journal.run("r-running"), steps=(make.step(0, state=StepState.RUNNING),)))
    await journal.keep_revision("v1", "agent", "kind: Playbook # ö")
    await journal.add_delivery(make.delivery(id="d-waits"))
    for pause in ("p-holds", "p-ended"):
        await journal.add_pause(make.pause(id=pause, target="Node/a" if pause == "p-ended" else None))
    await journal.end_pauses(playbook=None, target="Node/a", by="anna", at=make.time(9))
    await journal.note("demoted", "agent", {"why": 1.5, "text": "«Ä» \U0001f600"})
    return journal


async def everything(journal, make):
    return {
        "runs": (await journal.runs(limit=100)).items,
        "open": await journal.open_runs(),
        "episodes": (await journal.episodes(open_only=False)).items,
        "fires": (await journal.episodes()).items,
        "decisions": (await journal.decisions(limit=100)).items,
        "deliveries": (await journal.deliveries(limit=100)).items,
        "undecided": await journal.undecided(),
        "changes": (await journal.changes(limit=100)).items,
        "left": (await journal.changes(left_behind=True)).items,
        "pauses": await journal.pauses(make.time(10)),
        "text": await journal.revision("v1"),
        "demoted": await journal.last_note("demoted"),
    }


async def test_there_and_back_with_all_that_is_open(source, store_url, taken, open_journal, make, tmp_path):
    written = await lines(source)
    done = await taken(store_url, written)
    assert (done.entries, done.kinds["run"]) == (len(written), sum(b'"kind":"run"' in line for line in written))
    there = await open_journal(store_url)
    assert (await there.verify()).problems == []
    assert await everything(there, make) == await everything(source, make)
    (note,) = await there.entries(kind="import")
    assert note.data == {"by": "anna", "entries": done.entries, "seq": done.seq}
    await make.story(there, "later")
    assert (await there.verify()).problems == [], "it goes on"
    onward = await lines(there)
    ends = f',"end":{len(written)}}}\n'.encode()
    assert written[-1].endswith(ends)
    assert onward[: done.entries] == [*written[:-1], written[-1].removesuffix(ends) + b"}\n"], "byte by byte"
    back = f"sqlite:///{tmp_path}/back.db"
    await taken(back, onward)
    home = await open_journal(back)
    assert (await home.verify()).problems == []
    assert await everything(home, make) == await everything(there, make)


async def test_what_was_pruned_stays_pruned(source, store_url, taken, open_journal, make, clock):
    clock.advance(timedelta(hours=1))
    await source.prune(before=make.time(30), most=7)
    await taken(store_url, await lines(source))
    there = await open_journal(store_url)
    before, after = await source.verify(), await there.verify()
    assert (after.problems, after.pruned) == ([], before.pruned)
    assert after.pruned.through > 0
    assert await everything(there, make) == await everything(source, make)
    await there.prune(before=make.time(90))
    assert (await there.verify()).problems == []


async def test_an_empty_file_may_have_been_cut(store_url, taken):
    with pytest.raises(ChainBroken, match="it ends without the line that ends an export"):
        await taken(store_url, [])


async def test_a_journal_that_holds_something_is_left_alone(source, store_url, taken, open_journal, make):
    there = await open_journal(store_url)
    await there.add_delivery(make.delivery(id="mine"))
    with pytest.raises(UsageError, match=r"is not empty \(its last entry is 1\): import into a new file or database"):
        await taken(store_url, await lines(source))
    assert [one.id for one in (await there.deliveries()).items] == ["mine"]


def altered(line, **fields):
    return json.dumps({**json.loads(line), **fields}, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def at(given, kind):
    """The index of the first line of that kind."""
    return next(index for index, line in enumerate(given) if json.loads(line).get("kind") == kind)


def cut_in_a_line(given):
    return [*given[:4], given[4][:-20]], UsageError, r"j\.jsonl:5: not a line of a journal's export \(the file ends here: was it cut\?\)"


def cut_between_lines(given):
    return given[:-1], ChainBroken, rf"j\.jsonl:{len(given) - 1}: it ends without the line that ends an export, so it was cut"


def cut_and_ended_by_hand(given):
    return [*given[:4], altered(given[4], end=len(given))], ChainBroken, rf"j\.jsonl:5: the export had {len(given)} entries, here are 5"


def without_its_beginning(given):
    return [*given[3:-1], altered(given[-1], end=len(given) - 3)], ChainBroken, "entries 1 to 3 are missing"


def without_a_line(given):
    return [*given[:2], *given[3:]], ChainBroken, r"j\.jsonl:3: entry 4 does not follow entry 2: lines are missing"


def a_word_altered(given):
    index = at(given, "change")
    line = given[index].replace(b"delete", b"create")
    return (
        [*given[:index], line, *given[index + 1 :]],
        ChainBroken,
        rf"j\.jsonl:{index + 1}: entry {index + 1} \(change c-over\) was altered",
    )


def a_record_altered(given):
    line = altered(given[0], record=json.loads(given[0])["record"].replace("firing", "resolved"))
    return [line, *given[1:]], ChainBroken, r"j\.jsonl:1: the record of entry 1 \(delivery d-over\) was altered"


def a_second_export_behind(given):
    return [*given, *given], ChainBroken, rf"j\.jsonl:{len(given) + 1}: there are lines after the last one"


def something_else(given):
    return [b"# Journal\n", *given], UsageError, r"j\.jsonl:1: not a line of a journal's export: JSON is malformed"


BROKEN = [
    cut_in_a_line,
    cut_between_lines,
    cut_and_ended_by_hand,
    without_its_beginning,
    without_a_line,
    a_word_altered,
    a_record_altered,
    a_second_export_behind,
    something_else,
]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
async def test_of_a_broken_file_nothing_stays(source, tmp_path, taken, open_journal, make, broken):
    given, error, words = broken(await lines(source))
    url = f"sqlite:///{tmp_path}/there.db"
    with pytest.raises(error, match=words) as caught:
        await taken(url, given)
    assert "nothing was imported" in str(caught.value)
    there = await open_journal(url)
    assert (await there.verify()).entries == 0
    assert (await everything(there, make))["runs"] == ()
    assert (await taken(url, await lines(source))).entries > 0, "and the next may be taken"


async def test_of_a_broken_file_nothing_stays_on_either_store(source, store_url, taken, open_journal):
    given = await lines(source)
    with pytest.raises(ChainBroken):
        await taken(store_url, given[:-1])
    there = await open_journal(store_url)
    assert (await there.verify()).entries == 0
    assert (await there.episodes(open_only=False)).items == ()


async def test_a_record_that_the_file_lacks_is_missed(source, tmp_path, taken):
    given = await lines(source)
    line = {name: value for name, value in json.loads(given[0]).items() if name != "record"}
    bare = json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
    with pytest.raises(ChainBroken, match=r"j\.jsonl: delivery d-over is gone; entry 1 is about it; nothing was imported"):
        await taken(f"sqlite:///{tmp_path}/there.db", [bare, *given[1:]])


async def test_an_export_that_pruning_overtakes_says_so(source, make, clock, monkeypatch):
    monkeypatch.setattr("remediator.journal.journal._EXPORTED", 5)
    clock.advance(timedelta(hours=1))
    export = source.export()
    for _ in range(5):
        await anext(export)
    await source.prune(before=make.time(30))
    with pytest.raises(JournalError, match="export it again"):
        await anext(export)


async def test_what_was_altered_while_it_was_exported_is_taken_by_its_last_word(source, store_url, taken, open_journal, make, monkeypatch):
    monkeypatch.setattr("remediator.journal.journal._EXPORTED", 5)
    export = source.export()
    early = [await anext(export) for _ in range(20)]
    episode: Episode = next(one for one in (await source.episodes(open_only=False)).items if one.run == "r-over")
    await source.save_episode(evolve(episode, deliveries=77))

    async def whole():
        for one in early:
            yield one
        async for one in export:
            yield one

    await taken(store_url, [line async for line in lines_of(whole())])
    there = await open_journal(store_url)
    assert 77 in {one.deliveries for one in (await there.episodes(open_only=False)).items}


@pytest.mark.long
async def test_neither_way_takes_more_memory_for_a_longer_journal(open_journal, make, tmp_path, monkeypatch, clock):
    """Eight times as many entries, in the same small pieces. The less of two: what else the process does meanwhile only adds."""
    for module, name in ((journal_module, "_EXPORTED"), (exchange, "_FLUSH"), (leaf, "_ENTRIES"), (audit, "_LOOK")):
        monkeypatch.setattr(module, name, 40)
    peaks: dict[str, list[int]] = {"export": [], "import": []}
    for turn, deliveries in enumerate((100, 100, 100, 800, 800)):  # the first one fills caches
        journal = await open_journal(f"sqlite:///{tmp_path}/{turn}.db")
        await asyncio.gather(*(journal.add_delivery(make.delivery(at=number)) for number in range(deliveries)))
        file = tmp_path / f"{turn}.jsonl"
        with file.open("wb") as out, traced() as peak:
            async for line in lines_of(journal.export()):
                out.write(line)
        peaks["export"].append(peak())
        with file.open("rb") as lines, traced() as peak:
            done = take_in(f"sqlite:///{tmp_path}/{turn}-there.db", lines, source="j", by="anna", now=clock.now())
        peaks["import"].append(peak())
        assert done.entries == deliveries
    for what, (_, *short, long, again) in peaks.items():
        assert min(long, again) < 1.5 * min(short), (what, peaks)


@contextlib.contextmanager
def traced():
    """Afterwards: how many bytes more were in use at the peak than at the beginning, garbage that nobody collected yet not among them."""
    gc.collect()
    usual = gc.get_threshold()
    gc.set_threshold(100, 2, 2)
    tracemalloc.start()
    seen = []
    try:
        yield lambda: seen[0]
    finally:
        gc.set_threshold(*usual)
        seen.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
