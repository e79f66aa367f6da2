"""``check`` and ``schema``: what is printed where, and the exit code. What is a problem is tested with the playbooks."""

from __future__ import annotations

import asyncio
import gc
import json

import jsonschema
import pytest
import uvloop
import yaml

from remediator.actions import actions
from remediator.clock import SystemClock
from remediator.gates import gates
from remediator.kube import Kube
from remediator.playbook import Library, shipped
from remediator.proofs import unmeasured
from remediator.sim import Simulation

GOOD = """\
apiVersion: remediator.dev/v1
kind: Playbook
metadata: {name: look, summary: Look}
ladder:
- {name: look, steps: [{look: {action: kube.get, kind: Node, name: "${target.name}", timeout: 1m}}]}
"""
SETTINGS = """\
apiVersion: remediator.dev/v1
kind: Settings
server: {listen: '127.0.0.1:8080', insecure: true}
playbooks: [mine]
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "playbooks").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "playbooks" / "good.yaml").write_text(GOOD)
    (tmp_path / "mine" / "good.yaml").write_text(GOOD)
    (tmp_path / "settings.yaml").write_text(SETTINGS)
    return tmp_path


@pytest.fixture
def bad(folder):
    path = folder / "playbooks" / "bad.yaml"
    path.write_text(GOOD.replace("kube.get", "kube.gett").replace("look,", "look2,").replace("1m", "5"))
    return path


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "paths", [(), ("playbooks",), ("playbooks/good.yaml",), ("settings.yaml", "playbooks"), ("--config", "settings.yaml")]
)
def test_nothing_is_wrong(call, paths):
    result = call("check", *paths)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "No problems found.\n")


@pytest.mark.usefixtures("folder")
def test_nothing_is_wrong_as_data(call):
    assert json.loads(call("check", "-o", "json").stdout) == {"ok": True, "problems": []}
    assert call("check", "-o", "name").stdout == ""


@pytest.mark.usefixtures("bad")
def test_every_problem_on_a_line_of_its_own(call):
    result = call("check")
    lines = result.stdout.splitlines()
    assert result.exit_code == 1
    assert len(lines) == 2
    assert all(line.startswith("playbooks/bad.yaml:5:") for line in lines)
    assert 'did you mean "kube.get"' in result.stdout
    assert "write 5s" in result.stdout
    assert result.stderr == "2 problems found.\n"


@pytest.mark.usefixtures("bad")
def test_problems_as_data(call):
    found = json.loads(call("check", "-o", "json").stdout)
    assert found["ok"] is False
    assert [(p["path"], p["line"]) for p in found["problems"]] == [("playbooks/bad.yaml", 5), ("playbooks/bad.yaml", 5)]
    assert call("check", "-o", "name").stdout == "playbooks/bad.yaml\n"
    assert yaml.safe_load(call("check", "-o", "yaml").stdout) == found


def test_settings_and_the_playbooks_that_they_name(call, folder):
    (folder / "mine" / "good.yaml").write_text(GOOD.replace("kind: Playbook", "kind: Playbok"))
    (folder / "settings.yaml").write_text(SETTINGS.replace("listen", "lisen"))
    assert call("check", "--config", "settings.yaml").stdout.startswith("settings.yaml:3:")
    (folder / "settings.yaml").write_text(SETTINGS)
    for where in (("--config", "settings.yaml"), ()):
        result = call("check", *where, env={"REMEDIATOR_CONFIG": "settings.yaml"})
        assert result.exit_code == 1
        assert "mine/good.yaml:2:1" in result.stdout


NAMED = """\
modes: {'*': auto, lok: suggest, 'lo*': auto}
notify:
- {name: ops, url: 'http://127.0.0.1:9', playbooks: ['*']}
- {name: oncall, url: 'http://127.0.0.1:9', playbooks: [look, lokk]}
"""
IDLE = """\
settings.yaml:5:20: modes.lok: no playbook is named "lok"; did you mean "look"?
settings.yaml:8:63: notify[1].playbooks[1]: no playbook is named "lokk"; did you mean "look"?
"""


@pytest.mark.parametrize("paths", [("--config", "settings.yaml"), ("settings.yaml",), ("settings.yaml", "playbooks")])
def test_names_in_the_settings_that_fit_no_playbook(call, folder, paths):
    """Such a mode lets the playbook act by itself that was meant to ask."""
    (folder / "settings.yaml").write_text(SETTINGS + NAMED)
    result = call("check", *paths)
    assert (result.exit_code, result.stdout, result.stderr) == (1, IDLE, "2 problems found.\n")


def test_names_of_shipped_playbooks(call, folder):
    settings = SETTINGS.replace("playbooks: [mine]", "modes: {drain-nod: observe, drain-node: suggest}")
    (folder / "settings.yaml").write_text(settings)
    result = call("check", "settings.yaml")
    assert result.exit_code == 1
    assert result.stdout == 'settings.yaml:4:9: modes.drain-nod: no playbook is named "drain-nod"; did you mean "drain-node"?\n'


def test_names_are_compared_with_what_is_checked_beside_the_settings_too(call, folder):
    """In a repository the settings may name the folder that the daemon's image has."""
    (folder / "settings.yaml").write_text(SETTINGS.replace("[mine]", "[/nowhere/playbooks]") + "modes: {look: suggest}\n")
    assert call("check", "settings.yaml", "playbooks").exit_code == 0
    assert call("check", "settings.yaml").exit_code == 0, "nobody knows here which there are"
    (folder / "settings.yaml").write_text(SETTINGS.replace("[mine]", "[/nowhere/playbooks]") + "modes: {lok: suggest}\n")
    assert call("check", "settings.yaml", "playbooks").exit_code == 1


