"""Where alerts go, compared with what Alertmanager's own tool says of the same routes."""

from __future__ import annotations

import json
import random
import shutil
import subprocess

import pytest

from remediator.monitoring.routes import Facts, names_of, read_routes
from remediator.playbook import parse_matcher

LABELS = {"alertname": ["A", "B"], "severity": ["critical", "warning", ""], "kind": ["agent", "node", ""]}
RECEIVERS = ["people", "pager", "remediator", "nobody"]


def routes_of(*routes, receiver="people"):
    return read_routes({"route": {"receiver": receiver, "routes": list(routes)}})


def taken(top, facts):
    may, would = top.takers(facts, lambda route: True)
    return [route.receiver for route in may], [(stop.receiver, behind.receiver) for stop, behind in would]


def test_what_is_not_known_may_be():
    top = routes_of({"receiver": "pager", "matchers": ['severity="critical"']}, {"receiver": "remediator"})
    assert taken(top, Facts({"alertname": "A"})) == (["pager", "remediator"], [])
    assert taken(top, Facts({"severity": "warning"})) == (["remediator"], [])
    assert taken(top, Facts({"severity": "critical"})) == (["pager"], [("pager", "remediator")])
    both = [parse_matcher("kind=x"), parse_matcher("severity=critical"), None]
    assert [Facts(known).fit(both) for known in ({"severity": "low"}, {"severity": "critical"})] == [False, None]
    assert Facts({"severity": "critical", "kind": "x"}).fit(both[:2]) is True
    assert taken(top, Facts({}, [parse_matcher("severity=critical")])) == (["pager"], [("pager", "remediator")])


def test_what_a_route_inherits():
    data = {
        "receiver": "people",
        "group_by": ["a"],
        "repeat_interval": "1h",
        "routes": [{"routes": [{"group_by": ["..."], "continue": True}]}],
    }
    _, middle, last = read_routes({"route": data}).walk()
    assert (middle.receiver, middle.group_by, middle.repeat_interval, middle.goes_on) == ("people", ("a",), "1h", False)
    assert (last.receiver, last.group_by, last.repeat_interval, last.goes_on) == ("people", ("...",), "1h", True)
    assert last.loc == ("route", "routes", 0, "routes", 0)
    assert routes_of().repeat_interval == "4h"


@pytest.mark.parametrize(
    ("matchers", "names"),
    [
        ([], None),
        (["severity=x", 'alertname=~"A.*"', "alertname!=B"], None),
        (["alertname=A"], ["A"]),
        (['alertname=~"A|B|C"', 'alertname=~"B|C"', 'alertname=~".+"'], ["B", "C"]),
        (["alertname=A", "alertname=B"], []),
    ],
)
def test_alerts_that_are_spelled_out(matchers, names):
    assert names_of([*map(parse_matcher, matchers), None]) == names


def a_matcher(dice):
    label = dice.choice(list(LABELS))
    value = dice.choice(LABELS[label])
    return dice.choice([f'{label}="{value}"', f'{label}!="{value}"', f'{label}=~"{value}|x"', f'{label}!~".*{value}"', f'{label}=~".+"'])


def a_route(dice, depth=0):
    route = {"matchers": [a_matcher(dice) for _ in range(dice.randint(0, 2))], "continue": dice.random() < 0.4}
    if dice.random() < 0.7:
        route["receiver"] = dice.choice(RECEIVERS)
    if dice.random() < 0.2:
        route["match"] = {"severity": dice.choice(["critical", "warning"])}
    if dice.random() < 0.2:
        route["match_re"] = {"kind": dice.choice([".+", "agent|node", ""])}
    if depth < 2:
        route["routes"] = [a_route(dice, depth + 1) for _ in range(dice.randint(0, 2))]
    return route


@pytest.mark.alertmanager
@pytest.mark.parametrize("seed", range(12))
def test_alerts_of_which_all_is_known_go_where_alertmanager_sends_them(tmp_path, seed):
    tool = shutil.which("amtool")
    if tool is None:
        pytest.skip("amtool is not installed (Debian package prometheus-alertmanager)")
    dice = random.Random(seed)
    top = {"receiver": "people", "routes": [a_route(dice) for _ in range(4)]}
    file = tmp_path / "alertmanager.yml"
    file.write_text(json.dumps({"route": top, "receivers": [{"name": name} for name in RECEIVERS]}))
    tree = read_routes({"route": top})
    for _ in range(4):
        labels = {label: dice.choice(values) for label, values in LABELS.items()}
        given = [f"{label}={value}" for label, value in labels.items() if value]
        said = subprocess.run(
            [tool, "config", "routes", "test", f"--config.file={file}", *given], check=True, capture_output=True, text=True, timeout=30
        ).stdout
        may, _ = tree.takers(Facts(labels), lambda route: True)
        assert [route.receiver for route in may] == said.strip().split(",")
        sure = Facts(labels)
        for route in tree.walk():
            if route in may:
                assert sure.fit(route.everything()) is True
                assert route.shadow(sure) is None
                assert route.is_end(sure)
