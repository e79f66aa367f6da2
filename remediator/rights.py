"""What our account must be allowed to do, by whom it is needed, and whether it is.

In: playbooks. Out: every right (verb, resource, namespace) that their actions, the gates in force and the daemon itself use, with the names
of those that use it; and, asked of the API server, which of them the account lacks. ``rbac`` prints the one as Roles, the gate
``missing_right`` refuses by the other, so that what a playbook must not do is known before it begins.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from remediator.actions import Rule, actions, scope_of
from remediator.actions.shifting import LOOKS
from remediator.cluster.read import LEASES
from remediator.gates import Fact, gates
from remediator.kube import kinds
from remediator.kube.errors import NotFound
from remediator.model import Noun

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from remediator.actions import Cilium
    from remediator.clock import Clock
    from remediator.expr import Template
    from remediator.kube import Kube
    from remediator.kube.records import ResourceRule
    from remediator.playbook import Playbook, StepSpec

__all__ = ["FACTS", "Grant", "Need", "Rights", "election", "grants", "kinds_of", "lacking", "needed"]

CILIUM: Final = "cilium.namespace"
"""The scope of rules that hold where Cilium lives, whatever that namespace is called."""
_NODE_LEASES: Final = "kube-node-lease"
_FRESH: Final = timedelta(seconds=60)
"""So long an answer that allows is taken for granted; one that forbids is asked again each time, so that a grant works at once."""
_AT_ONCE: Final = 16
"""Questions at a time."""

_NODES = Rule(resources=("nodes",), verbs=("list",))
_PODS = Rule(resources=("pods",), verbs=("list",))
_BGP = (_NODES, *LOOKS)
_LEASE = "coordination.k8s.io"
FACTS: Mapping[Fact, tuple[Rule, ...]] = {
    Fact.NAMESPACE: (Rule(resources=("namespaces",), verbs=("get",)),),
    Fact.ROUTES: _BGP,
    Fact.CILIUM: (
        Rule(resources=("pods",), verbs=("list",), scope=CILIUM),
        Rule(groups=("apps",), resources=("daemonsets", "deployments", "controllerrevisions"), verbs=("list",), scope=CILIUM),
    ),
    Fact.VIEW: (_NODES, Rule(groups=(_LEASE,), resources=("leases",), verbs=("create",), scope=_NODE_LEASES)),
    Fact.CLUSTER: (_NODES, _PODS, Rule(groups=("cilium.io",), resources=("ciliumbgpnodeconfigs",), verbs=("list",))),
    Fact.LEASE: (Rule(groups=(_LEASE,), resources=("leases",), verbs=("get",), scope=LEASES),),
    Fact.LOAD: (
        _NODES,
        _PODS,
        Rule(resources=("namespaces", "persistentvolumeclaims", "persistentvolumes"), verbs=("list",)),
        Rule(groups=("storage.k8s.io",), resources=("storageclasses",), verbs=("list",)),
    ),
    Fact.HINDRANCES: (
        _PODS,
        Rule(resources=("nodes",), verbs=("get",)),
        Rule(groups=("apps",), resources=("daemonsets",), verbs=("list",)),
        Rule(groups=("policy",), resources=("poddisruptionbudgets",), verbs=("list",)),
    ),
    Fact.FINDING: (_NODES,),
    **dict.fromkeys(
        (
            *(Fact.PAUSES, Fact.OPEN_RUNS, Fact.HISTORY, Fact.RESTARTS, Fact.ACTIVE_ALERTS, Fact.OWN, Fact.RECENT_RUNS, Fact.FAILURES),
            *(Fact.EPISODES, Fact.NETWORK, Fact.STILL_TRUE, Fact.RIGHTS, Fact.TARGET, Fact.UNDOING),
        ),
        (),
    ),
}
"""What reading each fact takes of the Kubernetes API; the target's own kind comes from the playbook."""
_EVENTS = Rule(groups=("events.k8s.io",), resources=("events",), verbs=("create", "patch"))
"""For Events about runs. No playbook is refused for want of it."""
_MARKS = (Rule(resources=("nodes", "namespaces"), verbs=("get",)),)
_OWN_LEASE = (
    Rule(resources=("namespaces",), verbs=("get",)),
    Rule(groups=(_LEASE,), resources=("leases",), verbs=("get", "create", "patch"), scope=LEASES),
)


