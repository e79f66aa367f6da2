"""The real registries with one action more, and the shortest playbook that is allowed to disturb."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ConfigDict

from remediator.actions import actions as registered_actions
from remediator.fields import Duration
from remediator.gates import gates as registered_gates
from remediator.playbook import load_playbook


class Base(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


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
        self.files, self.fixed = {}, {}
        self.disturbs = lambda _: disruptive
        self.changes = "something" if disruptive else "nothing"


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
    return {**registered_actions(), "node.evict": Action("node.evict", Evict, disruptive=True)}


@pytest.fixture
def gates():
    return registered_gates()


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
        "target": {"kind": "Node", "label": "node", "name": "node-3", "namespace": "", "uid": "u-3"},
        "cilium": {"namespace": "kube-system", "agent_selector": "k8s-app=cilium"},
        "parameters": {},
    }
