"""The tests that a page shows beside a playbook."""

from __future__ import annotations

from remediator.playbook.tested import known_tests

TEST = """\
apiVersion: remediator.dev/v1
kind: PlaybookTest
playbooks: [{playbook}]
tests:
- name: {name}
- name: and more
"""


def test_a_shipped_playbook_has_those_of_its_file(root):
    (found,) = known_tests(str(root / "playbooks" / "cilium-agent-down.yaml"))
    assert found.file.endswith("playbooks/tests/cilium-agent-down.yaml")
    assert "heals a hung agent by replacing its pod once" in found.tests
    assert len(found.tests) >= 3


def test_files_that_name_it_count_and_broken_ones_and_others_do_not(tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "mine.yaml").write_text("")
    (tmp_path / "mine.test.yaml").write_text(TEST.format(playbook="mine.yaml", name="beside it"))
    (tmp_path / "tests" / "one.yaml").write_text(TEST.format(playbook="../mine.yaml", name="below it"))
    (tmp_path / "tests" / "other.yaml").write_text(TEST.format(playbook="../other.yaml", name="not of mine.yaml"))
    (tmp_path / "tests" / "broken.yaml").write_text("playbooks: [../mine.yaml")
    (tmp_path / "tests" / "odd.yaml").write_text("kind: PlaybookTest\nplaybooks: mine.yaml\ntests: 5\n")
    assert [found.tests for found in known_tests(str(tmp_path / "mine.yaml"))] == [("beside it", "and more"), ("below it", "and more")]


def test_what_was_written_anew_is_read_anew(tmp_path):
    playbook, file = tmp_path / "mine.yaml", tmp_path / "mine.test.yaml"
    file.write_text(TEST.format(playbook="mine.yaml", name="old"))
    assert known_tests(str(playbook))[0].tests[0] == "old"
    file.write_text(TEST.format(playbook="mine.yaml", name="a new one"))
    assert known_tests(str(playbook))[0].tests[0] == "a new one"


def test_without_a_file_there_are_none(tmp_path):
    assert known_tests("playbook") == ()
    assert known_tests(str(tmp_path / "nowhere" / "mine.yaml")) == ()
