"""What is wrong with the way from Alertmanager to here, read from its configuration as it shows it."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from remediator.actions import actions
from remediator.arrivals import Wanted, check_configuration
from remediator.errors import Problem
from remediator.gates import gates
from remediator.playbook import Library, alerts_of, load_playbook, shipped

PLAYBOOK = """\
apiVersion: remediator.dev/v1
kind: Playbook
metadata: {name: NAME, summary: Look}
when:
  alerts: ALERTS
  target: {kind: Node}
ladder:
- {name: look, steps: [{look: {action: kube.get, kind: Node, name: "${target.name}", timeout: 1m}}]}
"""
URL = "http://remediator.remediator:8080/api/v1/alerts"
BEARER = {"authorization": {"type": "Bearer", "credentials_file": "/etc/webhook"}, "follow_redirects": True}
HOOK = {"send_resolved": True, "http_config": BEARER, "url": URL, "max_alerts": 0}
HIDDEN = {**HOOK, "url": "<secret>", "url_file": "", "timeout": "0s"}
"""As Alertmanager 0.26 and later show one."""
NODES = ["alertname", "node", "target_node"]
WATCHDOG = {"receiver": "remediator", "matchers": ['alertname="RemediatorWatchdog"'], "group_by": ["alertname"], "repeat_interval": "15m"}
OURS = {"receiver": "remediator", "matchers": ['kind=~".+"', 'kind!="remediator"'], "group_by": NODES, "continue": True}


def playbook(name, *alerts):
    return load_playbook(PLAYBOOK.replace("NAME", name).replace("ALERTS", json.dumps(alerts)), actions=actions(), gates=gates())


@pytest.fixture(scope="module")
def some():
    return [playbook("agent", 'alertname=~"AgentDown|AgentGone"'), playbook("slow", "alertname=NodeSlow", "severity=critical")]


@pytest.fixture(scope="module")
def library():
    return Library.load((shipped(),), actions=actions(), gates=gates()).playbooks


def configuration(*routes, hook=HOOK, name="remediator", top=None, **more):
    receivers = [{"name": "people"}, {"name": name, "webhook_configs": [hook]}]
    return {"route": {"receiver": "people", "routes": list(routes), **(top or {})}, "receivers": receivers, **more}


def told(data, playbooks=(), alerts=None, **wanted):
    problems, notes = check_configuration("am", yaml.safe_dump(data, sort_keys=False), playbooks, Wanted(**wanted), alerts)
    return [str(one).partition(": ")[2] for one in problems], [str(one).partition(": ")[2] for one in notes]


def wrong(*args, **more):
    problems, notes = told(*args, **more)
    assert notes == []
    return problems


GOOD = configuration(WATCHDOG, OURS, {"receiver": "people"})


def test_what_is_well_says_nothing(some):
    assert told(GOOD, some) == ([], [])


def test_the_shipped_route_fits_the_shipped_playbooks_and_rules(root, library):
    text = (root / "deploy" / "alertmanager" / "example.yml").read_text()
    alerts = alerts_of([root / "deploy" / "prometheus" / "rules.yaml", root / "deploy" / "prometheus" / "self.yaml"])
    for known in (None, alerts):
        assert check_configuration("am", text, library, Wanted(), known) == ([], [])


@pytest.mark.parametrize("version", ["0.28.1", "0.34.0"])
def test_the_shipped_route_as_later_versions_show_it(root, library, version):
    """shown/ has what their own code makes of example.yml: URLs and tokens hidden, defaults written out."""
    text = (root / "tests" / "unit" / "shown" / f"alertmanager-{version}.yml").read_text()
    assert "url: <secret>" in text
    assert check_configuration("am", text, library, Wanted()) == ([], [])
    (problem,), _ = check_configuration("am", text.replace("max_alerts: 0", "max_alerts: 2"), library, Wanted())
    assert "max_alerts: must be 0, not 2" in str(problem)
    (problem,), _ = check_configuration("am", text.replace("- target_node", "- x").replace("- node\n", "- y\n"), library, Wanted())
    assert "route.routes[1].group_by: group_by is alertname, y, x: with no node" in str(problem)


def rendered(spec, matcher=""):
    """What the Prometheus operator makes of our AlertmanagerConfig: its names, and the matcher if it enforces one."""

    def route(given):
        snake = {"groupBy": "group_by", "groupWait": "group_wait", "groupInterval": "group_interval", "repeatInterval": "repeat_interval"}
        made = {snake[key]: value for key, value in given.items() if key in snake}
        made["matchers"] = ['{name}{matchType}"{value}"'.format(**one) for one in given.get("matchers", ())]
        made["receiver"] = f"remediator/remediator/{given['receiver']}"
        return made | {"continue": given.get("continue", False), "routes": [route(one) for one in given.get("routes", ())]}

    top = route(spec["route"])
    top["matchers"] += [matcher] if matcher else []
    hook = {**HIDDEN, "http_config": {"authorization": {"type": "Bearer", "credentials": "<secret>"}}}
    names = [one["name"] for one in spec["receivers"]]
    receivers = [
        {"name": f"remediator/remediator/{name}"} | ({"webhook_configs": [hook]} if name == "remediator" else {}) for name in names
    ]
    return {"route": {"receiver": "null", "routes": [top]}, "receivers": [{"name": "null"}, *receivers]}


def test_the_shipped_alertmanagerconfig(root, library):
    spec = yaml.safe_load((root / "deploy" / "alertmanager" / "alertmanagerconfig.yaml").read_text())["spec"]
    alerts = alerts_of([root / "deploy" / "prometheus" / "rules.yaml", root / "deploy" / "prometheus" / "self.yaml"])
    assert told(rendered(spec), library, alerts) == ([], [])
    (problem,) = wrong(rendered(spec, 'namespace="remediator"'), library, alerts)
    assert problem.startswith('route.routes[0]: takes only alerts with namespace="remediator", which the Prometheus operator adds')


@pytest.mark.parametrize("hook", [HIDDEN, {**HIDDEN, "url_file": "/etc/url", "url": None}])
def test_a_hidden_url_is_told_by_the_receivers_name(some, hook):
    assert told(configuration(OURS, hook=hook), some) == ([], [])
    operators = {**OURS, "receiver": "ops/remediator/main"}
    assert told(configuration(operators, hook=hook, name="ops/remediator/main"), some) == ([], [])


def test_a_hidden_url_of_a_receiver_of_another_name():
    found = configuration({**OURS, "receiver": "healer"}, hook={**HIDDEN, "max_alerts": 5}, name="healer")
    (problem,) = wrong(found)
    assert problem == (
        'receivers: Alertmanager hides the URLs of webhooks, and no receiver with one has "remediator" in its name; '
        "say which leads here: --receiver with one of healer"
    )
    (problem,) = wrong(found, receiver="healer")
    assert problem.startswith("receivers[1].webhook_configs[0].max_alerts: must be 0, not 5")
    assert wrong(found, receiver="heler") == ['receivers: no receiver is named "heler"; did you mean "healer"?']
    assert wrong(found, receiver="people") == ['receivers[0]: receiver "people" has no webhook, so it does not lead here']


def test_a_namespace_of_our_name_does_not_make_all_its_receivers_ours():
    data = configuration({**OURS, "receiver": "remediator/x/remediator"}, hook=HIDDEN, name="remediator/x/remediator")
    data["receivers"].append({"name": "remediator/x/pager", "webhook_configs": [{**HIDDEN, "max_alerts": 5}]})
    assert wrong(data) == []
    assert wrong(configuration({**OURS, "receiver": "remediator/x/y"}, hook=HIDDEN, name="remediator/x/y")) == []


def test_of_several_hidden_webhooks_one_that_is_well_is_enough():
    data = configuration(OURS)
    data["receivers"][1]["webhook_configs"] = [{**HIDDEN, "http_config": {}}, HIDDEN]
    assert wrong(data) == []
    data["receivers"][1]["webhook_configs"] = [{**HIDDEN, "http_config": {}, "max_alerts": 1}, {**HIDDEN, "max_alerts": 1}]
    assert len(wrong(data)) == 1


def test_no_receiver_leads_here():
    none = "receivers: no receiver leads here: none has a webhook with a url that ends in /api/v1/alerts"
    data = configuration({**OURS, "receiver": "x"}, hook={**HOOK, "url": "http://elsewhere/hook"}, name="x")
    assert wrong(data) == [none]
    assert wrong({**data, "receivers": []}) == [none]
    (problem,) = wrong(configuration(OURS, hook={**HOOK, "url": "http://remediator:8080/alerts?t=geheim"}))
    assert problem == "receivers[1].webhook_configs[0].url: the URL does not end in /api/v1/alerts, where the daemon takes alerts"


@pytest.mark.parametrize("url", [f"{URL}?x=y", "https://u:xxxxx@gate/remediator/api/v1/alerts"])
def test_ways_to_write_the_url(url):
    assert wrong(configuration({**OURS, "receiver": "x"}, hook={**HOOK, "url": url}, name="x")) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"send_resolved": False}, ".send_resolved: must be true; without it remediator never hears that an alert has ended"),
        ({"max_alerts": 3}, ".max_alerts: must be 0, not 3: a list that was cut is held"),
        ({"payload": {"text": "x"}}, ".payload: must be left out"),
        (
            {"http_config": {}},
            ".http_config: no token is sent, so each delivery is a 401; the daemon wants the token of server.webhook_token_file",
        ),
        ({"http_config": None}, ".http_config: no token is sent"),
        ({"http_config": {"authorization": {"type": "Bearer"}}}, ".http_config.authorization: no token is sent"),
        ({"http_config": {"authorization": {"type": "ApiKey", "credentials": "<secret>"}}}, ".http_config.authorization: the type must be"),
        ({"http_config": {"basic_auth": {"username": "u"}}}, ".http_config.basic_auth: basic_auth is not what opens it"),
        ({"http_config": {"oauth2": {"client_id": "u"}}}, ".http_config.oauth2: oauth2 is not what opens it"),
    ],
)
@pytest.mark.parametrize("hook", [HOOK, HIDDEN])
def test_a_webhook_that_does_not_do(change, said, hook):
    (problem,) = wrong(configuration(OURS, hook={**hook, **change}))
    assert problem.startswith(f"receivers[1].webhook_configs[0]{said}")


@pytest.mark.parametrize(
    "http",
    [
        {"authorization": {"credentials": "<secret>"}},
        {"authorization": {"type": "bearer", "credentials_ref": "x"}},
        {"bearer_token": "<secret>"},
        {"bearer_token_file": "/x"},
    ],
)
def test_ways_to_send_the_token(http):
    assert wrong(configuration(OURS, hook={**HOOK, "http_config": http})) == []
    inherits = {key: value for key, value in HOOK.items() if key not in ("http_config", "send_resolved", "max_alerts")}
    assert wrong(configuration(OURS, hook=inherits, **{"global": {"http_config": http}})) == []


def test_what_a_webhook_says_of_http_replaces_the_global_as_a_whole():
    data = configuration(OURS, hook={**HOOK, "http_config": {}}, **{"global": {"http_config": BEARER}})
    (problem,) = wrong(data)
    assert problem.startswith("receivers[1].webhook_configs[0].http_config: no token is sent")


def test_a_daemon_without_a_token_wants_none():
    assert wrong(configuration(OURS, hook={**HOOK, "http_config": {}}), token=False) == []


def test_every_problem_at_once_with_its_place():
    hook = {**HOOK, "send_resolved": False, "max_alerts": 3, "http_config": {}}
    data = configuration({**OURS, "group_by": ["alertname"]}, hook=hook)
    problems, _ = check_configuration("am", yaml.safe_dump(data, sort_keys=False), [], Wanted())
    lines = yaml.safe_dump(data, sort_keys=False).splitlines()
    shown = [lines[one.line - 1][one.column - 1 :].partition(":")[0] for one in problems]
    assert shown == ["group_by", "send_resolved", "http_config", "max_alerts"]


def test_no_route_leads_here(some):
    assert wrong(configuration({"receiver": "people", "matchers": ['kind=~".+"']}), some) == [
        "route: no route leads to remediator, so no alert gets here"
    ]
    assert wrong({**GOOD, "route": None}, some) == ["route: no route leads to remediator, so no alert gets here"]
    assert wrong({"receivers": GOOD["receivers"]}, some) == ["route: no route leads to remediator, so no alert gets here"]


def test_the_route_at_the_top_may_lead_here(some):
    assert wrong(configuration(top={"receiver": "remediator", "group_by": ["..."], "repeat_interval": "30m"}), some) == []
    nested = {
        "matchers": ["team=net"],
        "receiver": "x",
        "routes": [{"matchers": ["a=b"]}, {"receiver": "remediator", "group_by": ["node"]}],
    }
    assert wrong(configuration(nested), some) == []


@pytest.mark.parametrize(
    "before",
    [
        {"receiver": "people"},
        {"receiver": "people", "matchers": ['alertname=~".+"']},
        {"receiver": "people", "match_re": {"team": ".*"}},
        {"receiver": "people", "matchers": ['kind=~".+"']},
        {"receiver": "people", "matchers": ['kind=~".+"'], "routes": [OURS, {"receiver": "people"}], "continue": False},
    ],
)
def test_a_route_that_takes_everything_first(some, before):
    problems = wrong(configuration(before, OURS), some)
    shadowed = "route.routes[1]: nothing gets here: route.routes[0] takes everything first; say continue: true there, or put this before it"
    assert problems == [shadowed]
    assert wrong(configuration({**before, "continue": True}, OURS), some) == []
    assert wrong(configuration(OURS, before), some) == []


def test_it_is_the_route_above_that_stands_behind(some):
    above = {"receiver": "people", "matchers": ["team=net"], "routes": [{"receiver": "remediator", "group_by": ["node"]}]}
    (problem,) = wrong(configuration({"receiver": "people", "match": {"team": "net"}}, above), some)
    assert problem.startswith("route.routes[1].routes[0]: nothing gets here: route.routes[0] takes everything first")


def test_routes_at_which_nothing_can_stay(some):
    covered = {**OURS, "routes": [{"receiver": "people"}]}
    contradictory = {"receiver": "people", "matchers": ['a="x"'], "routes": [{"receiver": "remediator", "matchers": ['a="y"']}]}
    for route, where in ((covered, "route.routes[0]"), (contradictory, "route.routes[0].routes[0]")):
        assert wrong(configuration(route), some) == [f"{where}: nothing gets here: no alert can stay at a route to remediator"]


@pytest.mark.parametrize(("group_by", "said"), [(["alertname"], "is alertname"), ([], "is missing")])
def test_nodes_that_wait_for_one_another(some, group_by, said):
    (problem,) = wrong(configuration({**OURS, "group_by": group_by}), some)
    assert problem.endswith(f": group_by {said}: with no node in it, nodes wait for one another; add node")
    assert problem.startswith("route.routes[0].group_by: ")


@pytest.mark.parametrize("group_by", [["..."], ["node"], ["alertname", "instance"]])
def test_what_keeps_nodes_apart_may_be_inherited(some, group_by):
    assert wrong(configuration({**OURS, "group_by": []}, top={"group_by": group_by}), some) == []


def test_alerts_about_no_node_may_be_one_group(some):
    for matchers, count in ((["alertname=Other"], 0), (["alertname=AgentDown"], 1), (['alertname=~"Other|AgentGone"'], 1)):
        route = {"receiver": "remediator", "matchers": matchers, "group_by": ["alertname"]}
        assert len(wrong(configuration(route, OURS), some)) == count


def test_the_watchdog_comes_again_within_an_hour(some):
    slow = {key: value for key, value in WATCHDOG.items() if key != "repeat_interval"}
    said = ": RemediatorWatchdog must come again within an hour, or RemediatorBlind fires; the shipped route says 15m"
    for times, shown in (({}, "4h"), ({"repeat_interval": "60m"}, "60m")):
        found = f"route.routes[0].repeat_interval: repeat_interval is {shown}{said}"
        assert told(configuration({**slow, **times}, OURS), some) == ([found], [])
        assert told(configuration({**OURS, **times, "matchers": ['kind=~".+"']}), some) == ([], [found]), "it may not be in use"
    assert wrong(configuration(slow, OURS, top={"repeat_interval": "59m"}), some) == []
    assert wrong(configuration({**OURS, "matchers": ["team=net"]}), some) == [], "whether it comes that way cannot be told"
    assert wrong(configuration({**WATCHDOG, "repeat_interval": "soon"}, OURS), some) == []


def test_another_route_keeps_what_a_playbook_takes(some):
    pager = {"receiver": "people", "matchers": ['alertname=~"AgentDown|NodeSlow"']}
    (problem,) = wrong(configuration(pager, OURS), some)
    assert problem == "route.routes[0]: keeps AgentDown, NodeSlow from route.routes[1], which leads here; say continue: true"
    assert wrong(configuration({**pager, "continue": True}, OURS), some) == []


def test_labels_of_rules_tell_what_another_route_keeps(some):
    pager = {"receiver": "people", "match": {"severity": "critical", "team": "net"}}
    alerts = {
        "AgentDown": [{"severity": "critical", "team": "net"}, {"severity": "warning", "team": "net"}],
        "AgentGone": [{"team": "net"}],
    }
    assert wrong(configuration(pager, OURS), some) == []
    (problem,) = wrong(configuration(pager, OURS), some, alerts)
    assert problem.startswith("route.routes[0]: keeps AgentDown (severity=critical, team=net) from route.routes[1]")
    alerts["NodeSlow"] = [{"severity": "warning"}, {"severity": "critical", "team": "net"}]
    (problem,) = wrong(configuration(pager, OURS), some, alerts)
    assert "NodeSlow from" in problem, "the playbook takes only one of them"


def test_what_no_route_takes_here_is_a_note(some):
    only = {"receiver": "remediator", "matchers": ['alertname="NodeSlow"'], "group_by": ["node"]}
    problems, notes = told(configuration(only), some)
    assert problems == []
    assert notes == ["playbook agent never hears of AgentDown, AgentGone: no route that leads here takes it"]


def test_no_playbook_hears_anything(some):
    only = {"receiver": "remediator", "matchers": ['alertname="Other"'], "group_by": ["node"]}
    assert wrong(configuration(only), some) == ["route.routes[0]: no alert that a playbook takes can get here"]


def test_the_matcher_that_the_prometheus_operator_adds(some):
    name = "remediator/remediator/main"
    route = {"receiver": name, "matchers": ['namespace="remediator"', 'kind=~".+"'], "group_by": ["node"], "continue": True}
    (problem,) = wrong(configuration(route, name=name), some)
    assert problem.startswith('route.routes[0]: takes only alerts with namespace="remediator", which the Prometheus operator adds')
    other = {**route, "matchers": ['namespace="shop"']}
    assert wrong(configuration(other, name=name), some) == []
    plain = {**route, "receiver": "remediator"}
    assert wrong(configuration(plain), some) == []


@pytest.mark.parametrize("matcher", ['"my.kind"=~".+"', '"a b"="x\\ty"', "\\", 'kind=~"("', "", 3])
def test_a_matcher_that_cannot_be_read_may_fit_anything(some, matcher):
    assert told(configuration({"receiver": "people", "matchers": [matcher]}, {**OURS, "matchers": [matcher, 'kind=~".+"']}), some)[1] == []


def test_matchers_of_other_letters_are_compared_too(some):
    """Since 0.27 any character may be in a label's name; Alertmanager writes such a name in quotes."""
    pager = {"receiver": "people", "matchers": ['"my.kind"="x"']}
    (problem,) = wrong(configuration(pager, {**OURS, "matchers": ['"my.kind"="x"', 'kind=~".+"']}), some)
    assert problem.startswith("route.routes[1]: nothing gets here")


