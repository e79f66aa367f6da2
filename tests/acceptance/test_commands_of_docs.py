"""The commands of README.md and docs/first-hour.md, one after the other in a shell as a reader types them, on the simulated cluster."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest
from plugins.processes import answers

PAGES = ("README.md", "docs/first-hour.md")
IN_WHAT_IT_MAKES = "this runs in what it makes"
NOT_RUN = {
    "make demo": "tests/cli/test_demo.py runs it, as remediator demo",
    "make demo ARGS=--once": "tests/cli/test_demo.py runs it, as remediator demo --once",
    "make test": "it is what runs this",
    "make setup": IN_WHAT_IT_MAKES,
    "make setup && . .venv/bin/activate": IN_WHAT_IT_MAKES,
    ". .venv/bin/activate": IN_WHAT_IT_MAKES,
    ". ../.venv/bin/activate": IN_WHAT_IT_MAKES,
    "kubectl -n monitoring port-forward svc/prometheus-operated 9090 &": "the simulated cluster's Prometheus has an address",
    "kubectl -n monitoring port-forward svc/alertmanager-operated 9093 &": "the simulated cluster's Alertmanager has an address",
}
"""Commands that are not run, and why."""
NODE = "node-3"
SECONDS = 120
"""For anything that has to happen by itself on a busy machine."""


def bare(line):
    return line.partition("  #")[0].strip()


def blocks(page):
    """The commands of a page: its blocks without a language and those of sh, without what is not run."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert {language for language, _ in found} <= {"", "sh"}, "is it run? if it is none of a shell's, its language is not said here"
    kept = ["".join(line for line in text.splitlines(keepends=True) if bare(line) not in NOT_RUN) for _, text in found]
    return [text for text in kept if text.strip()]


def test_what_is_not_run_is_on_a_page(root):
    lines = {bare(line) for page in PAGES for line in (root / page).read_text(encoding="utf-8").splitlines()}
    assert sorted(NOT_RUN.keys() - lines) == []


class Reader:
    """Types blocks into a shell whose folder and variables last. What serves goes on in a terminal of its own."""

    def __init__(self, folder, env, said, url):
        self.folder, self.url = folder, url
        self._env, self._said = env, said
        self._state = folder / ".state"
        self._state.write_text(f"cd {shlex.quote(str(folder))}\n")
        self._serving = None

    def types(self, block):
        """What the block printed; fails with it if the block failed."""
        for here, there in self._said.items():
            block = block.replace(here, there)
        *first, last = block.rstrip("\n").splitlines(keepends=True)
        if last.startswith("remediator serve "):
            printed = self.types("".join(first)) if first else ""
            self._serves(last)
            return printed
        state = shlex.quote(str(self._state))
        keep = f'{{ export -p; declare -p RUN 2>/dev/null || true; printf "cd %q\\n" "$PWD"; }} > {state}'
        command = ["bash", "-c", f". {state}\nset -euo pipefail\n{block}\n{keep}\n"]
        done = subprocess.run(command, env=self._env, capture_output=True, text=True, timeout=SECONDS, check=False)
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}\n{self.log()[-3000:]}"
        return done.stdout

    def _serves(self, command):
        """Start it where the shell is; what served before ends by ctrl-C first."""
        self.stops()
        argv = ["bash", "-c", f". {shlex.quote(str(self._state))}\nexec {command}"]
        with (self.folder / "daemon.log").open("ab") as log:
            self._serving = subprocess.Popen(argv, env=self._env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.until(lambda: answers(f"{self.url}/-/ready") or self._serving.poll() is not None)
        assert self._serving.poll() is None, self.log()

    def stops(self):
        if self._serving is not None:
            self._serving.send_signal(signal.SIGINT)
            self._serving.wait(60)

    def log(self):
        path = self.folder / "daemon.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def until(self, look):
        deadline = time.monotonic() + SECONDS
        while not (found := look()):
            assert time.monotonic() < deadline, self.log()[-3000:]
            time.sleep(0.1)
        return found


@pytest.fixture
def field(simulation_process):
    return simulation_process()


@pytest.fixture
def reader(root, field, free_port, tmp_path):
    """A reader at a machine whose kubeconfig leads to the simulated cluster, in a folder that stands for the clone."""
    home, tools, clone = (tmp_path / name for name in ("home", "tools", "clone"))
    (home / ".kube").mkdir(parents=True)
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "lab",
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "me"}}],
        "clusters": [{"name": "lab", "cluster": {"server": field.url}}],
        "users": [{"name": "me", "user": {"token": "of-nobody"}}],
    }
    (home / ".kube" / "config").write_text(json.dumps(config))
    tools.mkdir()
    (tools / "remediator").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m remediator "$@"\n')
    (tools / "remediator").chmod(0o755)
    clone.mkdir()
    (clone / "playbooks").symlink_to(root / "playbooks")
    env = {name: value for name, value in os.environ.items() if not name.startswith("REMEDIATOR_")}
    env |= {"HOME": str(home), "PATH": f"{tools}{os.pathsep}{env['PATH']}", "PYTHONPATH": str(root)}
    said = {
        "0.0.0.0:8080": f"127.0.0.1:{free_port}",
        "http://prometheus.example:9090": field.settings["prometheus"]["url"],
        "http://alertmanager.example:9093": field.settings["alertmanager"]["url"],
        "NODE": NODE,
    }
    one = Reader(clone, env, said, f"http://127.0.0.1:{free_port}")
    yield one
    one.stops()


