"""Secrets given by file, environment and URL appear nowhere: a whole run in processes of its own, in which strangers even write them into
alerts, objects and reasons, and then a look at every page, answer, log, metric, message, file and table. Starts that fail are looked at in
tests/cli/test_secrets.py.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.server
import json
import re
import secrets
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request

import pytest

pytestmark = pytest.mark.timeout(240)

NODE = "node-3"
RATE = 20
STREAMS = re.compile(r"/(events|watch|api/v1/journal/export)$|/watch$")
PLAYBOOK = """\
apiVersion: remediator.dev/v1
kind: Playbook
metadata: {name: leaky, summary: Cordon a node}
parameters: {note: {default: none}}
when:
  alerts: [alertname="Leak"]
  target: {kind: Node, name: "${alert.labels.node}"}
gates: {cooldown: 1s}
ladder:
- name: cordon
  steps:
  - look: {action: kube.get, kind: Node, name: "${target.name}"}
  - tell: {action: notify, text: "note: ${parameters.note}"}
  - cordon: {action: node.cordon}
verify:
  kube: {kind: Node, fields: "metadata.name=${target.name}"}
  holds: size(objects) == 1
  within: 1m
  hold: 0s
"""


class Secrets:
    """Values that look like nothing in particular, so that no shape gives them away, each under the name of where it was given."""

    def __init__(self):
        self.values = {}

    def new(self, name):
        self.values[name] = secrets.token_urlsafe(21).replace("-", "x").replace("_", "y")
        return self.values[name]

    @property
    def text(self):
        return " ".join(self.values.values())

    def found(self, places):
        """Where one stands, in any form that it is likely to take."""
        forms = {}
        for name, value in self.values.items():
            coded = {base64.b64encode(value.encode()).decode().rstrip("="), value.encode().hex(), urllib.parse.quote(value, safe="")}
            forms |= {form.encode(): name for form in (value, *coded)}
        return [f"{name} in {place}" for place, data in places.items() for form, name in forms.items() if form in data]


@pytest.fixture
def hidden():
    return Secrets()


@pytest.fixture
def receiver():
    """A webhook's other end, and Slack's; ``told`` has the bodies and signatures. Under ``/echo/`` Slack's error is the token."""

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            type(self).told.append((self.path, body, self.headers.get("X-Remediator-Signature", "")))
            if "/chat." in self.path:
                token = self.headers["Authorization"].removeprefix("Bearer ")
                answer = (
                    {"ok": False, "error": token} if "/echo/" in self.path else {"ok": True, "channel": "C1", "ts": "1405894322.000100"}
                )
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps(answer).encode())
                return
            self.send_response(204 if "/up/" in self.path else 500)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    Receiver.told = []
    Receiver.url = f"http://127.0.0.1:{server.server_port}"
    yield Receiver
    server.shutdown()
    server.server_close()


@pytest.fixture
def given(hidden, receiver, tmp_path):
    """Sections of the settings with every secret that they may hold."""

    def file(name, text=None):
        (tmp_path / name).write_text(text or hidden.new(name))
        return str(tmp_path / name)

    return {
        "server": {
            "listen": "127.0.0.1:0",
            "webhook_token_file": file("webhook"),
            "read_token_file": file("read"),
            "write_token_file": file("write"),
            "tokens": [{"name": "anna", "file": file("anna"), "scope": "write"}],
        },
        "notify": [
            {
                "name": "by-file",
                "url_file": file("hook", f"{receiver.url}/up/{hidden.new('path of the hook')}?t={hidden.new('query of the hook')}"),
                "secret_file": file("signing"),
                "events": ["step", "healed", "done", "approval", "failed"],
            },
            {"name": "in-vain", "url": f"{receiver.url}/down/{hidden.new('path of a hook in the settings')}", "events": ["healed"]},
            {
                "name": "slack",
                "slack": {"token_file": file("bot"), "channel": "C1", "url": f"{receiver.url}/api"},
                "events": ["step", "healed", "failed"],
            },
            {
                "name": "echo",
                "slack": {"token_file": file("other bot"), "channel": "C1", "url": f"{receiver.url}/echo"},
                "events": ["healed"],
            },
        ],
        "prometheus": {"token_file": file("prometheus")},
        "alertmanager": {"token_file": file("alertmanager")},
    }


