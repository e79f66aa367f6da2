"""Budgets matched as policy/v1 does, structural blocks, waves, and what is left of a budget: without a cluster."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.drain.budgets import Covering, budgets_of, covers, free, structural
from remediator.drain.classify import CRITICAL, Rules, classify
from remediator.drain.plan import make_plan
from remediator.drain.pressure import Pressure, headroom, pause
from remediator.drain.result import Moving, Outcome
from remediator.kube.workloads import Selector
from remediator.reasons import Reason


@pytest.fixture
def plan(now):
    def of(pods, budgets, **more):
        return make_plan(classify(pods, Rules(), daemonsets=frozenset(), now=now), budgets, **more)

    return of


def selector(**fields):
    return msgspec.convert(fields, Selector)


@pytest.mark.parametrize(
    ("one", "fits"),
    [
        (None, False),
        (selector(), True),
        (selector(matchLabels={"app": "web"}), True),
        (selector(matchLabels={"app": "db"}), False),
        (selector(matchExpressions=[{"key": "app", "operator": "In", "values": ["web", "db"]}]), True),
        (selector(matchExpressions=[{"key": "app", "operator": "NotIn", "values": ["web"]}]), False),
        (selector(matchExpressions=[{"key": "tier", "operator": "NotIn", "values": ["web"]}]), True),
        (selector(matchExpressions=[{"key": "app", "operator": "Exists"}]), True),
        (selector(matchExpressions=[{"key": "tier", "operator": "DoesNotExist"}]), True),
        (selector(matchExpressions=[{"key": "app", "operator": "Sounds like"}]), False),
        (selector(matchLabels={"app": "web"}, matchExpressions=[{"key": "tier", "operator": "Exists"}]), False),
    ],
)
def test_a_selector_means_what_policy_v1_says(one, fits):
    assert covers(one, {"app": "web"}) is fits


@pytest.mark.parametrize("fields", [{"phase": "Pending"}, {"phase": "Succeeded"}, {"phase": "Failed"}, {"deleted_ago": 1}])
def test_pods_that_the_api_server_evicts_without_a_budget_have_none_here(pod, budget, fields):
    assert budgets_of(pod(**fields), [budget(allowed=0)]) == ()
    assert budgets_of(pod(), [budget(allowed=0), budget("elsewhere", namespace="other")]) == (budget(allowed=0),)


@pytest.mark.parametrize(
    ("fields", "blocked"),
    [
        ({"maxUnavailable": 0, "allowed": 0}, True),
        ({"maxUnavailable": "0%", "allowed": 0}, True),
        ({"minAvailable": "100%", "allowed": 0}, True),
        ({"minAvailable": 1, "allowed": 0, "healthy": 1, "desired": 1, "expected": 1}, True),
        ({"minAvailable": "50%", "allowed": 0, "healthy": 1, "desired": 1, "expected": 1}, True),
        ({"minAvailable": 3, "allowed": 0, "healthy": 2, "desired": 3, "expected": 4}, False),
        ({"maxUnavailable": 1, "allowed": 0, "healthy": 3, "desired": 3, "expected": 4}, False),
        ({"maxUnavailable": 1, "allowed": 1, "healthy": 1, "desired": 0, "expected": 1}, False),
        ({"minAvailable": 4, "allowed": 0, "healthy": 4, "desired": 4, "expected": 4, "generation": 2}, False),
    ],
    ids=str,
)
def test_a_budget_that_can_never_yield_refuses(pod, budget, plan, fields, blocked):
    one = budget(**fields)
    assert structural(one) is blocked
    refusals = plan([pod()], [one]).refusals
    assert [r.reason for r in refusals] == ([Reason.PDB] if blocked else [])
    for refusal in refusals:
        assert "apps/web" in refusal.detail
        assert f"{one.status.current_healthy} of {one.status.expected_pods} healthy" in refusal.detail


@pytest.mark.parametrize("name", ["web", "apps/web"])
def test_a_budget_that_the_playbook_names_is_waited_for(pod, budget, plan, name):
    blocked = budget(maxUnavailable=0, allowed=0)
    assert plan([pod()], [blocked], allow_zero=frozenset([name])).refusals == ()
    assert plan([pod()], [blocked], allow_zero=frozenset(["other"])).refusals


def test_more_than_one_budget_refuses_and_names_both(pod, budget, plan):
    (refusal,) = plan([pod("a"), pod("b")], [budget("one"), budget("two")], allow_zero=frozenset(["one", "two"])).refusals
    assert refusal.reason is Reason.PDB
    assert "apps/one and apps/two" in refusal.detail
    assert refusal.detail.endswith("apps/a, apps/b")


@pytest.mark.parametrize(
    ("policy", "healthy", "is_free"), [("AlwaysAllow", 0, True), ("IfHealthyBudget", 3, True), ("", 3, True), ("", 2, False)]
)
def test_unready_pods_go_as_the_budgets_policy_says(pod, budget, policy, healthy, is_free):
    one = budget(healthy=healthy, desired=3, allowed=0, maxUnavailable=1, unhealthyPodEvictionPolicy=policy)
    assert free(pod(ready=False), one) is is_free
    assert not free(pod(), one)


def test_waves_are_ordinary_before_critical(pod, plan):
    waves = plan([pod("dns", priority=CRITICAL), pod("web")], []).waves
    assert [[one.pod.name for one in wave] for wave in waves] == [["web"], ["dns"]]


def test_dry_run_answers_are_counted_against_the_budget(pod, budget, plan):
    pods = [pod(f"web-{n}") for n in range(3)]
    assert any("at most 1 at a time" in line for line in plan(pods, [budget(allowed=1)]).lines())
    assert any("all at once" in line for line in plan(pods, [budget(allowed=3)]).lines())
    assert any("none until it allows one" in line for line in plan(pods, [budget(allowed=0)]).lines())


# --- what is left of a budget ------------------------------------------------------------------------------------------


@pytest.fixture
def moving(pod, now):
    def make(name, *, asked=None, in_flight=False, outcome=Outcome.LEFT, **fields):
        (one,) = classify([pod(name, **fields)], Rules(), daemonsets=frozenset(), now=now)
        return Moving(sorted=one, asked=asked or {}, in_flight=in_flight, outcome=outcome)

    return make


def test_what_was_asked_for_and_does_not_show_yet_counts_as_used(budget, moving):
    two = budget(allowed=2, version="7")
    assert headroom(two, []) == 2
    assert headroom(two, [moving("a", asked={"apps/web": "7"}, in_flight=True)]) == 1
    assert headroom(two, [moving("a", asked={"apps/web": "6"}, in_flight=True)]) == 1
    assert headroom(two, [moving("a", asked={"apps/web": "6"}, deleted_ago=0)]) == 2
    assert headroom(two, [moving("a", asked={"apps/web": "7"}, deleted_ago=0)]) == 1
    assert headroom(two, [moving("a", asked={"apps/other": "7"}, in_flight=True)]) == 2
    granted = budget(allowed=1, version="8", disrupted=["a"])
    assert headroom(granted, [moving("a", asked={"apps/web": "7"})]) == 1


def test_a_budget_whose_status_is_behind_allows_nothing(budget):
    assert headroom(budget(allowed=2, generation=2), []) == 0


@given(allowed=st.integers(0, 5), flights=st.integers(0, 10))
def test_no_more_are_under_way_than_a_budget_allows(allowed, flights):
    """Whoever starts only while there is headroom never has more in flight than the budget allows."""
    from types import SimpleNamespace as Thing

    status = Thing(observed_generation=1, disrupted_pods=None, disruptions_allowed=allowed)
    one = Thing(status=status, metadata=Thing(generation=1, resource_version="1"), namespace="apps", name="web")
    under_way = []
    for number in range(flights):
        if headroom(one, under_way) > 0:
            outcome = Thing(over=False)
            pod = Thing(name=f"p{number}", terminating=False)
            under_way.append(Thing(asked={"apps/web": "1"}, pod=pod, outcome=outcome, in_flight=True))
    assert len(under_way) == min(allowed, flights)


@given(tries=st.integers(0, 50), asked=st.floats(0, 60))
def test_e10_a_pause_is_never_zero_and_bounded_and_no_shorter_than_asked(tries, asked):
    length = pause(tries, at_least=asked)
    assert timedelta(seconds=max(0.25, asked)) <= length <= timedelta(seconds=10 + asked + 0.001)


def test_e10_pauses_are_jittered():
    assert len({pause(3) for _ in range(20)}) > 10


def test_a_refused_budget_is_asked_again_when_it_changes_but_not_without_end(budget, now):
    pressure = Pressure()
    assert pressure.open(budget(), now)
    for round_ in range(1, 6):
        pressure.refused("apps/web", str(round_), now)
        assert not pressure.open(budget(version=str(round_)), now)
        assert pressure.open(budget(version="new"), now) is (round_ <= 3)
    assert pressure.open(budget(version="5"), now + timedelta(seconds=11))
    pressure.granted("apps/web")
    assert pressure.open(budget(version="5"), now)


@pytest.fixture
def compared(monkeypatch):
    """How often a budget's selector is held against a pod."""
    calls = []
    monkeypatch.setattr("remediator.drain.budgets.covers", lambda *about: (calls.append(about), covers(*about))[1])
    return calls