def test_names_are_compared_once_the_playbooks_are_right(call, folder):
    (folder / "mine" / "good.yaml").write_text(GOOD.replace("1m", "5"))
    (folder / "settings.yaml").write_text(SETTINGS + "modes: {look: suggest}\n")
    lines = call("check", "--config", "settings.yaml").stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["mine/good.yaml"]
    assert call("check", "settings.yaml").exit_code == 0


@pytest.mark.parametrize("path", ["nowhere", "empty"])
def test_nothing_to_check_is_a_problem(call, folder, path):
    (folder / "empty").mkdir()
    result = call("check", path)
    assert result.exit_code == 1
    assert result.stdout.startswith(f"{path}:1:1: ")


def test_problems_are_harmless_on_a_terminal(call, folder):
    (folder / "playbooks" / "evil.yaml").write_text(GOOD.replace("kube.get", '"\\e[2Jkube"'))
    assert "\x1b" not in call("check").stdout


@pytest.mark.parametrize("what", ["playbook", "settings"])
def test_schema(call, what):
    schema = json.loads(call("schema", what).stdout)
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.validate(yaml.safe_load(GOOD if what == "playbook" else SETTINGS), schema)
    assert yaml.safe_load(call("schema", what, "-o", "yaml").stdout) == schema


def test_schema_of_something_else(call):
    assert call("schema", "weather").exit_code == 2


@pytest.mark.usefixtures("folder")
def test_serve_says_what_is_wrong_before_it_starts(call, folder):
    assert call("serve").exit_code == 2
    assert "nowhere.yaml:1:1: cannot be read" in call("serve", "--config", "nowhere.yaml").stderr
    (folder / "settings.yaml").write_text(SETTINGS.replace("listen", "lisen"))
    result = call("serve", "--config", "settings.yaml")
    assert result.exit_code == 1
    assert result.stderr.startswith("settings.yaml:3:")


@pytest.mark.usefixtures("folder")
def test_serve_listens_only_where_that_is_safe(call):
    result = call("serve", "--config", "settings.yaml", "--listen", "0.0.0.0:1")
    assert result.exit_code == 1
    assert "loopback" in result.stderr


@pytest.mark.usefixtures("folder")
def test_serve_hands_settings_and_flags_to_the_daemon(call, monkeypatch):
    asked = []

    async def serve(settings, *, dry_run, listen):
        asked.append((settings.playbooks[0].name, dry_run, listen))
        assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
        return 7

    monkeypatch.setattr("remediator.daemon.serve", serve)
    monkeypatch.setattr("remediator.telemetry.configure_logging", lambda **given: asked.append(given))
    assert call("serve", "--config", "settings.yaml").exit_code == 7
    assert call("-v", "serve", "--config", "settings.yaml", "--dry-run", "--listen", "127.0.0.1:0").exit_code == 7
    assert asked == [{"level": "info"}, ("mine", False, "127.0.0.1:8080"), {"level": "debug"}, ("mine", True, "127.0.0.1:0")]
    assert gc.isenabled()


TAKES = """\
apiVersion: remediator.dev/v1
kind: Playbook
metadata: {name: NAME, summary: Look}
when:
  alerts: ALERTS
  target: TARGET
ladder:
- {name: look, steps: [{look: {action: kube.get, kind: Node, name: "${target.name}", timeout: 1m}}]}
"""
RULES = """\
groups:
- name: mine
  rules:
  - record: node:slow:max
    expr: max by (node) (slow)
  - alert: NodeSlow
    expr: node:slow:max > 1
    labels: {severity: critical}
  - alert: ForPeople
    expr: max(cost) > 1
    annotations: {no_playbook: money}
"""


