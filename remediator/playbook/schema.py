"""The shape of a playbook file, as pydantic models. What one value can be wrong in by itself is refused here; check.py looks at the whole.

Expressions and templates are compiled against the Scope that comes as validation context under ``scope``.
"""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    StrictInt,
    StrictStr,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from remediator.document import describe, fault, suggest
from remediator.errors import ExpressionError
from remediator.expr import Template
from remediator.fields import Duration
from remediator.model import Mode
from remediator.playbook.matcher import Matcher, parse_matcher
from remediator.playbook.parameters import Parameter
from remediator.playbook.scope import Condition, StepTimeout, TargetTemplate, TextTemplate, Timeout
from remediator.units import parse_duration

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "API_VERSION",
    "FROZEN",
    "KINDS",
    "ApprovalSpec",
    "Culprit",
    "KubeLook",
    "Metadata",
    "PlaybookFile",
    "RungFile",
    "StepFile",
    "TargetSpec",
    "Verify",
    "When",
]

API_VERSION: Literal["remediator.dev/v1"] = "remediator.dev/v1"

KINDS: Mapping[str, bool] = {
    "Node": False,
    "Namespace": False,
    "Pod": True,
    "Service": True,
    "ConfigMap": True,
    "PersistentVolume": False,
    "PersistentVolumeClaim": True,
    "StorageClass": False,
    "DaemonSet": True,
    "Deployment": True,
    "StatefulSet": True,
    "ReplicaSet": True,
    "ControllerRevision": True,
    "Job": True,
    "Lease": True,
    "EndpointSlice": True,
    "Event": True,
    "PodDisruptionBudget": True,
    "VolumeAttachment": False,
    "CiliumNode": False,
    "CiliumEndpoint": True,
    "CiliumBGPAdvertisement": False,
    "CiliumBGPClusterConfig": False,
    "CiliumBGPNodeConfig": False,
    "CiliumBGPNodeConfigOverride": False,
    "CiliumBGPPeerConfig": False,
    "CiliumBGPPeeringPolicy": False,
    "CiliumEgressGatewayPolicy": False,
    "CiliumL2AnnouncementPolicy": False,
    "CiliumLoadBalancerIPPool": False,
    "Gateway": True,
    "HTTPRoute": True,
}
"""Kinds that a playbook may name, and whether they live in namespaces (a test keeps this equal to remediator.kube.kinds)."""

_SYMPTOMS: Mapping[str, str] = {"latency": "20ms", "loss": "1%", "reachability": ""}
"""Symptoms that attribution knows (a test keeps them equal to its own), and the limit where a playbook names none."""
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
_STEP_NAME = re.compile(r"[a-z][-_a-z0-9]{0,62}", re.ASCII)
_PARAMETER_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}", re.ASCII)
_CEL_WORDS = frozenset({"as", "break", "const", "continue", "else", "false", "for", "function", "if", "import", "in", "let", "loop"}) | {
    "package", "namespace", "null", "return", "true", "var", "void", "while",
}  # fmt: skip
"""Words that CEL keeps for itself (cel-spec, langdef.md)."""
_LONGEST_LINE = 200


FROZEN = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class Strict(BaseModel):
    """Base of the parts of a playbook: unknown keys are errors, values are frozen."""

    model_config = FROZEN

    @field_validator("*", mode="before")
    @classmethod
    def _filled(cls, value: Any) -> Any:
        """A key without a value is half a thought: ``verify:`` with nothing behind it must not mean "no verify"."""
        if value is None:
            raise fault("is empty; fill it or leave the key out")
        return value


def _playbook_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise fault(f'"{value}" cannot be a name; use at most 63 lower-case letters, digits and -')
    return value


def _line(value: str) -> str:
    if len(value) > _LONGEST_LINE or not value.isprintable():
        raise fault(f"must be one line of at most {_LONGEST_LINE} characters")
    return value


def _runbook(value: str) -> str:
    if value and not urlsplit(value).scheme and PurePosixPath(value).is_absolute():
        raise fault(f'"{value}" is a path on one machine; write a URL or a path within the repository')
    return _line(value)


def _matcher(value: Any) -> Matcher:
    if isinstance(value, Matcher):
        return value
    if not isinstance(value, str):
        raise fault(f"must be a matcher such as 'severity=\"critical\"', not {describe(value)}")
    try:
        return parse_matcher(value)
    except ExpressionError as error:
        raise fault(str(error), offset=error.column - 1) from error


