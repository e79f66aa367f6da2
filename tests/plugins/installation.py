"""What ``deploy/`` installs, on a real control plane, and the whole stack around it.

That is the daemon as a process with the installed account, Prometheus with the shipped rules, Alertmanager with the shipped route. The
network is the ``exporter``, which a test makes say what the network's would.

``installation(plane)`` lays out the CRDs, builds overlays and gives the account; ``stack(installation, settings, ...)`` starts the rest.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from plugins.controlplane import _crds  # where the CRDs are laid out

from remediator.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from plugins.controlplane import ControlPlane

Thing = dict[str, Any]
NODES = tuple(f"node-{number}" for number in range(1, 6))
_MEDIK8S = "medik8s-leases"
"""The namespace of its leases, so that its component is needed."""
_WITHIN: Mapping[str, str] = dict.fromkeys(("node-latency", "node-packet-loss", "service-endpoint"), "15s")
"""By playbook, where a test waits for a proof that does not come."""


class Installation:
    """Of one control plane; its files are in a folder of the test's."""

    def __init__(self, plane: ControlPlane, root: Path, folder: Path) -> None:
        self.plane = plane
        self._root = root
        self._folder = folder

    def prepare(self) -> None:
        """The CRDs of everything in ``deploy/``, once what an earlier test installed is gone."""
        self.plane.kubectl("wait", "--for=delete", f"namespace/{_MEDIK8S}", "namespace/remediator", "--timeout=50s")
        folder = _crds(self._root.parent / "shared" / "controlplane")
        for file in (
            *(folder / "gateway-api-1.4.1").glob("*_httproutes.yaml"),
            *(folder / "gateway-api-1.4.1").glob("*_gateways.yaml"),
            *(folder / "prometheus-operator-0.85.0").glob("*_servicemonitors.yaml"),
            *(folder / "prometheus-operator-0.85.0").glob("*_prometheusrules.yaml"),
            *(folder / "prometheus-operator-0.85.0").glob("*_alertmanagerconfigs.yaml"),
        ):
            self.plane.kubectl("apply", "--server-side", "-f", str(file))
        self.plane.kubectl("create", "namespace", _MEDIK8S)

    def clean(self) -> None:
        """Take away what a later test would meet."""
        self.plane.kubectl("delete", "namespace", _MEDIK8S, "remediator", "--ignore-not-found", "--wait=false")
        # While the leases' namespace is there, daemons of later tests take leases in it.
        self.plane.kubectl("wait", "--for=delete", f"namespace/{_MEDIK8S}", "namespace/remediator", "--timeout=50s")
        for kind in ("clusterrole", "clusterrolebinding"):
            self.plane.kubectl("delete", kind, "remediator", "--ignore-not-found")
        for where in ("kube-system", "kube-node-lease"):
            self.plane.kubectl("delete", "role,rolebinding", "remediator", "-n", where, "--ignore-not-found")

    def build(self, *components: str) -> list[Thing]:
        """The objects of the production overlay with these components."""
        if not (self._folder / "deploy").exists():
            (self._folder / "deploy").symlink_to(self._root / "deploy")
        folder = self._root / "deploy" / "kustomize"
        resources = {
            "resources": [str(folder / "overlays" / "production")],
            "components": [str(folder / "components" / name) for name in components],
        }
        work = self._folder / "-".join(("work", *components))
        work.mkdir()
        relative = Path(*([".."] * len(work.resolve().parts[1:])))
        text = yaml.safe_dump(resources).replace(str(self._root), str(relative / self._root.relative_to("/")))
        (work / "kustomization.yaml").write_text(text)
        return [thing for thing in yaml.safe_load_all(self.plane.kubectl("kustomize", str(work))) if thing]

    def apply(self, things: Collection[Thing], *flags: str) -> list[str]:
        """Server-side, with strict validation; what kubectl says of each."""
        text = "---\n".join(yaml.safe_dump(thing) for thing in things)
        return self.plane.kubectl(
            "apply", "--server-side", "--validate=strict", "--field-manager=test", *flags, "-f", "-", stdin=text
        ).splitlines()

    def kubeconfig(self) -> str:
        """Of the installed ServiceAccount."""
        config = yaml.safe_load(Path(self.plane.kubeconfig).read_text())
        token = self.plane.kubectl("create", "token", "remediator", "-n", "remediator").strip()
        config["users"] = [{"name": "account", "user": {"token": token}}]
        for context in config["contexts"]:
            context["context"]["user"] = "account"
        (self._folder / "account").write_text(json.dumps(config))
        return str(self._folder / "account")

    def settings(self, things: Collection[Thing]) -> Thing:
        """Of the installed ConfigMap."""
        (settings,) = [thing for thing in things if thing["kind"] == "ConfigMap" and "settings.yaml" in thing["data"]]
        (self._folder / "settings.yaml").write_text(settings["data"]["settings.yaml"])
        assert load_settings(self._folder / "settings.yaml", env={}).dry_run is False
        loaded: Thing = yaml.safe_load(settings["data"]["settings.yaml"])
        return loaded


