"""Which daemon a command asks, with which token, and what it says when nobody answers."""

from __future__ import annotations

import http.server
import socket
import ssl
import threading

import pytest
import trustme


@pytest.fixture
def tokens(tmp_path):
    for name in ("read", "write", "webhook", "other"):
        (tmp_path / name).write_text(f"{name}-secret\n")
    return tmp_path


@pytest.fixture
def settings(tokens, api):
    port = api.url.rpartition(":")[2]
    path = tokens / "settings.yaml"
    path.write_text(
        "apiVersion: remediator.dev/v1\nkind: Settings\nserver:\n"
        f"  listen: 0.0.0.0:{port}\n  webhook_token_file: webhook\n  read_token_file: read\n  write_token_file: write\n"
    )
    return path


@pytest.fixture
def listed(api):
    api.page("/api/v1/runs")
    return api


def test_no_daemon_is_named(call):
    result = call("runs", "list")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--server or REMEDIATOR_SERVER" in result.stderr
    assert "--config or REMEDIATOR_CONFIG" in result.stderr


def test_flags(call, listed, tokens):
    assert call("runs", "list", "--server", listed.url, "--token-file", tokens / "other").exit_code == 0
    assert listed.asked[-1][3] == "Bearer other-secret"


def test_flags_before_the_command(call, listed, tokens):
    assert call("--server", listed.url, "--token-file", tokens / "other", "runs", "list").exit_code == 0
    assert listed.asked[-1][3] == "Bearer other-secret"


def test_no_token_is_no_header(call, listed):
    call("runs", "list", "--server", listed.url + "/")
    assert listed.asked[-1][1:4:2] == ("/api/v1/runs", None)


def test_environment(call, listed, tokens):
    env = {"REMEDIATOR_SERVER": listed.url, "REMEDIATOR_TOKEN_FILE": str(tokens / "other")}
    assert call("runs", "list", env=env).exit_code == 0
    assert listed.asked[-1][3] == "Bearer other-secret"


def test_flags_win_over_the_environment_wherever_they_stand(call, listed, tokens):
    env = {"REMEDIATOR_SERVER": "http://127.0.0.1:1", "REMEDIATOR_TOKEN_FILE": "/nowhere"}
    flags = ("--server", listed.url, "--token-file", tokens / "other")
    assert call("runs", "list", *flags, env=env).exit_code == 0
    assert call(*flags, "runs", "list", env=env).exit_code == 0
    assert len(listed.asked) == 2


def test_settings_file_gives_the_token_of_each_kind_of_call(call, api, settings, runs, tmp_path):
    api.page("/api/v1/runs")
    api.answer("POST", f"/api/v1/runs/{runs.id}/cancel", runs.one())
    api.answer("POST", "/api/v1/alerts", {"delivery": "d", "alerts": 1})
    (tmp_path / "payload.json").write_text("{}")
    assert call("runs", "list", "--config", settings).exit_code == 0
    assert call("runs", "cancel", runs.id, "--reason", "x", env={"REMEDIATOR_CONFIG": str(settings)}).exit_code == 0
    assert call("alert", "send", tmp_path / "payload.json", "--config", settings).exit_code == 0
    assert [asked[3] for asked in api.asked] == ["Bearer read-secret", "Bearer write-secret", "Bearer webhook-secret"]


def test_a_token_flag_wins_over_the_settings(call, listed, settings, tokens):
    assert call("runs", "list", "--config", settings, "--token-file", tokens / "other").exit_code == 0
    assert listed.asked[-1][3] == "Bearer other-secret"


def test_tokens_of_the_settings_do_not_go_to_another_address(call, listed, settings):
    assert call("runs", "list", "--config", settings, "--server", listed.url).exit_code == 0
    assert listed.asked[-1][3] is None


def test_where_there_is_no_read_token_the_write_token_looks(call, listed, settings):
    settings.write_text(settings.read_text().replace("  read_token_file: read\n", ""))
    assert call("runs", "list", "--config", settings).exit_code == 0
    assert listed.asked[-1][3] == "Bearer write-secret"


def test_bad_settings_are_told_with_their_place(call, settings):
    settings.write_text(settings.read_text().replace("listen", "lisen"))
    result = call("runs", "list", "--config", settings)
    assert result.exit_code == 1
    assert f"{settings}:4:3:" in result.stderr
    assert "listen" in result.stderr


def test_settings_that_leave_the_port_to_chance(call, settings):
    settings.write_text(settings.read_text().replace("listen: 0.0.0.0:", "listen: '0.0.0.0:0' #"))
    result = call("runs", "list", "--config", settings)
    assert result.exit_code == 2
    assert "--server" in result.stderr


@pytest.mark.parametrize(
    ("content", "said"), [(None, "No such file"), (b"", "one token"), (b"a b\nc", "one token"), (b"\xff\xfe", "not text")]
)
def test_bad_token_files(call, api, tmp_path, content, said):
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    result = call("runs", "list", "--server", api.url, "--token-file", path)
    assert result.exit_code == 2
    assert str(path) in result.stderr
    assert said in result.stderr
    assert not api.asked


@pytest.mark.parametrize("server", ["localhost:8080", "ftp://x", ""])
def test_addresses_without_a_scheme(call, server):
    result = call("runs", "list", "--server", server)
    assert result.exit_code == 2
    assert "http://" in result.stderr or "which daemon" in result.stderr


@pytest.mark.parametrize("server", ["http://", "http://127.0.0.1:99999999", "http://[::1"])
def test_addresses_that_are_none(call, server):
    result = call("runs", "list", "--server", server)
    assert result.exit_code in (2, 3)
    assert "defect" not in result.stderr


