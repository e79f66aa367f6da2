"""The frame of all actions. An action is one class in one module of this folder; nothing else needs an edit.

In: a Context (the run's target, the doors, the clock) and the action's own parameters. Out: one sentence that says what was achieved.
``check`` may refuse (Refused) before anything changed; ``act`` may fail (StepFailed). ``act`` is re-entrant: after a crash it is called
again with the changes of its earlier life in ``ctx.changes``, each of which was looked at by ``observe`` first, so it never sends a call
that may have been sent before.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from abc import ABC, abstractmethod
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from remediator.model import Noun

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from datetime import datetime, timedelta

    from remediator.clock import Clock
    from remediator.kube import Kube
    from remediator.model import Change, Resource, Run, Step
    from remediator.monitoring import Alertmanager, Prometheus
    from remediator.playbook import FileReader
    from remediator.probing import Prober

__all__ = ["Action", "Cilium", "Context", "NoParameters", "Observed", "Parameters", "Rule", "actions", "recurring", "scope_of"]

R = TypeVar("R")


class Parameters(BaseModel):
    """Base of an action's parameters: unknown names are errors, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NoParameters(Parameters):
    """For actions that need to be told nothing."""


P = TypeVar("P", bound=Parameters)


class Rule(Noun, frozen=True, kw_only=True):
    """One RBAC rule that an action needs, as in a Role.

    ``scope`` is ``cluster``, a namespace or a namespace setting's name; ``parameters.namespace`` where each step says which (``needs``).
    """

    groups: tuple[str, ...] = ("",)
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    scope: str = "cluster"


class Cilium(Noun, frozen=True, kw_only=True):
    """Where Cilium lives in this cluster (settings ``cilium``)."""

    namespace: str = "kube-system"
    agent_selector: str = "k8s-app=cilium"
    health_port: int = 4240


class Observed(StrEnum):
    """What a look at the cluster says about a call whose outcome is not on disk."""

    APPLIED = "applied"
    ABSENT = "absent"
    FOREIGN = "foreign"
    """It did not, and somebody else's object is where it would be."""
    UNCLEAR = "unclear"


class Context(Protocol):
    """What an action may use. Only ``change`` alters the cluster, and it writes the intent down first."""

    run: Run
    kube: Kube
    prometheus: Prometheus | None
    """None where the settings name no Prometheus."""
    alertmanager: Alertmanager | None
    """None where the settings name no Alertmanager."""
    probe: Prober
    clock: Clock
    cilium: Cilium
    min_speakers: int
    """Of every announced address (settings ``limits``)."""
    dry_run: bool
    step: Step
    """The one that is carried, as it stood when it was entered."""
    files: Mapping[str, Any]
    """Parameter -> what stands in the file that it names, filled in."""

    @property
    def deadline(self) -> datetime:
        """When the step's time is up; nothing is sent from then on."""
        ...

    @property
    def changes(self) -> tuple[Change, ...]:
        """Changes of this step from before a crash that took effect; empty on a first try."""
        ...

    async def change(
        self,
        verb: str,
        resource: Resource,
        call: Callable[[str, bool], Awaitable[Any]],
        *,
        before: dict[str, Any] | None = None,
        after: dict[str, Any] | None = None,
        undoable: bool = True,
        repeatable: bool = False,
    ) -> Change:
        """Intent to disk, then ``call(request_id, dry_run)``, then the outcome to disk.

        Raises StepFailed if the API refused (nothing changed; the KubeError is its cause) or if nobody can say whether it took effect.
        ``repeatable``: sent twice it does no more than once, so after a lost answer a look that finds nothing counts as not done.
        """
        ...

    async def wait_for(self, what: str, look: Callable[[], Awaitable[R | None]], *, every: timedelta | None = None) -> R:
        """The first result of ``look`` that is not None; raises StepFailed when the step's deadline comes first.

        In a dry run an action must return before it waits for an effect that never comes.
        """
        ...

    async def rest(self, woken: asyncio.Event, at_most: timedelta) -> None:
        """Wait until ``woken`` is set (it is cleared then) or the time is over; as ``change``, it raises when people cancel or pause.

        It raises as ``still_allowed`` too, once the run's alert was reported as resolved.
        """
        ...

    async def ask(self, text: str, *, expires: timedelta | None = None, people: int | None = None) -> str:
        """Ask people whether the run may go on, and wait for their yes; who said it. ``expires``, ``people``: None is the playbook's.

        Raises StepFailed with the reason where the answer is no, where none came in time, or where the alert is over.
        """
        ...

    async def still_allowed(self) -> None:
        """Every gate once more, on fresh facts; raises StepFailed with the reason of the first that refuses. For actions that take long.

        Where nothing refuses but what cannot be read, it waits until that can be read again, to the step's deadline.
        """
        ...

    async def settle(self, change: Change, words: str) -> None:
        """Note that nothing of ``change`` is to be put back any more, since what it began came to its end; ``words`` say how."""
        ...

    async def put_back(self, run: str, resource: Resource, mark: str) -> None:
        """Note that what an earlier ``run`` of ours changed on ``resource`` under the annotation ``mark`` was put back by this step."""
        ...

    async def plan(self, lines: Sequence[str]) -> None:
        """Say what will be done, before anything is: kept as the step's evidence ``plan`` and shown live. Later calls change nothing."""
        ...

    async def progress(self, words: str) -> None:
        """Say how the step stands while it goes on (pods left, what blocks): the step's ``detail`` until it ends, shown live."""
        ...

    async def tell(self, text: str, *, title: str = "", routes: Sequence[str] = ()) -> tuple[str, ...]:
        """Tell people ``text`` by the routes of the settings that take it (of ``routes``, if there are any); their names. Never fails.

        In a dry run nobody is told unless a route asks for predicted runs.
        """
        ...

    def evidence(self, name: str, data: Any) -> None:
        """Attach something that was seen to the step's record (redacted and cut to a bounded size)."""
        ...


