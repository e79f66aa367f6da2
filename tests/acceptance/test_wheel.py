"""A wheel of this clone in an empty virtual environment, made by the Dockerfile's own steps, plays the demo with the shipped playbooks.

The steps are carried out as they are written, with the image's folders inside a temporary one, so no container engine is needed.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
_FOLDERS = re.compile(r"(?<![\w.:/-])/(src|opt|wheels)\b")
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith(("REMEDIATOR_", "PYTHON"))}


@pytest.fixture(scope="module")
def stages(root):
    """The instructions of each stage, as (word, rest), continued lines joined."""
    text = re.sub(r"^#.*\n", "", (root / "deploy/Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found = []
    for line in filter(None, text.splitlines()):
        word, rest = line.split(maxsplit=1)
        if word == "FROM":
            found.append([])
        elif found:
            found[-1].append((word, rest))
    return found


@pytest.fixture(scope="module")
def installed(root, stages, tmp_path_factory):
    """What the last stage takes from the first; all else is gone."""
    top = tmp_path_factory.mktemp("image")
    source, env = top / "src", dict(CLEAN)
    source.mkdir()
    for word, rest in stages[0]:
        if word == "ENV":
            env.update(pair.split("=", 1) for pair in rest.split())
        elif word == "COPY":
            *names, target = rest.split()
            for name in names:
                bring(root, name, source / target / Path(name).name if target == "." or target.endswith("/") else source / target)
        elif word == "RUN":
            steps = _FOLDERS.sub(rf"{top}/\1", rest)
            done = subprocess.run(["sh", "-ec", steps], cwd=source, env=env, capture_output=True, text=True, timeout=600, check=False)
            assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        else:
            assert (word, rest) == ("WORKDIR", "/src"), f"{word} {rest} is not carried out here"
    shutil.rmtree(source)
    shutil.rmtree(top / "opt/build")
    return top / "opt/remediator"


def bring(root, name, place):
    """A COPY: into the build's context come only the exceptions of .dockerignore."""
    exceptions = [line[1:] for line in (root / "deploy/Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")]
    assert any(fnmatch.fnmatch(name, pattern) for pattern in exceptions), f"{name} is not in the build's context"
    place.parent.mkdir(parents=True, exist_ok=True)
    (shutil.copytree if (root / name).is_dir() else shutil.copy)(root / name, place)


def run(*command, **options):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=600, check=False, env=CLEAN, **options)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_it_plays_the_demo_and_holds_no_tools(installed, stages, tmp_path):
    assert "healed" in run(installed / "bin/remediator", "demo", "--once", cwd=tmp_path)
    listed = run(installed / "bin/python", "-c", "from remediator.playbook import shipped; print(shipped())", cwd=tmp_path)
    assert str(installed) in listed
    assert ("COPY", "--from=build /opt/remediator /opt/remediator") in stages[-1]
    assert ("USER", "65532:65532") in stages[-1]
    (packages,) = installed.glob("lib/python*/site-packages")
    names = {path.name for path in packages.iterdir()}
    assert {"remediator", "aiohttp", "kubernetes_asyncio"} <= names
    assert not names & {"pytest", "hypothesis", "pip", "mypy", "ruff", "build"}
    assert list(packages.glob("remediator/__pycache__/*.pyc")), "compiled, or the first start takes seconds more"
