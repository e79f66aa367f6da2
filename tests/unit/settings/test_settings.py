from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.document import read_documents
from remediator.errors import DocumentError, UsageError
from remediator.model import Mode
from remediator.playbook import shipped
from remediator.settings import Settings, Share, effective_mode, idle_names, load_settings, settings_schema, variables

ROOT = Path(__file__).parents[3]
HEAD = "apiVersion: remediator.dev/v1\nkind: Settings\n"
FULL = (
    HEAD
    + """\
server:
  listen: 0.0.0.0:8080
  webhook_token_file: /run/secrets/webhook
  read_token_file: secrets/read
  write_token_file: /run/secrets/write
  max_body: 2MiB
store: {url: 'sqlite:////var/lib/remediator/remediator.db', retention: 90d}
playbooks: [/etc/remediator/playbooks, mine]
mode: suggest
modes: {cilium-agent-down: auto, '*': observe}
dry_run: true
kubernetes: {kubeconfig: kube/config, context: prod}
cilium: {namespace: cilium, agent_selector: app=agent}
prometheus: {url: 'http://prometheus:9090', timeout: 5s, max_age: 1m}
alertmanager: {url: 'https://alertmanager/path', token_file: t}
limits: {concurrent_runs: 5, concurrent_disruptive: 2, disruptive_per_hour: 7, max_disturbed: 12.5%, min_speakers: 3}
notify: []
"""
)
TOKENS = "server: {webhook_token_file: w}\n"


@pytest.fixture
def load(tmp_path):
    file = tmp_path / "settings.yaml"

    def loaded(text, env=None, flags=None):
        file.write_text(text)
        return load_settings(file, env or {}, flags)

    return loaded


@pytest.fixture
def problems(load, tmp_path):
    def found(text, env=None, flags=None):
        with pytest.raises(DocumentError) as caught:
            load(text, env, flags)
        return [str(problem).removeprefix(f"{tmp_path}/settings.yaml:") for problem in caught.value.problems]

    return found


def test_everything_of_a_full_file_arrives(load, tmp_path):
    settings = load(FULL)
    assert (settings.server.host, settings.server.port, settings.server.loopback) == ("0.0.0.0", 8080, False)
    assert settings.server.webhook_token_file == Path("/run/secrets/webhook")
    assert settings.server.read_token_file == tmp_path / "secrets/read"
    assert settings.server.max_body == 2 * 1024 * 1024
    assert settings.store.retention == timedelta(days=90)
    assert settings.playbooks == (Path("/etc/remediator/playbooks"), tmp_path / "mine")
    assert settings.mode is Mode.SUGGEST
    assert settings.dry_run is True
    assert settings.kubernetes.kubeconfig == tmp_path / "kube/config"
    assert settings.cilium.agent_selector == "app=agent"
    assert (settings.prometheus.timeout, settings.prometheus.max_age) == (timedelta(seconds=5), timedelta(minutes=1))
    assert settings.alertmanager.token_file == tmp_path / "t"
    assert settings.limits.max_disturbed.of(16) == 2


def test_the_word_shipped_is_the_folder_of_what_comes_with_the_program(load, tmp_path):
    settings = load(HEAD + TOKENS + "playbooks: [shipped, ./shipped, /etc/remediator/playbooks]\n")
    assert settings.playbooks == (shipped(), tmp_path / "shipped", Path("/etc/remediator/playbooks"))
    assert (shipped() / "restart-agent.yaml").is_file()