def kubeconfig(field, hidden, tmp_path):
    user = {"name": "u", "user": {"token": hidden.new("kubeconfig")}}
    cluster = {"name": "c", "cluster": {"server": field.url}}
    context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
    document = {"apiVersion": "v1", "kind": "Config", "clusters": [cluster], "users": [user], "contexts": [context], "current-context": "x"}
    (tmp_path / "kubeconfig").write_text(json.dumps(document))
    return str(tmp_path / "kubeconfig")


def tables(url):
    import psycopg

    found = {}
    with psycopg.connect(url) as connection:
        names = connection.execute("SELECT table_schema, table_name FROM information_schema.tables WHERE table_type = 'BASE TABLE'")
        for schema, name in names.fetchall():
            if schema not in ("pg_catalog", "information_schema"):
                rows = connection.execute(f'SELECT t::text FROM "{schema}"."{name}" t').fetchall()
                found[f"table {schema}.{name}"] = "\n".join(row[0] or "" for row in rows).encode()
    return found


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.long)])
def store(request, hidden, monkeypatch):
    """The journal's own URL where it has no password; else by the environment, with one in it."""
    if request.param == "sqlite":
        return None
    url = request.getfixturevalue("postgres_database")
    monkeypatch.setenv("REMEDIATOR_STORE_URL", url.replace("postgres@", f"postgres:{hidden.new('environment')}@", 1))
    return url


class House:
    """A running daemon, asked by whoever may; ``places`` keeps all that it ever said."""

    def __init__(self, keeper, field, hidden, folder):
        self.keeper, self.field, self.hidden = keeper, field, hidden
        self.places = {}
        (folder / "token").write_text(hidden.values["write"])
        self.cli_token = folder / "token"

    def ask(self, method, path, body=None, *, token="write", what=""):
        """Status and what came back; kept with its headers."""
        headers = {"Authorization": f"Bearer {self.hidden.values.get(token, token)}", "Content-Type": "application/json"}
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.keeper.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as reply:
                status, text, more = reply.status, reply.read(), reply.headers
        except urllib.error.HTTPError as error:
            status, text, more = error.code, error.read(), error.headers
        self.places[what or f"{method} {path} {status}"] = text + str(more).encode()
        return status, text

    def get(self, path):
        return json.loads(self.ask("GET", path)[1])

    def run(self, *argv, token=None):
        """The CLI as a process; ``token``: another file."""
        where = ["--server", self.keeper.url, "--token-file", str(token or self.cli_token)]
        done = subprocess.run([sys.executable, "-m", "remediator", *where, *argv], capture_output=True, timeout=60, check=False)
        self.places[f"remediator {' '.join(argv)} by {token}"] = done.stdout + done.stderr
        return done.returncode

    def strangers(self, payload):
        """Write secrets wherever a stranger may, and ask for what is not there."""
        text = self.hidden.text
        leak = {"metadata": {"annotations": {"example.test/leak": text}}}
        self.patch_node(leak)
        now = self.field.call("GET", "/sim/clock")["now"]
        labels = {"alertname": "Leak", "node": NODE, "said": text}
        alert = {
            "status": "firing",
            "labels": labels,
            "startsAt": now,
            "fingerprint": "f" * 16,
            "annotations": {"description": f"it says {text}"},
        }
        assert self.ask("POST", "/api/v1/alerts", payload(alert), token="webhook")[0] == 200
        assert self.ask("POST", "/api/v1/alerts", {"version": "4", "alerts": [{"labels": {"x": [text]}}]}, token="webhook")[0] == 400
        for name in ("read", "webhook"):
            assert self.ask("POST", "/api/v1/runs", {}, token=name, what=f"what {name} may not")[0] == 403
        assert self.ask("GET", "/api/v1/runs", token=self.hidden.values["write"] + "x", what="a wrong token")[0] == 401
        for path in ("/api/v1/runs?token=", "/api/v1/runs?state=", "/api/v1/why?ref=", "/api/v1/runs/", "/", "/runs/"):
            self.ask("GET", path + urllib.parse.quote(text), what=f"what was asked for at {path}")
        self.ask("POST", "/api/v1/runs", {"playbook": text, "target": text, "reason": text, text: text}, what="a run of nothing")

    def patch_node(self, body):
        headers = {"Content-Type": "application/merge-patch+json"}
        request = urllib.request.Request(f"{self.field.url}/api/v1/nodes/{NODE}", json.dumps(body).encode(), headers, method="PATCH")
        urllib.request.urlopen(request, timeout=20).close()

    def heal(self):
        """A run by hand, with secrets in its parameter and its reason, to its end and back."""
        asked = {
            "playbook": "leaky",
            "target": f"Node/{NODE}",
            "reason": f"since {self.hidden.text}",
            "parameters": {"note": self.hidden.text},
        }

        def begun():
            status, text = self.ask("POST", "/api/v1/runs", asked, token="anna")
            return json.loads(text)["id"] if status == 201 else None

        run = self.keeper.wait_for("a run by hand", begun)

        def ended():
            told = self.get(f"/api/v1/runs/{run}")
            return told if told["ended_at"] else None

        assert self.keeper.wait_for("its end", ended)["state"] == "healed"
        node = self.field.call("GET", f"/api/v1/nodes/{NODE}")
        for ours in ("annotations", "managedFields"):
            node["metadata"][ours] = {k: v for k, v in node["metadata"][ours].items() if "leak" not in k} if ours == "annotations" else []
        self.places["what it wrote into the cluster"] = json.dumps([node, self.field.call("GET", "/api/v1/events")["items"]]).encode()
        return run

    def commands(self, run, folder):
        """What the command line says, also where it fails."""
        for argv in (("status",), ("why", run), ("runs", "show", run), ("-v", "runs", "show", "01x"), ("journal", "export")):
            self.run(*argv)
        assert self.run("-v", "status", token=folder / "hook") == 1
        assert self.run("-v", "status", token=folder / "absent") == 2
        assert self.run("runs", "undo", run, "--reason", self.hidden.text) == 0
        self.run("check", "--config", str(self.keeper.folder / "settings.yaml"), "--cluster")

    def everything_that_answers(self, names):
        """Every GET of the API and of the pages, with each name that fits into its path."""
        for path, verbs in self.get("/openapi.json")["paths"].items():
            if "get" in verbs and not STREAMS.search(path):
                for name in names if "{" in path else ("",):
                    assert self.ask("GET", re.sub(r"{\w+}", urllib.parse.quote(name, safe=""), path))[0] < 500, path

    def remains(self, store):
        """What is there when it has stopped: its log, its files, its tables."""
        self.keeper.stop()
        self.places["log"] = self.keeper.program.output().encode()
        files = [path for path in self.keeper.folder.rglob("*") if path.is_file() and path.name != "settings.yaml"]
        self.places |= {f"file {path.relative_to(self.keeper.folder)}": path.read_bytes() for path in files}
        self.places |= tables(store) if store else {}