def _kind(value: Any) -> str:
    if value not in KINDS:
        raise fault(f"unknown kind {describe(value)}{suggest(str(value), KINDS)}")
    return str(value)


def _kind_or_kinds(value: Any) -> str | tuple[str, ...]:
    if not isinstance(value, list | tuple):
        return _kind(value)
    named = tuple(map(_kind, value))
    if len(named) < 2 or len(set(named)) < len(named):
        raise fault("name several different kinds in a list, or one without it")
    if "Node" in named:
        raise fault("a Node is named by labels of many names, so it goes with no other kind")
    return named


def _positive(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise fault("must be longer than 0s")
    return value


Kind = Annotated[str, BeforeValidator(_kind), WithJsonSchema({"type": "string", "enum": list(KINDS)})]
_KIND_SCHEMA = {"type": "string", "enum": list(KINDS)}
Kinds = Annotated[
    str | tuple[str, ...],
    PlainValidator(_kind_or_kinds),
    PlainSerializer(lambda kind: kind if isinstance(kind, str) else list(kind), return_type=str | list[str]),
    WithJsonSchema(
        {
            "anyOf": [
                _KIND_SCHEMA,
                {"type": "array", "items": {**_KIND_SCHEMA, "not": {"const": "Node"}}, "minItems": 2, "uniqueItems": True},
            ]
        }
    ),
]
Positive = Annotated[Duration, AfterValidator(_positive)]
Line = Annotated[StrictStr, AfterValidator(_line)]
MatcherField = Annotated[
    Matcher,
    PlainValidator(_matcher),
    PlainSerializer(str, return_type=str),
    WithJsonSchema(
        {"type": "string", "pattern": "(=|!=|=~|!~)", "examples": ['alertname="CiliumAgentDown"', 'severity=~"warning|critical"']}
    ),
]


class Metadata(Strict):
    """What people see of it."""

    name: Annotated[StrictStr, AfterValidator(_playbook_name)] = Field(description="unique among all loaded playbooks")
    summary: Line = Field(default="", description="one line: what is wrong and what is done about it")
    runbook: Annotated[StrictStr, AfterValidator(_runbook)] = Field(default="", description="URL, or path within the repository")


def _as_written(value: Any) -> Any:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


class Culprit(Strict):
    """Which symptom between two nodes the alert is about, and from where on a pair counts as bad."""

    of: str
    above: Annotated[str, BeforeValidator(_as_written)] | None = None

    @model_validator(mode="after")
    def _measured(self) -> Culprit:
        if self.of not in _SYMPTOMS:
            raise fault(f"unknown symptom {describe(self.of)}{suggest(self.of, _SYMPTOMS)}", key="of")
        if self.above is not None and not _SYMPTOMS[self.of]:
            raise fault("reachability has no limit: a node is reached or it is not", key="above")
        try:
            limit = self.limit
        except ValueError as error:
            raise fault(str(error), key="above") from error
        if not 0 < limit < (60 if self.of == "latency" else 1):
            raise fault("must lie between 0 and 1m" if self.of == "latency" else "must lie between 0 and 100 %", key="above")
        return self

    @property
    def limit(self) -> float:
        """Seconds of a round trip, or a share of packets from 0 to 1."""
        text = self.above or _SYMPTOMS[self.of]
        if self.of == "latency":
            if not re.fullmatch(r"(\d+[a-z]+)+", text, re.ASCII):
                raise ValueError(f'"{text}" is no time; write for example 20ms')
            return parse_duration(text).total_seconds()
        if self.of == "loss":
            match = re.fullmatch(r"(\d{1,3}(?:\.\d{1,6})?)\s?%", text, re.ASCII)
            if match is None:
                raise ValueError(f'"{text}" is no share of packets; write for example 1% or 0.1%')
            return float(match[1]) / 100
        return 0.5


def _culprit(value: Any) -> Any:
    if isinstance(value, dict | Culprit):
        return value
    if value not in _SYMPTOMS:
        raise fault(f"unknown symptom {describe(value)}{suggest(str(value), _SYMPTOMS)}")
    return {"of": value}


CulpritField = Annotated[
    Culprit,
    BeforeValidator(_culprit),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "enum": list(_SYMPTOMS)},
                {
                    "type": "object",
                    "properties": {
                        "of": {"type": "string", "enum": list(_SYMPTOMS)},
                        "above": {
                            "type": "string",
                            "pattern": r"^(\d+(y|w|d|h|m|s|ms)|\d{1,3}(\.\d{1,6})?\s?%)+$",
                            "examples": ["20ms", "1%"],
                        },
                    },
                    "required": ["of"],
                    "additionalProperties": False,
                },
            ]
        }
    ),
]