@pytest.fixture
def takes(folder):
    """Write playbooks/NAME.yaml that takes ``alerts``."""

    def write(name, alerts, target="{kind: Node}"):
        text = TAKES.replace("NAME", name).replace("ALERTS", json.dumps(alerts)).replace("TARGET", target)
        (folder / "playbooks" / f"{name}.yaml").write_text(text)

    (folder / "rules.yaml").write_text(RULES)
    return write


def test_rules_and_playbooks_fit(call, folder, takes):
    takes("slow", ['alertname=~"NodeSlow|Node.+Slow"', 'severity="critical"', 'node!=""'], '{kind: Node, name: "${alert.labels.node}"}')
    assert call("check", "--rules", "rules.yaml").stdout == ""
    rule = "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nspec:\n" + "".join(f"  {line}\n" for line in RULES.splitlines())
    (folder / "object.yaml").write_text(rule)
    assert call("check", "--rules", "object.yaml", "--rules", "rules.yaml").exit_code == 0


def test_everything_that_playbooks_and_rules_do_not_agree_on(call, folder, takes, golden):
    takes("a-misspelt", ['alertname=~"NodeSlow|NodeSlo"'])
    takes("b-never", ['alertname=~"Node[0-9]+"'])
    takes("c-severity", ["alertname=NodeSlow", "severity=page"])
    takes("d-label", ["alertname=NodeSlow", "zone=~.+"])
    takes("e-target", ["alertname=NodeSlow"], '{kind: Node, name: "${alert.labels.host}"}')
    takes("f-pod", ["alertname=~NodeSlow"], "{kind: Pod}")
    takes("g-people", ["alertname=ForPeople", 'x=""'])
    step = "{action: cilium.restart_agent, timeout: 5m, scrape_alerts: [NodeSlow, NodeSlower]}"
    text = GOOD.replace('{action: kube.get, kind: Node, name: "${target.name}", timeout: 1m}', step).replace(
        "name: look, s", "name: restart, s"
    )
    verify = "verify: {query: 'up{node=\"${target.name}\"} == 1', within: 5m}\n"
    (folder / "playbooks" / "h-step.yaml").write_text(text + verify)
    (folder / "rules.yaml").write_text(
        RULES + "  - {alert: Lonely, expr: up == 0}\n" + "  - {alert: Speechless, expr: up == 0, annotations: {no_playbook: ' '}}\n"
    )
    result = call("check", "--rules", "rules.yaml")
    assert result.exit_code == 1
    golden(result.stdout)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("groups: [\n", "rules.yaml:2:1: "),
        ("[]", "rules.yaml:1:1: "),
        ("# nothing\n", "rules.yaml:1:1: holds no document"),
        ("kind: PrometheusRule\nspec: {}", 'rules.yaml:2:1: spec: is no rule file: "groups" is missing'),
        ("groups:\n- name: x", "rules.yaml:2:3: groups[0]: must be a group with a list of rules, not a mapping"),
        ("groups:\n- rules: [1]", "rules.yaml:2:11: groups[0].rules[0]: is no rule: it needs alert or record"),
        ("groups:\n- rules:\n  - alert: X", "rules.yaml:3:5: groups[0].rules[0]: expr must be a PromQL expression, not empty"),
        (
            "groups:\n- rules:\n  - {alert: X, expr: up, labels: [a]}",
            "rules.yaml:3:5: groups[0].rules[0]: labels must be a mapping, not a list",
        ),
    ],
)
def test_rules_that_are_none(call, folder, text, said):
    (folder / "rules.yaml").write_text(text)
    result = call("check", "--rules", "rules.yaml")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[0].startswith(said)
    assert "no rule has" not in result.stdout, "what cannot be read is no reason to accuse playbooks"


@pytest.mark.usefixtures("bad")
def test_a_bad_playbook_is_not_said_twice(call, folder):
    """Its alerts would look as if nobody took them."""
    (folder / "rules.yaml").write_text(RULES)
    assert "no playbook takes" not in call("check", "--rules", "rules.yaml").stdout


def test_rules_that_are_not_there(call, folder):
    assert call("check", "--rules", "nowhere.yaml").stdout.startswith("nowhere.yaml:1:1: cannot be read")


