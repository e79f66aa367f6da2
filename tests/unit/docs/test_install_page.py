"""What docs/install.md says of the overlay is what kustomize makes of it."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import yaml

from remediator.errors import DocumentError
from remediator.settings import load_settings


@pytest.fixture
def page(root):
    return (root / "docs" / "install.md").read_text()


@pytest.fixture
def mine(page, kustomize):
    """mine(settings, files, of, **more): what the page's overlay builds with these files beside it, upon that one, with more in it."""

    def build(settings, files=None, *, of="staging", **more):
        printed = re.search(r"^# kustomization.yaml\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)[1]
        overlay = yaml.safe_load(printed.replace("overlays/staging", f"overlays/{of}"))
        for key, value in more.items():
            overlay[key] = overlay.get(key, []) + value
        return kustomize(overlay, {"settings.yaml": settings, **(files or {})})

    return build


def settings_in(things):
    (text,) = [thing["data"]["settings.yaml"] for thing in things if thing["kind"] == "ConfigMap" and "settings.yaml" in thing["data"]]
    return yaml.safe_load(text)


def without_settings(things):
    """Everything else; their hash stands in a name."""
    text = re.sub(r"remediator-settings-[a-z0-9]{10}", "remediator-settings", yaml.safe_dump_all(things))
    return [thing for thing in yaml.safe_load_all(text) if thing["metadata"]["name"] != "remediator-settings"]


def test_letting_it_act_is_a_change_of_ones_own_settings(root, page, mine):
    base, production = ((root / "deploy" / "kustomize" / part / "settings.yaml").read_text() for part in ("base", "overlays/production"))
    watching, acting = mine(base), mine(production)
    assert (settings_in(watching)["dry_run"], settings_in(acting)["dry_run"]) == (True, False)
    assert without_settings(watching) == without_settings(acting)
    changed = {key: value for key, value in settings_in(acting).items() if settings_in(watching).get(key) != value}
    assert changed == {"dry_run": False, "modes": {"*": "suggest"}}
    said = page.partition("## 6.")[2].partition("\n## ")[0]
    assert "`dry_run: false`" in said
    assert "`modes: {'*': suggest}`" in said
    assert "`settings.yaml`" in said


def test_the_other_overlay_alone_would_change_nothing_and_nobody_is_told_to_take_it(root, page, mine):
    settings = (root / "deploy" / "kustomize" / "base" / "settings.yaml").read_text()
    assert mine(settings, of="production") == mine(settings)
    assert not re.findall(r"overlays/production(?!/settings\.yaml)", page)
    for file in ("argocd/application.yaml", "kustomize/base/kustomization.yaml"):
        assert not re.findall(r"overlays/production(?!/settings\.yaml)", (root / "deploy" / file).read_text()), file


DATABASE = "postgresql://journal@db.mine/journal"
ELSEWHERE = "store: {url: 'sqlite:////var/lib/remediator/remediator.db', retention: 90d}"


def deployed(things):
    """The container of the Deployment."""
    (deployment,) = [thing for thing in things if thing["kind"] == "Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return container


def as_started(things, folder):
    """The settings as the daemon reads them there: the file, and the container's variables."""
    (folder / "started.yaml").write_text(yaml.safe_dump(settings_in(things)))
    env = {one["name"]: one["value"] for one in deployed(things)["env"] if "value" in one}
    return load_settings(folder / "started.yaml", env)


@pytest.mark.parametrize("tool", ["kustomize", pytest.param("helm", marks=pytest.mark.helm)])
def test_the_journal_is_where_ones_own_settings_say(root, mine, helm, tmp_path, tool):
    base = (root / "deploy" / "kustomize" / "base" / "settings.yaml").read_text()
    assert ELSEWHERE in base
    if tool == "kustomize":
        part = ["../remediator/deploy/kustomize/components/postgres"]
        things = mine(base.replace(ELSEWHERE, f"store: {{url: '{DATABASE}'}}"), components=part)
        nowhere = mine(base, components=part)
        with pytest.raises(DocumentError, match=r"needs a url such as postgresql://user@host/database"):
            as_started(nowhere, tmp_path)
    else:
        things = helm({"postgres": {"enabled": True}, "settings": {"store": {"url": DATABASE}}})
        with pytest.raises(subprocess.CalledProcessError) as caught:
            helm({"postgres": {"enabled": True}})
        assert "settings.store.url" in caught.value.stderr
    settings = as_started(things, tmp_path)
    assert (settings.store.url, settings.election.enabled) == (DATABASE, True)
    assert str(settings.store.password_file) == "/run/secrets/postgres/password"
    assert "/run/secrets/postgres" in {mount["mountPath"] for mount in deployed(things)["volumeMounts"]}


HOLDS_THE_JOURNAL = {"Namespace", "PersistentVolumeClaim"}
"""Without its namespace no volume stays either."""


@pytest.mark.parametrize("tool", ["kustomize", pytest.param("helm", marks=pytest.mark.helm)])
def test_neither_argo_cd_nor_helm_takes_the_volume_with_the_journal_away(root, mine, helm, tool):
    if tool == "kustomize":
        things = mine((root / "deploy" / "kustomize" / "base" / "settings.yaml").read_text())
    else:
        things = helm({"createNamespace": True})
    kept = {}
    for thing in things:
        annotations = thing["metadata"].get("annotations", {})
        options = set(annotations.get("argocd.argoproj.io/sync-options", "").split(","))
        kept[thing["kind"]] = options >= {"Prune=false", "Delete=false"} and annotations.get("helm.sh/resource-policy") == "keep"
    assert {kind for kind, yes in kept.items() if yes} == HOLDS_THE_JOURNAL


def test_rights_under_a_name_of_their_own_are_added_to_the_overlay(root, mine):
    command = [
        sys.executable,
        "-m",
        "remediator",
        "rbac",
        str(root / "playbooks" / "drain-node.yaml"),
        "--name",
        "remediator-mine",
        "-o",
        "yaml",
    ]
    rights = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    settings = (root / "deploy" / "kustomize" / "base" / "settings.yaml").read_text()
    plain, more = mine(settings), mine(settings, {"rights.yaml": rights}, resources=["rights.yaml"])
    added = [thing for thing in more if thing not in plain]
    assert len(more) == len(plain) + len(added)
    assert {thing["metadata"]["name"] for thing in added} == {"remediator-mine"}
    bound = {(one["name"], one["namespace"]) for thing in added for one in thing.get("subjects", ())}
    assert bound == {("remediator", "remediator")}