@pytest.mark.parametrize("text", ["", "# nothing", "- a", "a: [", "a: 1\n---\nb: 2", "\x00", "x"])
def test_what_is_no_configuration_is_a_problem(text):
    problems, notes = check_configuration("am", text, [], Wanted())
    assert problems
    assert all(str(one).startswith("am:") for one in problems)
    assert notes == []


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.sampled_from(["", "remediator", "people", URL, "<secret>", "http://[", "1h", 'a="b"'])
)
KEYS = st.sampled_from(
    (
        *(
            "route",
            "routes",
            "receiver",
            "receivers",
            "name",
            "webhook_configs",
            "url",
            "matchers",
            "match",
            "match_re",
            "group_by",
            "continue",
        ),
        *("http_config", "authorization", "credentials", "type", "send_resolved", "max_alerts", "repeat_interval", "global", "payload"),
    )
)
TREES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6), max_leaves=40)


@st.composite
def configurations(draw):
    """A good one of which parts are replaced by anything, so that more than the first look at it is reached."""
    data = json.loads(json.dumps(GOOD))
    for _ in range(draw(st.integers(0, 4))):
        place = data
        while True:
            keys = sorted(place) if isinstance(place, dict) else range(len(place)) if isinstance(place, list) else ()
            if not keys:
                break
            key = draw(st.sampled_from(list(keys)))
            if not isinstance(place[key], dict | list) or draw(st.booleans()):
                place[key] = draw(TREES)
                break
            place = place[key]
    return data


@given(
    data=configurations() | st.dictionaries(KEYS, TREES, max_size=6), token=st.booleans(), receiver=st.sampled_from(["", "remediator", "x"])
)
def test_any_mapping_gives_problems_and_never_an_error(data, token, receiver):
    wanted = Wanted(token=token, receiver=receiver)
    problems, notes = check_configuration("am", json.dumps(data), [LOOK], wanted)
    assert all(isinstance(one, Problem) and one.line >= 1 and one.column >= 1 for one in [*problems, *notes])


LOOK = playbook("look", "alertname=NodeSlow")
