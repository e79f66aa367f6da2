"""The network of the BGP tests leaves nothing behind: not after a failure, and not for long after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from standins.fabric import ROUTER, Fabric, missing, sweep

pytestmark = pytest.mark.gobgp

KILLED = """
import os, pathlib, signal, sys
from standins.fabric import Fabric
fabric = Fabric(pathlib.Path(sys.argv[1]))
fabric.open({"host": "10.25.150.11"}, asn=65001)
print("open", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def _able():
    if reason := missing():
        pytest.skip(reason)


def namespaces(pid):
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    return {line.split()[0] for line in listed.splitlines() if line.startswith(f"remediator-bgp-{pid}-")}


def inside(names):
    """Process ids in these namespaces."""
    listed = (subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=True).stdout for name in names)
    return [int(pid) for one in listed for pid in one.split()]


def ended(pid):
    """Whether it is gone, or dead and only waiting for its parent, which a killed run no longer is; a signal takes a moment."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.02)
    return False


def test_close_takes_away_namespaces_and_processes(tmp_path):
    before = namespaces(os.getpid())
    fabric = Fabric(tmp_path)
    try:
        fabric.open({"host": "10.25.150.11"}, asn=65001)
        made = namespaces(os.getpid()) - before
        running = inside(made)
        assert (len(made), len(running)) == (2, 1)
        assert fabric.table() == {}
    finally:
        fabric.close()
    assert namespaces(os.getpid()) == before
    assert all(map(ended, running))


def test_a_fabric_that_fails_half_way_is_taken_away_as_well(tmp_path):
    before = namespaces(os.getpid())
    fabric = Fabric(tmp_path)
    with pytest.raises(AssertionError, match="ip -n"):
        fabric.open({"host": "10.25.150.11", "other": "no address"}, asn=65001)
    fabric.close()
    assert namespaces(os.getpid()) == before


def test_what_a_killed_run_left_is_swept_by_the_next(tmp_path, root):
    env = {**os.environ, "PYTHONPATH": str(root / "tests")}
    with subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], env=env, stdout=subprocess.PIPE, text=True) as killed:
        assert killed.wait(60) == -signal.SIGKILL
    left = namespaces(killed.pid)
    running = inside(left)
    assert (len(left), len(running)) == (2, 1)
    sweep()
    assert not namespaces(killed.pid)
    assert all(map(ended, running))


def test_two_hosts_reach_the_router_and_not_the_machine(tmp_path):
    fabric = Fabric(tmp_path)
    try:
        fabric.open({"one": "10.25.150.11", "two": "10.25.150.12"}, asn=65001)
        (name,) = (one for one in namespaces(os.getpid()) if one.endswith("-one"))
        ping = [
            "ip",
            "netns",
            "exec",
            name,
            sys.executable,
            "-c",
            f"import socket; socket.create_connection(('{ROUTER}', 1790), 5).close()",
        ]
        assert subprocess.run(ping, capture_output=True, timeout=30, check=False).returncode == 0
        outside = ["ip", "-brief", "address"]
        assert "10.25.150." not in subprocess.run(outside, capture_output=True, text=True, check=True).stdout
    finally:
        fabric.close()