class TargetSpec(Strict):
    """The one object that is acted on. Without a name the alert's usual labels decide: for a Node target_node, node, instance."""

    kind: Kinds = Field(description="or a list of kinds: the one that the alert has a label of, such as deployment")
    culprit: CulpritField | None = Field(
        default=None, description="act on the node that explains this symptom between nodes, not on the one that the alert names"
    )
    name: TargetTemplate | None = Field(default=None, description="template; may name alert.labels, alert.annotations, alert.name")
    namespace: TargetTemplate | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """All that it may be; one unless the file has a list."""
        return (self.kind,) if isinstance(self.kind, str) else self.kind

    @model_validator(mode="after")
    def _placed(self) -> TargetSpec:
        if len(self.kinds) > 1 and self.name is not None:
            raise fault("goes with one kind only; of several the alert's labels say which is meant", key="name")
        for kind in self.kinds:
            if self.culprit is not None and kind != "Node":
                raise fault(f"a {kind} is not to blame for what is seen between nodes; the target must be a Node", key="culprit")
            if self.namespace is not None and not KINDS[kind]:
                raise fault(f"a {kind} lives in no namespace", key="namespace")
            if self.name is not None and self.namespace is None and KINDS[kind]:
                raise fault(f"a {kind} lives in a namespace; say which", key="name")
        return self


class When(Strict):
    """Which alerts it takes: those that fit every matcher; and what is acted on then."""

    alerts: tuple[MatcherField, ...] = Field(min_length=1, description="matchers in Alertmanager's syntax; all must fit")
    target: TargetSpec

    @model_validator(mode="after")
    def _narrow(self) -> When:
        if self.alerts and all(matcher.matches({}) for matcher in self.alerts):
            raise fault(
                "fits alerts that carry none of these labels; add a matcher that says which alerts are meant, such as alertname",
                key="alerts",
            )
        return self


class KubeLook(Strict):
    """Which objects ``holds`` looks at."""

    kind: Kind
    namespace: TextTemplate | None = None
    labels: TextTemplate | None = Field(default=None, description="label selector")
    fields: TextTemplate | None = Field(default=None, description="field selector")

    def render(self, values: Mapping[str, Any]) -> dict[str, str]:
        """``kind``, ``namespace``, ``labels``, ``fields`` as text, empty where not set. Raises Unreadable."""
        parts = {"namespace": self.namespace, "labels": self.labels, "fields": self.fields}
        return {"kind": self.kind, **{name: template.text(values) if template else "" for name, template in parts.items()}}

    @model_validator(mode="after")
    def _placed(self) -> KubeLook:
        if self.namespace is not None and not KINDS[self.kind]:
            raise fault(f"a {self.kind} lives in no namespace", key="namespace")
        return self


class Verify(Strict):
    """How it is proved that the symptom is gone: every part of it holds, and keeps holding."""

    query: TextTemplate | None = Field(default=None, description="PromQL condition; it holds if it gives at least one sample")
    kube: KubeLook | None = None
    holds: Condition | None = Field(default=None, description="CEL over objects, the list that kube finds; must give true")
    within: Positive = Field(description="by when it must begin to hold")
    hold: Duration = Field(default=timedelta(minutes=1), description="for how long it must hold without a break")
    every: Positive = Field(default=timedelta(seconds=5), description="how often to look")

    @model_validator(mode="after")
    def _complete(self) -> Verify:
        if self.query is None and self.kube is None:
            raise fault("needs a query, or kube with holds; nothing would be looked at")
        if (self.kube is None) != (self.holds is None):
            present, absent = ("kube", "holds") if self.holds is None else ("holds", "kube")
            raise fault(f'needs "{absent}" beside it', key=present)
        if self.hold > self.within:
            raise fault("is longer than within", key="hold")
        if self.every > self.within:
            raise fault("is longer than within", key="every")
        return self

    @model_validator(mode="after")
    def _sound(self) -> Verify:
        if self.query is not None and (complaint := unbalanced(self.query.source)):
            raise fault(complaint, key="query")
        if self.holds is not None and re.search(r"\bobjects\s*\.\s*all\s*\(", self.holds.source) and "size" not in self.holds.source:
            raise fault("objects.all(...) is true when nothing is found; say size(objects) > 0 too, or what else is meant", key="holds")
        return self


