from __future__ import annotations

import asyncio
import json
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from remediator.kube import Kube, kinds
from remediator.kube.errors import BadKubeconfig, Forbidden, Timeout, Unauthorized

IN_CLUSTER = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}


@pytest.fixture
def access():
    from remediator.kube import access

    return access


@pytest.fixture
def kubeconfig(tmp_path, api):
    def write(user, **cluster):
        file = tmp_path / "kubeconfig"
        file.write_text(
            json.dumps(
                {
                    "current-context": "one",
                    "clusters": [
                        {"name": "c", "cluster": {"server": api.url, **cluster}},
                        {"name": "d", "cluster": {"server": "http://x"}},
                    ],
                    "users": [{"name": "u", "user": user}],
                    "contexts": [
                        {"name": "one", "context": {"cluster": "c", "user": "u"}},
                        {"name": "two", "context": {"cluster": "d", "user": "u"}},
                    ],
                }
            )
        )
        return file

    return write


def _tokens(api):
    return [seen.headers.get("Authorization") for seen in api.seen]


async def _get(kube):
    return await kube.get(kinds.NODE, "a")


async def test_an_inline_token_is_sent(api, connect, kubeconfig):
    kube = await connect(kubeconfig=kubeconfig({"token": "t1"}))
    api.json({})
    await _get(kube)
    assert _tokens(api) == ["Bearer t1"]


async def test_a_refused_token_is_read_again_from_its_file_for_reads_and_writes(api, connect, kubeconfig, tmp_path):
    (tmp_path / "token").write_text("t1\n")
    kube = await connect(kubeconfig=kubeconfig({"tokenFile": "token", "token": "stale"}))
    for token in ("t2", "t3"):
        (tmp_path / "token").write_text(token)
        api.status(401, "Unauthorized")
        api.json({})
        await (_get(kube) if token == "t2" else kube.delete(kinds.NODE, "a"))
    assert _tokens(api) == ["Bearer t1", "Bearer t2", "Bearer t2", "Bearer t3"]
    assert [seen.method for seen in api.seen] == ["GET", "GET", "DELETE", "DELETE"]


async def test_a_rewritten_kubeconfig_counts(api, connect, kubeconfig):
    kube = await connect(kubeconfig=kubeconfig({"token": "t1"}))
    kubeconfig({"token": "t2"})
    api.status(401)
    api.json({})
    await _get(kube)
    assert _tokens(api) == ["Bearer t1", "Bearer t2"]


async def test_a_credential_plugin_is_asked_again(api, connect, kubeconfig, tmp_path):
    (tmp_path / "token").write_text("t1")
    answer = "{'apiVersion': 'client.authentication.k8s.io/v1', 'kind': 'ExecCredential', 'status': {'token': open(sys.argv[1]).read()}}"
    plugin = f"import json, sys; print(json.dumps({answer}))"
    user = {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": sys.executable,
            "args": ["-c", plugin, str(tmp_path / "token")],
        }
    }
    kube = await connect(kubeconfig=kubeconfig(user))
    (tmp_path / "token").write_text("t2")
    api.status(401)
    api.json({})
    await _get(kube)
    assert _tokens(api) == ["Bearer t1", "Bearer t2"]


async def test_a_credential_plugin_that_hangs_ends_at_the_deadline(connect, kubeconfig, access, monkeypatch):
    async def hang(*_):
        await asyncio.Event().wait()

    monkeypatch.setattr(access, "_read_kubeconfig", hang)
    with pytest.raises(Timeout):
        await connect(kubeconfig=kubeconfig({"token": "t1"}), timeout=timedelta(milliseconds=100))


async def test_a_credential_plugin_that_hangs_on_renewal_ends_at_the_deadline(api, connect, kubeconfig, access, monkeypatch):
    kube = await connect(kubeconfig=kubeconfig({"token": "t1"}), timeout=timedelta(milliseconds=200))

    async def hang(*_):
        await asyncio.Event().wait()

    monkeypatch.setattr(access, "_read_kubeconfig", hang)
    api.status(401)
    with pytest.raises(Timeout):
        await _get(kube)
    assert len(api.seen) == 1


async def test_a_token_refused_twice_is_unauthorized(api, connect, kubeconfig):
    kube = await connect(kubeconfig=kubeconfig({"token": "t1"}))
    api.status(401, "Unauthorized", "Unauthorized")
    api.status(401, "Unauthorized", "Unauthorized")
    with pytest.raises(Unauthorized):
        await _get(kube)
    assert len(api.seen) == 2


async def test_without_a_credential_401_is_final(api, kube):
    api.status(401)
    with pytest.raises(Unauthorized):
        await _get(kube)
    assert len(api.seen) == 1


async def test_a_kubeconfig_that_broke_meanwhile_leaves_the_401(api, connect, kubeconfig):
    file = kubeconfig({"token": "t1"})
    kube = await connect(kubeconfig=file)
    file.write_text("{")
    api.status(401)
    with capture_logs() as logs, pytest.raises(Unauthorized):
        await _get(kube)
    assert [entry["log_level"] for entry in logs] == ["warning"]
    assert "t1" not in str(logs)


