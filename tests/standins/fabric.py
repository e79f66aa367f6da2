"""A network that speaks BGP: one router and any number of hosts, each a network namespace of its own with one real ``gobgpd`` in it.

The router's namespace has a bridge with 10.25.150.1/24; each host hangs on it by a veth pair. The host's own network is never touched.
Namespaces carry the process id of the test run in their name, so that what a killed run left is found and taken away by the next.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

ROUTER = "10.25.150.1"
ROUTER_ASN = 65000
PORT = 1790
_PREFIX = "remediator-bgp"
_STATES = ("unknown", "idle", "connect", "active", "open_sent", "open_confirm", "established")
"""In the order of gobgpd's numbers, in the words of CiliumBGPNodeConfig."""


def missing() -> str:
    """Why there can be no fabric here; empty where there can."""
    for program in ("gobgpd", "gobgp", "ip"):
        if shutil.which(program) is None:
            return f"{program} is not installed (Debian packages gobgpd and iproute2)"
    probe = f"{_PREFIX}-{os.getpid()}-probe"
    tried = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, timeout=20, check=False)
    if tried.returncode:
        return f"network namespaces cannot be made here: {tried.stderr.strip()}"
    inside = subprocess.run(
        ["ip", "-n", probe, "link", "add", "br0", "type", "bridge"], capture_output=True, text=True, timeout=20, check=False
    )
    _remove(probe)
    return f"a namespace takes no bridge here: {inside.stderr.strip()}" if inside.returncode else ""


def sweep() -> None:
    """Take away the namespaces, and what runs in them, of test runs that are no more."""
    for name in _namespaces():
        owner = re.match(rf"{_PREFIX}-(\d+)-", name)
        if owner and not Path(f"/proc/{owner[1]}").exists():
            _remove(name)


def _namespaces() -> list[str]:
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, timeout=20, check=True).stdout
    return [line.split()[0] for line in listed.splitlines() if line.startswith(_PREFIX)]


def _remove(namespace: str) -> None:
    inside = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True, timeout=20, check=False).stdout
    for pid in inside.split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    subprocess.run(["ip", "netns", "delete", namespace], capture_output=True, timeout=20, check=False)


