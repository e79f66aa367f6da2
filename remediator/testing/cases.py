"""The shape of a playbook test file: what is given, what happens, and what is expected, as pydantic models.

In: one YAML document of kind PlaybookTest. Out: a frozen CaseFile, or every problem with line, column and a suggestion. What a test says of
an alert, of objects and of conditions uses the words that playbooks, settings and the API use for them.
"""

from __future__ import annotations

import re
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from remediator.document import describe, draft7, fault, suggest
from remediator.errors import ExpressionError
from remediator.expr import Expression
from remediator.fields import Duration
from remediator.gates import gates
from remediator.model import DecisionKind, Mode, RunState, StepState
from remediator.playbook import KINDS
from remediator.reasons import Reason
from remediator.settings.model import Approval, Cilium, Demotion, Limits
from remediator.testing.play import START
from remediator.windows import Window

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["API_VERSION", "Case", "CaseFile", "Decided", "Given", "Happening", "Held", "Ran", "Then", "fits", "schema_test"]

API_VERSION: Literal["remediator.dev/v1"] = "remediator.dev/v1"
_MOST_NODES = 60
_CALL = re.compile(r"(create|update|patch|delete|evict|\*) (\S+?)( \.\.\.)?", re.ASCII)
_SERIES = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?", re.ASCII | re.DOTALL)
_LABEL = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:\\.|[^"\\])*)"\s*(?:,|$)', re.ASCII)


class Part(BaseModel):
    """Base of the parts of a test: unknown keys are errors, values are frozen, and a key without a value is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    @field_validator("*", mode="before")
    @classmethod
    def _filled(cls, value: Any) -> Any:
        if value is None:
            raise fault("is empty; fill it or leave the key out")
        return value


# --- values ----------------------------------------------------------------------------------------------------------


def _ref(value: Any) -> str:
    """``Node/node-3``, ``Pod/kube-system/cilium-x``"""
    kind, *rest = str(value).split("/")
    if not isinstance(value, str) or kind not in KINDS:
        raise fault(f"{describe(value)} is no object; write Kind/name or Kind/namespace/name{suggest(kind, KINDS)}")
    if not all(rest) or len(rest) != (2 if KINDS[kind] else 1):
        raise fault(f"a {kind} is written {kind}/namespace/name" if KINDS[kind] else f"a {kind} is written {kind}/name")
    return value


def _call(value: Any) -> str:
    if not isinstance(value, str) or not _CALL.fullmatch(value):
        raise fault(
            f"{describe(value)} is no call; write for example 'delete Pod/kube-system/cilium-*', or 'evict Pod/apps/* ...' for several"
        )
    return value


def _series(value: Any) -> str:
    if not isinstance(value, str) or not _SERIES.fullmatch(value) or labels_of(value) is None:
        raise fault(f"""{describe(value)} is no series; write for example 'coredns_up{{node="node-3"}}'""")
    return value


def labels_of(series: str) -> tuple[str, dict[str, str]] | None:
    """Name and labels of a series, None where the labels cannot be read."""
    found = _SERIES.fullmatch(series)
    if found is None:
        return None
    rest, labels = (found[2] or "").strip(), {}
    while rest:
        label = _LABEL.match(rest)
        if label is None:
            return None
        labels[label[1]] = re.sub(r"\\(.)", r"\1", label[2])
        rest = rest[label.end() :].strip()
    return found[1], labels


def _share(value: Any) -> float:
    found = re.fullmatch(r"(\d{1,3}(?:\.\d{1,6})?)\s?%", value, re.ASCII) if isinstance(value, str) else None
    if found is None or float(found[1]) > 100:
        raise fault(f"{describe(value)} is no share of packets; write for example 5%")
    return float(found[1]) / 100


def _gate(value: Any) -> str:
    if value not in gates():
        raise fault(f"unknown gate {describe(value)}{suggest(str(value), gates())}")
    return str(value)


def _one_of(value: Any, info: ValidationInfo, *, known: type) -> Any:
    """A member of an enumeration, named as everywhere else."""
    names = [str(one) for one in known]  # type: ignore[attr-defined] # a StrEnum
    if value not in names:
        raise fault(f"{describe(value)} is no {(info.field_name or 'value').replace('_', ' ')}{suggest(str(value), names)}")
    return known(value)


def _named(kind: Any) -> Any:
    return Annotated[
        kind, PlainValidator(lambda value, info: _one_of(value, info, known=kind)), WithJsonSchema({"enum": [str(k) for k in kind]})
    ]


def _condition(value: Any) -> Expression:
    if not isinstance(value, str):
        raise fault(f"must be a CEL expression, not {describe(value)}")
    try:
        return Expression.compile(value, variables={"objects": "list(dyn)"}, want="bool")
    except ExpressionError as error:
        raise fault(str(error), offset=error.column - 1) from error


def _kind(value: Any) -> str:
    if value not in KINDS:
        raise fault(f"unknown kind {describe(value)}{suggest(str(value), KINDS)}")
    return str(value)


def _positive(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise fault("must be longer than 0s")
    return value


Positive = Annotated[Duration, AfterValidator(_positive)]
Ref = Annotated[StrictStr, BeforeValidator(_ref), WithJsonSchema({"type": "string", "examples": ["Node/node-3", "Pod/apps/web-0"]})]
Call = Annotated[StrictStr, BeforeValidator(_call), WithJsonSchema({"type": "string", "examples": ["delete Pod/kube-system/cilium-*"]})]
Series = Annotated[StrictStr, BeforeValidator(_series), WithJsonSchema({"type": "string", "examples": ['up{job="x",node="node-3"}']})]
Loss = Annotated[float, BeforeValidator(_share), WithJsonSchema({"type": "string", "pattern": r"^\d{1,3}(\.\d+)?\s?%$"})]
Gate = Annotated[str, BeforeValidator(_gate), WithJsonSchema({"type": "string"})]
Condition = Annotated[
    Expression, PlainValidator(_condition), PlainSerializer(lambda one: one.source, return_type=str), WithJsonSchema({"type": "string"})
]
Kind = Annotated[str, BeforeValidator(_kind), WithJsonSchema({"type": "string", "enum": list(KINDS)})]
Labels = dict[StrictStr, StrictStr]


# --- given -----------------------------------------------------------------------------------------------------------


class GivenSettings(Part):
    """Sections of the settings file that differ from the usual ones. Absent ``modes``: every playbook acts by itself."""

    mode: Mode | None = None
    modes: dict[str, Mode] | None = None
    dry_run: StrictBool | None = None
    approval: Approval | None = None
    demotion: Demotion | None = None
    cilium: Cilium | None = None
    limits: Limits | None = None
    maintenance: tuple[Window, ...] | None = None


class Metric(Part):
    """One more series that the simulated Prometheus scrapes."""

    series: Series
    value: float


class Given(Part):
    """How things stand before anything happens."""

    nodes: StrictInt = Field(default=5, ge=1, le=_MOST_NODES, description="node-1, node-2, ...; node-1 is the control plane")
    own_node: StrictStr = Field(default="", description="the node that carries the daemon; absent: none of the cluster")
    objects: tuple[dict[str, Any] | StrictStr, ...] = Field(default=(), description="manifests, or paths of files with some")
    metrics: tuple[Metric, ...] = ()
    settings: GivenSettings = Field(default_factory=GivenSettings)


# --- when ------------------------------------------------------------------------------------------------------------


class Fires(Part):
    """An alert that begins to fire."""

    labels: Labels
    annotations: Labels = Field(default_factory=dict)
    query: StrictStr | None = Field(default=None, alias="while", description="PromQL; it fires while that gives anything, then resolves")

    @model_validator(mode="after")
    def _has_a_name(self) -> Fires:
        if "alertname" not in self.labels:
            raise fault("an alert needs the label alertname", key="labels")
        return self


def _fires(value: Any) -> Any:
    """Labels alone are written without a key of their own."""
    if isinstance(value, dict) and not ({"labels", "while", "annotations"} & value.keys()):
        return {"labels": value}
    if isinstance(value, dict) and "labels" not in value:
        own = {key: value[key] for key in ("while", "annotations") if key in value}
        return {"labels": {key: one for key, one in value.items() if key not in own}, **own}
    return value


class OneNode(Part):
    """What is wrong with everything from and to one node."""

    node: StrictStr
    latency: Positive | None = None
    loss: Loss | None = None


class OneLink(Part):
    """What is wrong between two nodes, in both directions."""

    between: tuple[StrictStr, StrictStr]
    latency: Positive | None = None
    loss: Loss | None = None


class OneZone(Part):
    """What is wrong between one zone and the others."""

    zone: StrictStr
    latency: Positive | None = None
    loss: Loss | None = None


class OneSession(Part):
    """The BGP session between a node and a router."""

    router: StrictStr = Field(description="the router's address")
    node: StrictStr | None = Field(default=None, description="absent: every node")


class Failing(Part):
    """Requests that are answered with an error: of the API server, or of Prometheus (its paths begin with /prometheus)."""

    verb: StrictStr = "*"
    path: StrictStr = Field(default=".*", description="regular expression, searched for in the path")
    status: StrictInt = Field(default=500, ge=400, le=599)
    times: StrictInt | None = Field(default=None, ge=1, description="absent: until works_again")

    @field_validator("path")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise fault(f"not a regular expression: {error}") from error
        return value


class JobEnds(Part):
    """How the containers of Jobs end from now on; the newest word about a Job counts."""

    named: StrictStr = Field(default="*", min_length=1, description="glob of the Jobs' names; job.run names them remediator-STEP-...")
    after: Literal["never"] | Positive = Field(default=timedelta(seconds=5), description="since the containers started")
    exit_code: StrictInt = Field(default=0, ge=0, le=255)
    log: tuple[StrictStr, ...] = Field(default=(), max_length=1000, description="lines that each container writes")


class Edit(Part):
    """Somebody else edits an object: a JSON merge patch."""

    target: Ref
    merge: dict[str, Any]


class Asked(Part):
    """A person starts a playbook."""

    playbook: StrictStr
    target: Ref
    parameters: dict[str, Any] = Field(default_factory=dict, alias="set")
    reason: StrictStr = "a test"
    by: StrictStr = "person"
    dry_run: StrictBool = False


class Steers(Part):
    """What a person says to the newest run that is still open (for undo: that has ended)."""

    by: StrictStr = "person"
    reason: StrictStr = "a test"
    playbook: StrictStr | None = None
    target: Ref | None = None


class Paused(Part):
    """The kill switch: of everything, one playbook or one target."""

    playbook: StrictStr | None = None
    target: Ref | None = None
    reason: StrictStr = "a test"


Node = Annotated[StrictStr, Field(description="the name of a node")]
_TIMES = ("at", "after_call", "delay")


class Happening(Part):
    """One thing that happens, at a time or as soon as a call was made. Exactly one key beside ``at`` or ``after_call`` says what."""

    at: Duration | None = Field(default=None, description="after the beginning of the test")
    after_call: Call | None = Field(default=None, description="as soon as such a call took effect, for the first time")
    delay: Duration = Field(default=timedelta(0), description="how long after that call")

    alert: Annotated[Fires, BeforeValidator(_fires)] | None = Field(default=None, description="labels, and while: a PromQL condition")
    resolve: Labels | None = Field(default=None, description="every alert that carries these labels ends")
    agent_hangs: Node | None = None
    agent_crash_loops: Node | None = None
    agent_recovers: Node | None = None
    envoy_hangs: Node | None = Field(default=None, description="the node's cilium-envoy is not ready until its pod is replaced")
    kubelet_dies: Node | None = None
    kubelet_returns: Node | None = None
    partition: tuple[Node, ...] | None = Field(default=None, min_length=1, description="these nodes are cut off from all others")
    slow_node: OneNode | None = None
    slow_link: OneLink | None = None
    slow_zone: OneZone | None = None
    node_network_recovers: Node | None = None
    everything_recovers: Literal[True] | None = None
    uplink_lossy: Node | None = Field(default=None, description="the node's way to the routers loses packets")
    session_fails: OneSession | None = Field(default=None, description="the node and the router cannot reach each other")
    session_returns: OneSession | None = None
    budget_stuck: Ref | None = Field(default=None, description="a PodDisruptionBudget that never yields")
    scrape_fails: Node | None = Field(default=None, description="Prometheus can scrape nothing on that node")
    scraping_stops: Literal[True] | None = Field(default=None, description="Prometheus is up, and everything it knows grows old")
    jobs_end: JobEnds | None = None
    fails: Failing | None = None
    works_again: Literal[True] | None = None
    metric: Metric | None = Field(default=None, description="a series gets this value")
    metric_ends: Series | None = None
    create: dict[str, Any] | None = None
    edit: Edit | None = None
    delete: Ref | None = None
    cordon: Node | None = Field(default=None, description="an admin cordons the node")
    uncordon: Node | None = None
    run: Asked | None = None
    approve: Steers | None = None
    reject: Steers | None = None
    cancel: Steers | None = None
    undo: Steers | None = None
    pause: Paused | None = None
    resume: Paused | None = None

    @model_validator(mode="after")
    def _one_thing(self) -> Happening:
        if (self.at is None) == (self.after_call is None):
            raise fault('needs either "at" or "after_call"')
        if self.delay and self.after_call is None:
            raise fault("only goes with after_call", key="delay")
        if len(self.what) != 1:
            names = [name for name in type(self).model_fields if name not in _TIMES]
            raise fault(
                f"says {len(self.what)} things: {', '.join(self.what)}"
                if self.what
                else f"says nothing that happens; known are {', '.join(names)}"
            )
        return self

    @property
    def what(self) -> tuple[str, ...]:
        """The keys that say what happens; exactly one in a valid file."""
        return tuple(name for name in type(self).model_fields if name not in _TIMES and name in self.model_fields_set)


# --- then ------------------------------------------------------------------------------------------------------------


class Decided(Part):
    """One decision; what is not named may be anything."""

    alert: StrictStr | None = Field(default=None, description="its alertname")
    playbook: StrictStr | None = None
    target: Ref | None = None
    decision: _named(DecisionKind) | None = None  # type: ignore[valid-type] # an annotated type, made by a function
    reason: _named(Reason) | None = None  # type: ignore[valid-type] # as above
    refused_by: tuple[Gate, ...] | None = Field(default=None, description="every gate that refused, in any order")
    says: StrictStr | None = Field(default=None, description="stands in the detail")


class Ran(Part):
    """One run; what is not named may be anything."""

    playbook: StrictStr | None = None
    target: Ref | None = None
    state: _named(RunState) | None = None  # type: ignore[valid-type] # as above
    reason: _named(Reason) | None = None  # type: ignore[valid-type] # as above
    rung: StrictInt | None = Field(default=None, ge=0, description="the last one that it was at, from 0")
    refused_by: tuple[Gate, ...] | None = Field(default=None, description="gates that refused when they were asked last")
    verification: _named(Reason) | None = Field(default=None, description="healed, still_firing, relapsed or deadline")  # type: ignore[valid-type] # as above
    steps: dict[StrictStr, _named(StepState)] | None = None  # type: ignore[valid-type] # as above
    says: StrictStr | None = Field(default=None, description="stands in the detail")


class Held(Part):
    """A condition over objects of the cluster, in the words of ``verify``."""

    kind: Kind
    namespace: StrictStr = ""
    labels: StrictStr = ""
    fields: StrictStr = ""
    holds: Condition = Field(description="CEL over objects, the list that was found")


class Then(Part):
    """What is expected. A list is whole and in order of time; a key that is absent is not looked at."""

    decisions: tuple[Decided, ...] | None = Field(default=None, description="repeats (duplicate, resolved) count only if one is named")
    runs: tuple[Ran, ...] | None = None
    calls: tuple[Call, ...] | None = Field(default=None, description="what changed the cluster, in order; * stands for any text")
    never: tuple[Call, ...] = Field(default=(), description="calls that must not be among them")
    changes_left: tuple[Call, ...] | None = Field(default=None, description="what remediator altered and has not put back")
    cluster: tuple[Held, ...] = ()

    @model_validator(mode="after")
    def _says_something(self) -> Then:
        if not self.model_fields_set:
            raise fault("expects nothing; name at least one of " + ", ".join(type(self).model_fields))
        return self


class Case(Part):
    """One test."""

    name: StrictStr = Field(min_length=1, max_length=120)
    at: AwareDatetime = Field(default=START, description="when it begins, with a zone")
    lasts: Positive | None = Field(default=None, le=timedelta(hours=24), description="absent: until nothing is under way any more")
    given: Given = Field(default_factory=Given)
    when: tuple[Happening, ...] = Field(min_length=1)
    then: Then | None = Field(default=None, description="absent only until remediator test --snapshot has written it")


class CaseFile(Part):
    """A file of tests."""

    api_version: Literal["remediator.dev/v1"] = Field(alias="apiVersion")
    kind: Literal["PlaybookTest"]
    playbooks: tuple[StrictStr, ...] = Field(min_length=1, description="files and folders, relative to this file")
    tests: tuple[Case, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _told_apart(self) -> CaseFile:
        names = [case.name for case in self.tests]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise fault(f"two tests are named {describe(twice)}", key="tests")
        return self


def fits(pattern: str, call: str) -> bool:
    """Whether a call is one that the pattern means; ``*`` stands for any text, and `` ...`` at the end is left out."""
    return fnmatchcase(call, pattern.removesuffix(" ..."))


def schema_test() -> dict[str, Any]:
    """JSON Schema (draft 7) of test files, for editors."""
    return draft7(CaseFile, title="remediator playbook test")


def named_playbooks(case: Case) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Every place of a test that names a playbook, and the name."""
    for index, one in enumerate(case.when):
        for key in ("run", "approve", "reject", "cancel", "undo", "pause", "resume"):
            if (said := getattr(one, key)) is not None and said.playbook is not None:
                yield ("when", index, key, "playbook"), said.playbook
    if case.then is None:
        return
    expected: tuple[tuple[str, tuple[Decided | Ran, ...]], ...] = (("decisions", case.then.decisions or ()), ("runs", case.then.runs or ()))
    for key, ones in expected:
        for index, each in enumerate(ones):
            if each.playbook is not None:
                yield ("then", key, index, "playbook"), each.playbook