@pytest.mark.parametrize("where", ["file", "kubeconfig"])
async def test_many_calls_refused_at_once_read_the_token_once(api, connect, kubeconfig, tmp_path, monkeypatch, access, where):
    source = {"token": "t1"}
    if where == "file":
        (tmp_path / "token").write_text("t1")
        source = {"tokenFile": "token"}
    kube = await connect(kubeconfig=kubeconfig(source))
    reads = []
    name = "read_token" if where == "file" else "_read_kubeconfig"
    real = getattr(access, name)
    monkeypatch.setattr(access, name, lambda *args: reads.append(args) or real(*args))
    (tmp_path / "token").write_text("t2")
    if where == "kubeconfig":
        kubeconfig({"token": "t2"})

    async def judge(request):
        from aiohttp import web

        fresh = request.headers["Authorization"] == "Bearer t2"
        return web.json_response({}, status=200 if fresh else 401)

    api.forever = judge
    await asyncio.gather(*(_get(kube) for _ in range(20)))
    assert len(reads) == 1


async def test_a_token_file_is_read_again_before_it_gets_old(api, connect, kubeconfig, tmp_path, monkeypatch, access):
    now = [1000.0]
    monkeypatch.setattr(access.time, "monotonic", lambda: now[0])
    (tmp_path / "token").write_text("t1")
    kube = await connect(kubeconfig=kubeconfig({"tokenFile": "token"}))
    (tmp_path / "token").write_text("t2")
    for later in (0, 59, 60):
        now[0] = 1000.0 + later
        api.json({})
        await _get(kube)
    (tmp_path / "token").write_text("")
    now[0] += 60
    api.json({})
    with capture_logs() as logs:
        await _get(kube)
    assert _tokens(api) == ["Bearer t1", "Bearer t1", "Bearer t2", "Bearer t2"]
    assert logs[0]["log_level"] == "warning"


async def test_another_context_is_another_cluster(kubeconfig, access):
    way = await access.load(kubeconfig=kubeconfig({}), context="two", server=None)
    assert way.configuration.host == "http://x"


@pytest.mark.parametrize("text", ["", "{", "[]", "a: b", "clusters: 7\nusers: x\ncontexts: []\ncurrent-context: c", "- {"])
async def test_a_malformed_kubeconfig_is_named(tmp_path, text):
    file = tmp_path / "kc"
    file.write_text(text)
    with pytest.raises(BadKubeconfig, match="kc: "):
        await Kube.connect(kubeconfig=file)


async def test_an_unknown_context_is_named(kubeconfig):
    with pytest.raises(BadKubeconfig, match="three"):
        await Kube.connect(kubeconfig=kubeconfig({}), context="three")


async def test_a_missing_kubeconfig_is_named(tmp_path):
    with pytest.raises(BadKubeconfig, match="no such kubeconfig"):
        await Kube.connect(kubeconfig=tmp_path / "none")


async def test_a_missing_token_file_is_named(kubeconfig):
    with pytest.raises(BadKubeconfig, match="token"):
        await Kube.connect(kubeconfig=kubeconfig({"tokenFile": "nowhere"}))


async def test_nothing_is_guessed_outside_of_a_cluster(monkeypatch, tmp_path, kubeconfig):
    home = tmp_path / ".kube"
    home.mkdir()
    kubeconfig({}).rename(home / "config")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(BadKubeconfig, match=r"kubernetes\.kubeconfig"):
        await Kube.connect()


@pytest.fixture
def account(tmp_path):
    (tmp_path / "token").write_text("t1\n")
    (tmp_path / "ca.crt").write_text("-----BEGIN CERTIFICATE-----\n")
    return tmp_path


async def test_in_a_cluster_the_pods_account_is_used(account, access):
    way = await access.load(kubeconfig=None, context=None, server=None, environ=IN_CLUSTER, service_account=account)
    assert way.configuration.host == "https://[fd00::1]:443"
    assert way.configuration.ssl_ca_cert == str(account / "ca.crt")
    assert way.token == "Bearer t1"
    (account / "token").write_text("t2\n")
    assert await way.renew("Bearer t1")
    assert way.token == "Bearer t2"


@pytest.mark.parametrize("missing", ["token", "ca.crt"])
async def test_an_incomplete_account_is_named(account, access, missing):
    (account / missing).unlink()
    with pytest.raises(BadKubeconfig, match="service account"):
        await access.load(kubeconfig=None, context=None, server=None, environ=IN_CLUSTER, service_account=account)


@pytest.mark.parametrize("content", ["", "\n", "a b", "a\nb", "\udcff"])
def test_a_file_without_one_token_is_refused(tmp_path, access, content):
    file = tmp_path / "token"
    file.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(BadKubeconfig):
        access.read_token(file)
    assert Path(file).exists()


async def test_403_is_not_401(api, connect, kubeconfig):
    kube = await connect(kubeconfig=kubeconfig({"token": "t1"}))
    api.status(403, "Forbidden", 'User "robot" cannot delete resource "nodes"')
    with pytest.raises(Forbidden):
        await kube.delete(kinds.NODE, "a")
    assert len(api.seen) == 1
