"""Whether alerts arrive as they must: what Alertmanager's configuration says about the way to this daemon.

In: the configuration as ``GET /api/v2/status`` shows it, what the settings want, playbooks, the alerts of rules where they are given.
Out: Problems, and notes about what may be meant so. Pure; who asks for the configuration is ``remediator.monitoring``.

Alertmanager writes its configuration anew, so positions are not those of its file; the place before each message (``route.routes[1]``) is
mostly the same. From 0.26 on it hides the URLs of webhooks; the receiver's name counts then.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from remediator.document import Document, read_documents, suggest
from remediator.errors import DocumentError, Problem
from remediator.monitoring.routes import Facts, Route, mapping, names_of, read_routes, sequence
from remediator.units import parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from remediator.document import Loc
    from remediator.playbook import Playbook

    Alerts = Mapping[str, Sequence[Mapping[str, str]]]
    """By name, the labels that are known of each alert of that name."""

__all__ = ["Wanted", "check_configuration"]

_PATH: Final = "/api/v1/alerts"
_NAME: Final = "remediator"
_HIDDEN: Final = "<secret>"
_NODE: Final = frozenset({"...", "target_node", "node", "nodename", "node_name", "kubernetes_node", "instance"})
"""Labels that keep the alerts of different nodes apart; ``...`` does with any."""
_WATCHDOG: Final = {"alertname": "RemediatorWatchdog", "kind": "remediator", "severity": "none"}
_BLIND: Final = timedelta(hours=1)
"""Without a delivery for so long RemediatorBlind fires."""
_FEW: Final = 3


@dataclass(frozen=True)
class Wanted:
    """What the daemon's settings want of the way to it."""

    token: bool = True
    """Whether a webhook without a bearer token is refused."""
    receiver: str = ""
    """The receiver's name, if a person said it."""


@dataclass(frozen=True)
class _Webhook:
    loc: Loc
    data: dict[str, Any]
    receiver: str

    @property
    def url(self) -> str | None:
        """None where Alertmanager hides it, or reads it from a file."""
        url = self.data.get("url")
        return url if isinstance(url, str) and url not in ("", _HIDDEN) else None

    @property
    def leads_here(self) -> bool:
        """Whether its URL, if it can be read, ends in the daemon's route."""
        try:
            return self.url is not None and urlsplit(self.url).path.endswith(_PATH)
        except ValueError:
            return False


def check_configuration(
    path: str, text: str, playbooks: Iterable[Playbook], wanted: Wanted, alerts: Alerts | None = None
) -> tuple[list[Problem], list[Problem]]:
    """Every problem in the order of the text, and notes. ``path`` only names the text in problems."""
    try:
        documents = read_documents(path, text)
    except DocumentError as error:
        return error.problems, []
    if len(documents) != 1 or not isinstance(documents[0].data, dict):
        return [Problem(path, 1, 1, "Alertmanager shows no configuration")], []
    document = documents[0]
    problems, ours = _receivers(document, wanted)
    notes: list[Problem] = []
    if ours:
        takers = [one for one in playbooks if one.when is not None]
        more, notes = _routes(document, {hook.receiver for hook in ours}, takers, alerts or {})
        problems += more
    return sorted(dict.fromkeys(problems), key=lambda problem: (problem.line, problem.column, problem.message)), notes


def _receivers(document: Document, wanted: Wanted) -> tuple[list[Problem], list[_Webhook]]:
    """What is wrong with the webhooks that lead here, and these."""
    hooks = [
        _Webhook(("receivers", index, "webhook_configs", number), hook, str(receiver.get("name", "")))
        for index, receiver in enumerate(map(mapping, sequence(document.data.get("receivers"))))
        for number, hook in enumerate(sequence(receiver.get("webhook_configs")))
        if isinstance(hook, dict)
    ]
    ours = [hook for hook in hooks if hook.leads_here and wanted.receiver in ("", hook.receiver)]
    named = _named(hooks, wanted.receiver)
    problems: list[Problem] = []
    for name in dict.fromkeys(hook.receiver for hook in named if hook.url is None):
        hidden = [hook for hook in named if hook.receiver == name and hook.url is None]
        if not any(hook.receiver == name for hook in ours):
            # Which of several it is nobody can see: as long as one of them is well, nothing is said of the others.
            ours.append(min(hidden, key=lambda hook: len(_webhook(document, hook, wanted))))
    if not ours:
        problems.append(_nobody(document, hooks, named, wanted))
    for hook in ours:
        problems += _webhook(document, hook, wanted)
    return problems, ours


def _named(hooks: Sequence[_Webhook], receiver: str) -> list[_Webhook]:
    """Those of the receiver that was named; else of those that bear our name, the Prometheus operator's namespace before it aside."""
    if receiver:
        return [hook for hook in hooks if hook.receiver == receiver]
    last = [hook for hook in hooks if _NAME in hook.receiver.rpartition("/")[2].lower()]
    return last or [hook for hook in hooks if _NAME in hook.receiver.lower()]