class Need(Noun, frozen=True, kw_only=True):
    """One right. ``namespace`` empty: in all of them, or of objects that live in none. ``name``: on that one object only."""

    namespace: str = ""
    group: str = ""
    resource: str
    verb: str
    name: str = ""

    def __str__(self) -> str:
        where = f" in {self.namespace}" if self.namespace else ""
        return f"{self.verb} {self.resource}{'.' + self.group if self.group else ''}{'/' + self.name if self.name else ''}{where}"


class Grant(Noun, frozen=True, kw_only=True):
    """One rule of a Role (or, with no namespace, of a ClusterRole), and who needs it."""

    namespace: str
    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    needed_by: tuple[str, ...]
    names: tuple[str, ...] = ()
    """Of the only objects that it is about; empty: of all."""


def election(namespace: str, name: str) -> dict[Need, tuple[str, ...]]:
    """What a replica must be allowed to do with the Lease by which they elect. Nobody can be limited to a name when creating."""
    lease = {"namespace": namespace, "group": _LEASE, "resource": "leases"}
    needs = (Need(**lease, verb="create"), Need(**lease, verb="get", name=name), Need(**lease, verb="patch", name=name))
    return dict.fromkeys(needs, ("the election of a leader",))


def needed(playbooks: Iterable[Playbook], cilium: Cilium, *, events: bool = True) -> dict[Need, tuple[str, ...]]:
    """Every right that running ``playbooks`` takes, and what needs it. What holds everywhere is not listed for a namespace again.

    ``events``: and writing Events about it.
    """
    found: defaultdict[Need, set[str]] = defaultdict(set)
    own = [*(("command bgp status", rule) for rule in _BGP), *([("events about runs", _EVENTS)] if events else [])]
    for who, rule in (*own, *(pair for one in playbooks for pair in _of(one))):
        for group in rule.groups:
            for resource in rule.resources:
                for verb in rule.verbs:
                    found[_placed(rule.scope, group, resource, verb, cilium)].add(who)
    for need in [need for need in found if need.namespace]:
        everywhere = Need(group=need.group, resource=need.resource, verb=need.verb)
        if everywhere in found:
            found[everywhere] |= found.pop(need)
    return {need: tuple(sorted(found[need])) for need in sorted(found, key=str)}


def grants(rights: Mapping[Need, tuple[str, ...]]) -> tuple[Grant, ...]:
    """``rights`` as rules: those with the same users and the same verbs together."""
    verbs: defaultdict[tuple[str, str, str, str, tuple[str, ...]], list[str]] = defaultdict(list)
    for need, who in rights.items():
        verbs[need.namespace, need.group, need.resource, need.name, who].append(need.verb)
    resources: defaultdict[tuple[str, str, tuple[str, ...], str, tuple[str, ...]], list[str]] = defaultdict(list)
    for (namespace, group, resource, name, who), these in verbs.items():
        resources[namespace, group, tuple(sorted(these, key=_rank)), name, who].append(resource)
    rules = [
        Grant(
            namespace=namespace,
            group=group,
            resources=tuple(sorted(these)),
            verbs=allowed,
            needed_by=who,
            names=(name,) if name else (),
        )
        for (namespace, group, allowed, name, who), these in resources.items()
    ]
    return tuple(sorted(rules, key=lambda rule: (rule.namespace, rule.group, rule.resources, [_rank(verb) for verb in rule.verbs])))


_ORDER = ("get", "list", "watch", "create", "update", "patch", "delete")


def _rank(verb: str) -> tuple[int, str]:
    return (_ORDER.index(verb) if verb in _ORDER else len(_ORDER), verb)


def _placed(scope: str, group: str, resource: str, verb: str, cilium: Cilium) -> Need:
    namespace = {"cluster": "", CILIUM: cilium.namespace}.get(scope, scope)
    return Need(namespace=namespace, group=group, resource=resource, verb=verb)


