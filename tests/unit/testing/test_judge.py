from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from remediator.sim.calls import Logged
from remediator.sim.scenarios import ANYTHING, Act, May, MustNot, Truth
from remediator.testing import Deed, Place, deeds, judge

BROKE = datetime(2026, 1, 5, 10, tzinfo=UTC)
PODS = {("kube-system", "cilium-x"): Place("node-3", agent=True), ("apps", "shop-1"): Place("node-3")}


def entry(verb, resource, name, *, namespace="", body=None, subresource="", status=200, seconds=0, **more):
    return Logged(
        seq=1,
        at=BROKE + timedelta(seconds=seconds),
        service="kubernetes",
        verb=verb,
        method="",
        path="",
        query={},
        user_agent="",
        audit_id="",
        content_type="",
        body=body,
        status=status,
        resource=resource,
        namespace=namespace,
        name=name,
        subresource=subresource,
        **more,
    )


def acts(*log):
    return [(deed.act, deed.target) for deed in deeds(log, PODS)]


def patched(body):
    return [deed.act for deed in deeds([entry("patch", "nodes", "node-3", body=body)], PODS)]


def test_pods_that_go_are_told_by_their_node():
    eviction = {"kind": "Eviction", "metadata": {"name": "shop-1"}}
    assert acts(
        entry("delete", "pods", "cilium-x", namespace="kube-system"),
        entry("delete", "pods", "shop-1", namespace="apps"),
        entry("create", "pods", "shop-1", namespace="apps", subresource="eviction", body=eviction, status=201),
    ) == [(Act.RESTART_AGENT, "Node/node-3"), (Act.DELETE_POD, "Node/node-3"), (Act.EVICT, "Node/node-3")]


@pytest.mark.parametrize(
    ("body", "act"),
    [
        ({"spec": {"unschedulable": True}}, [Act.CORDON]),
        ({"spec": {"unschedulable": None}}, [Act.UNCORDON]),
        ({"spec": {"unschedulable": False}}, [Act.UNCORDON]),
        (
            [
                {"op": "test", "path": "/metadata/resourceVersion", "value": "7"},
                {"op": "add", "path": "/spec/unschedulable", "value": True},
            ],
            [Act.CORDON],
        ),
        ([{"op": "remove", "path": "/spec/unschedulable"}], [Act.UNCORDON]),
        ([{"op": "add", "path": "/spec", "value": {"unschedulable": True}}], [Act.CORDON]),
        ({"metadata": {"labels": {"remediator.dev/bgp-drain": "true"}}}, [Act.WITHDRAW]),
        ({"metadata": {"labels": {"remediator.dev/bgp-drain": None}}}, [Act.ANNOUNCE]),
        ([{"op": "add", "path": "/metadata/labels/remediator.dev~1bgp-drain", "value": "true"}], [Act.WITHDRAW]),
        ([{"op": "replace", "path": "/metadata/labels/bgp", "value": "off"}], [Act.WITHDRAW]),
        ([{"op": "replace", "path": "/metadata/labels/bgp", "value": "enabled"}], [Act.ANNOUNCE]),
        ({"spec": {"taints": [{"key": "a"}]}}, [Act.TAINT]),
        ({"metadata": {"labels": {"team": "x"}}}, [Act.OTHER]),
        ({"metadata": {"annotations": {"remediator.dev/cordoned-by": "{}"}}}, []),
        ({"metadata": {"annotations": {"a": "b"}}, "spec": {"unschedulable": True}}, [Act.CORDON]),
    ],
)
def test_what_a_patch_of_a_node_does(body, act):
    assert patched(body) == act


def test_what_changes_nothing_is_no_deed():
    assert (
        acts(
            entry("delete", "pods", "cilium-x", namespace="kube-system", status=404),
            entry("delete", "pods", "cilium-x", namespace="kube-system", dry_run=True),
            entry("create", "pods", "shop-1", subresource="eviction", status=201, body={"deleteOptions": {"dryRun": ["All"]}}),
            entry("create", "events", "", namespace="default", status=201),
            entry("patch", "leases.coordination.k8s.io", "node-node-3", namespace="medik8s-leases"),
            entry("list", "pods", ""),
        )
        == []
    )


def test_other_objects():
    assert acts(
        entry("patch", "deployments.apps", "shop", namespace="apps"), entry("delete", "nodes", "node-3"), entry("patch", "services", "dns")
    ) == [(Act.ROLLOUT, "Deployment/apps/shop"), (Act.OTHER, "Node/node-3"), (Act.OTHER, "services/dns")]


def deed(act, target="Node/node-3", seconds=0):
    return Deed(BROKE + timedelta(seconds=seconds), act, target)


def truth(*may, must_not=()):
    return Truth(target="", cause="", cure="", alerts=(), may=may, must_not=must_not)


RESTART = deed(Act.RESTART_AGENT)


@pytest.mark.parametrize(
    ("said", "done", "wrong"),
    [
        (truth(), [RESTART], [RESTART]),
        (truth(May(Act.RESTART_AGENT, "Node/node-3")), [RESTART], []),
        (truth(May(Act.RESTART_AGENT, "Node/node-*")), [RESTART], []),
        (truth(May(Act.RESTART_AGENT, "Node/node-4")), [RESTART], [RESTART]),
        (truth(May(Act.CORDON, "Node/node-3")), [RESTART], [RESTART]),
        (truth(), [deed(Act.UNCORDON), deed(Act.ANNOUNCE)], []),
        (truth(must_not=(MustNot(Act.UNCORDON, "Node/node-3", "theirs"),)), [deed(Act.UNCORDON)], [deed(Act.UNCORDON)]),
        (truth(must_not=(MustNot(Act.UNCORDON, "Node/node-4", "theirs"),)), [deed(Act.UNCORDON)], []),
        (truth(must_not=(ANYTHING,)), [deed(Act.ANNOUNCE)], [deed(Act.ANNOUNCE)]),
        (truth(May(Act.CORDON, "*"), must_not=(MustNot(None, "Node/node-3", "hands off"),)), [deed(Act.CORDON)], [deed(Act.CORDON)]),
    ],
)
def test_what_is_wrong(said, done, wrong):
    assert list(judge(said, done, broke=BROKE)) == wrong


def test_more_often_than_allowed():
    done = [deed(Act.RESTART_AGENT, seconds=300), deed(Act.RESTART_AGENT, seconds=10)]
    assert judge(truth(May(Act.RESTART_AGENT, "*", most=1)), done, broke=BROKE) == (done[0],), "the later one"
    assert judge(truth(May(Act.RESTART_AGENT, "*", most=2)), done, broke=BROKE) == ()


def test_too_early():
    may = May(Act.RESTART_AGENT, "*", after=timedelta(minutes=1))
    early, late = deed(Act.RESTART_AGENT, seconds=59), deed(Act.RESTART_AGENT, seconds=60)
    assert judge(truth(may), [early, late], broke=BROKE) == (early,)


def test_it_says_why():
    (wrong,) = judge(truth(must_not=(MustNot(None, "*", "it is theirs"),)), [RESTART], broke=BROKE)
    assert str(wrong) == "10:00:00 restart agent Node/node-3: WRONG, it is theirs"
    (wrong,) = judge(truth(), [RESTART], broke=BROKE)
    assert "not among what is right" in str(wrong)