def unbalanced(promql: str) -> str:
    """What is open at the end of a query, or closes nothing; empty if all is well. Values within ``${...}`` are left out."""
    text = re.sub(r"\$\{[^}]*\}", "0", promql)
    text = re.sub(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|`[^`]*`|#.*', "", text)
    if found := re.search("[\"'`]", text):
        return f"the query opens {found[0]} and never closes it"
    open_ones: list[str] = []
    for char in text:
        if char in "([{":
            open_ones.append(char)
        elif char in ")]}" and (not open_ones or open_ones.pop() + char not in ("()", "[]", "{}")):
            return f'"{char}" in the query closes nothing'
    return f'the query opens "{open_ones[-1]}" and never closes it' if open_ones else ""


class ApprovalSpec(Strict):
    """How people are asked, where the mode is suggest and by steps with the action approve."""

    expires: Positive | None = Field(default=None, description="the run ends if nobody answered by then; absent: as the settings say")
    people: StrictInt = Field(default=1, ge=1, le=5, description="how many different people must say yes; the settings may ask for more")


class StepFile(BaseModel):
    """What a step says: the action, its time-out, and the action's own parameters beside them."""

    model_config = ConfigDict(extra="allow", frozen=True, arbitrary_types_allowed=True)

    action: StrictStr
    timeout: StepTimeout = Field(
        default_factory=lambda: Timeout(Template.compile("5m", variables={})), description="after that it has failed; 5m if absent"
    )


def _step(value: Any) -> Any:
    if not isinstance(value, dict) or len(value) != 1 or "action" in value:
        raise fault("a step is one name and what it does: - NAME: {action: ...}")
    name = next(iter(value))
    if not _STEP_NAME.fullmatch(name):
        raise fault(f'"{name}" cannot be a step\'s name; use lower-case letters, digits, - and _', key=name)
    return value


class RungFile(Strict):
    """What is tried together: its steps in order. The next rung is tried only if this one is through and did not heal."""

    name: Line = Field(min_length=1)
    attempts: int = Field(
        default=1, ge=1, le=5, description="how often its steps are tried, each time with its own proof, before the next rung"
    )
    steps: tuple[Annotated[dict[str, StepFile], BeforeValidator(_step)], ...] = Field(min_length=1, max_length=50)


def possible_parameter(name: str) -> bool:
    """Whether expressions can name it."""
    return _PARAMETER_NAME.fullmatch(name) is not None and name not in _CEL_WORDS


def _parameters(value: dict[str, Parameter]) -> dict[str, Parameter]:
    for name in value:
        if not possible_parameter(name):
            raise fault(f'"{name}" cannot be a parameter\'s name; use lower-case letters, digits and _, and no word of CEL', key=name)
    return value


class PlaybookFile(Strict):
    """A playbook: which alerts, on what, how far by itself, under which gates, what is tried, and how it is proved to have helped."""

    api_version: Literal["remediator.dev/v1"] = Field(alias="apiVersion")
    kind: Literal["Playbook"]
    metadata: Metadata
    parameters: Annotated[dict[str, Parameter], AfterValidator(_parameters)] = Field(default_factory=dict)
    when: When | None = Field(default=None, description="absent: only people trigger it")
    mode: Mode = Field(default=Mode.SUGGEST, description="observe records, suggest lets a person decide, auto acts")
    approval: ApprovalSpec = Field(default_factory=ApprovalSpec)
    gates: dict[str, Any] = Field(default_factory=dict, description="settings of gates; gates without settings apply anyway")
    ladder: tuple[RungFile, ...] = Field(min_length=1, max_length=20)
    verify: Verify | None = None
    on_resolved: Literal["undo", "keep"] = Field(default="keep", description="what to do with its changes when the alert resolves")
    on_failure: Literal["undo", "keep"] = Field(default="keep", description="what to do with its changes when a step fails")
    deadline: Positive = Field(default=timedelta(hours=1), description="of the whole run, without the time that people take to answer")