def test_the_shipped_rules_and_playbooks_fit(call, root):
    result = call("check", str(root / "playbooks"), "--rules", str(root / "deploy/prometheus/rules.yaml"))
    assert (result.exit_code, result.stdout) == (0, "")


class Few:
    """A Prometheus that has one metric."""

    async def query(self, promql):
        return [1] if promql == "count(up)" else []


async def test_playbooks_whose_verification_could_never_hold_are_named():
    library = Library.load((shipped(),), actions=actions(), gates=gates())
    told = await unmeasured(Few(), library.playbooks)
    assert told["cilium-endpoints-unreachable"] == ("cilium_unreachable_health_endpoints",)
    assert "cilium-agent-down" not in told, "it asks for up"
    assert "node-down" not in told, "it asks the API server"


PROVES = """\
apiVersion: remediator.dev/v1
kind: Playbook
metadata: {name: NAME, summary: Looks and proves it}
ladder:
- {name: look, steps: [{look: {action: kube.get, kind: Node, name: "${target.name}", timeout: 1m}}]}
verify: {query: METRIC == 1, within: 1m}
"""


@pytest.fixture
async def checked(call, folder):
    """check --cluster beside a simulated cluster and its Prometheus; ``more`` is added to the settings."""
    for name, metric in (("blind", "nobody_has_this"), ("seeing", "up")):
        (folder / "mine" / f"{name}.yaml").write_text(PROVES.replace("NAME", name).replace("METRIC", metric))
    async with Simulation(nodes=2, clock=SystemClock(), seed=1) as simulation:

        async def check(more=""):
            doors = f"kubernetes: {{server: '{simulation.url}'}}\nprometheus: {{url: '{simulation.prometheus_url}'}}\n"
            (folder / "settings.yaml").write_text(SETTINGS + doors + more)
            return await asyncio.to_thread(call, "check", "--cluster", "--config", "settings.yaml")

        yield check


async def test_what_a_cluster_tells_is_a_note_and_no_problem(checked):
    result = await checked()
    assert (result.exit_code, result.stdout) == (0, "")
    blind = "mine/blind.yaml:1:1: playbook blind could not prove that anything is healed: Prometheus has no nobody_has_this"
    assert [line for line in result.stderr.splitlines() if line] == [blind, "No problems found."]


async def test_a_version_of_cilium_that_is_not_known_is_a_note(checked):
    result = await checked("cilium: {agent_selector: k8s-app=another}\n")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith("settings.yaml:1:1: no agent was found, so which version of Cilium runs here is not known; nothing")


async def test_a_right_on_the_lease_that_is_missing_is_a_problem(checked, monkeypatch):
    """Without it nobody would ever lead, and nothing else would say so before the first alert."""
    may = Kube.may

    async def no_leases(self, verb, resource, *args, **named):
        return verb != "*" and named.get("name") != "mine" and await may(self, verb, resource, *args, **named)

    async def no_list(*_):
        return None

    monkeypatch.setattr(Kube, "may", no_leases)
    monkeypatch.setattr(Kube, "rules", no_list)
    shared = "election: {enabled: true, namespace: ops, lease: mine}\nstore: {url: 'postgresql://remediator@db/remediator'}\n"
    result = await checked(shared)
    lease = "leases.coordination.k8s.io/mine in ops (the election of a leader)"
    assert result.stdout == f"settings.yaml:1:1: no replica could be elected: our account may not get {lease}, patch {lease}\n"
    assert (await checked(shared.replace("enabled: true", "enabled: false"))).exit_code == 0


HEARS = TAKES.replace("NAME", "slow").replace("ALERTS", '["alertname=NodeSlow"]').replace("TARGET", "{kind: Node}")


@pytest.fixture
def arriving(call, folder):
    """check --alertmanager with settings that name ``url``; ``more`` is added to the settings."""
    (folder / "mine" / "slow.yaml").write_text(HEARS)
    (folder / "webhook").write_text("s3cret")

    def check(url, *args, more="", server=""):
        served = server or "server: {listen: '127.0.0.1:8080', webhook_token_file: webhook}"
        text = SETTINGS.replace("server: {listen: '127.0.0.1:8080', insecure: true}", served)
        (folder / "settings.yaml").write_text(text + (f"alertmanager: {{url: '{url}'}}\n" if url else "") + more)
        return call("check", "--alertmanager", "--config", "settings.yaml", *args)

    return check