def _of(playbook: Playbook) -> Iterator[tuple[str, Rule]]:
    steps = [step for rung in playbook.ladder for step in rung.steps]
    for step in steps:
        yield from ((f"action {step.action}", rule) for rule in actions()[step.action].needs(step.parameters))
    yield from _of_gates(playbook, steps)
    spec = playbook.when.target if playbook.when is not None else None
    if spec is not None:
        verbs = ("get", "list") if spec.kind == "Node" else ("get",)
        yield from (("targets of alerts", kind_rule(kind, verbs)) for kind in spec.kinds)
        if spec.culprit is not None:
            yield "targets of alerts", _NODES
    if playbook.verify is not None and playbook.verify.kube is not None:
        look = playbook.verify.kube
        yield "verification", kind_rule(look.kind, ("list",), _scope(look.namespace))
    if any(actions()[step.action].changes != "nothing" for step in steps):
        yield from (("marks on nodes and namespaces", rule) for rule in _MARKS)
    if playbook.disruptive:
        yield from (("the lease on the node", rule) for rule in _OWN_LEASE)


def _of_gates(playbook: Playbook, steps: Iterable[StepSpec]) -> Iterator[tuple[str, Rule]]:
    brought = {gate for step in steps for gate in actions()[step.action].brought(step.parameters)}
    targets = playbook.when.target.kinds if playbook.when is not None else ("Node",)
    for name, gate in gates().items():
        if not (gate.always or name in brought or gate.key in playbook.gates) or (gate.only_disruptive and not playbook.disruptive):
            continue
        for fact in gate.reads:
            yield from ((f"gate {name}", rule) for rule in FACTS[fact])
            if fact is Fact.TARGET:
                yield from ((f"gate {name}", kind_rule(kind, ("get",))) for kind in targets)


def kinds_of(playbook: Playbook) -> tuple[kinds.Kind, ...]:
    """The kinds that ``playbook`` can do nothing without: those that its file names, and those that its actions write.

    What actions and gates only read may be absent: they say themselves what that means for them.
    """
    steps = [step for rung in playbook.ladder for step in rung.steps]
    spec = playbook.when.target if playbook.when is not None else None
    look = playbook.verify.kube if playbook.verify is not None else None
    named = [*(spec.kinds if spec is not None else ()), look.kind if look is not None else ""]
    named += [str(step.parameters.get("kind") or "") for step in steps]
    found = {kinds.by_name(name) for name in named if name and "${" not in name}
    written = {
        (group, resource)
        for step in steps
        for rule in actions()[step.action].needs(step.parameters)
        if not _READS.issuperset(rule.verbs)
        for group in rule.groups
        for resource in rule.resources
    }
    found |= {kind for kind in kinds.known() if (kind.group, kind.plural) in written}
    return tuple(sorted(found, key=str))


_READS: Final = frozenset({"get", "list", "watch"})


def kind_rule(kind: str, verbs: tuple[str, ...], scope: str = "cluster") -> Rule:
    """What ``verbs`` on objects of a kind that a playbook names take."""
    known = kinds.by_name(kind)
    return Rule(groups=(known.group,), resources=(known.plural,), verbs=verbs, scope=scope if known.namespaced else "cluster")


def _scope(namespace: Template | None) -> str:
    return "cluster" if namespace is None else scope_of(namespace.source)


