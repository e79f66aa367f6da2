"""How benchmarks are run, kept and shown; what they measure is measured, not tested."""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import __main__ as command
from benchmarks import commits, plots, results
from benchmarks.quick import QUICK, shrink
from benchmarks.table import Row, show_all

HERE = Path(command.__file__).parent


def constants(name):
    tree = ast.parse((HERE / f"{name}.py").read_text(encoding="utf-8"))
    targets = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    flat = [one for target in targets for one in (target.elts if isinstance(target, ast.Tuple) else [target])]
    imported = [alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    return {one.id for one in flat if isinstance(one, ast.Name)} | set(imported)


def curve(series, *values):
    return [Row(name=f"{at} of {series}", measured=value, unit="s", series=series, at=at) for at, value in values]


@pytest.mark.parametrize("name", QUICK)
def test_what_is_made_smaller_is_there(name):
    assert name in command.NAMES
    assert set(QUICK[name]) <= constants(name)


def test_a_constant_that_is_gone_is_told():
    with pytest.raises(AttributeError):
        shrink("memory", SimpleNamespace())


def test_one_that_fails_costs_what_the_others_find_nothing(tmp_path, monkeypatch, capsys):
    def fail():
        raise RuntimeError("no server here")

    for name, rows in (("broken", fail), ("sound", lambda: [Row(name="speed", measured=7, unit="/s", beside="bare", compared=14)])):
        monkeypatch.setitem(sys.modules, f"benchmarks.{name}", SimpleNamespace(rows=rows))
        monkeypatch.setitem(command.NAMES, name, name)
    monkeypatch.setattr(results, "draw", lambda _: None)
    assert command.run(["broken", "sound"], quick=False, folder=tmp_path) == 1
    told = capsys.readouterr().out
    assert "1 aims missed: broken: NOT MEASURED" in told
    (raw,) = tmp_path.glob("*.json")
    kept = json.loads(raw.read_text())
    assert [row["note"] for row in kept["rows"]["broken"]] == ["RuntimeError: no server here"]
    assert kept["rows"]["sound"][0]["measured"] == 7
    table = raw.with_suffix(".txt").read_text()
    assert re.search(r"^sound +speed +7 /s +bare: 14 /s +0\.50$", table, re.MULTILINE)


def test_the_one_table_has_all_benchmarks_and_of_a_curve_its_end():
    points = curve("nodes: CPU", (1, 1.0), (2, 2.0))
    last = Row(name="4 of nodes: CPU", measured=4.0, unit="s", series="nodes: CPU", at=4, beside="1", compared=1.0)
    shown = show_all({"growth": [*points, last], "memory": [Row(name="at rest", measured=140, unit="MB")]})
    assert [line.split()[0] for line in shown.splitlines()] == ["benchmark", "growth", "memory"]
    assert "4 of nodes: CPU" in shown


def test_in_proportion_is_as_steep_as_the_dashed_line():
    drawn = plots.curves("growth", [*curve("straight", (1, 3), (2, 6), (4, 12)), *curve("flat", (1, 3), (2, 3), (4, 3))], "here")
    lines = [points.split() for points in re.findall(r'<polyline points="([^"]+)"', drawn)]
    dashed, straight, other, flat = lines
    assert (straight[0], straight[-1]) == tuple(dashed)
    assert flat[0] == other[0]
    assert flat[-1].split(",")[1] == flat[0].split(",")[1] != other[-1].split(",")[1]
    assert plots.curves("memory", [Row(name="at rest", measured=140, unit="MB")], "here") == ""


def test_two_commits_are_compared_by_the_ratios_of_turns_that_stood_beside_one_another():
    def turn(**measured):
        return {("speed", name): Row(name=name, measured=value, unit="ms") for name, value in measured.items()}

    old, new = [turn(ask=10, gone=1), turn(ask=30, gone=1)], [turn(ask=20), turn(ask=45)]
    head, line = commits.table(old, new, "abc", "def").splitlines()
    assert head.split()[:4] == ["what", "abc", "def", "ratio"]
    assert re.fullmatch(r"speed: ask +20 ms +32\.5 ms +1\.75 +2\.00 1\.50", line), line


def test_a_commit_is_measured_with_the_benchmarks_of_this_tree(tmp_path):
    if not (HERE.parent / ".git").exists():
        pytest.skip("not a repository of git")
    tree = commits._tree("HEAD", tmp_path / "tree")
    assert (tree / "remediator" / "__init__.py").exists()
    assert (tree / "benchmarks" / "commits.py").read_text() == Path(commits.__file__).read_text()
