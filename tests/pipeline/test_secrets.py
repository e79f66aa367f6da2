"""No token ever reaches the journal, the log or an answer, whatever way it comes in."""

from __future__ import annotations

import base64
import binascii
import io
import json
import sqlite3
from contextlib import closing

import pytest
import structlog

from remediator import telemetry
from remediator.model import encode
from remediator.telemetry import configure_logging

CORDON = {"cordon": {"action": "node.cordon"}}


async def everything(house):
    """All that the daemon has written or would tell."""
    exported = [encode(entry).decode() async for entry in house.journal.export()]
    paths = ("runs", "decisions", "deliveries", "alerts", "changes", "status", "playbooks")
    answers = [json.dumps((await house.http("GET", f"/api/v1/{path}", token="read"))[1]) for path in paths]
    answers.append((await house.http("GET", "/metrics", token="read"))[1])
    return {"journal": "\n".join(exported), "log": house.log.getvalue(), "answers": "\n".join(answers)}


def kept(path):
    """All that a file of SQLite holds, in words: what is base64 in it, as pickles of DBOS are, is read too."""
    with closing(sqlite3.connect(path)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        values = [value for table in tables for row in connection.execute(f'SELECT * FROM "{table}"') for value in row]
    texts = [value if isinstance(value, str) else value.decode(errors="replace") for value in values if isinstance(value, str | bytes)]
    return "\n".join([*texts, *filter(None, map(decoded, texts))])


def decoded(text):
    try:
        return base64.b64decode(text, validate=True).decode(errors="replace")
    except (binascii.Error, ValueError):
        return None


async def test_over_a_whole_run(house, symptom, text):
    """Somebody pasted tokens into labels, annotations and reasons; doors fail and complain; a stranger knocks."""
    tokens = list(house.TOKENS.values())
    symptom.cured = lambda node: bool(house.stage.cluster.get("Node", node)["spec"].get("unschedulable"))
    look = {"look": {"action": "kube.get", "kind": "ConfigMap", "name": "notes", "namespace": "default"}}
    house.put("remedy.yaml", text(steps=[look, CORDON]))
    house.stage.cluster.create(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "notes", "namespace": "default"},
            "data": {"hint": f"use {tokens[2]}"},
        }
    )
    await house.start(mode="auto")
    alert = house.outside.fire(hint=tokens[3])
    alert["annotations"] = {"curl": f"curl -H 'Authorization: Bearer {tokens[2]}'", "password": "hunter2-of-somebody"}
    payload = {
        "version": "4",
        "status": "firing",
        "receiver": "r",
        "groupKey": tokens[0],
        "alerts": [alert],
        "token": "unknown-field-secret",
    }
    house.stage.cluster.fail(path="^/prometheus", status=500, count=1, text=f"Bearer {tokens[3]}")
    for token in ("webhook", f"not {tokens[0]}"):
        await house.http("POST", "/api/v1/alerts", payload, token=token)
    await house.http("POST", "/api/v1/alerts", json.dumps(payload).encode()[:-9] + tokens[0].encode(), token="webhook")
    status, problem = await house.http("POST", "/api/v1/runs", {"playbook": tokens[2], "target": "Node/node-3"})
    assert status == 400, problem
    await house.http("PUT", "/api/v1/pause", {"target": "Node/node-5", "reason": f"ask {tokens[1]}", "by": "anna"})

    async def runs():
        return (await house.journal.runs()).items

    (run,) = await house.until(runs)
    assert (await house.ended(run.id)).state == "healed"
    written = await everything(house)
    assert run.id in written["journal"]
    assert run.id in written["log"]
    for secret in (*tokens, "hunter2-of-somebody", "unknown-field-secret"):
        for where, words in written.items():
            assert secret not in words, f"{where}: {words[words.index(secret) - 200 :][:400]}"
    await house.stop()
    for name in ("remediator.db", "remediator.db.engine"):
        words = kept(house.folder / name)
        assert run.id in words, "else nothing was looked at"
        assert not [token for token in tokens if token in words], name


@pytest.mark.parametrize("how", ["refused", "fault"])
async def test_what_a_step_ends_with_is_kept_without_secrets_wherever_it_is_kept(house, symptom, text, monkeypatch, how):
    """An API server's own words, or those of a fault of ours: in the journal, and in the store of the engine."""
    token = house.TOKENS["door"]
    secrets = (token, "hunter2-of-somebody", "hunter2-of-a-vault")
    words = f"a webhook says no: https://bot:{secrets[2]}@vault.test/ password={secrets[1]} {token}"
    house.put("remedy.yaml", text(steps=[CORDON]))
    await house.start(mode="auto")
    if how == "refused":
        house.stage.cluster.fail(verb="patch", path="^/api/v1/nodes", status=403, message=words, count=None)
    else:

        async def break_down(*_):
            raise RuntimeError(words)

        monkeypatch.setattr("remediator.carry.run_step", break_down)
    status, run = await house.http("POST", "/api/v1/runs", {"playbook": "remedy", "target": "Node/node-3"})
    assert status == 201, run
    assert (await house.ended(run["id"])).state == ("failed" if how == "refused" else "unknown")
    await house.stop()
    for name in ("remediator.db", "remediator.db.engine"):
        found = kept(house.folder / name)
        assert "a webhook says no: https://bot:<redacted>@vault.test/ password=<redacted>" in found, name
        assert not [secret for secret in secrets if secret in found], name


def fail(token):
    headers = {"X": f"Bearer {token}"}
    raise RuntimeError(f"bad header {headers}")


@pytest.mark.parametrize("as_json", [True, False])
def test_a_traceback_in_the_log_holds_no_secret(monkeypatch, as_json):
    from remediator.journal import Redactor

    secret = "the-token-is-a-secret"
    out = io.StringIO()
    monkeypatch.setattr(telemetry, "_given", {})
    before = structlog.get_config()
    try:
        configure_logging(stream=out, json=as_json, redact=Redactor([secret]).data)
        try:
            fail(secret)
        except RuntimeError:
            structlog.get_logger().exception("it failed")
    finally:
        structlog.configure(**before)
    assert "RuntimeError" in out.getvalue()
    assert "it failed" in out.getvalue()
    assert secret not in out.getvalue()
