"""tests/bad_playbooks holds one small file per mistake; its first lines say what check must find, all of it and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from remediator.errors import DocumentError
from remediator.playbook import check_paths, load_library

FOLDER = Path(__file__).parents[2] / "bad_playbooks"
FILES = sorted(path.name for path in FOLDER.glob("*.yaml"))
MARK = "# expect: "


def test_there_are_many():
    assert len(FILES) >= 100


@pytest.mark.parametrize("name", FILES)
def test_every_problem_is_found_where_it_stands(name, actions, gates, monkeypatch):
    monkeypatch.chdir(FOLDER)
    expected = [line.removeprefix(MARK) for line in Path(name).read_text().splitlines() if line.startswith(MARK)]
    assert expected, f"{name} does not say what is wrong with it"
    found = [str(problem).removeprefix(f"{name}:") for problem in check_paths([Path(name)], actions=actions, gates=gates)]
    assert found == expected


def test_a_library_with_bad_files_is_refused_with_the_problems_of_all(actions, gates):
    with pytest.raises(DocumentError) as caught:
        load_library([FOLDER], actions=actions, gates=gates)
    paths = {Path(problem.path).name for problem in caught.value.problems}
    assert paths == set(FILES)
