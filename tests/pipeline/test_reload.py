"""New playbooks in a running daemon: all of them or none, said everywhere; also as a mounted ConfigMap brings them."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import timedelta

import pytest

from remediator import daemon
from remediator.errors import DocumentError, JournalUnavailable
from remediator.server.service import MatchRequest
from remediator.telemetry import METRICS


def loaded(house):
    return sorted(p.name for p in house.operations.library.playbooks)


async def changed(house, names):
    async def look():
        return loaded(house) == names

    await house.until(look, f"playbooks {names}")


async def test_a_good_one_is_in_force_at_once(house, text):
    house.put("remedy.yaml", text())
    await house.start()
    report = await house.operations.match(MatchRequest(labels={"alertname": "Other", "node": "node-3"}))
    assert report.decision == "unmatched"
    house.put("more.yaml", text("more", alert="Other"))
    report = await house.operations.reload()
    assert (report.ok, report.problems, report.playbooks) == (True, (), 2)
    report = await house.operations.match(MatchRequest(labels={"alertname": "Other", "node": "node-3"}))
    assert report.playbook == "more"


async def test_runs_of_one_revision_share_what_was_read_of_it(house, text):
    house.put("remedy.yaml", text())
    await house.start()
    world = house.daemon.world
    assert world.load_revision(text()) is world.load_revision(text())
    assert world.load_revision(text("more")).name == "more"


BAD = {
    "syntax": "a: [1",
    "unknown action": '{"apiVersion": "remediator.dev/v1", "kind": "Playbook", "metadata": {"name": "x"}, "ladder": '
    '[{"name": "r", "steps": [{"s": {"action": "node.cordn"}}]}]}',
    "not text": b"\xff\xfe\x00",
    "nothing": "",
    "deep": "[" * 3000,
    "a name twice": None,
}


@pytest.mark.parametrize("what", BAD)
async def test_a_bad_one_changes_nothing_and_is_said_everywhere(house, text, what):
    house.put("remedy.yaml", text())
    await house.start()
    before = house.operations.library
    bad = text() if BAD[what] is None else BAD[what]
    (house.folder / "playbooks" / "bad.yaml").write_bytes(bad if isinstance(bad, bytes) else bad.encode())
    status, problem = await house.http("POST", "/-/reload")
    assert status == 422
    assert any(re.search(r"bad\.yaml:\d+", line) for line in problem["problems"]), problem
    assert house.operations.library is before
    shown = (await house.http("GET", "/api/v1/status", token="read"))[1]
    assert shown["last_reload"]["ok"] is False
    assert shown["playbooks"] == 1
    assert METRICS.reload_ok._value.get() == 0
    assert "remediator_config_last_reload_successful 0.0" in (await house.http("GET", "/metrics", token="read"))[1]
    assert "playbooks were not reloaded" in house.log.getvalue()
    notes = await house.journal.entries(kind="reload")
    assert notes[-1].data["ok"] is False

    (house.folder / "playbooks" / "bad.yaml").unlink()
    assert (await house.http("POST", "/-/reload"))[0] == 200
    assert METRICS.reload_ok._value.get() == 1
    assert (await house.http("GET", "/api/v1/status", token="read"))[1]["last_reload"]["ok"] is True


async def test_an_empty_folder_is_refused(house, text):
    """Files that are gone for a moment must not leave the daemon without playbooks unsaid."""
    house.put("remedy.yaml", text())
    await house.start()
    (house.folder / "playbooks" / "remedy.yaml").rename(house.folder / "elsewhere.yaml")
    (house.folder / "playbooks").rmdir()
    report = await house.operations.reload()
    assert not report.ok
    assert loaded(house) == ["remedy"]


async def test_a_file_that_changes_is_noticed(house, text):
    house.put("remedy.yaml", text())
    await house.start()
    await house.watching()
    house.put("remedy.yaml", text("other"))
    await changed(house, ["other"])


async def test_a_change_that_nobody_hints_at_is_noticed_too(house, text, monkeypatch):
    """It came between the reading of the files and the watch, or the file system tells nobody."""
    monkeypatch.setattr(daemon, "_LOOK_AT_FILES", timedelta(seconds=0.3))

    async def silent(*_, **given):
        await asyncio.sleep(given["rust_timeout"] / 1000)
        if given["yield_on_timeout"]:
            yield set()
        raise FileNotFoundError("the folder is gone for a moment")

    monkeypatch.setattr(daemon.watchfiles, "awatch", silent)
    house.put("remedy.yaml", text())
    await house.start()
    house.put("remedy.yaml", text("other"))
    await changed(house, ["other"])
    assert len(await house.until(lambda: house.journal.entries(kind="reload"))) == 1
    (house.folder / "playbooks" / "remedy.yaml").unlink()
    (house.folder / "playbooks").rmdir()

    async def said():
        return not house.operations.last_reload.ok

    await house.until(said)
    assert loaded(house) == ["other"]


async def test_a_config_map_that_changes_is_noticed(house, text):
    """The kubelet writes a new hidden folder and swaps the symlink ``..data``; the visible names never change."""
    folder = house.folder / "playbooks"

    def swap(version, name):
        (folder / f"..{version}").mkdir()
        (folder / f"..{version}" / "remedy.yaml").write_text(text(name))
        (folder / "..data_tmp").symlink_to(f"..{version}")
        (folder / "..data_tmp").replace(folder / "..data")

    swap("2026_01", "before")
    (folder / "remedy.yaml").symlink_to("..data/remedy.yaml")
    await house.start()
    await house.watching()
    assert loaded(house) == ["before"]
    swap("2026_02", "after")
    await changed(house, ["after"])
    noted = await house.until(lambda: house.journal.entries(kind="reload"))
    assert noted[-1].data["ok"] is True


async def test_its_own_files_beside_the_playbooks_are_no_change(house, text):
    """A reload writes to the journal; if that were a change of the playbooks, it would never end."""
    (house.folder / "remedy.yaml").write_text(text())
    await house.start(playbooks=["remedy.yaml"])
    await house.watching()
    (house.folder / "remedy.yaml").write_text(text("other"))
    await changed(house, ["other"])
    for number in range(3):
        await house.journal.note("test", "", {"number": number})
    (house.folder / "daemon.log").write_text("a line")
    (house.folder / "remedy.yaml").write_text(text("third"))
    await changed(house, ["third"])
    assert len(await house.journal.entries(kind="reload")) <= 4, "once for each write, and perhaps for one that was seen half done"


async def test_a_journal_that_cannot_note_it_does_not_end_the_watch(house, text, monkeypatch):
    house.put("remedy.yaml", text())
    await house.start()
    await house.watching()
    note = house.journal.note

    async def fails(*_):
        raise JournalUnavailable("no space left on the device")

    monkeypatch.setattr(house.journal, "note", fails)
    house.put("remedy.yaml", text("second"))
    await changed(house, ["second"])
    monkeypatch.setattr(house.journal, "note", note)
    house.put("remedy.yaml", text("third"))
    await changed(house, ["third"])


async def test_at_start_a_bad_file_is_refused_and_named_and_the_rest_serves(house, text):
    house.put("remedy.yaml", text())
    house.put("bad.yaml", text("bad").replace('"Playbook"', '"Playbok"'))
    await house.start()
    report = house.operations.status().last_reload
    assert loaded(house) == ["remedy"]
    assert (report.ok, len(report.problems), "bad.yaml" in report.problems[0]) == (False, 1, True)
    house.put("remedy.yaml", text("better"))
    await house.operations.reload()
    assert loaded(house) == ["remedy"], "a reload is all or nothing: the old ones stay"


async def test_at_start_without_one_good_file_it_does_not_start(house, text):
    house.put("bad.yaml", text("bad").replace('"Playbook"', '"Playbok"'))
    with pytest.raises(DocumentError, match=r"bad\.yaml"):
        await house.start()


IDLE = 'settings: modes.remdy: no playbook is named "remdy"; did you mean "remedy"?'


async def test_a_mode_for_no_playbook_is_said_at_start_and_refuses_nothing(house, text):
    """The playbook that was meant to ask would act by itself, and nobody would know."""
    house.put("remedy.yaml", text())
    await house.start(modes={"*": "auto", "remdy": "suggest"})
    report = house.operations.status().last_reload
    assert (report.ok, report.problems, loaded(house)) == (True, (IDLE,), ["remedy"])
    assert IDLE in (await house.http("GET", "/", token="read"))[1].replace("&#34;", '"')
    assert METRICS.reload_ok._value.get() == 1
    logged = [json.loads(line) for line in house.log.getvalue().splitlines() if "name playbooks that are not there" in line]
    assert [(line["level"], line["problems"]) for line in logged] == [("warning", [IDLE])]


async def test_a_reload_that_takes_a_named_playbook_away_says_so(house, text):
    house.put("remedy.yaml", text())
    route = {"name": "ops", "url": "http://127.0.0.1:9/", "playbooks": ["remedy"]}
    await house.start(modes={"remedy": "suggest"}, notify=[route])
    assert house.operations.status().last_reload.problems == ()
    house.put("remedy.yaml", text("remedies"))
    status, answer = await house.http("POST", "/-/reload")
    idle = [
        'settings: modes.remedy: no playbook is named "remedy"; did you mean "remedies"?',
        'settings: notify[0].playbooks[0]: no playbook is named "remedy"; did you mean "remedies"?',
    ]
    assert (status, answer["ok"], answer["problems"], loaded(house)) == (200, True, idle, ["remedies"])
    assert (await house.journal.entries(kind="reload"))[-1].data == {"ok": True, "problems": idle}
    house.put("remedy.yaml", "a: [1")
    report = await house.operations.reload()
    assert (report.ok, report.problems[-2:], len(report.problems)) == (False, tuple(idle), 3), "they are still in force"
    house.put("remedy.yaml", text())
    assert (await house.operations.reload()).problems == ()