def test_the_defaults(load):
    settings = load(HEAD + TOKENS)
    assert settings.server.listen == "0.0.0.0:8080"
    assert settings.server.max_body == 4 * 1024 * 1024
    assert settings.store.url == "sqlite:////var/lib/remediator/remediator.db"
    assert settings.store.retention == timedelta(days=90)
    assert settings.playbooks is None
    assert (settings.mode, settings.modes, settings.dry_run) == (Mode.AUTO, {}, False)
    assert settings.kubernetes.kubeconfig is None
    assert (settings.cilium.namespace, settings.cilium.agent_selector) == ("kube-system", "k8s-app=cilium")
    assert (settings.prometheus.url, settings.alertmanager.url) == (None, None)
    assert (settings.prometheus.timeout, settings.prometheus.max_age) == (timedelta(seconds=10), timedelta(minutes=2))
    limits = settings.limits
    assert (limits.concurrent_runs, limits.concurrent_disruptive, limits.disruptive_per_hour, limits.min_speakers) == (4, 1, 6, 2)
    assert str(limits.max_disturbed) == "20%"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (TOKENS, ['1:1: "apiVersion" is missing', '1:1: "kind" is missing']),
        ("apiVersion: remediator.dev/v2\nkind: Playbook\n" + TOKENS, ["1:1: apiVersion: ", '2:1: kind: "Playbook" is not one of Settings']),
        (HEAD + TOKENS + "moed: auto\n", ['4:1: unknown key "moed"; did you mean "mode"?']),
        (HEAD + TOKENS + "limits: {concurrent_run: 1}\n", ['4:10: limits: unknown key "concurrent_run"; did you mean "concurrent_runs"?']),
        (HEAD + TOKENS + "prometheus: {timeout: 10}\n", ['4:14: prometheus.timeout: "10" has no unit']),
        (HEAD + TOKENS + "prometheus: {max_age: 0s}\n", ["4:14: prometheus.max_age: must be longer than 0s"]),
        (HEAD + TOKENS + "prometheus: {url: prometheus:9090}\n", ["4:14: prometheus.url: is not a URL"]),
        (HEAD + TOKENS + "prometheus: {url: 'http://a:b@c'}\n", ["4:14: prometheus.url: a password does not belong"]),
        (HEAD + "server: {webhook_token_file: w, max_body: 4}\n", ['3:33: server.max_body: "4" has no unit']),
        (HEAD + "server: {webhook_token_file: ''}\n", ["3:10: server.webhook_token_file: must not be empty"]),
        (HEAD + "server: {webhook_token_file: w, listen: '8080'}\n", ['3:33: server.listen: "8080" is not host:port']),
        (HEAD + "server: {webhook_token_file: w, listen: '::1:8080'}\n", ["3:33: server.listen: "]),
        (HEAD + "server: {webhook_token_file: w, listen: 'a:99999'}\n", ["3:33: server.listen: "]),
        (HEAD, ["1:1: server: webhook_token_file is missing; to serve without tokens"]),
        (HEAD + "server: {insecure: true}\n", ["3:10: server.insecure: true is only for a loopback address"]),
        (HEAD + "server: {insecure: true, listen: '10.0.0.1:80'}\n", ["3:10: server.insecure: true is only for a loopback address"]),
        (HEAD + "server: {insecure: 'yes'}\n", ["3:10: server.insecure: must be true or false"]),
        (HEAD + TOKENS + "store: {url: 'mysql://x/y'}\n", ['4:9: store.url: "mysql" is not a store']),
        (HEAD + TOKENS + "store: {url: 'sqlite://var/x'}\n", ["4:9: store.url: write sqlite:////"]),
        (HEAD + TOKENS + "store: {url: 'sqlite:////x', password_file: p}\n", ["4:30: store.password_file: needs a url"]),
        (HEAD + TOKENS + "playbooks: []\n", ["4:1: playbooks: must not be empty"]),
        (HEAD + TOKENS + "playbooks: x\n", ["4:1: playbooks: must be a list"]),
        (HEAD + TOKENS + "mode: automatic\n", ['4:1: mode: "automatic" is not one of observe, suggest, auto; did you mean "auto"?']),
        (HEAD + TOKENS + "modes: {a: off}\n", ['4:9: modes.a: "off" is not one of']),
        (HEAD + TOKENS + "dry_run: on\n", ['4:1: dry_run: must be true or false, not "on"']),
        (HEAD + TOKENS + "kubernetes: {server: 'http://x', context: y}\n", ["4:14: kubernetes.server: stands alone"]),
        (HEAD + TOKENS + "limits: {max_disturbed: 120%}\n", ["4:10: limits.max_disturbed: must be a percentage"]),
        (HEAD + TOKENS + "limits: {max_disturbed: 0.2}\n", ["4:10: limits.max_disturbed: must be a percentage"]),
        (HEAD + TOKENS + "limits: {concurrent_runs: 1, concurrent_disruptive: 2}\n", ["4:30: limits.concurrent_disruptive: is more than"]),
        (HEAD + TOKENS + "limits: {concurrent_runs: '4'}\n", ['4:10: limits.concurrent_runs: must be a whole number, not "4"']),
        (HEAD + TOKENS + "notify: [{name: a}]\n", ["4:10: notify[0]: needs one of url, url_file, apprise_file and slack; it has none"]),
        (HEAD + TOKENS + "notify: [{name: a, url: 'http://x', url_file: x}]\n", ["4:10: notify[0]: needs one of"]),
        (HEAD + TOKENS + "notify: [{name: a, apprise_file: x, secret_file: y}]\n", ["4:37: notify[0].secret_file: signs webhooks"]),
        (HEAD + TOKENS + "notify: [{name: a, slack: {token_file: x}}]\n", ['4:20: notify[0].slack: "channel" is missing']),
        (
            HEAD + TOKENS + "notify: [{name: a, secret_file: y, slack: {token_file: x, channel: C1}}]\n",
            ["4:20: notify[0].secret_file: signs webhooks; Slack has none"],
        ),
        (HEAD + TOKENS + "notify: [{name: a, url: 'http://x', slack: {token_file: x, channel: C1}}]\n", ["4:10: notify[0]: needs one of"]),
        (HEAD + TOKENS + "notify: [{name: a, url: 'http://x', text: '${token}'}]\n", ['4:44: notify[0].text: "${token}" cannot be filled']),
        (HEAD + TOKENS + "notify: [{name: a, url: 'http://x', events: [heald]}]\n", ['4:46: notify[0].events[0]: "heald" is not one of']),
        (HEAD + TOKENS + "notify: [{name: a, url: 'http://x'}, {name: a, url: 'http://y'}]\n", ['4:1: notify: the name "a" stands twice']),
        (HEAD + TOKENS + "server: {}\n", ['4:1: key "server" appears twice']),
        ("[]", ["1:1: settings must be a mapping"]),
        ("", ["1:1: settings are one document; this file holds 0"]),
        (HEAD + TOKENS + "---\n" + HEAD, ["1:1: settings are one document; this file holds 2"]),
    ],
)
def test_each_mistake_is_told_where_it_stands(problems, text, expected):
    found = problems(text)
    assert len(found) == len(expected)
    for problem, start in zip(found, expected, strict=True):
        assert problem.startswith(start)


