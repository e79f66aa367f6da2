"""What docs/install.md says of the overlay is what kustomize makes of it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest
import yaml

KUBECTL = shutil.which("kubectl", path=os.pathsep.join([os.environ.get("KUBEBUILDER_ASSETS", ""), os.environ["PATH"]]))


@pytest.fixture
def page(root):
    return (root / "docs" / "install.md").read_text()


@pytest.fixture
def mine(root, page, tmp_path):
    """mine(settings, files, of, **more): what the overlay of the page builds with these files beside it, of that overlay, and with more in it."""
    if KUBECTL is None:
        pytest.skip("kubectl is not installed; it builds the overlay")
    shutil.copytree(root / "deploy", tmp_path / "remediator" / "deploy", dirs_exist_ok=True)
    (tmp_path / "mine").mkdir()
    printed = re.search(r"^# kustomization.yaml\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)[1]

    def build(settings, files=None, of="staging", **more):
        (tmp_path / "mine" / "settings.yaml").write_text(settings)
        for name, text in (files or {}).items():
            (tmp_path / "mine" / name).write_text(text)
        overlay = yaml.safe_load(printed.replace("overlays/staging", f"overlays/{of}"))
        for key, value in more.items():
            overlay[key] = overlay.get(key, []) + value if isinstance(value, list) else value
        (tmp_path / "mine" / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
        command = [KUBECTL, "kustomize", str(tmp_path / "mine")]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
        return list(yaml.safe_load_all(done.stdout))

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