def test_nobody_listens(call):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        result = call("runs", "list", "--server", url)
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith(f"error: no answer from {url}: Connection refused\n")
    assert "Is the daemon running?" in result.stderr


class Empty(http.server.BaseHTTPRequestHandler):
    """A daemon without runs."""

    def do_GET(self):
        body = b'{"items": [], "next": null}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Nothing."""


@pytest.fixture
def secure():
    """The port of a server that speaks TLS with this certificate (what ``configure`` gives its context), or plain HTTP without."""
    running = []

    def start(configure=None):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Empty)
        if configure is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            configure(context)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        running.append(server)
        return server.server_port

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


AUTHORITY = "; SSL_CERT_FILE names your own authority"


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def refused(call, url):
    """What ``runs list`` says first, without the address."""
    result = call("runs", "list", "--server", url)
    assert (result.exit_code, result.stdout) == (3, "")
    first = result.stderr.splitlines()[0]
    assert first.startswith(f"error: no answer from {url}: ")
    return first.removeprefix(f"error: no answer from {url}: ")


def test_a_certificate_of_an_unknown_authority(call, secure, authority):
    port = secure(authority.issue_cert("127.0.0.1").configure_cert)
    said = refused(call, f"https://127.0.0.1:{port}")
    assert said == "its certificate is not trusted: unable to get local issuer certificate" + AUTHORITY


def test_a_certificate_that_is_its_own_authority(call, secure, authority, tmp_path):
    authority.cert_pem.write_to_path(tmp_path / "cert")
    authority.private_key_pem.write_to_path(tmp_path / "key")
    port = secure(lambda context: context.load_cert_chain(tmp_path / "cert", tmp_path / "key"))
    assert refused(call, f"https://127.0.0.1:{port}") == "its certificate is not trusted: self-signed certificate" + AUTHORITY


def test_tls_to_a_port_without(call, secure):
    said = refused(call, f"https://127.0.0.1:{secure()}")
    assert said.startswith("TLS: ")
    assert said.endswith("; does it speak TLS?")
    assert "_ssl.c" not in said


def test_an_authority_of_ones_own(process, secure, authority, tmp_path):
    """It is read when the program starts, so it takes a process."""
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    env = {"SSL_CERT_FILE": str(tmp_path / "ca.pem")}
    right, wrong = secure(authority.issue_cert("127.0.0.1").configure_cert), secure(authority.issue_cert("elsewhere").configure_cert)
    done = process("runs", "list", "-o", "json", "--server", f"https://127.0.0.1:{right}", env=env)
    assert (done.returncode, done.stdout, done.stderr) == (0, b'{\n  "items": [],\n  "next": null\n}\n', b"")
    done = process("runs", "list", "--server", f"https://127.0.0.1:{wrong}", env=env)
    mismatch = "IP address mismatch, certificate is not valid for '127.0.0.1'"
    assert done.returncode == 3
    assert done.stderr.decode().splitlines()[0] == (
        f"error: no answer from https://127.0.0.1:{wrong}: its certificate is not trusted: {mismatch}"
    )


def test_no_such_host(call):
    result = call("runs", "list", "--server", "http://nobody.invalid:1")
    assert result.exit_code == 3
    assert "nobody.invalid" in result.stderr


@pytest.mark.parametrize(
    ("status", "code", "hint"), [(400, 2, ""), (401, 1, "--token-file"), (403, 1, "write token"), (404, 1, ""), (500, 1, ""), (503, 1, "")]
)
def test_problems_of_the_daemon(call, api, status, code, hint):
    api.refuse("GET", "/api/v1/status", status, "Title", "Detail \x1b[31m.")
    result = call("status", "--server", api.url)
    assert result.exit_code == code
    assert result.stderr.startswith("error: Title: Detail \\x1b[31m.\n")
    assert hint in result.stderr


def test_something_else_answers_with_a_page(call, api):
    api.answer("GET", "/api/v1/status", status=502, raw="<html>\n  <h1>Bad gateway</h1></html>")
    result = call("status", "--server", api.url)
    assert result.exit_code == 1
    assert "answered 502" in result.stderr
    assert "<html> <h1>Bad gateway</h1></html>" in result.stderr


@pytest.mark.parametrize("raw", ["hello", "[]", '{"items": 3}', ""])
def test_something_else_answers_with_200(call, api, raw):
    api.answer("GET", "/api/v1/runs", raw=raw)
    result = call("runs", "list", "--server", api.url)
    assert result.exit_code == 1
    assert "is this a remediator" in result.stderr


def test_redirects_are_not_followed(call, api, tokens):
    api.answer("GET", "/api/v1/status", status=302, raw="")
    result = call("status", "--server", api.url, "--token-file", tokens / "read")
    assert result.exit_code == 1
    assert "302" in result.stderr
    assert len(api.asked) == 1


def test_as_a_process(process, listed, tokens):
    done = process("runs", "list", "-o", "json", "--token-file", tokens / "read", env={"REMEDIATOR_SERVER": listed.url})
    assert (done.returncode, done.stdout, done.stderr) == (0, b'{\n  "items": [],\n  "next": null\n}\n', b"")
    assert process("runs", "list", "--server", "http://127.0.0.1:1").returncode == 3
    assert process("runs", "list").returncode == 2
    assert process("status", "--server", listed.url).returncode == 1


def test_a_terminal_without_unicode(process, api, runs):
    api.page("/api/v1/runs", runs.one(playbook="grün→"))
    done = process("runs", "list", env={"REMEDIATOR_SERVER": api.url, "PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"})
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"gr\xfcn\\u2192" in done.stdout
