"""Whether playbooks and alert rules fit one another: what a playbook names exists, and every alert has a playbook or says why not.

In: rule files (as Prometheus reads them, or PrometheusRule objects) and playbooks with their documents. Out: Problems, in playbooks and in
rule files. An alert that is for people says so with the annotation ``no_playbook: REASON``. Which labels an alert carries is read from its
rule (carried.py); where that cannot be told, it may carry any.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from remediator.document import Document, describe, load_text, read_documents, suggest
from remediator.errors import DocumentError, Problem
from remediator.playbook.carried import Labels, labels_of
from remediator.playbook.schema import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from remediator.document import Loc
    from remediator.playbook.matcher import Matcher
    from remediator.playbook.model import Playbook

__all__ = ["NO_PLAYBOOK", "alerts_of", "check_rules"]

NO_PLAYBOOK: Final = "no_playbook"
"""The annotation that says why no playbook takes an alert."""

_LABEL: Final = re.compile(r"alert\.labels(?:\.([A-Za-z_]\w*)|\[\s*[\"'](\w+)[\"']\s*\])")
_NODE: Final = ("target_node", "node", "nodename", "node_name", "kubernetes_node", "instance")
"""What names a node where the playbook does not say (remediator.match)."""
_PLAIN: Final = re.compile(r"[\w:]+(?:\|[\w:]+)*", re.ASCII)


@dataclass(frozen=True)
class _Alert:
    document: Document
    loc: Loc
    name: str
    labels: dict[str, str]
    annotations: dict[str, str]
    carried: Labels

    def problem(self, message: str) -> Problem:
        return self.document.problem((*self.loc, "alert"), message)

    @property
    def key(self) -> tuple[str, Loc]:
        """Several rules may share a name."""
        return self.document.path, self.loc

    @property
    def where(self) -> str:
        return f"{self.document.path}:{self.document.position((*self.loc, 'alert'))[0]}"

    def may_carry(self, label: str) -> bool:
        return label in ("alertname", *self.labels) or self.carried is None or label in self.carried

    def may_fit(self, matcher: Matcher) -> bool:
        """Whether an alert of this rule may fit; of a label that comes from a series any value may come."""
        if matcher.label == "alertname":
            return matcher.matches({"alertname": self.name})
        static = self.labels.get(matcher.label)
        if static is not None and "{{" not in static:
            return matcher.matches({matcher.label: static})
        return self.may_carry(matcher.label) or matcher.matches({})


def check_rules(paths: Iterable[Path], playbooks: Sequence[tuple[Playbook, Document]], *, complete: bool) -> list[Problem]:
    """Every problem; without rule files there is none. ``complete``: no playbook is missing because it has problems of its own."""
    problems: list[Problem] = []
    if not (files := tuple(paths)):
        return problems
    documents = [document for path in files for document in _documents(path, problems)]
    alerts = [alert for document in documents for alert in _alerts(document, problems)]
    readable = not problems
    taken: dict[tuple[str, Loc], str] = {}
    for playbook, document in playbooks if readable else ():
        problems += _playbook(playbook, document, alerts, taken)
    for alert in alerts:
        problems += _excuse(alert, taken.get(alert.key), complete=complete and readable)
    return problems


def alerts_of(paths: Iterable[Path]) -> dict[str, list[dict[str, str]]]:
    """The alerts of rule files by name, each with the labels whose values its rule says; what cannot be read is left out."""
    problems: list[Problem] = []
    found: dict[str, list[dict[str, str]]] = {}
    for document in (document for path in paths for document in _documents(path, problems)):
        for alert in _alerts(document, problems):
            found.setdefault(alert.name, []).append({label: value for label, value in alert.labels.items() if "{{" not in value})
    return found


def _documents(path: Path, problems: list[Problem]) -> list[Document]:
    try:
        documents = read_documents(str(path), load_text(path))
    except DocumentError as error:
        problems += error.problems
        return []
    if not documents:
        problems.append(Problem(str(path), 1, 1, "holds no document"))
    return documents


def _alerts(document: Document, problems: list[Problem]) -> Iterator[_Alert]:
    rules = list(_rules(document, problems))
    recorded = {rule["record"]: rule["expr"] for _, rule in rules if "record" in rule}
    for loc, rule in rules:
        if "alert" in rule:
            texts = {key: {str(k): str(v) for k, v in (rule.get(key) or {}).items()} for key in ("labels", "annotations")}
            yield _Alert(document, loc, rule["alert"], texts["labels"], texts["annotations"], labels_of(rule["expr"], recorded))


def _rules(document: Document, problems: list[Problem]) -> Iterator[tuple[Loc, dict[str, Any]]]:
    """The rules that have the shape of one, with their places; the others are problems."""
    data: Any = document.data
    at: Loc = ()
    if isinstance(data, dict) and data.get("kind") == "PrometheusRule":
        data, at = data.get("spec"), ("spec",)
    if not isinstance(data, dict) or not isinstance(data.get("groups"), list):
        problems.append(document.problem(at, 'is no rule file: "groups" is missing, at the top or under spec of a PrometheusRule'))
        return
    for index, group in enumerate(data["groups"]):
        here: Loc = (*at, "groups", index)
        if not isinstance(group, dict) or not isinstance(group.get("rules"), list):
            problems.append(document.problem(here, f"must be a group with a list of rules, not {describe(group)}"))
            continue
        for number, rule in enumerate(group["rules"]):
            place = (*here, "rules", number)
            if fault := _fault(rule):
                problems.append(document.problem(place, fault))
            else:
                yield place, rule


def _fault(rule: Any) -> str:
    if not isinstance(rule, dict) or not any(isinstance(rule.get(key), str) for key in ("alert", "record")):
        return "is no rule: it needs alert or record"
    if not isinstance(rule.get("expr"), str):
        return f"expr must be a PromQL expression, not {describe(rule.get('expr'))}"
    wrong = next((key for key in ("labels", "annotations") if not isinstance(rule.get(key) or {}, dict)), "")
    return f"{wrong} must be a mapping, not {describe(rule[wrong])}" if wrong else ""


def _playbook(playbook: Playbook, document: Document, alerts: list[_Alert], taken: dict[tuple[str, Loc], str]) -> Iterator[Problem]:
    yield from _named_elsewhere(document, alerts)
    if playbook.when is None:
        return
    matchers = playbook.when.alerts
    by_name = [alert for alert in alerts if all(m.matches({"alertname": alert.name}) for m in matchers if m.label == "alertname")]
    wrong = [*_names(document, matchers, alerts), *_labels(document, matchers, by_name)]
    yield from wrong
    mine = [alert for alert in by_name if all(alert.may_fit(matcher) for matcher in matchers)]
    for alert in mine:
        taken.setdefault(alert.key, playbook.name)
    if not mine and not wrong:
        yield document.problem(("when", "alerts"), "no rule has an alert that fits all of these matchers")
    yield from _target(playbook, document, mine)


def _names(document: Document, matchers: Sequence[Matcher], alerts: list[_Alert]) -> Iterator[Problem]:
    """Every alert that a matcher spells out exists; a pattern fits at least one."""
    known = {alert.name for alert in alerts}
    for index, matcher in enumerate(matchers):
        if matcher.label != "alertname" or matcher.op not in ("=", "=~"):
            continue
        spelled = [matcher.value] if matcher.op == "=" else matcher.value.split("|") if _PLAIN.fullmatch(matcher.value) else []
        for name in spelled:
            if name not in known:
                offset = max(_raw(document, ("when", "alerts", index)).find(name), 0)
                yield document.problem(("when", "alerts", index), f'no rule has the alert "{name}"{suggest(name, known)}', offset=offset)
        if not spelled and not any(matcher.matches({"alertname": name}) for name in known):
            yield document.problem(("when", "alerts", index), f"no rule has an alert that fits {matcher}")


def _labels(document: Document, matchers: Sequence[Matcher], alerts: list[_Alert]) -> Iterator[Problem]:
    """Every other matcher can be fitted by one of the alerts that the names select."""
    for index, matcher in enumerate(matchers):
        if matcher.label == "alertname" or not alerts or any(alert.may_fit(matcher) for alert in alerts):
            continue
        carriers = [alert for alert in alerts if alert.may_carry(matcher.label)]
        values = sorted({alert.labels[matcher.label] for alert in carriers if matcher.label in alert.labels})
        known = {label for alert in alerts for label in (*alert.labels, *(alert.carried or ()))}
        why = f"it is {' or '.join(values)} there" if values else f"none carries that label{suggest(matcher.label, known)}"
        yield document.problem(("when", "alerts", index), f"fits none of {_listed(alerts)}: {why}")


def _target(playbook: Playbook, document: Document, alerts: list[_Alert]) -> Iterator[Problem]:
    """Every alert carries a label that says what is acted on, and every label that is named is carried by one."""
    assert playbook.when is not None  # noqa: S101 - the caller has looked
    kinds = playbook.when.target.kinds
    for part in ("name", "namespace"):
        loc: Loc = ("when", "target", part)
        named = {first or second for first, second in _LABEL.findall(_raw(document, loc))}
        usual = _NODE if kinds == ("Node",) else tuple(map(str.lower, kinds)) if part == "name" else ("namespace",)
        if not named and (document.has(loc) or (part == "namespace" and not any(KINDS[kind] for kind in kinds))):
            continue
        for label in sorted(named):
            if alerts and not any(alert.may_carry(label) for alert in alerts):
                yield document.problem(loc, f'none of {_listed(alerts)} carries the label "{label}"')
        wanted = sorted(named) or usual
        lacking = [alert for alert in alerts if not any(alert.may_carry(label) for label in wanted)]
        if lacking and (not named or len(lacking) < len(alerts)):
            message = f"{_listed(lacking)} never carries {' or '.join(wanted)}, so nothing says which {' or '.join(kinds)} is meant"
            yield document.problem(loc if named else ("when", "target"), message)


def _named_elsewhere(document: Document, alerts: list[_Alert]) -> Iterator[Problem]:
    """Alerts that a step names, such as scrape_alerts of cilium.restart_agent."""
    known = {alert.name for alert in alerts}
    for loc, value in _walk(document.data.get("ladder"), ("ladder",)):
        if isinstance(value, str) and len(loc) > 1 and isinstance(loc[-2], str) and loc[-2].endswith("alerts") and value not in known:
            yield document.problem(loc, f'no rule has the alert "{value}"{suggest(value, known)}')


def _walk(value: Any, loc: Loc) -> Iterator[tuple[Loc, Any]]:
    yield loc, value
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from _walk(item, (*loc, key))


def _excuse(alert: _Alert, playbook: str | None, *, complete: bool) -> Iterator[Problem]:
    reason = alert.annotations.get(NO_PLAYBOOK)
    if reason is not None and not reason.strip():
        yield alert.problem(f'the annotation {NO_PLAYBOOK} of "{alert.name}" gives no reason')
    elif reason is not None and playbook is not None:
        yield alert.problem(
            f'"{alert.name}" says that no playbook takes it ({NO_PLAYBOOK}), but "{playbook}" does; take the annotation away'
        )
    elif reason is None and playbook is None and complete:
        yield alert.problem(f'no playbook takes "{alert.name}"; write one, or say why not in the annotation {NO_PLAYBOOK}')


def _raw(document: Document, loc: Loc) -> str:
    value: Any = document.data
    for part in loc if document.has(loc) else ():
        value = value[part]
    return value if isinstance(value, str) else ""


def _listed(alerts: list[_Alert], most: int = 3) -> str:
    names = list(dict.fromkeys(f"{alert.name} ({alert.where})" for alert in alerts))
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