class Speaker:
    """One ``gobgpd`` in one namespace: it runs or it does not, and what it is told is written in its config file."""

    def __init__(self, namespace: str, folder: Path) -> None:
        folder.mkdir()
        self._namespace = namespace
        self._config, self._log = folder / "config.json", folder / "gobgpd.log"
        self._socket = folder / "api"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, config: dict[str, Any]) -> None:
        """Run with ``config`` (gobgpd's own, as JSON) until told to end."""
        self._socket.unlink(missing_ok=True)
        self._config.write_text(json.dumps(config))
        command = ["ip", "netns", "exec", self._namespace, "gobgpd", "--config-file", str(self._config), "--config-type", "json"]
        command += ["--pprof-disable", "--api-hosts", f"unix://{self._socket}"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while not self._socket.exists():  # it listens from the moment the file is there
            assert self.running, f"gobgpd ended early:\n{self._log.read_text()[-2000:]}"
            assert time.monotonic() < deadline, f"gobgpd has no API after 30 s:\n{self._log.read_text()[-2000:]}"
            time.sleep(0.02)

    def stop(self) -> None:
        """End in order: each peer is told so (Cease, peer de-configured), as Cilium does when a node's BGP config goes."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End as a crash would: the peers see the connection go and hear no reason."""
        self._end(signal.SIGKILL)

    def _end(self, by: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(by)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        self._process = None

    def announce(self, prefix: str) -> None:
        self._ask("global", "rib", "add", prefix)

    def withdraw(self, prefix: str) -> None:
        self._ask("global", "rib", "del", prefix)

    def routes(self) -> dict[str, set[str]]:
        """prefix -> the next hops that lead there."""
        table = json.loads(self._ask("-j", "global", "rib") or "{}")
        return {prefix: {_next_hop(path) for path in paths} for prefix, paths in table.items()}

    def sessions(self) -> dict[str, dict[str, Any]]:
        """peer address -> ``state`` in Cilium's words, ``since`` in seconds of the epoch, and the timers agreed on."""
        found = {}
        for peer in json.loads(self._ask("-j", "neighbor") or "[]"):
            timers = peer["timers"].get("state", {})
            found[peer["conf"]["neighbor_address"]] = {
                "state": _STATES[peer["state"].get("session_state", 0)],
                "since": timers.get("uptime", {}).get("seconds", 0),
                "hold": timers.get("negotiated_hold_time", 0),
                "keepalive": timers.get("keepalive_interval", 0),
            }
        return found

    def advertised(self, peer: str) -> int:
        """How many routes go out to ``peer``."""
        return len(json.loads(self._ask("-j", "neighbor", peer, "adj-out") or "{}"))

    def _ask(self, *words: str) -> str:
        command = ["gobgp", "--target", f"unix://{self._socket}", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        if done.returncode:
            raise OSError(f"gobgp {' '.join(words)}: {done.stdout}{done.stderr}")
        return done.stdout


def _next_hop(path: dict[str, Any]) -> str:
    return next(str(one["nexthop"]) for one in path["attrs"] if "nexthop" in one)


class Fabric:
    """The router and its hosts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stem = f"{_PREFIX}-{os.getpid()}-{folder.name}"
        self._made: list[str] = []
        self.hosts: dict[str, Speaker] = {}
        self.router = self._place("router")

    def open(self, hosts: dict[str, str], *, asn: int) -> None:
        """``hosts``: name -> address; all of ``asn``. Sessions are the hosts' to open, as they are Cilium's."""
        inside = ("-n", self._name("router"))
        _ip(*inside, "link", "add", "br0", "type", "bridge")
        _ip(*inside, "address", "add", f"{ROUTER}/24", "dev", "br0")
        _ip(*inside, "link", "set", "br0", "up")
        for number, (name, address) in enumerate(hosts.items()):
            self.hosts[name] = self._place(name)
            port = f"port{number}"
            _ip(*inside, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", self._name(name))
            _ip(*inside, "link", "set", port, "master", "br0", "up")
            _ip("-n", self._name(name), "address", "add", f"{address}/24", "dev", "eth0")
            _ip("-n", self._name(name), "link", "set", "eth0", "up")
        self.router.start(_router(hosts.values(), asn))

    def table(self) -> dict[str, set[str]]:
        """The router's: prefix -> addresses of the hosts that announce it."""
        return self.router.routes()

    def cut(self, host: str) -> None:
        """Its cable is out: nobody is told, and the session ends with the hold time."""
        _ip("-n", self._name(host), "link", "set", "eth0", "down")

    def mend(self, host: str) -> None:
        """Put it in again, or leave it in."""
        _ip("-n", self._name(host), "link", "set", "eth0", "up")

    def close(self) -> None:
        """End every process and take away every namespace, however far it came."""
        for speaker in (*self.hosts.values(), self.router):
            speaker.kill()
        for namespace in reversed(self._made):
            _remove(namespace)

    def _name(self, place: str) -> str:
        return f"{self._stem}-{place}"

    def _place(self, name: str) -> Speaker:
        namespace = self._name(name)
        _ip("netns", "add", namespace)
        self._made.append(namespace)
        _ip("-n", namespace, "link", "set", "lo", "up")
        return Speaker(namespace, self._folder / name)


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"


def _router(addresses: Iterable[str], asn: int) -> dict[str, Any]:
    timers = {"hold-time": 9, "keepalive-interval": 3, "idle-hold-time-after-reset": 1}
    return {
        "global": {"config": {"as": ROUTER_ASN, "router-id": ROUTER, "port": PORT, "local-address-list": [ROUTER]}},
        "neighbors": [
            {
                "config": {"neighbor-address": address, "peer-as": asn},
                "transport": {"config": {"passive-mode": True}},
                "timers": {"config": timers},
            }
            for address in addresses
        ],
    }
