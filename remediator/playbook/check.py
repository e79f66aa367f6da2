"""What can be wrong with a playbook as a whole, beyond the shape of its parts.

In: the document as plain data, the actions and gates that exist, the scope. Out: Problems. The checks read raw data, not models, so they
find everything they can in a file that schema.py refuses too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from pydantic import BaseModel, ValidationError

from remediator.document import Document, Loc, describe, located_problems, problems_of, read_documents, suggest
from remediator.errors import DocumentError, ExpressionError, Problem, Unreadable
from remediator.expr import Template
from remediator.playbook.model import render
from remediator.playbook.scope import Scope, Timeout, explain
from remediator.units import parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from remediator.expr import Variables
    from remediator.playbook.attached import Source

__all__ = ["ActionInfo", "Checked", "FileReader", "GateInfo", "TemplateCompiler", "check"]


class FileReader(Protocol):
    """Who reads a file that a step names."""

    def __call__(self, document: Document, variables: Variables) -> Any:
        """Its data with Templates in it, for ``StepSpec.files``. Raises DocumentError with everything that is wrong."""
        ...


class ActionInfo(Protocol):
    """What a playbook needs to know of an action."""

    @property
    def name(self) -> str:
        """As steps name it."""
        ...

    @property
    def files(self) -> Mapping[str, FileReader]:
        """Parameters that name a file beside the playbook, and who reads it."""
        ...

    @property
    def fixed(self) -> Mapping[str, frozenset[str]]:
        """Parameters whose value must be known before a run, and what their templates may name all the same."""
        ...

    @property
    def changes(self) -> str:
        """What it may change, in words; ``nothing`` for one that looks or tells."""
        ...

    def disturbs(self, parameters: Mapping[str, Any]) -> bool:
        """Whether it may disturb traffic or workloads, by what the file says."""
        ...

    @property
    def Parameters(self) -> type[BaseModel]:  # noqa: N802 - a class, named as one
        """The model of what stands beside ``action`` and ``timeout``."""
        ...


class GateInfo(Protocol):
    """What a playbook needs to know of a gate."""

    @property
    def name(self) -> str:
        """Its reason code."""
        ...

    @property
    def key(self) -> str | None:
        """Under ``gates:``; None if it takes no settings."""
        ...

    @property
    def Settings(self) -> type[BaseModel] | None:  # noqa: N802 - a class, named as one
        """The model of its settings."""
        ...


@dataclass
class Checked:
    """What the checks found, and what they read on the way."""

    problems: list[Problem]
    gates: dict[str, BaseModel]
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Step -> parameter -> what its reader made of the file."""
    texts: dict[str, str] = field(default_factory=dict)
    """File, as steps name it -> its text."""


class _Step(NamedTuple):
    loc: Loc
    name: str
    body: dict[str, Any]


@dataclass(frozen=True)
class _View:
    document: Document
    data: dict[str, Any]
    actions: Mapping[str, ActionInfo]
    gates: Mapping[str, GateInfo]
    scope: Scope
    source: Source

    def problem(self, loc: Loc, message: str) -> Problem:
        return self.document.problem(loc, message)

    def defaults(self) -> dict[str, Any]:
        """The values of parameters that are known before a run."""
        return {name: parameter.default for name, parameter in self.scope.parameters.items() if parameter.default is not None}

    def rungs(self) -> Iterator[tuple[Loc, dict[str, Any]]]:
        """The rungs that are mappings."""
        ladder = self.data.get("ladder")
        for index, rung in enumerate(ladder if isinstance(ladder, list) else ()):
            if isinstance(rung, dict):
                yield ("ladder", index), rung

    def steps(self) -> Iterator[_Step]:
        """The steps that have the shape of one."""
        for at, rung in self.rungs():
            steps = rung.get("steps")
            for index, step in enumerate(steps if isinstance(steps, list) else ()):
                if isinstance(step, dict) and len(step) == 1:
                    name, body = next(iter(step.items()))
                    if isinstance(body, dict) and isinstance(body.get("action"), str):
                        yield _Step((*at, "steps", index, name), name, body)


def check(document: Document, actions: Mapping[str, ActionInfo], gates: Mapping[str, GateInfo], scope: Scope, source: Source) -> Checked:
    """Run every check on a document that is a mapping. ``source``: where the files are that its steps name."""
    view = _View(document, document.data, actions, gates, scope, source)
    parsed: dict[str, BaseModel] = {}
    checked = Checked([], parsed)
    wrong_gates = list(_gates(view, parsed))
    checked.problems += [*_actions(view), *_files(view, checked), *wrong_gates, *_names(view), *_parameters(view, checked)]
    checked.problems += [*_times(view), *_rendered_times(view), *_resolves(view)]
    checked.problems += _careful(view, bounded=bool(wrong_gates) or not parsed.keys().isdisjoint(_BOUNDS))
    return checked