def _nobody(document: Document, hooks: Sequence[_Webhook], named: Sequence[_Webhook], wanted: Wanted) -> Problem:
    """Why no receiver leads here."""
    if named:
        return document.problem((*named[0].loc, "url"), f"the URL does not end in {_PATH}, where the daemon takes alerts")
    names = {str(mapping(one).get("name", "")) for one in sequence(document.data.get("receivers"))}
    if wanted.receiver in names:
        index = next(i for i, one in enumerate(document.data["receivers"]) if str(mapping(one).get("name", "")) == wanted.receiver)
        return document.problem(("receivers", index), f'receiver "{wanted.receiver}" has no webhook, so it does not lead here')
    if wanted.receiver:
        return document.problem(("receivers",), f'no receiver is named "{wanted.receiver}"{suggest(wanted.receiver, names)}')
    hidden = dict.fromkeys(hook.receiver for hook in hooks if hook.url is None)
    if hidden:
        told = f'Alertmanager hides the URLs of webhooks, and no receiver with one has "{_NAME}" in its name; say which leads here'
        return document.problem(("receivers",), f"{told}: --receiver with one of {_listed(list(hidden))}")
    return document.problem(("receivers",), f"no receiver leads here: none has a webhook with a url that ends in {_PATH}")


def _webhook(document: Document, hook: _Webhook, wanted: Wanted) -> list[Problem]:
    """What is wrong with one webhook."""
    data, loc = hook.data, hook.loc
    found = []
    if data.get("send_resolved") is False:
        told = "must be true; without it remediator never hears that an alert has ended, and nothing is ever put back"
        found.append(document.problem((*loc, "send_resolved"), told))
    most = data.get("max_alerts")
    if isinstance(most, int) and most:
        told = f"must be 0, not {most}: a list that was cut is held, since nobody knows how many targets it has"
        found.append(document.problem((*loc, "max_alerts"), told))
    if data.get("payload") is not None:
        found.append(document.problem((*loc, "payload"), "must be left out: the daemon takes Alertmanager's own payload and no other"))
    if wanted.token and (told := _lacks_token(document, data)):
        at = [key for key in ("authorization", "basic_auth", "oauth2") if key in mapping(data.get("http_config"))]
        found.append(document.problem((*loc, "http_config", *at[:1]), told))
    return found


def _lacks_token(document: Document, hook: dict[str, Any]) -> str:
    """Why no bearer token is sent, or nothing if one is; the receiver's http_config replaces the global one as a whole."""
    own = hook.get("http_config")
    http = mapping(own if own is not None else mapping(document.data.get("global")).get("http_config"))
    need = "the daemon wants the token of server.webhook_token_file: http_config.authorization with credentials_file"
    if http.get("bearer_token") or http.get("bearer_token_file"):
        return ""
    authorization = mapping(http.get("authorization"))
    kind = authorization.get("type") or "Bearer"
    if not any(authorization.get(key) for key in ("credentials", "credentials_file", "credentials_ref")):
        other = next((key for key in ("basic_auth", "oauth2") if http.get(key)), "")
        return f"{other} is not what opens it; {need}" if other else f"no token is sent, so each delivery is a 401; {need}"
    return "" if str(kind).lower() == "bearer" else f"the type must be Bearer; {need}"


def _routes(document: Document, receivers: set[str], playbooks: Sequence[Playbook], alerts: Alerts) -> tuple[list[Problem], list[Problem]]:
    """What is wrong with the routes to these receivers; and which playbooks hear nothing."""
    names = _listed(sorted(receivers))
    top = read_routes(document.data)
    ours = [route for route in top.walk() if route.receiver in receivers] if top is not None else []
    if top is None or not ours:
        return [document.problem(("route",), f"no route leads to {names}, so no alert gets here")], []
    problems: list[Problem] = []
    notes: list[Problem] = []
    live: list[Route] = []
    for route in ours:
        facts = Facts({}, route.everything())
        if (before := route.shadow(facts)) is not None:
            told = f"nothing gets here: {_where(before)} takes everything first; say continue: true there, or put this before it"
            problems.append(document.problem(route.loc, told))
        elif facts.fit(route.everything()) is not False and route.is_end(facts):
            live.append(route)
    if not live:
        return problems or [document.problem(ours[0].loc, f"nothing gets here: no alert can stay at a route to {names}")], []
    for route in live:
        problems += [*_namespaced(document, route), *_grouped(document, route, playbooks)]
    for more, told_too in (_repeated(document, top, live), _heard(document, top, live, playbooks, alerts)):
        problems += more
        notes += told_too
    return problems, notes


