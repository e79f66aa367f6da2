from __future__ import annotations

from pathlib import Path

import pytest

from remediator.errors import DocumentError, UsageError
from remediator.playbook import Library, check_paths, files_of

SETTINGS = "apiVersion: remediator.dev/v1\nkind: Settings\nserver: {insecure: true, listen: '127.0.0.1:0'}\n"


@pytest.fixture
def named(valid):
    def text(name, alert="CiliumAgentDown"):
        return valid.replace("name: example", f"name: {name}").replace("CiliumAgentDown", alert)

    return text


@pytest.fixture
def read(actions, gates):
    return lambda *paths: Library.load(paths, actions=actions, gates=gates)


def test_the_order_is_paths_then_names_then_documents(named, read, tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "z.yaml").write_text(named("one", "A"))
    (tmp_path / "b" / "a.yml").write_text(named("two", "B") + "---\n" + named("three", "C"))
    (tmp_path / "a.yaml").write_text(named("four", "D"))
    library = read(tmp_path / "b", tmp_path / "a.yaml")
    assert [playbook.name for playbook in library.playbooks] == ["two", "three", "one", "four"]


def test_a_mounted_configmap_is_read_once(named, read, tmp_path):
    data = tmp_path / "..2026_01_05"
    data.mkdir()
    (data / "p.yaml").write_text(named("one"))
    (tmp_path / "..data").symlink_to(data.name)
    (tmp_path / "p.yaml").symlink_to(Path("..data") / "p.yaml")
    (tmp_path / "notes.txt").write_text("no playbook")
    assert files_of(tmp_path) == [tmp_path / "p.yaml"]
    assert len(read(tmp_path).playbooks) == 1


def test_other_documents_of_ours_may_lie_beside(named, read, tmp_path):
    (tmp_path / "p.yaml").write_text(named("one"))
    (tmp_path / "settings.yaml").write_text(SETTINGS)
    (tmp_path / "test.yaml").write_text("apiVersion: remediator.dev/v1\nkind: PlaybookTest\ntests: []\n")
    assert [playbook.name for playbook in read(tmp_path).playbooks] == ["one"]


def test_check_looks_at_settings_too(actions, gates, tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text(SETTINGS + "prometheus: {urll: 'http://prometheus:9090'}\n")
    [problem] = check_paths([file], actions=actions, gates=gates)
    assert str(problem) == f'{file}:4:14: prometheus: unknown key "urll"; did you mean "url"?'


@pytest.mark.parametrize("content", ["", "# only a comment\n", "---\n---\n"])
def test_an_empty_file_is_a_mistake(actions, gates, tmp_path, content):
    (tmp_path / "p.yaml").write_text(content)
    [problem] = check_paths([tmp_path], actions=actions, gates=gates)
    assert problem.message == "holds no document"


def test_what_is_not_there_is_said(read, tmp_path):
    with pytest.raises(DocumentError, match="no such file or folder"):
        read(tmp_path / "nothing")


def test_an_empty_folder_is_an_empty_library(read, tmp_path):
    assert read(tmp_path).playbooks == ()


def test_not_utf8_is_a_problem_with_its_place(actions, gates, tmp_path):
    (tmp_path / "p.yaml").write_bytes(b"a: 1\nb: \xff\n")
    [problem] = check_paths([tmp_path], actions=actions, gates=gates)
    assert (problem.line, problem.column, problem.message) == (2, 4, "byte 0xff is not UTF-8")


def test_playbooks_are_found_by_name_or_refused_with_a_suggestion(named, read, tmp_path):
    (tmp_path / "p.yaml").write_text(named("cilium-agent-down"))
    library = read(tmp_path)
    assert library.by_name("cilium-agent-down") is library.playbooks[0]
    assert library.get("nope") is None
    with pytest.raises(UsageError, match='did you mean "cilium-agent-down"'):
        library.by_name("cilium-agent-dwon")


def test_the_revision_changes_with_content_and_order(named, read, tmp_path):
    (tmp_path / "a.yaml").write_text(named("one", "A"))
    (tmp_path / "b.yaml").write_text(named("two", "B"))
    first = read(tmp_path).revision
    assert read(tmp_path).revision == first
    assert read(tmp_path / "b.yaml", tmp_path / "a.yaml").revision != first
    (tmp_path / "a.yaml").write_text(named("one", "C"))
    assert read(tmp_path).revision != first


def test_one_bad_file_refuses_all_and_leaves_the_old_library_alone(named, read, tmp_path):
    (tmp_path / "a.yaml").write_text(named("one", "A"))
    old = read(tmp_path)
    (tmp_path / "b.yaml").write_text(named("two", "B").replace("cilium.restart_agent", "nope"))
    with pytest.raises(DocumentError, match=r"b\.yaml:11:\d+: .*unknown action"):
        read(tmp_path)
    assert [playbook.name for playbook in old.playbooks] == ["one"]


def test_matchers_that_only_overlap_do_not_shadow(named, read, tmp_path):
    narrow = named("narrow").replace('[alertname="CiliumAgentDown"]', '[alertname="CiliumAgentDown", severity="critical"]')
    (tmp_path / "a.yaml").write_text(narrow + "---\n" + named("wide"))
    assert len(read(tmp_path).playbooks) == 2
