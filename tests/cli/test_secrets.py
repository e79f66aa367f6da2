"""What a start that fails tells of the secrets in its settings: nothing, with -v neither, which shows a traceback."""

from __future__ import annotations

import json

import pytest

SECRET = "q8Zr2Lw0Xk5Vt7Bn"
TOKEN = "webhook-9f3kd82mx0"
WRONG = {
    "a store without a host": ("store", {"url": f"postgresql://u:{SECRET}@[/db"}),
    "a store of no known kind": ("store", {"url": f"postgres+x://u:{SECRET}@127.0.0.1:1/db"}),
    "a store with a wrong port": ("store", {"url": f"postgresql://u:{SECRET}@127.0.0.1:port/db"}),
    "a URL of no known scheme": ("prometheus", {"url": f"htp://u:{SECRET}@prometheus:9090"}),
    "a password in a URL": ("alertmanager", {"url": f"http://u:{SECRET}@alertmanager:9093"}),
    "a URL that is none": ("notify", [{"name": "x", "url": f"hooks.example/{SECRET}"}]),
    "a token instead of its file": ("server", {"webhook_token": SECRET, "webhook_token_file": "webhook"}),
    "a value of a wrong type": ("prometheus", {"token_file": [SECRET]}),
    "a URL in a list": ("prometheus", {"url": [f"http://x/{SECRET}"]}),
    "a server of Kubernetes with a password": ("kubernetes", {"server": f"https://u:{SECRET}@10.0.0.1:6443"}),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("command", ["serve", "check", "status"])
def test_settings_that_cannot_be(call, tmp_path, monkeypatch, wrong, command):
    monkeypatch.chdir(tmp_path)
    section, part = WRONG[wrong]
    (tmp_path / "webhook").write_text(TOKEN)
    document = {"apiVersion": "remediator.dev/v1", "kind": "Settings", "server": {"listen": "127.0.0.1:0", "webhook_token_file": "webhook"}}
    ways = [({**document, section: {**document.get(section, {}), **part} if isinstance(part, dict) else part}, {})]
    if command != "check" and isinstance(part, dict) and isinstance(part.get("url", part.get("server")), str):
        ways.append((document, {f"REMEDIATOR_{section}_{key}".upper(): value for key, value in part.items()}))
    for settings, environment in ways:
        (tmp_path / "settings.yaml").write_text(json.dumps(settings))
        result = call("-v", command, "--config", "settings.yaml", env=environment)
        assert result.exit_code, result.output
        said = result.stdout + result.stderr + repr(result.exception)
        assert "settings.yaml:1:" in said or "$REMEDIATOR_" in said, said
        assert SECRET not in said
        assert TOKEN not in said


def test_a_store_that_does_not_answer(process, tmp_path):
    """Beyond the settings, in a process of its own, to the very traceback."""
    (tmp_path / "webhook").write_text(TOKEN)
    document = {"apiVersion": "remediator.dev/v1", "kind": "Settings", "kubernetes": {"server": "http://127.0.0.1:1"}}
    document["server"] = {"listen": "127.0.0.1:0", "webhook_token_file": str(tmp_path / "webhook")}
    (tmp_path / "settings.yaml").write_text(json.dumps(document))
    environment = {"REMEDIATOR_STORE_URL": f"postgresql://u:{SECRET}@127.0.0.1:1/db"}
    done = process("-v", "serve", "--config", tmp_path / "settings.yaml", env=environment)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 1, said
    assert "Traceback" in said
    assert SECRET not in said
    assert TOKEN not in said