@pytest.fixture
def house(simulation_process, daemon, given, hidden, tmp_path, store):
    field = simulation_process(rate=RATE)
    doors = {name: {**given.get(name, {}), **found} for name, found in field.settings.items() if name != "kubernetes"}
    doors["kubernetes"] = {"kubeconfig": kubeconfig(field, hidden, tmp_path)}
    return House(daemon(playbooks=[PLAYBOOK], **{**given, **doors}), field, hidden, tmp_path)


def test_a_whole_run_tells_no_secret(house, hidden, receiver, payload, tmp_path, store):
    house.strangers(payload)
    run = house.heal()
    house.commands(run, tmp_path)
    wait = house.keeper.wait_for
    wait("the messages", lambda: len([path for path, _, _ in receiver.told if "/up/" in path]) >= 2)
    wait("a message given up", lambda: b'channel="in-vain",result="failed"} 1.0' in house.ask("GET", "/metrics")[1])
    wait("Slack's messages", lambda: len([path for path, _, _ in receiver.told if path.startswith("/api/chat.")]) >= 3)
    wait("Slack's refusal", lambda: b'channel="echo",result="refused"} 1.0' in house.ask("GET", "/metrics")[1])
    house.everything_that_answers([run, "leaky", NODE, *(one["id"] for one in house.get("/api/v1/deliveries")["items"])])
    assert house.places[f"GET /runs/{run} 200"].startswith(b"<!doctype html>")
    house.remains(store)
    key = hidden.values["signing"].encode()
    for number, (path, body, signature) in enumerate(sorted(receiver.told, key=lambda one: "/chat." in one[0])):
        house.places[f"message {number}"] = body + signature.encode()
        assert "/down/" in path or "/chat." in path or signature == f"sha256={hmac.new(key, body, hashlib.sha256).hexdigest()}"
    assert len(house.places) > 40
    for said in (f"GET /api/v1/runs/{run} 200", "message 0", f"GET /runs/{run} 200", "what it wrote into the cluster"):
        assert b"redacted" in house.places[said], f"there was something to hide in {said}"
    assert hidden.found(house.places) == []
