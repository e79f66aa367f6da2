"""Small registries that look like the real ones, and the shortest playbook that is allowed to disturb."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, RootModel

from remediator.fields import Duration
from remediator.playbook import load_playbook


class Base(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Restart(Base):
    ready_for: Duration = Field(default=timedelta(seconds=30), ge=timedelta(0), le=timedelta(minutes=10))


class Query(Base):
    query: str = Field(min_length=1)
    expect: Literal["any", "some", "none"] = "any"


class Get(Base):
    kind: str
    name: str = ""
    namespace: str = ""
    labels: str = ""
    fields: str = ""


class Wait(Base):
    for_: Duration = Field(alias="for", gt=timedelta(0))


class Evict(Base):
    """Not a real action: it has what the first real ones lack (lists, numbers, nested models, nullable values)."""

    class Budget(Base):
        name: str
        least: int = 0

    allow: list[str] = []
    budgets: tuple[Budget, ...] = ()
    grace_period: Duration | None = None
    share: float = 0.5
    force: bool = False


class Action:
    def __init__(self, name: str, parameters: type[BaseModel], *, disruptive: bool = False) -> None:
        self.name = name
        self.Parameters = parameters
        self.disruptive = disruptive


class Cooldown(RootModel[Duration]):
    pass


class Attempts(Base):
    max: int = Field(ge=1)
    per: Literal["target"] = "target"
    within: Duration


class Gate:
    def __init__(self, name: str, key: str | None = None, settings: type[BaseModel] | None = None) -> None:
        self.name = name
        self.key = key
        self.Settings = settings


ACTIONS = [
    Action("cilium.restart_agent", Restart, disruptive=True),
    Action("kube.get", Get),
    Action("node.cordon", Base),
    Action("node.evict", Evict, disruptive=True),
    Action("prometheus.query", Query),
    Action("wait", Wait),
]
GATES = [Gate("paused"), Gate("cooldown", "cooldown", Cooldown), Gate("attempts_exhausted", "attempts", Attempts)]

VALID = """\
apiVersion: remediator.dev/v1
kind: Playbook
metadata: {name: example}
when:
  alerts: [alertname="CiliumAgentDown"]
  target: {kind: Node, name: "${alert.labels.node}"}
gates: {cooldown: 30m}
ladder:
- name: restart
  steps:
  - restart: {action: cilium.restart_agent}
verify: {query: 'up{node="${target.name}"} == 1', within: 10m}
"""


@pytest.fixture
def actions():
    return {action.name: action for action in ACTIONS}


@pytest.fixture
def gates():
    return {gate.name: gate for gate in GATES}


@pytest.fixture
def valid():
    return VALID


@pytest.fixture
def load(actions, gates):
    def loaded(text, source="example.yaml"):
        return load_playbook(text, actions=actions, gates=gates, source=source)

    return loaded


@pytest.fixture
def values():
    """What a run knows."""
    return {
        "target": {"kind": "Node", "name": "node-3", "namespace": "", "uid": "u-3"},
        "cilium": {"namespace": "kube-system", "agent_selector": "k8s-app=cilium"},
        "parameters": {},
    }