def _namespaced(document: Document, route: Route) -> list[Problem]:
    """What the Prometheus operator adds to the route of an AlertmanagerConfig, whose receivers are called namespace/name/receiver."""
    namespace, _, rest = route.receiver.partition("/")
    at: Route | None = route
    found: list[Problem] = []
    while at is not None and rest:
        if any(one is not None and (one.label, one.op, one.value) == ("namespace", "=", namespace) for one in at.matchers):
            told = f'takes only alerts with namespace="{namespace}", which the Prometheus operator adds and alerts about nodes do not have'
            found.append(document.problem(at.loc, f"{told}; set the Alertmanager's alertmanagerConfigMatcherStrategy to type None"))
        at = at.parent
    return found


def _grouped(document: Document, route: Route, playbooks: Sequence[Playbook]) -> list[Problem]:
    """Alerts of different nodes in one group are cut, retried and delayed as one."""
    if _NODE & set(route.group_by):
        return []
    names = names_of(route.everything())
    if names is not None and not any(_about_nodes(one, name) for one in playbooks for name in names):
        return []
    told = f"is {', '.join(route.group_by)}" if route.group_by else "is missing"
    return [document.problem((*route.loc, "group_by"), f"group_by {told}: with no node in it, nodes wait for one another; add node")]


def _about_nodes(playbook: Playbook, name: str) -> bool:
    assert playbook.when is not None  # noqa: S101 - the caller has looked
    by_name = [one for one in playbook.when.alerts if one.label == "alertname"]
    return "Node" in playbook.when.target.kinds and all(one.matches({"alertname": name}) for one in by_name)


def _repeated(document: Document, top: Route, live: Sequence[Route]) -> tuple[list[Problem], list[Problem]]:
    """RemediatorWatchdog has to come again before RemediatorBlind takes its silence for a broken way. Where no route names it, a note."""
    facts = Facts(_WATCHDOG)
    takers, _ = top.takers(facts, frozenset(live).__contains__)
    certain = next((route for route in takers if facts.fit(route.everything())), None)
    if certain is None or not all((every := _duration(route.repeat_interval)) is not None and every >= _BLIND for route in takers):
        return [], []
    told = f"repeat_interval is {certain.repeat_interval}: RemediatorWatchdog must come again within an hour, or RemediatorBlind fires"
    found = [document.problem((*certain.loc, "repeat_interval"), f"{told}; the shipped route says 15m")]
    return (found, []) if names_of(certain.everything()) else ([], found)


def _duration(text: str) -> timedelta | None:
    try:
        return parse_duration(text)
    except ValueError:
        return None


def _heard(
    document: Document, top: Route, live: Sequence[Route], playbooks: Sequence[Playbook], alerts: Alerts
) -> tuple[list[Problem], list[Problem]]:
    """Alerts that playbooks take and another route keeps for itself, as problems; those that no route takes here, as notes."""
    ours = frozenset(live)
    kept: dict[Route, tuple[Route, list[str]]] = {}
    notes = []
    heard = False
    for playbook in playbooks:
        lost: list[str] = []
        for told, facts in _taken(playbook, alerts):
            may, would = top.takers(facts, ours.__contains__)
            heard = heard or bool(may or would)
            if would and not may:
                kept.setdefault(would[0][0], (would[0][1], []))[1].append(told)
            elif not may:
                lost.append(told)
        if lost:
            never = f"playbook {playbook.name} never hears of {_listed(lost)}: no route that leads here takes it"
            notes.append(Problem(playbook.source, 1, 1, never))
    problems = []
    for keeper, (behind, told_of) in kept.items():
        names = _listed(list(dict.fromkeys(told_of)))
        problems.append(document.problem(keeper.loc, f"keeps {names} from {_where(behind)}, which leads here; say continue: true"))
    if playbooks and not heard:
        return [*problems, document.problem(live[0].loc, "no alert that a playbook takes can get here")], []
    return problems, notes


def _taken(playbook: Playbook, alerts: Alerts) -> Iterator[tuple[str, Facts]]:
    """The alerts that a playbook takes, in words and as what is known of them."""
    assert playbook.when is not None  # noqa: S101 - the caller has looked
    matchers = playbook.when.alerts
    names = names_of(matchers)
    if names is None:
        yield f"alerts with {', '.join(map(str, matchers))}", Facts({}, matchers)
        return
    for name in names:
        known = [{**labels, "alertname": name} for labels in alerts.get(name, ())]
        variants = [labels for labels in known if Facts(labels).fit(matchers) is not False] or [{"alertname": name}]
        for labels in variants:
            which = ", ".join(f"{label}={value}" for label, value in labels.items() if label != "alertname")
            yield f"{name} ({which})" if len(variants) > 1 and which else name, Facts(labels, matchers)


def _where(route: Route) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in route.loc).lstrip(".")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_FEW]) + (f" and {len(names) - _FEW} more" if len(names) > _FEW else "")
