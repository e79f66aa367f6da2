"""Playbooks of one's own in the cluster: both ways to install bring them beside the shipped ones, and new ones without a restart."""

from __future__ import annotations

import re

import pytest
import yaml

from remediator.playbook import files_of, shipped

MOUNT = "/etc/remediator/playbooks"
BOTH = ["shipped", MOUNT]
MINE = """\
apiVersion: remediator.dev/v1
kind: Playbook
metadata: {name: mine, summary: Keep new pods away from one node}
when:
  alerts: ['alertname="MyOwn"']
  target: {kind: Node}
gates: {cooldown: 30m}
ladder:
- name: cordon
  steps:
  - cordon: {action: node.cordon}
verify: {query: up == 1, within: 5m}
"""


def by_helm(helm, text):
    return helm({"playbooks": {"mine.yaml": text}, "settings": {"playbooks": BOTH}})


def by_kustomize(kustomize, root, text):
    """As the guide prints it, with the settings of the base."""
    printed = re.search(r"^```\n(components:\n.*?)^```$", (root / "docs" / "install.md").read_text(), re.DOTALL | re.MULTILINE)[1]
    own = yaml.safe_load((root / "deploy" / "kustomize" / "base" / "settings.yaml").read_text())
    overlay = yaml.safe_load(printed)
    overlay["resources"] = ["../remediator/deploy/kustomize/overlays/staging"]
    files = {"settings.yaml": yaml.safe_dump({**own, "playbooks": BOTH}), "playbooks/mine.yaml": text}
    return kustomize(overlay, files)


@pytest.fixture(params=["kustomize", pytest.param("helm", marks=[pytest.mark.helm, pytest.mark.long])])
def made(request, root):
    """made(text): the objects of an installation with this playbook of one's own."""
    tool = request.getfixturevalue(request.param)
    return (lambda text: by_helm(tool, text)) if request.param == "helm" else (lambda text: by_kustomize(tool, root, text))


def mounted(things):
    """path -> the data of the ConfigMap that the container has there."""
    maps = {thing["metadata"]["name"]: thing["data"] for thing in things if thing["kind"] == "ConfigMap"}
    (deployment,) = [thing for thing in things if thing["kind"] == "Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    named = {volume["name"]: volume["configMap"]["name"] for volume in pod["volumes"] if "configMap" in volume}
    return {mount["mountPath"]: maps[named[mount["name"]]] for mount in pod["containers"][0]["volumeMounts"] if mount["name"] in named}


def projected(folder, data):
    """As the kubelet does it: files in a hidden folder, to which a link leads that is swapped."""
    folder.mkdir(exist_ok=True)
    version = f"..{len(list(folder.iterdir()))}"
    (folder / version).mkdir()
    for name, text in data.items():
        (folder / version / name).write_text(text)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    (folder / "..data_tmp").symlink_to(version)
    (folder / "..data_tmp").replace(folder / "..data")


def test_another_text_restarts_no_pod(made):
    before, after = (made(text) for text in (MINE, MINE.replace("30m", "31m")))
    assert [one["metadata"]["name"] for one, other in zip(before, after, strict=True) if one != other] == ["remediator-playbooks"]


@pytest.mark.timeout(200)
def test_a_daemon_has_the_shipped_ones_and_ones_own_and_takes_new_ones_by_itself(made, daemon, simulation_process, tmp_path):
    at = mounted(made(MINE))
    projected(tmp_path / "playbooks", at[MOUNT])
    settings = yaml.safe_load(at["/etc/remediator"]["settings.yaml"])
    named = [str(tmp_path / "playbooks") if path == MOUNT else path for path in settings["playbooks"]]
    started = daemon(paths=named, dry_run=True, **simulation_process().settings)
    ours = {file.stem for file in files_of(shipped())}
    assert names(started) == ours | {"mine"}

    drain = (shipped() / "drain-node.yaml").read_text()
    projected(tmp_path / "playbooks", {**at[MOUNT], "mine.yaml": MINE.replace("name: mine", "name: later"), "drain.yaml": drain})
    started.wait_for("the new ones", lambda: names(started) == ours | {"later"})
    shown = started.get("/api/v1/playbooks/drain-node")
    assert shown["source"] == str(tmp_path / "playbooks" / "drain.yaml"), "one's own, in the place of the shipped one"


def names(started):
    """Of the playbooks in force."""
    return {one["name"] for one in started.get("/api/v1/playbooks")["items"]}