def _actions(view: _View) -> Iterator[Problem]:
    for step in view.steps():
        action = view.actions.get(step.body["action"])
        if action is None:
            name = step.body["action"]
            yield view.problem((*step.loc, "action"), f"unknown action {describe(name)}{suggest(name, view.actions)}")
        yield from _step_parameters(view, step, action)


def _step_parameters(view: _View, step: _Step, action: ActionInfo | None) -> Iterator[Problem]:
    """Templates against the scope; then the values against the action's model, as far as they are known before a run."""
    raw = {key: value for key, value in step.body.items() if key not in ("action", "timeout")}
    compiler = TemplateCompiler(view.scope.steps)
    compiled = compiler.compile(raw, ())
    for loc, offset, message in compiler.faults:
        yield view.document.problem(step.loc + loc, message, offset=offset)
    if action is None:
        return
    yield from _known_before(view, step, action, compiler.templates)
    defaults = view.defaults()
    unknown = {loc for loc, template in compiler.templates.items() if not template.names <= {f"parameters.{name}" for name in defaults}}
    unknown |= {loc for loc, _, _ in compiler.faults}
    try:
        values = render(_stubbed(compiled, unknown, ()), {"parameters": defaults})
        action.Parameters.model_validate(values)
    except Unreadable as error:
        yield view.problem(step.loc, f"with the defaults of the parameters: {error}")
    except ValidationError as error:
        for loc, problem in located_problems(view.document, error, model=action.Parameters, at=step.loc, also=("action", "timeout")):
            if (unknown and not loc) or any(loc[: len(skipped)] == skipped for skipped in unknown):
                continue
            given = any(loc[: len(at)] == at for at in compiler.templates)
            yield (
                Problem(problem.path, problem.line, problem.column, problem.message + " (by the parameters' defaults)")
                if given
                else problem
            )


def _known_before(view: _View, step: _Step, action: ActionInfo, templates: Mapping[Loc, Template]) -> Iterator[Problem]:
    """Rights are granted and files are read before a run, so what they depend on must not be filled in by one."""
    for loc, template in templates.items():
        allowed = action.fixed.get(str(loc[0]))
        if allowed is not None and not template.names <= allowed:
            instead = f" or ${{{min(allowed)}}}" if allowed else ""
            yield view.problem((*step.loc, *loc), f"must be known before a run, so write it out{instead}")


def _files(view: _View, checked: Checked) -> Iterator[Problem]:
    """What stands in the files that steps name."""
    for step in view.steps():
        action = view.actions.get(step.body["action"])
        for key, reader in action.files.items() if action is not None else ():
            name = step.body.get(key)
            if not isinstance(name, str) or "${" in name:
                continue  # the action's model or _known_before says so
            try:
                text = checked.texts[name] = view.source.text(name)
                documents = read_documents(view.source.path(name), text)
                if len(documents) == 1:
                    checked.files.setdefault(step.name, {})[key] = reader(documents[0], view.scope.steps)
                else:
                    yield Problem(view.source.path(name), 1, 1, f"holds {len(documents)} documents; one is needed")
            except ValueError as error:
                yield view.problem((*step.loc, key), f'"{name}" {error}')
            except DocumentError as error:
                yield from error.problems