def test_a_plan_holds_each_budget_against_each_pod_of_its_namespace_once(pod, budget, plan, compared):
    """With 500 pods and 50 budgets it took most of a second, in which the event loop stood still."""
    pods = [pod(f"web-{n}", labels={"app": f"app-{n % 5}"}) for n in range(20)]
    budgets = [budget(f"app-{n}", selector={"matchLabels": {"app": f"app-{n}"}}, maxUnavailable=0, allowed=0) for n in range(5)]
    made = plan(pods, [*budgets, budget("elsewhere", namespace="other")])
    assert [len(guard.pods) for guard in made.guards] == [4] * 5
    assert [refusal.reason for refusal in made.refusals] == [Reason.PDB] * 5
    assert len(compared) == 20 * 5


def test_which_budgets_cover_a_pod_is_found_anew_only_where_something_changed(pod, budget, compared):
    covering, web = Covering(), pod()
    first = budget(allowed=1)
    covering.look([first])
    assert covering.of(web) == (first,)
    used = budget(allowed=0)
    covering.look([used])
    assert covering.of(web) == (used,), "as it is now"
    assert len(compared) == 1
    other = budget(allowed=0, selector={"matchLabels": {"app": "db"}}, generation=2)
    covering.look([other])
    assert covering.of(web) == ()
    assert covering.of(pod(labels={"app": "db"})) == (other,), "the pod's labels changed"
    covering.look([])
    assert covering.of(web) == ()