class Rights:
    """Asks the API server what our account may do, and remembers for a minute what it allows.

    By its list of rules first (SelfSubjectRulesReview), one question for each namespace; by a question of its own (SelfSubjectAccessReview)
    whatever those do not grant, and all where the list is not complete.
    """

    def __init__(self, kube: Kube, clock: Clock, cilium: Cilium) -> None:
        self._kube = kube
        self._clock = clock
        self._cilium = cilium
        self._allowed: dict[Need, datetime] = {}
        self._rules: dict[str, tuple[datetime, tuple[ResourceRule, ...] | None]] = {}
        self._served: dict[tuple[str, str], tuple[datetime, frozenset[str]]] = {}

    async def missing(self, playbook: Playbook) -> dict[Need, tuple[str, ...]]:
        """The rights that ``playbook`` needs and the account lacks, with who needs them. Raises KubeError."""
        return await self._where_it_matters(await self.missing_of(needed([playbook], self._cilium, events=False)))

    async def missing_of(self, needs: Mapping[Need, tuple[str, ...]]) -> dict[Need, tuple[str, ...]]:
        """Those of ``needs`` that the account lacks, with who needs them. Raises KubeError."""
        unlisted = await self._not_listed(needs)
        turn = asyncio.Semaphore(_AT_ONCE)

        async def ask(need: Need) -> bool:
            async with turn:
                return await self._may(need)

        allowed = await asyncio.gather(*map(ask, unlisted))
        return {need: needs[need] for need, yes in zip(unlisted, allowed, strict=True) if not yes}

    async def absent(self, playbook: Playbook) -> tuple[str, ...]:
        """The kinds that ``playbook`` cannot do without and the cluster does not serve, as ``httproutes.gateway.networking.k8s.io``.

        Raises KubeError.
        """
        return tuple([kind.resource for kind in kinds_of(playbook) if not await self._serves(kind)])

    async def _serves(self, kind: kinds.Kind) -> bool:
        older = kind.before()
        if kind.plural in await self._plurals(kind.group, kind.version):
            return True
        return older is not None and await self._serves(older)

    async def _plurals(self, group: str, version: str) -> frozenset[str]:
        now = self._clock.now()
        at, plurals = self._served.get((group, version), (None, frozenset[str]()))
        if at is None or not timedelta() <= now - at < _FRESH:
            plurals = await self._kube.served(group, version)
            self._served[group, version] = (now, plurals)
        return plurals

    async def _where_it_matters(self, missing: dict[Need, tuple[str, ...]]) -> dict[Need, tuple[str, ...]]:
        """Without the namespace of medik8s's leases there are none to be read or taken."""
        if any(need.namespace == LEASES for need in missing):
            try:
                await self._kube.get(kinds.NAMESPACE, LEASES)
            except NotFound:
                return {need: who for need, who in missing.items() if need.namespace != LEASES}
        return missing

    async def _not_listed(self, needs: Iterable[Need]) -> list[Need]:
        """Those that no rule grants."""
        everywhere = await self._listed(_NOWHERE)
        if everywhere is None:
            return [] if await self._may(_EVERYTHING) else list(needs)
        left = [need for need in needs if not _granted(need, everywhere)]
        places = sorted({need.namespace for need in left if need.namespace})
        there = dict(zip(places, await asyncio.gather(*map(self._listed, places)), strict=True))
        return [need for need in left if not _granted(need, there.get(need.namespace) or ())]

    async def _listed(self, namespace: str) -> tuple[ResourceRule, ...] | None:
        now = self._clock.now()
        at, rules = self._rules.get(namespace, (None, None))
        if at is None or not timedelta() <= now - at < _FRESH:
            rules = await self._kube.rules(namespace)
            self._rules[namespace] = (now, rules)
        return rules

    async def _may(self, need: Need) -> bool:
        now = self._clock.now()
        if need in self._allowed and timedelta() <= now - self._allowed[need] < _FRESH:
            return True
        resource, _, subresource = need.resource.partition("/")
        allowed = await self._kube.may(need.verb, resource, need.namespace, subresource=subresource, group=need.group, name=need.name)
        if allowed:
            self._allowed[need] = now
        else:
            self._allowed.pop(need, None)
        return allowed


_EVERYTHING = Need(group="*", resource="*", verb="*")
"""Who has this has everything; one question instead of many."""
_NOWHERE: Final = "namespace-that-nobody-has"
"""What our account may do there it may do everywhere: a RoleBinding grants something in its own namespace only."""


def _granted(need: Need, rules: Iterable[ResourceRule]) -> bool:
    return any(rule.allows(need.verb, need.group, need.resource, need.name) for rule in rules)


def lacking(missing: Mapping[Need, tuple[str, ...]]) -> str:
    """In words: ``patch nodes (action node.drain), ...``"""
    return ", ".join(f"{need} ({', '.join(who)})" for need, who in missing.items())
