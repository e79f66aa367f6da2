"""The list of rules that a real API server tells of our account says of each right what a question about it says."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import yaml

from remediator.actions import Cilium, actions
from remediator.clock import SystemClock
from remediator.gates import gates
from remediator.kube import Kube
from remediator.playbook import Library, shipped
from remediator.rights import Need, Rights, election, needed

ON_THE_REAL_ONE = pytest.mark.long

NOT_GIVEN = (
    Need(resource="secrets", verb="list"),
    Need(namespace="kube-system", resource="secrets", verb="get"),
    Need(namespace="kube-system", resource="pods/exec", verb="create"),
    Need(resource="nodes", verb="delete"),
    Need(namespace="default", group="coordination.k8s.io", resource="leases", verb="patch"),
    Need(group="coordination.k8s.io", resource="leases", verb="create"),
    Need(namespace="remediator", group="coordination.k8s.io", resource="leases", verb="patch", name="another"),
)


class Counting:
    """A door that counts what is asked through it."""

    def __init__(self, kube):
        self._kube, self.asked, self.listed = kube, [], []

    def __getattr__(self, name):
        return getattr(self._kube, name)

    async def may(self, verb, resource, namespace="", **more):
        self.asked.append((verb, resource, namespace))
        return await self._kube.may(verb, resource, namespace, **more)

    async def rules(self, namespace):
        self.listed.append(namespace)
        return await self._kube.rules(namespace)


@pytest.fixture
def account(control_plane, root, tmp_path):
    """A kubeconfig of the account that the base and the component for the election make."""
    folder = root / "deploy" / "kustomize"
    paths = [folder / "base" / f"{name}.yaml" for name in ("namespace", "serviceaccount", "rbac")]
    paths += sorted((folder / "components" / "postgres").glob("*rbac*.yaml"))
    things = [thing for path in paths for thing in yaml.safe_load_all(path.read_text()) if thing]
    control_plane.apply(*things)
    config = yaml.safe_load(Path(control_plane.kubeconfig).read_text())
    config["users"] = [
        {"name": "account", "user": {"token": control_plane.kubectl("create", "token", "remediator", "-n", "remediator").strip()}}
    ]
    for context in config["contexts"]:
        context["context"]["user"] = "account"
    (tmp_path / "account").write_text(json.dumps(config))
    yield tmp_path / "account"
    for thing in reversed(things):
        where = ("-n", thing["metadata"]["namespace"]) if "namespace" in thing["metadata"] else ()
        control_plane.kubectl("delete", thing["kind"], thing["metadata"]["name"], *where, "--ignore-not-found")


@pytest.mark.controlplane
async def test_rules_say_what_questions_say(account):
    library = Library.load((shipped(),), actions=actions(), gates=gates())
    wanted = {*needed(library.playbooks, Cilium()), *election("remediator", "remediator"), *NOT_GIVEN}
    async with await Kube.connect(kubeconfig=account) as kube:
        door = Counting(kube)
        lacks = set(await Rights(door, SystemClock(), Cilium()).missing_of(dict.fromkeys(wanted, ("a test",))))

        async def may(need):
            resource, _, subresource = need.resource.partition("/")
            return need, await kube.may(need.verb, resource, need.namespace, subresource=subresource, group=need.group, name=need.name)

        asked = dict(await asyncio.gather(*map(may, wanted)))
    assert lacks == {need for need, yes in asked.items() if not yes}
    assert lacks >= set(NOT_GIVEN)
    assert len(door.asked) == len(lacks), "only what the list does not grant is asked for by itself"
    assert len(door.listed) == len({need.namespace for need in wanted}), "one list for each namespace, and that of everywhere"