def test_all_mistakes_are_told_at_once(problems):
    assert len(problems(HEAD + "server: {listn: x}\nmode: x\nlimits: {max_disturbed: x}\nprometheus: {timeout: 5}\n")) == 4


@pytest.mark.parametrize("listen", ["127.0.0.1:8080", "[::1]:0", "localhost:80", "127.8.8.8:1"])
def test_without_tokens_only_on_a_loopback_address(load, listen):
    assert load(HEAD + f"server: {{insecure: true, listen: '{listen}'}}\n").server.loopback


def test_the_environment_wins_over_the_file_and_flags_over_both(load, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path.parent)
    env = {
        "REMEDIATOR_MODE": "observe",
        "REMEDIATOR_SERVER_LISTEN": "127.0.0.1:1",
        "REMEDIATOR_PROMETHEUS_TIMEOUT": "7s",
        "REMEDIATOR_LIMITS_CONCURRENT_RUNS": "9",
        "REMEDIATOR_LIMITS_MAX_DISTURBED": "3",
        "REMEDIATOR_SERVER_READ_TOKEN_FILE": "r",
        "REMEDIATOR_STORE_URL": "",
        "REMEDIATOR_PORT": "tcp://10.0.0.1:80",
        "REMEDIATOR_SERVICE_HOST": "10.0.0.1",
    }
    settings = load(FULL, env, {"server.listen": "127.0.0.1:2", "dry_run": "false"})
    assert settings.mode is Mode.OBSERVE
    assert settings.server.listen == "127.0.0.1:2"
    assert settings.prometheus.timeout == timedelta(seconds=7)
    assert settings.limits.concurrent_runs == 9
    assert settings.limits.max_disturbed == Share(count=3)
    assert settings.server.read_token_file == tmp_path.parent / "r"
    assert settings.server.write_token_file == Path("/run/secrets/write")
    assert settings.store.url == "sqlite:////var/lib/remediator/remediator.db"
    assert settings.dry_run is False