@pytest.mark.alertmanager
def test_an_alertmanager_that_is_set_up_as_shipped_says_nothing(arriving, alertmanager, root):
    text = (root / "deploy" / "alertmanager" / "example.yml").read_text()
    real = alertmanager(written=text.replace("/etc/alertmanager/secrets/remediator/webhook", "TOKEN_FILE"), token="s3cret")
    result = arriving(real.url)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "No problems found.\n")
    assert json.loads(arriving(real.url + "/", "-o", "json").stdout) == {"ok": True, "problems": [], "notes": []}
    assert arriving(real.url, root / "playbooks", "--rules", root / "deploy/prometheus/rules.yaml").stderr == "No problems found.\n"


BAD = """\
# lines and comments of the file are lost
route:
  receiver: people
  group_by: [alertname]
  routes:
  - receiver: people
    matchers: [severity="critical"]
  - receiver: healer
    match_re: {alertname: 'NodeSlow|Other'}
receivers:
- name: people
- name: healer
  webhook_configs:
  - {url: 'http://127.0.0.1:9/api/v1/alerts', send_resolved: false, max_alerts: 10}
"""


@pytest.mark.alertmanager
def test_everything_that_is_wrong_with_an_alertmanager(arriving, alertmanager, folder):
    real = alertmanager(written=BAD)
    result = arriving(real.url)
    assert result.exit_code == 1
    lines = [line.removeprefix(f"{real.url}/#/status:") for line in result.stdout.splitlines()]
    assert [line.partition(": ")[2].partition(": ")[0] for line in lines] == [
        "route.routes[1].group_by",
        "receivers[1].webhook_configs[0].send_resolved",
        "receivers[1].webhook_configs[0].http_config",
        "receivers[1].webhook_configs[0].max_alerts",
    ]
    shown = real._call("/api/v2/status")["config"]["original"].splitlines()
    for line in lines[1:]:
        row, column, rest = line.split(":", 2)
        assert shown[int(row) - 1][int(column) - 1 :].startswith(rest.split(":")[0].rpartition(".")[2])
    assert result.stderr == "4 problems found.\n"
    assert "no token is sent" not in arriving(real.url, server="server: {listen: '127.0.0.1:8080', insecure: true}").stdout
    (folder / "rules.yaml").write_text("groups: [{name: x, rules: [{alert: NodeSlow, expr: up, labels: {severity: critical}}]}]\n")
    kept = "route.routes[0]: keeps NodeSlow from route.routes[1], which leads here; say continue: true\n"
    assert kept in arriving(real.url, "mine", "--rules", "rules.yaml").stdout
    assert 'no receiver is named "heler"; did you mean "healer"?' in arriving(real.url, "--receiver", "heler").stdout


@pytest.mark.alertmanager
def test_a_playbook_that_hears_nothing_is_a_note(arriving, alertmanager, folder):
    (folder / "mine" / "other.yaml").write_text(HEARS.replace("name: slow", "name: other").replace("NodeSlow", "NodeLost"))
    text = BAD.replace("send_resolved: false, max_alerts: 10", "http_config: {authorization: {credentials: geheim}}")
    real = alertmanager(written=text.replace("group_by: [alertname]", "group_by: [node]"))
    result = arriving(real.url)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == (
        "mine/other.yaml:1:1: playbook other never hears of NodeLost: no route that leads here takes it\nNo problems found.\n"
    )


@pytest.mark.parametrize("prefix", ["/nowhere", ""])
@pytest.mark.alertmanager
def test_an_alertmanager_that_cannot_be_read_is_an_error(arriving, alertmanager, prefix):
    real = alertmanager()
    if not prefix:
        real.stop()
    result = arriving(real.url + prefix)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: Alertmanager's configuration could not be read: ")
    assert result.stderr.endswith(
        "look at url (with the path of its --web.route-prefix), token_file and timeout under alertmanager in settings.yaml\n"
    )


def test_an_alertmanager_takes_settings_that_name_it(call, arriving):
    result = arriving("")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "settings.yaml does not say where it is; write alertmanager: {url: ...}" in result.stderr
    result = call("check", "mine", "--alertmanager")
    assert result.exit_code == 2
    assert "name the settings with --config; they say where Alertmanager is" in result.stderr
    result = call("check", "mine", "--receiver", "x")
    assert result.exit_code == 2
    assert "goes with --alertmanager" in result.stderr


def test_an_alertmanager_is_not_asked_while_something_else_is_wrong(arriving, folder):
    (folder / "mine" / "slow.yaml").write_text(HEARS.replace("kube.get", "kube.gett"))
    result = arriving("http://127.0.0.1:1")
    assert result.exit_code == 1
    assert "kube.gett" in result.stdout
    assert "Alertmanager" not in result.stderr
