"""Playbooks of one's own beside the shipped ones: one of the same name stands in the place of the shipped one, also where it is broken."""

from __future__ import annotations

import pytest

from remediator.errors import DocumentError
from remediator.playbook import Library, files_of, shipped

NAME = "cilium-agent-down"


@pytest.fixture
def own(tmp_path):
    """own(text, name="mine.yaml"): a folder with such a file."""
    folder = tmp_path / "mine"
    folder.mkdir()

    def put(text, name="mine.yaml"):
        (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
        return folder

    return put


@pytest.fixture
def read(actions, gates):
    return lambda *paths: Library.load(paths, actions=actions, gates=gates)


@pytest.fixture
def read_rest(actions, gates):
    return lambda *paths: Library.load_rest(paths, actions=actions, gates=gates)


@pytest.fixture
def names(read):
    return {playbook.name for playbook in read(shipped()).playbooks}


@pytest.fixture
def text(valid):
    """A playbook of one's own; of no alert that a shipped one takes, unless it is said."""

    def written(name, alert="MyOwn"):
        return valid.replace("name: example", f"name: {name}").replace("CiliumAgentDown", alert)

    return written


def sources(library):
    return {playbook.name: playbook.source for playbook in library.playbooks}


def test_one_with_a_name_of_its_own_is_one_more(own, read, names, text):
    folder = own(text("mine"))
    assert {playbook.name for playbook in read(shipped(), folder).playbooks} == names | {"mine"}


@pytest.mark.parametrize("first", [True, False])
def test_one_with_the_name_of_a_shipped_one_stands_in_its_place(own, read, names, text, first):
    folder = own(text(NAME, "CiliumAgentDown"))
    found = sources(read(*((folder, shipped()) if first else (shipped(), folder))))
    assert (set(found), found[NAME]) == (names, str(folder / "mine.yaml"))
    assert sum(source.startswith(str(shipped())) for source in found.values()) == len(names) - 1


def test_of_ones_own_two_of_one_name_are_refused_as_ever(own, read, text):
    own(text(NAME), "a.yaml")
    folder = own(text(NAME), "b.yaml")
    with pytest.raises(DocumentError, match=f'a second playbook named "{NAME}"; the first is at {folder}/a.yaml:3'):
        read(shipped(), folder)


def test_a_copy_of_the_folder_is_no_word(tmp_path, read):
    """Whoever names a folder by its path gets what is in it, twice if it is there twice."""
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "restart-agent.yaml").write_text((shipped() / "restart-agent.yaml").read_text())
    with pytest.raises(DocumentError, match='a second playbook named "restart-agent"'):
        read(tmp_path / "one", tmp_path / "two")


BROKEN = {
    "an unknown action": lambda text: text.replace("cilium.restart_agent", "cilium.restart_agnet"),
    "no YAML": lambda text: text + "gates: [1\n",
    "no UTF-8": lambda text: text.encode() + b"# \xff\n",
    "a key twice": lambda text: text + "mode: auto\nmode: auto\n",
    "no name but the file's": lambda _: "apiVersion: remediator.dev/v1\nkind: Playbook\n",
}


@pytest.mark.parametrize("how", BROKEN)
def test_where_it_is_broken_at_the_start_the_shipped_one_does_not_act_in_its_place(own, read_rest, names, text, how):
    folder = own(BROKEN[how](text(NAME, "CiliumAgentDown")), f"{NAME}.yaml" if "file" in how else "mine.yaml")
    library, problems = read_rest(shipped(), folder)
    assert {playbook.name for playbook in library.playbooks} == names - {NAME}
    assert {problem.path for problem in problems} == {str(file) for file in files_of(folder)}


@pytest.mark.parametrize("first", [True, False])
def test_one_that_would_take_a_shipped_ones_alerts_under_another_name_is_told_how_to_replace_it(own, read, text, first):
    shipped_one = next(one for one in read(shipped()).playbooks if one.name == NAME)
    alerts = ", ".join(f"'{matcher}'" for matcher in shipped_one.when.alerts)
    folder = own(text("mine").replace('[alertname="MyOwn"]', f"[{alerts}]"))
    with pytest.raises(DocumentError, match=f'name yours "{NAME}" to put it in the place of the shipped one'):
        read(*((folder, shipped()) if first else (shipped(), folder)))