@pytest.mark.long
def test_the_readme(root, field, reader):
    before = field.agents()
    told = "".join(reader.types(block) for block in blocks((root / "README.md").read_text(encoding="utf-8")))
    assert "dry run" in told
    assert "cilium-agent-down" in told
    assert "predicted" in told
    assert "What is left behind\n  Nothing." in told
    assert field.agents() == before


@pytest.mark.long
def test_the_first_hour(root, field, reader):
    """What a reader does with hands in between, this does: telling Alertmanager of the webhook, and ending its alert."""
    typed = iter(blocks((root / "docs/first-hour.md").read_text(encoding="utf-8")))

    def through(command):
        """Type on until a block with the command is done; what all of them printed."""
        told = ""
        for block in typed:
            told += reader.types(block)
            if command in block:
                return told
        pytest.fail(f"no more blocks, and none with {command}")

    def unschedulable():
        return field.call("GET", f"/api/v1/nodes/{NODE}")["spec"].get("unschedulable", False)

    def listed(*what):
        return reader.types(f"remediator {' '.join(what)} -o name").split()

    told = through("remediator why Node/")
    assert "cilium-agent-down" in told
    assert "predicted" in told
    token = (reader.folder / "try" / "webhook").read_text().strip()
    hook = {"url": f"{reader.url}/api/v1/alerts", "token": token, "group_wait": "1s", "group_interval": "1s"}
    field.call("POST", "/sim/receivers", hook)
    through("curl ")
    reader.until(lambda: listed("runs", "list", "--playbook", "drill", "--state", "predicted"))
    told = through("remediator why FirstHour")
    assert "predicted" in told
    assert not unschedulable()

    through("remediator serve")
    (alert,) = [one for one in field.call("GET", "/alertmanager/api/v2/alerts") if one["labels"]["alertname"] == "FirstHour"]
    field.call("POST", "/alertmanager/api/v2/alerts", [{**alert, "endsAt": field.call("GET", "/sim/clock")["now"]}])
    reader.until(lambda: not listed("alerts", "list"))
    through("curl ")
    reader.until(lambda: listed("runs", "list", "--state", "awaiting_approval"))
    told = through("remediator changes list")
    assert "healed" in told
    assert "node-3" in told
    assert unschedulable()
    told = through("remediator journal verify")
    assert "asked to undo its changes" in told
    assert "whole: " in told
    reader.until(lambda: not unschedulable())
    through("remediator resume")
    assert list(typed) == []