@pytest.fixture
def installation(root: Path, tmp_path: Path) -> Iterator[Callable[[ControlPlane], Installation]]:
    made: list[Installation] = []

    def on(plane: ControlPlane) -> Installation:
        made.append(Installation(plane, root, tmp_path))
        made[-1].prepare()
        return made[-1]

    yield on
    for one in made:
        one.clean()


def quick(path: Path) -> str:
    """A shipped playbook with times that a test can wait for; nothing else changed."""
    text = re.sub(r"\n  runbook: .*", "", path.read_text())
    text = re.sub(r"\bhold: \w+", "hold: 1s", text)
    for old, new in (
        ("action: cilium.restart_agent, timeout: 30m", "action: cilium.restart_agent, timeout: 2m, ready_for: 1s"),
        ("action: node.drain, timeout: 30m", "action: node.drain, timeout: 2m, quiet_for: 1s"),
        ("action: bgp.withdraw_node, timeout: 5m", "action: bgp.withdraw_node, timeout: 2m, hold: 1s"),
        ("action: workload.rollout_restart,", "action: workload.rollout_restart, ready_for: 1s,"),
        ("action: gateway.shift_weight,", "action: gateway.shift_weight, settle: 1s,"),
        ("cooldown: 30m", "cooldown: 1s"),
    ):
        text = text.replace(old, new)
    return re.sub(r"\n  within: \w+", f"\n  within: {_WITHIN[path.stem]}", text) if path.stem in _WITHIN else text


def shipped_rules(root: Path, sooner: Collection[str]) -> list[Thing]:
    """All of them, with an overlay: those alerts fire after a second. Nothing else of them is changed."""
    groups = yaml.safe_load((root / "deploy" / "prometheus" / "rules.yaml").read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert set(sooner) <= {rule.get("alert") for rule in rules}
    return [rule | ({"for": "1s"} if rule.get("alert") in sooner else {}) for rule in rules]


def shipped_route(root: Path) -> str:
    """The shipped route, receiver and inhibition. Where to post and where the token is are the installation's own; groups go out sooner."""
    text = (root / "deploy" / "alertmanager" / "example.yml").read_text()
    for old, new in (
        ("http://remediator.remediator:8080/api/v1/alerts", "WEBHOOK"),
        ("/etc/alertmanager/secrets/remediator/webhook", "TOKEN_FILE"),
        ("group_wait: 10s", "group_wait: 200ms"),
        ("group_interval: 1m", "group_interval: 1s"),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    return text


@pytest.fixture
def stack(
    root: Path, exporter: Any, alertmanager: Any, prometheus_server: Any, daemon: Any, free_port: int
) -> Callable[[Installation, Thing, Collection[str], Collection[str]], Any]:
    """stack(installation, settings, sooner, auto): the daemon with an installation's settings and its account, but for where files are.

    ``sooner``: the alerts that do not wait. ``auto``: the playbooks that act by themselves, which shipped ones do not.
    """

    def begin(installation: Installation, settings: Thing, sooner: Collection[str], auto: Collection[str]) -> Any:
        alerting = alertmanager(
            f"http://127.0.0.1:{free_port}/api/v1/alerts", token="webhook-token-of-the-test", written=shipped_route(root)
        )
        rules = shipped_rules(root, sooner)
        prometheus = prometheus_server(exporter, job="cilium-agent", rules=rules, alertmanagers=[alerting.url])
        prometheus.wait_for("count(up) >= 1")
        known = {
            "prometheus": {"url": prometheus.url},
            "alertmanager": {"url": alerting.url},
            "kubernetes": {"kubeconfig": installation.kubeconfig()},
        }
        mine = {key: value for key, value in settings.items() if key in ("mode", "dry_run", "cilium")}
        trusted = {"modes": {**settings["modes"], **dict.fromkeys(auto, "auto")}}
        playbooks = [quick(path) for path in sorted((root / "playbooks").glob("*.yaml"))]
        started = daemon(playbooks=playbooks, port=free_port, **mine, **known, **trusted)
        started.prometheus = prometheus
        return started

    return begin


def forbidden(daemon: Any) -> list[str]:
    """How often the API server said 403 to the daemon."""
    text = daemon.metrics()
    assert 'code="200"' in text
    return [line for line in text.splitlines() if line.startswith("remediator_kube_requests_total") and 'code="403"' in line]


def is_ready(exporter: Any, node: str, value: float) -> None:
    """What kube-state-metrics says of the agent on ``node``."""
    pod = {"namespace": "kube-system", "pod": f"cilium-{node}"}
    exporter.set("kube_pod_status_ready", {**pod, "condition": "true"}, value)


def all_is_well(exporter: Any) -> None:
    """Five nodes whose agents are ready, as kube-state-metrics and the agents would tell."""
    for node in NODES:
        exporter.set("up", {"job": "cilium-agent", "node": node})
        exporter.set("kube_node_info", {"node": node})
        exporter.set("kube_node_status_condition", {"node": node, "condition": "Ready", "status": "true"})
        owner = {"created_by_kind": "DaemonSet", "created_by_name": "cilium"}
        exporter.set("kube_pod_info", {"namespace": "kube-system", "pod": f"cilium-{node}", "node": node, **owner})
        is_ready(exporter, node, 1)
