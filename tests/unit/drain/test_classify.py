"""F1-F7 and F9: what becomes of each pod, without a cluster."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.drain.classify import CRITICAL, Fate, Rules, classify
from remediator.drain.plan import make_plan
from remediator.reasons import Reason

DAEMON = ("apps/v1", "DaemonSet", "cilium")
EMPTY = {"name": "cache", "emptyDir": {}}
MEMORY = {"name": "cache", "emptyDir": {"medium": "Memory"}}


@pytest.fixture
def fate(now):
    def of(pod, *, daemonsets=(("apps", "cilium"),), evicted=(), **rules):
        (one,) = classify([pod], Rules(**rules), daemonsets=frozenset(daemonsets), now=now, evicted=frozenset(evicted))
        return one

    return of


def test_f1_mirror_pods_stay_by_annotation_and_by_owner(pod, fate):
    assert fate(pod(owner=None, annotations={"kubernetes.io/config.mirror": "x"})).fate is Fate.SKIP
    assert fate(pod(owner=("v1", "Node", "node-3"))).fate is Fate.SKIP


def test_f2_only_an_apps_v1_daemonset_counts_as_one(pod, fate):
    assert fate(pod(owner=DAEMON)).fate is Fate.SKIP
    assert fate(pod(owner=("apps.kruise.io/v1alpha1", "DaemonSet", "cilium"))).fate is Fate.EVICT
    assert fate(pod(owner=("apps/v1", "ReplicaSet", "cilium"))).fate is Fate.EVICT


def test_f3_a_finished_daemonset_pod_goes_and_one_without_its_daemonset_needs_force(pod, fate):
    assert fate(pod(owner=DAEMON, phase="Succeeded")).fate is Fate.EVICT
    orphan = fate(pod(owner=DAEMON), daemonsets=())
    assert (orphan.fate, orphan.reason) == (Fate.REFUSE, Reason.UNMANAGED_PODS)
    assert fate(pod(owner=DAEMON), daemonsets=(), force=True).fate is Fate.EVICT
    assert fate(pod(owner=DAEMON), daemonsets=[("other", "cilium")]).reason is Reason.UNMANAGED_PODS


def test_f4_pods_of_a_daemonset_that_exists_are_left_and_named(pod, fate):
    assert fate(pod(owner=DAEMON, volumes=[EMPTY]), force=True).why == "belongs to a DaemonSet"


@pytest.mark.parametrize("volume", [EMPTY, MEMORY])
def test_f5_an_empty_dir_refuses_unless_allowed_or_finished(pod, fate, volume):
    assert fate(pod(volumes=[volume])).reason is Reason.LOCAL_STORAGE
    assert fate(pod(volumes=[volume]), delete_emptydir_data=True).fate is Fate.EVICT
    assert fate(pod(volumes=[volume], phase="Failed")).fate is Fate.EVICT
    assert fate(pod(volumes=[{"name": "token", "projected": {}}])).fate is Fate.EVICT


def test_f6_no_controller_refuses_unless_forced_or_finished_and_any_controller_counts(pod, fate):
    assert fate(pod(owner=None)).reason is Reason.UNMANAGED_PODS
    assert fate(pod(owner=None), force=True).fate is Fate.EVICT
    assert fate(pod(owner=None, phase="Succeeded")).fate is Fate.EVICT
    assert fate(pod(owner=("db.example/v1", "Cluster", "main"))).fate is Fate.EVICT


def test_f7_long_overdue_deletions_are_left_out_and_others_waited_for(pod, fate):
    assert fate(pod(deleted_ago=120), skip_wait=timedelta(seconds=60)).fate is Fate.SKIP
    assert fate(pod(deleted_ago=30), skip_wait=timedelta(seconds=60)).fate is Fate.WAIT
    assert fate(pod(deleted_ago=120)).fate is Fate.WAIT
    assert fate(pod(deleted_ago=120, owner=None), skip_wait=timedelta(seconds=60)).fate is Fate.SKIP


def test_f9_everything_that_is_wrong_is_said_at_once_by_reason(pod, now):
    pods = [pod("a", owner=None), pod("b", volumes=[EMPTY]), pod("c", owner=DAEMON), pod("d"), pod("e", owner=None)]
    plan = make_plan(classify(pods, Rules(), daemonsets=frozenset(), now=now), [])
    assert [r.reason for r in plan.refusals] == [Reason.UNMANAGED_PODS, Reason.LOCAL_STORAGE]
    unmanaged, local = (r.detail for r in plan.refusals)
    assert unmanaged == "has no controller: apps/a, apps/e; its DaemonSet cilium does not exist any more: apps/c"
    assert local == "has an emptyDir: apps/b"


def test_a_pod_that_came_back_since_it_tolerates_the_cordon_is_not_evicted_for_ever(pod, fate):
    tolerant = pod("new", tolerations=[{"operator": "Exists"}])
    assert fate(tolerant).fate is Fate.EVICT
    assert fate(tolerant, evicted=["uid-web"]).fate is Fate.SKIP
    assert fate(pod("new"), evicted=["uid-web"]).fate is Fate.EVICT
    other = pod("new", tolerations=[{"key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoExecute"}])
    assert fate(other, evicted=["uid-web"]).fate is Fate.EVICT


def test_order_is_critical_last_then_priority_then_name(pod, now):
    pods = [pod("d", priority=CRITICAL), pod("c", priority=5), pod("b"), pod("a", priority=-1)]
    assert [one.pod.name for one in classify(pods, Rules(), daemonsets=frozenset(), now=now)] == ["a", "b", "c", "d"]


FIELDS = st.fixed_dictionaries(
    {
        "owner": st.sampled_from([None, DAEMON, ("apps/v1", "ReplicaSet", "web"), ("v1", "Node", "node-3")]),
        "phase": st.sampled_from(["Pending", "Running", "Succeeded", "Failed"]),
        "volumes": st.sampled_from([(), (EMPTY,)]),
        "deleted_ago": st.sampled_from([None, -20, 5, 500]),
        "annotations": st.sampled_from([{}, {"kubernetes.io/config.mirror": "x"}]),
    }
)
RULES = st.fixed_dictionaries({"force": st.booleans(), "delete_emptydir_data": st.booleans()})


@given(fields=FIELDS, rules=RULES, exists=st.booleans())
def test_nothing_that_would_be_lost_is_evicted_without_leave(pod, now, fields, rules, exists):
    one = pod(**fields)
    found = [("apps", "cilium")] if exists else []
    (result,) = classify([one], Rules(**rules), daemonsets=frozenset(found), now=now)
    if result.fate in (Fate.EVICT, Fate.WAIT) and not one.finished:
        assert one.controller is not None or rules["force"]
        assert not any(v.local for v in one.spec.volumes) or rules["delete_emptydir_data"]
        assert not (fields["owner"] == DAEMON and exists)
    if one.mirror:
        assert result.fate is Fate.SKIP
    assert (result.reason is not None) == (result.fate is Fate.REFUSE)