def test_a_mistake_from_outside_is_told_by_its_name(problems):
    found = problems(HEAD + TOKENS, {"REMEDIATOR_LIMITS_MIN_SPEAKERS": "two"}, {"server.listen": "x"})
    assert found == [
        '$REMEDIATOR_LIMITS_MIN_SPEAKERS:1:1: limits.min_speakers: must be a whole number, not "two"',
        '--listen:1:1: server.listen: "x" is not host:port; write for example 0.0.0.0:8080 or [::]:8080',
    ]


def test_no_file_is_an_empty_one():
    settings = load_settings(None, {"REMEDIATOR_SERVER_INSECURE": "true", "REMEDIATOR_SERVER_LISTEN": "127.0.0.1:0"})
    assert settings.mode is Mode.AUTO
    with pytest.raises(DocumentError, match="webhook_token_file is missing"):
        load_settings(None, {})


def test_the_environment_variables_are_those_of_the_docs():
    page = (ROOT / "docs" / "settings.md").read_text()
    assert set(re.findall(r"`(REMEDIATOR_[A-Z_]+)`", page)) - {"REMEDIATOR_SECTION_KEY"} == set(variables())


@pytest.mark.parametrize(
    ("url", "resolved"),
    [
        ("sqlite:///journal.db", "sqlite:///{base}/journal.db"),
        ("sqlite:////abs/x.db", "sqlite:////abs/x.db"),
        ("postgresql://u@h/db", "postgresql://u@h/db"),
    ],
)
def test_a_relative_store_is_beside_the_file(load, tmp_path, url, resolved):
    assert load(HEAD + TOKENS + f"store: {{url: '{url}'}}\n").store.url == resolved.format(base=tmp_path)


