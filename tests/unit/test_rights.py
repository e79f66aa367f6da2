"""Which rights playbooks take, who needs them, and what is asked of the API server about them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from remediator.actions import Cilium, actions
from remediator.gates import Fact, gates
from remediator.kube.errors import NotFound
from remediator.kube.records import ResourceRule
from remediator.playbook import Library, load_playbook, shipped
from remediator.rights import FACTS, Need, Rights, election, grants, kinds_of, lacking, needed

TEXT = """\
apiVersion: remediator.dev/v1
kind: Playbook
metadata: {name: mine, summary: a test}
ladder:
- name: only
  steps:
  - step: %s
verify: {query: up == 1, within: 5m}
"""
LEASES = "medik8s-leases"
DELETE = Need(namespace="kube-system", resource="pods", verb="delete")
NOWHERE = "namespace-that-nobody-has"
ALL = ResourceRule(verbs=("*",), api_groups=("*",), resources=("*",))


def playbook(step):
    return load_playbook(TEXT % step, actions=actions(), gates=gates())


def needs(step, **cilium):
    return needed([playbook(step)], Cilium(**cilium))


class Account:
    """An API server that knows what one account may do, and which namespaces there are; ``listed``: its rules, if it has a list."""

    def __init__(self, *forbidden, everything=False, leases=False, listed=None):
        self.listed, self.rules_of = listed, []
        self.forbidden, self.everything, self.leases, self.asked = set(forbidden), everything, leases, []
        self.kinds = {("gateway.networking.k8s.io", "v1"): {"httproutes"}, ("cilium.io", "v2alpha1"): {"ciliumloadbalancerippools"}}
        self.looked = []

    async def served(self, group, version):
        self.looked.append((group, version))
        return frozenset(self.kinds.get((group, version), ()))

    async def may(self, verb, resource, namespace="", *, subresource="", group="", name=""):
        whole = f"{resource}/{subresource}" if subresource else resource
        need = Need(namespace=namespace, group=group, resource=whole, verb=verb, name=name)
        self.asked.append(need)
        return self.everything if verb == "*" else need not in self.forbidden

    async def rules(self, namespace):
        self.rules_of.append(namespace)
        return None if self.listed is None else tuple(self.listed.get(namespace, self.listed[NOWHERE]))

    async def get(self, kind, name):
        assert (str(kind), name) == ("Namespace", LEASES)
        if not self.leases:
            raise NotFound("no such namespace", call="GET")
        return {}


class Hands:
    """A clock that a test moves."""

    def __init__(self):
        self.at = datetime(2026, 1, 5, tzinfo=UTC)

    def now(self):
        return self.at


def test_every_fact_says_what_reading_it_takes():
    assert set(FACTS) == set(Fact)


def test_a_right_names_whoever_needs_it():
    found = needs("{action: cilium.restart_agent}")
    assert found[DELETE] == ("action cilium.restart_agent",)
    assert "gate partition" in found[Need(namespace="kube-node-lease", group="coordination.k8s.io", resource="leases", verb="create")]
    assert "gate partition" in found[Need(resource="nodes", verb="list")]


def test_cilium_lives_where_the_settings_say():
    found = needs("{action: cilium.restart_agent}", namespace="cilium")
    assert Need(namespace="cilium", resource="pods", verb="delete") in found
    assert "kube-system" not in {need.namespace for need in found}


def test_what_holds_everywhere_is_not_granted_in_a_namespace_again():
    found = needs("{action: cilium.restart_agent}")
    assert Need(namespace="kube-system", resource="pods", verb="list") not in found
    assert "gate agent_not_ready" in found[Need(resource="pods", verb="list")]


def test_what_is_optional_is_needed_only_where_a_file_turns_it_on():
    may_exec = Need(namespace="kube-system", resource="pods/exec", verb="create")
    assert may_exec in needs("{action: cilium.restart_agent, exec: true}")
    assert may_exec not in needs("{action: cilium.restart_agent, exec: false}")


@pytest.mark.parametrize(
    ("step", "need"),
    [
        ("{action: kube.get, kind: Job, namespace: shop}", Need(namespace="shop", group="batch", resource="jobs", verb="list")),
        (
            "{action: kube.get, kind: ConfigMap, name: a, namespace: '${cilium.namespace}'}",
            Need(namespace="kube-system", resource="configmaps", verb="get"),
        ),
        (
            "{action: kube.get, kind: Event, namespace: '${target.namespace}'}",
            Need(group="events.k8s.io", resource="events", verb="list"),
        ),
    ],
)
def test_evidence_takes_the_right_to_its_own_kind(step, need):
    assert "action kube.get" in needs(step)[need]


def test_the_shipped_playbooks_need_no_secrets_no_exec_and_nothing_by_wildcard():
    library = Library.load((shipped(),), actions=actions(), gates=gates())
    rules = grants(needed(library.playbooks, Cilium()))
    assert rules
    for rule in rules:
        assert rule.needed_by
        assert not {"secrets", "pods/exec", "*"} & {*rule.resources, *rule.verbs, rule.group}, rule
    together = {
        Need(namespace=r.namespace, group=r.group, resource=one, verb=verb) for r in rules for one in r.resources for verb in r.verbs
    }
    assert together == set(needed(library.playbooks, Cilium())), "rules say neither more nor less than what is needed"


async def test_what_is_missing_is_named_with_who_needs_it():
    missing = await Rights(Account(DELETE, leases=True), Hands(), Cilium()).missing(playbook("{action: cilium.restart_agent}"))
    assert lacking(missing) == "delete pods in kube-system (action cilium.restart_agent)"


async def test_of_who_may_do_everything_one_question_is_asked():
    account = Account(DELETE, everything=True)
    assert await Rights(account, Hands(), Cilium()).missing(playbook("{action: cilium.restart_agent}")) == {}
    assert (account.rules_of, len(account.asked)) == ([NOWHERE], 1)
    account = Account(DELETE, listed={NOWHERE: [ALL]})
    assert await Rights(account, Hands(), Cilium()).missing(playbook("{action: cilium.restart_agent}")) == {}
    assert (account.rules_of, account.asked) == ([NOWHERE], [])


def rules_of(needs):
    """As the API server lists them: by namespace those of everywhere and its own."""
    made = {need: ResourceRule(verbs=(need.verb,), api_groups=(need.group,), resources=(need.resource,)) for need in needs}
    everywhere = [rule for need, rule in made.items() if not need.namespace]
    return {NOWHERE: everywhere} | {
        place: everywhere + [rule for need, rule in made.items() if need.namespace == place]
        for place in {n.namespace for n in needs} - {""}
    }


async def test_what_the_list_of_rules_grants_is_not_asked_for():
    mine = playbook("{action: cilium.restart_agent}")
    wanted = needed([mine], Cilium(), events=False)
    account = Account(DELETE, leases=True, listed=rules_of(set(wanted) - {DELETE}))
    assert set(await Rights(account, Hands(), Cilium()).missing(mine)) == {DELETE}
    assert account.asked == [DELETE]
    assert sorted(account.rules_of) == sorted({NOWHERE, *(need.namespace for need in wanted if need.namespace)})


async def test_what_is_granted_in_one_namespace_is_not_granted_everywhere():
    everywhere = Need(resource="pods", verb="delete")
    account = Account(everywhere, listed=rules_of({DELETE}))
    rights = Rights(account, Hands(), Cilium())
    assert set(await rights.missing_of({DELETE: ("one",), everywhere: ("another",)})) == {everywhere}
    assert account.asked == [everywhere]


async def test_rules_are_good_for_a_minute_and_never_a_no():
    account, clock = Account(DELETE, listed=rules_of({DELETE})), Hands()
    rights = Rights(account, clock, Cilium())
    wanted = {DELETE: ("one",)}
    assert await rights.missing_of(wanted) == {}
    account.listed = {NOWHERE: []}
    assert await rights.missing_of(wanted) == {}, "granted a moment ago"
    clock.at += timedelta(seconds=61)
    assert set(await rights.missing_of(wanted)) == {DELETE}
    account.forbidden.clear()
    assert await rights.missing_of(wanted) == {}, "granted now, whatever the list said"


@pytest.mark.parametrize(
    ("rule", "allowed"),
    [
        ({}, {"pods", "nodes", "pods/exec"}),
        ({"resources": ("pods",)}, {"pods"}),
        ({"resources": ("pods/exec",)}, {"pods/exec"}),
        ({"resources": ("*/exec",)}, {"pods/exec"}),
        ({"resources": ("pods", "nodes")}, {"pods", "nodes"}),
        ({"verbs": ("list", "get")}, {"pods", "nodes", "pods/exec"}),
        ({"verbs": ("list",)}, set()),
        ({"verbs": ()}, set()),
        ({"api_groups": ("",)}, {"pods", "nodes", "pods/exec"}),
        ({"api_groups": ("apps",)}, set()),
        ({"resource_names": ("mine",)}, set()),
    ],
)
def test_a_rule_allows_what_rbac_allows_by_it(rule, allowed):
    given = ResourceRule(**{"verbs": ("*",), "api_groups": ("*",), "resources": ("*",), **rule})
    assert {resource for resource in ("pods", "nodes", "pods/exec") if given.allows("get", "", resource)} == allowed


def test_a_rule_on_names_allows_those():
    rule = ResourceRule(verbs=("get",), api_groups=("",), resources=("pods",), resource_names=("mine", "ours"))
    assert [rule.allows("get", "", "pods", name) for name in ("mine", "ours", "theirs", "")] == [True, True, False, False]


async def test_a_yes_is_good_for_a_minute_and_a_no_for_nothing():
    account, clock = Account(DELETE, leases=True), Hands()
    rights, mine = Rights(account, clock, Cilium()), playbook("{action: cilium.restart_agent}")
    await rights.missing(mine)
    account.asked.clear()
    account.forbidden.clear()
    assert await rights.missing(mine) == {}
    assert [need for need in account.asked if need.verb != "*"] == [DELETE]
    account.forbidden.add(DELETE)
    assert await rights.missing(mine) == {}, "granted a moment ago"
    clock.at += timedelta(seconds=61)
    assert set(await rights.missing(mine)) == {DELETE}


@pytest.mark.parametrize("there", [True, False])
async def test_leases_of_medik8s_are_needed_where_their_namespace_is(there):
    take = Need(namespace=LEASES, group="coordination.k8s.io", resource="leases", verb="create")
    missing = await Rights(Account(take, leases=there), Hands(), Cilium()).missing(playbook("{action: cilium.restart_agent}"))
    assert set(missing) == ({take} if there else set())


async def test_a_kind_that_is_not_served_is_named():
    account = Account()
    rights = Rights(account, Hands(), Cilium())
    assert await rights.absent(playbook("{action: kube.get, kind: HTTPRoute}")) == ()
    assert await rights.absent(playbook("{action: kube.get, kind: Gateway}")) == ("gateways.gateway.networking.k8s.io",)


async def test_a_kind_that_is_served_in_its_older_version_only_is_there():
    rights = Rights(Account(), Hands(), Cilium())
    assert await rights.absent(playbook("{action: kube.get, kind: CiliumLoadBalancerIPPool}")) == ()
    assert await rights.absent(playbook("{action: kube.get, kind: CiliumBGPPeerConfig}")) == ("ciliumbgppeerconfigs.cilium.io",)


async def test_kinds_that_an_action_writes_are_needed_and_kinds_that_it_only_reads_are_not():
    found = {str(kind) for kind in kinds_of(playbook("{action: cilium.restart_agent}"))}
    assert "Pod" in found
    assert not any(kind.startswith("CiliumBGP") for kind in found)


async def test_what_is_served_is_asked_again_after_a_minute():
    account, clock = Account(), Hands()
    rights, mine = Rights(account, clock, Cilium()), playbook("{action: kube.get, kind: Gateway}")
    await rights.absent(mine)
    account.kinds["gateway.networking.k8s.io", "v1"] = {"gateways"}
    assert await rights.absent(mine) != ()
    assert len(account.looked) == 1
    clock.at += timedelta(minutes=1)
    assert await rights.absent(mine) == ()


async def test_the_right_on_the_lease_of_an_election_is_asked_for_by_its_name():
    """A Role that is limited to a name answers no to a question without one."""
    wanted = election("remediator", "mine")
    get = Need(namespace="remediator", group="coordination.k8s.io", resource="leases", verb="get", name="mine")
    assert get in wanted
    account = Account(get)
    lacks = await Rights(account, Hands(), Cilium()).missing_of(wanted)
    assert lacking(lacks) == "get leases.coordination.k8s.io/mine in remediator (the election of a leader)"
    assert {need for need in account.asked if need.verb != "*"} == set(wanted)