class TemplateCompiler:
    """Turns every string with ``${`` in a tree into a Template, but for what stands under the keys ``spared``.

    ``faults`` are those that cannot be: location, offset and message.
    """

    def __init__(self, variables: Mapping[str, str], spared: frozenset[str] = frozenset()) -> None:
        self.variables = variables
        self.spared = spared
        self.templates: dict[Loc, Template] = {}
        self.faults: list[tuple[Loc, int, str]] = []

    def compile(self, value: Any, loc: Loc) -> Any:
        """``value`` with Templates in it."""
        if isinstance(value, dict):
            return {key: item if key in self.spared else self.compile(item, (*loc, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self.compile(item, (*loc, index)) for index, item in enumerate(value)]
        if not isinstance(value, str) or "${" not in value:
            return value
        try:
            template = Template.compile(value, variables=self.variables)
        except ExpressionError as error:
            self.faults.append((loc, error.column - 1, explain(error, self.variables)))
            return value
        self.templates[loc] = template
        return template


def _stubbed(value: Any, unknown: set[Loc], loc: Loc) -> Any:
    """Something in place of every value that only a run can know; what a model says about it is not reported."""
    if loc in unknown:
        return "x"
    if isinstance(value, dict):
        return {key: _stubbed(item, unknown, (*loc, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_stubbed(item, unknown, (*loc, index)) for index, item in enumerate(value)]
    return value


def _gates(view: _View, parsed: dict[str, BaseModel]) -> Iterator[Problem]:
    known = {gate.key: gate for gate in view.gates.values() if gate.key is not None and gate.Settings is not None}
    by_name = {gate.name: gate.key for gate in view.gates.values()}
    settings = view.data.get("gates")
    for key, value in settings.items() if isinstance(settings, dict) else ():
        gate = known.get(key)
        if gate is None:
            own = f'is set as "{by_name[key]}"' if by_name.get(key) else "takes no settings and applies anyway"
            yield view.problem(("gates", key), f'gate "{key}" {own}' if key in by_name else f'unknown gate "{key}"{suggest(key, known)}')
            continue
        assert gate.Settings is not None  # noqa: S101 - known holds no other
        try:
            parsed[key] = gate.Settings.model_validate(value)
        except ValidationError as error:
            yield from problems_of(view.document, error, model=gate.Settings, at=("gates", key))


def _names(view: _View) -> Iterator[Problem]:
    """Two of one name cannot be told apart in the journal."""
    rungs = [((*at, "name"), rung["name"]) for at, rung in view.rungs() if isinstance(rung.get("name"), str)]
    yield from _twice(view, rungs, "rung")
    yield from _twice(view, [(step.loc, step.name) for step in view.steps()], "step")


def _twice(view: _View, named: list[tuple[Loc, str]], what: str) -> Iterator[Problem]:
    first: dict[str, Loc] = {}
    for loc, name in named:
        if name in first:
            yield view.problem(loc, f'a second {what} named "{name}"; the first is at line {view.document.position(first[name])[0]}')
        first.setdefault(name, loc)


_BOUNDS = ("cooldown", "attempts")


def _careful(view: _View, *, bounded: bool) -> Iterator[Problem]:
    """Whoever disturbs must prove that it helped, and must not do so again and again."""
    step = next((step for step in view.steps() if (known := view.actions.get(step.body["action"])) and known.disturbs(step.body)), None)
    if step is None:
        return
    action = step.body["action"]
    if "verify" not in view.data:
        yield view.problem(step.loc, f'{action} may disturb, so "verify" must say how it is proved to have helped')
    if "when" in view.data and not bounded and view.data.get("gates", {}) is not None:
        yield view.problem(step.loc, f"{action} may disturb, so gates must set {' or '.join(_BOUNDS)}, lest it goes on and on")


def _parameters(view: _View, checked: Checked) -> Iterator[Problem]:
    """A parameter is of use, and an alert never waits for a value."""
    used = "\n".join([*_strings([view.data.get("ladder"), view.data.get("verify")]), *checked.texts.values()])
    for name, parameter in view.scope.parameters.items():
        if f"parameters.{name}" not in used:
            yield view.problem(("parameters", name), f"nothing uses it; a step or verify must name parameters.{name}")
        if "when" in view.data and parameter.required:
            yield view.problem(("parameters", name), "needs a default: nobody gives it a value when an alert comes")


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)


def _times(view: _View) -> Iterator[Problem]:
    """Nothing inside of a run takes longer than the run may."""
    whole = view.data.get("deadline", "1h")
    verify = view.data.get("verify")
    parts: list[tuple[Loc, Any]] = [(("verify", "within"), verify.get("within"))] if isinstance(verify, dict) else []
    parts += [((*step.loc, "timeout"), step.body.get("timeout")) for step in view.steps()]
    for loc, text in parts:
        try:
            longer = parse_duration(text) > parse_duration(whole) > timedelta(0)
        except (TypeError, ValueError):  # not a duration: schema.py says so
            continue
        if longer:
            yield view.problem(loc, f"is longer than the deadline of the whole run, {whole}")


def _rendered_times(view: _View) -> Iterator[Problem]:
    """A time-out that only depends on parameters with defaults must work with these defaults."""
    defaults = view.defaults()
    for step in view.steps():
        text = step.body.get("timeout")
        if not isinstance(text, str) or "${" not in text:
            continue
        try:
            timeout = Timeout(Template.compile(text, variables=view.scope.steps))
            if timeout.template.names <= {f"parameters.{name}" for name in defaults}:
                timeout.of({"parameters": defaults})
        except ExpressionError:  # schema.py says so
            continue
        except Unreadable as error:
            yield view.problem((*step.loc, "timeout"), f"{error.detail} (by the parameters' defaults)")


def _resolves(view: _View) -> Iterator[Problem]:
    if "when" not in view.data and "on_resolved" in view.data:
        yield view.problem(("on_resolved",), "only an alert can resolve; this playbook has no when")