def test_the_home_folder_may_be_meant(load, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    file = HEAD + TOKENS + "kubernetes: {kubeconfig: '~/.kube/config'}\n"
    assert load(file).kubernetes.kubeconfig == tmp_path / "home" / ".kube" / "config"
    assert load(file, {"REMEDIATOR_KUBERNETES_KUBECONFIG": "~/other"}).kubernetes.kubeconfig == tmp_path / "home" / "other"


def test_a_home_folder_that_cannot_be_found_is_told(problems):
    (problem,) = problems(HEAD + TOKENS + "kubernetes: {kubeconfig: '~nobody-of-that-name/config'}\n")
    assert 'kubernetes.kubeconfig: the home folder in "~nobody-of-that-name/config" cannot be found' in problem


def test_the_store_password_comes_from_its_file_and_is_not_shown(load, tmp_path):
    settings = load(HEAD + TOKENS + "store: {url: 'postgresql://u@h:5432/db', password_file: pw}\n")
    with pytest.raises(UsageError, match=r"store\.password_file .*pw cannot be read"):
        settings.store.full_url()
    (tmp_path / "pw").write_text("p@ss/word\n")
    assert settings.store.full_url() == "postgresql://u:p%40ss%2Fword@h:5432/db"
    secret = load(HEAD + TOKENS + "store: {url: 'postgresql://u:hidden@h/db'}\n")
    assert "hidden" not in repr(secret)


@pytest.mark.parametrize(
    ("ceiling", "modes", "own", "mode"),
    [
        ("auto", {}, "suggest", "suggest"),
        ("auto", {"p": "auto"}, "suggest", "auto"),
        ("auto", {"*": "auto"}, "suggest", "auto"),
        ("auto", {"p": "observe", "*": "auto"}, "auto", "observe"),
        ("auto", {"other": "auto", "*": "observe"}, "suggest", "observe"),
        ("auto", {"other": "auto"}, "observe", "observe"),
        ("suggest", {"p": "auto"}, "auto", "suggest"),
        ("observe", {"p": "auto"}, "auto", "observe"),
        ("suggest", {}, "observe", "observe"),
    ],
)
def test_the_mode_in_force(ceiling, modes, own, mode):
    settings = SimpleNamespace(mode=Mode(ceiling), modes={name: Mode(value) for name, value in modes.items()})
    assert effective_mode(settings, SimpleNamespace(name="p", mode=Mode(own))) is Mode(mode)


def test_of_several_globs_the_longest_decides():
    settings = SimpleNamespace(mode=Mode.AUTO, modes={"*": Mode.OBSERVE, "cilium-*": Mode.SUGGEST, "cilium-agent-*": Mode.AUTO})
    playbook = SimpleNamespace(name="cilium-agent-down", mode=Mode.OBSERVE)
    assert effective_mode(settings, playbook) is Mode.AUTO


@given(
    own=st.sampled_from(Mode),
    ceiling=st.sampled_from(Mode),
    modes=st.dictionaries(st.sampled_from(["p", "*", "p*", "q"]), st.sampled_from(Mode)),
)
def test_the_mode_is_never_above_the_ceiling(own, ceiling, modes):
    found = effective_mode(SimpleNamespace(mode=ceiling, modes=modes), SimpleNamespace(name="p", mode=own))
    assert found.rank <= ceiling.rank


def test_playbooks_that_are_named_and_not_there_are_pointed_out():
    modes = {"cilium-agent-dwon": Mode.OBSERVE, "cilium-*": Mode.AUTO, "*": Mode.SUGGEST, "x-*": Mode.AUTO}
    routes = [SimpleNamespace(playbooks=("*",)), SimpleNamespace(playbooks=("cilium-*", "cilium_agent-down"))]
    found = idle_names(SimpleNamespace(modes=modes, notify=routes), ["cilium-agent-down"])
    assert found == [
        (("modes", "cilium-agent-dwon"), 'no playbook is named "cilium-agent-dwon"; did you mean "cilium-agent-down"?'),
        (("modes", "x-*"), 'no playbook is named "x-*"; known are cilium-agent-down'),
        (("notify", 1, "playbooks", 1), 'no playbook is named "cilium_agent-down"; did you mean "cilium-agent-down"?'),
    ]


@pytest.mark.parametrize(
    ("text", "total", "count"), [("20%", 5, 1), ("20%", 4, 1), ("20%", 11, 3), ("0%", 10, 0), ("100%", 3, 3), ("3", 10, 3)]
)
def test_a_share_of_a_whole(load, text, total, count):
    assert load(HEAD + TOKENS + f"limits: {{max_disturbed: {text}}}\n").limits.max_disturbed.of(total) == count


def test_the_schema_takes_what_loads_and_marks_what_does_not():
    validator = jsonschema.Draft7Validator(settings_schema())
    validator.check_schema(validator.schema)

    def errors(text):
        return list(validator.iter_errors(read_documents("x", text)[0].data))

    assert errors(FULL) == []
    for bad in ("moed: auto\n", "dry_run: on\n", "prometheus: {timeout: 5}\n", "limits: {max_disturbed: x}\n"):
        assert errors(HEAD + bad)


def test_settings_are_frozen_and_plain(load):
    settings = load(FULL)
    with pytest.raises(ValueError, match="frozen"):
        settings.mode = Mode.AUTO
    assert Settings.model_validate(settings.model_dump(by_alias=True)) == settings


def test_an_election_needs_a_store_that_replicas_can_share(tmp_path):
    path = tmp_path / "settings.yaml"
    head = "apiVersion: remediator.dev/v1\nkind: Settings\nserver: {listen: '127.0.0.1:0', insecure: true}\nelection: {enabled: true}\n"
    path.write_text(head)
    with pytest.raises(DocumentError, match=r"settings.yaml:4:\d+: .*election.*replicas cannot share a SQLite file"):
        load_settings(path)
    path.write_text(head + "store: {url: 'postgresql://remediator@db/remediator'}\n")
    assert load_settings(path).election.lease == "remediator"