class Action(ABC, Generic[P]):
    """Something that a step can do. Subclasses set the class variables; a test checks that none is missing."""

    name: ClassVar[str]
    summary: ClassVar[str]
    changes: ClassVar[str] = "nothing"
    """What it alters in the cluster, for people."""
    undone_by: ClassVar[str] = "nothing to undo"
    disruptive: ClassVar[bool] = False
    """Whether it may disturb traffic or workloads; then every gate is evaluated again right before it."""
    undo_disturbs: ClassVar[bool] = False
    """Whether putting it back may disturb traffic or workloads too; then gates are asked before that (``Gate.on_undo``)."""
    rbac: ClassVar[tuple[Rule, ...]] = ()
    optional_rbac: ClassVar[Mapping[str, tuple[Rule, ...]]] = {}
    """Parameter -> what it needs on top of ``rbac`` once a playbook turns it on; granted apart, and not by the shipped base."""
    ends_with_run: ClassVar[bool] = False
    """Whether what it began goes on by itself, so that it is put back where the run ends before it did, however the run ends."""
    files: ClassVar[Mapping[str, FileReader]] = {}
    """Parameter that names a file beside the playbook -> who reads it when the playbook is loaded; ``ctx.files`` has what came of it."""
    fixed: ClassVar[Mapping[str, frozenset[str]]] = {}
    """Parameter that must be known before a run -> what its templates may name all the same (rights and files depend on it)."""
    brings: ClassVar[tuple[str, ...]] = ()
    """Gates (by name) that apply to every playbook with this action."""
    Parameters: ClassVar[type[Parameters]] = NoParameters

    async def check(self, ctx: Context, parameters: P) -> None:
        """Look, change nothing, and raise Refused if acting now would be wrong."""

    @abstractmethod
    async def act(self, ctx: Context, parameters: P) -> str:
        """Do it, wait for the effect, and say what was achieved. Raises StepFailed."""

    async def observe(self, ctx: Context, change: Change) -> Observed:
        """Whether ``change``, whose outcome is not on disk, took effect. Reads only."""
        del ctx, change
        return Observed.UNCLEAR

    async def undo(self, ctx: Context, change: Change) -> str | None:
        """Put ``change`` back if it is still ours; the sentence that says so, or None if somebody else touched it since."""
        raise NotImplementedError(f"{self.name} changes nothing that could be undone")

    async def restored(self, ctx: Context, change: Change) -> None:
        """After a crash, where the undo of ``change`` had taken effect: wait for what ``undo`` waits for. Raises StepFailed."""

    @classmethod
    def needs(cls, parameters: Mapping[str, Any]) -> tuple[Rule, ...]:
        """The rights that a step takes whose file says ``parameters`` (templates as text): ``rbac``, and what it turns on by ``true``."""
        wanted = [rules for name, rules in cls.optional_rbac.items() if parameters.get(name) is True]
        return (*cls.rbac, *(rule for rules in wanted for rule in rules))

    @classmethod
    def disturbs(cls, parameters: Mapping[str, Any]) -> bool:
        """Whether a step whose file says ``parameters`` may disturb traffic or workloads."""
        del parameters
        return cls.disruptive

    @classmethod
    def brought(cls, parameters: Mapping[str, Any]) -> tuple[str, ...]:
        """The gates that such a step brings along."""
        del parameters
        return cls.brings

    @classmethod
    def describe(cls) -> dict[str, Any]:
        """Everything about the action, as ``actions show`` prints it."""
        return {
            "name": cls.name,
            "summary": cls.summary,
            "changes": cls.changes,
            "undone_by": cls.undone_by,
            "disruptive": cls.disruptive,
            "undo_disturbs": cls.undo_disturbs,
            "rbac": [_rule(rule) for rule in cls.rbac],
            "optional_rbac": {parameter: [_rule(rule) for rule in rules] for parameter, rules in cls.optional_rbac.items()},
            "gates": list(cls.brings),
            "parameters": cls.Parameters.model_json_schema(),
        }


def _rule(rule: Rule) -> dict[str, Any]:
    return {"groups": list(rule.groups), "resources": list(rule.resources), "verbs": list(rule.verbs), "scope": rule.scope}


@cache
def actions() -> Mapping[str, type[Action[Any]]]:
    """Every action in this folder, by name, in alphabetical order."""
    found: dict[str, type[Action[Any]]] = {}
    for module in pkgutil.iter_modules(__path__, __name__ + "."):
        for thing in vars(importlib.import_module(module.name)).values():
            if not inspect.isclass(thing) or thing.__module__ != module.name:
                continue  # asking an imported class what it is of costs more than it looks
            if issubclass(thing, Action) and not inspect.isabstract(thing):
                found[thing.name] = thing
    return dict(sorted(found.items()))


def recurring() -> frozenset[str]:
    """The names of those that hide a fault if they are done again and again: they bring the gate ``recurrence``."""
    return frozenset(name for name, action in actions().items() if "recurrence" in action.brings)


def scope_of(namespace: str) -> str:
    """The scope of a rule for the namespace that a file names; one that only a run can fill in may be any."""
    if "".join(namespace.split()) == "${cilium.namespace}":
        return "cilium.namespace"
    return namespace if namespace and "${" not in namespace else "cluster"
