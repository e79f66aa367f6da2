"""Whether pods fit: the table of tests/standins/placements.py, and what hypothesis makes up, by another judge."""

from __future__ import annotations

import json
from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from standins.placements import HOST, REQUIRED, TARGET, ZONE, ZONES, Furniture, apart, cases, even, match, node, together

from remediator.cluster.fit import fit
from remediator.cluster.load import read_load
from remediator.kube.client import Listing

NAMESPACE = "apps"
SPACES = [
    {"kind": "Namespace", "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}}} for name in (NAMESPACE, "other")
]
NODES = [node("node-1", **{"node-role.kubernetes.io/control-plane": ""}), *(node(name) for name in list(ZONES)[1:])]
TABLE = cases(NAMESPACE)


class Cluster:
    """Answers lists of what it holds, and remembers of which kinds."""

    def __init__(self, *objects):
        self.objects, self.asked = objects, Counter()

    async def list(self, kind, namespace="", *, decode, fields=""):
        return await self.collect(kind, msgspec.json.Decoder(decode).decode, namespace, fields=fields)

    async def collect(self, kind, convert, namespace="", *, fields=""):
        self.asked[kind.kind] += 1
        found = [o for o in self.objects if o["kind"] == kind.kind and namespace in ("", o["metadata"].get("namespace"))]
        if fields:
            node = fields.removeprefix("spec.nodeName=")
            found = [o for o in found if o["spec"].get("nodeName") == node]
        return Listing([convert(json.dumps(o).encode()) for o in found], "1")


async def judged(*objects, nodes=NODES):
    cluster = Cluster(*nodes, *SPACES, *objects)
    return fit(await read_load(cluster, TARGET), 0), cluster.asked


@pytest.mark.parametrize("case", TABLE, ids=[case.name for case in TABLE])
async def test_the_table(case):
    found, _ = await judged(*case.objects)
    assert {name.partition("/")[2] for name in found.homeless} == case.homeless, found
    assert len(found.places) + len(found.homeless) == len(case.moves)


async def test_all_of_it_at_once_and_that_few_lists_are_asked_for():
    found, asked = await judged(*(thing for case in TABLE for thing in case.objects))
    assert {name.partition("/")[2] for name in found.homeless} == {name for case in TABLE for name in case.homeless}
    kinds = ("Node", "Pod", "Namespace", "PersistentVolumeClaim", "PersistentVolume", "StorageClass")
    assert asked == dict.fromkeys(kinds, 1) | {"Pod": 2}, "those of the node, then all"


async def test_nobody_asks_for_what_no_pod_needs():
    _, asked = await judged(Furniture(NAMESPACE).pod("plain"))
    assert asked == {"Node": 1, "Pod": 2}


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("apart from pods that are everywhere", "pod anti-affinity forbids it on 4 nodes that it may run on"),
        ("pods that are there keep it away", "the anti-affinity of another pod forbids it on 4 nodes that it may run on"),
        ("together with nobody", "pod affinity is not met on 4 nodes that it may run on"),
        ("the empty target counts as a place", "the spread would be too uneven on 4 nodes that it may run on"),
        ("a host port that is taken everywhere", "a host port is taken on 4 nodes that it may run on"),
        ("a volume of the target", "its volumes are not reached on 4 nodes that it may run on"),
        ("a volume for one pod, another's", "its ReadWriteOncePod volume is in use by another pod on 4 nodes that it may run on"),
        ("by the name of the target", "no other node may run it"),
    ],
)
async def test_it_says_why(name, why):
    (case,) = [case for case in TABLE if case.name == name]
    found, _ = await judged(*case.objects)
    assert list(found.homeless.values()) == [why]


HERE = {"nodeSelector": {HOST: "node-2"}}


def on_its_way_out(pod):
    pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return pod


async def test_one_that_goes_keeps_away_from_another_that_goes():
    f = Furniture(NAMESPACE)
    found, _ = await judged(f.pod("a1", **HERE, **apart(match("a2"))), f.pod("a2", **HERE))
    assert found.places == {"apps/a2": "node-2"}


async def test_a_pod_on_its_way_out_does_not_count_for_spread_but_keeps_others_away():
    f = Furniture(NAMESPACE)
    leaving = [on_its_way_out(pod) for pod in f.everywhere("a")]
    spread, _ = await judged(f.pod("a1", app="a", **even("a")), *leaving)
    assert spread.homeless == {}
    both, _ = await judged(f.pod("a1", app="a", **even("a")), f.pod("b1", **even("a"), **together(match("b1"))), *leaving)
    assert both.homeless == {}
    away, _ = await judged(f.pod("a1", **apart(match("a"))), *leaving)
    assert list(away.homeless) == ["apps/a1"]
    gone, _ = await judged(
        f.pod("a1", **apart(match("a"), ZONE)), on_its_way_out(f.pod("a", app="a")), *f.everywhere("a", ("node-2", "node-3"))
    )
    assert gone.places == {"apps/a1": "node-1"}, "what leaves the target itself is gone by then"


async def test_a_selector_of_namespaces_leaves_the_pods_own_out():
    there = apart(match("a"), namespaceSelector={"matchLabels": {"kubernetes.io/metadata.name": "other"}})
    assert not (await judged(Furniture(NAMESPACE).pod("a1", **there), *Furniture(NAMESPACE).everywhere("a")))[0].homeless
    assert (await judged(Furniture(NAMESPACE).pod("a1", **there), *Furniture("other").everywhere("a")))[0].homeless


async def test_node_affinity_that_asks_for_nothing_fits_no_node():
    nothing = {"affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{}]}}}}
    assert (await judged(Furniture(NAMESPACE).pod("p", **nothing)))[0].homeless == {"apps/p": "no other node may run it"}


async def test_spread_with_an_empty_selector_counts_nobody():
    f = Furniture(NAMESPACE)
    of_all = even("")
    of_all["topologySpreadConstraints"][0]["labelSelector"] = {}
    assert not (await judged(f.pod("p", **of_all), *f.everywhere("a")))[0].homeless


async def test_the_fullest_node_that_takes_a_pod_gets_it():
    f = Furniture(NAMESPACE)
    there = f.pod("there", "node-3")
    there["spec"]["containers"][0]["resources"] = {"requests": {"memory": "1Gi"}}
    assert (await judged(f.pod("p"), there))[0].places == {"apps/p": "node-3"}


async def test_claims_of_several_namespaces():
    f, other = Furniture(NAMESPACE), Furniture("other")
    found, asked = await judged(f.using("p", "v"), *f.storage("v", ["node-2"]), other.using("p", "v"), *other.storage("v", ["node-5"]))
    assert found.places == {"apps/p": "node-2", "other/p": "node-5"}
    assert asked["PersistentVolumeClaim"] == 1


CLAIM = {"apiVersion": "v1", "kind": "PersistentVolumeClaim"}
EPHEMERAL = {"name": "v", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}


def storage_class(mode, **annotations):
    return {"kind": "StorageClass", "metadata": {"name": "c", "annotations": annotations}, "volumeBindingMode": mode}


@pytest.mark.parametrize(
    ("spec", "things", "words"),
    [
        ({"schedulerName": "mine"}, [], ("scheduler mine",)),
        ({"resourceClaims": [{"name": "gpu"}]}, [], ("device claims",)),
        ({"volumes": [{"name": "v", "rbd": {}}]}, [], ("volumes without a claim",)),
        ({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "v"}}]}, [], ("claims that are not there",)),
        ({"volumes": [EPHEMERAL]}, [], ("volumes of an unknown class",)),
        ({"volumes": [EPHEMERAL]}, [storage_class("Immediate")], ("volumes of an unknown class",)),
        (
            {"volumes": [EPHEMERAL]},
            [storage_class("Immediate", **{"storageclass.kubernetes.io/is-default-class": "true"})],
            ("volumes that are bound before their pod has a node",),
        ),
        (
            {"volumes": [EPHEMERAL]},
            [storage_class("WaitForFirstConsumer", **{"storageclass.kubernetes.io/is-default-class": "true"})],
            ("volumes that are still to be made",),
        ),
    ],
)
async def test_what_cannot_be_judged_is_said(spec, things, words):
    found, _ = await judged(Furniture(NAMESPACE).pod("p", **spec), *things)
    assert found.unjudged == {"apps/p": words}
    assert found.homeless == {}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"metadata": {"name": "v", "namespace": NAMESPACE, "deletionTimestamp": "2026-01-01T00:00:00Z"}}, "its claim v is being deleted"),
        ({"status": {"phase": "Lost"}}, "its claim v is lost"),
        ({"spec": {"volumeName": "gone"}}, "the volume gone of its claim v does not exist"),
    ],
)
async def test_claims_that_no_node_can_serve(change, why):
    claim = {**CLAIM, "metadata": {"name": "v", "namespace": NAMESPACE}, **change}
    found, _ = await judged(Furniture(NAMESPACE).using("p", "v"), claim)
    assert found.homeless == {"apps/p": why}


async def test_the_labels_of_a_volume_mean_nothing_on_nodes_without_any():
    """A cluster of one zone often labels no node."""
    f = Furniture(NAMESPACE)
    bare = [node(name) for name in ZONES]
    for one in bare:
        del one["metadata"]["labels"][ZONE]
    found, _ = await judged(f.using("p", "v"), *f.storage("v", None, **{ZONE: "zone-a"}), nodes=bare)
    assert found.homeless == {}


async def test_an_old_label_of_a_volume_and_a_new_one_of_nodes():
    f = Furniture(NAMESPACE)
    old = "failure-domain.beta.kubernetes.io/zone"
    found, _ = await judged(f.using("p", "v"), *f.storage("v", None, **{old: "zone-a"}))
    assert found.places == {"apps/p": "node-3"}


# What hypothesis makes up

SPECS = st.sampled_from(
    [
        lambda app: {},
        lambda app: apart(match(app)),
        lambda app: apart(match(app), ZONE),
        lambda app: apart(match("b"), ZONE, namespaceSelector={}),
        lambda app: together(match(app)),
        lambda app: together(match("b"), ZONE),
        even,
        lambda app: even(app, nodeTaintsPolicy="Honor"),
        lambda app: even(app, ZONE, maxSkew=2),
        lambda app: even("b", ZONE, minDomains=3),
        lambda app: {"nodeSelector": {ZONE: "zone-c"}, **even(app)},
        lambda app: {**together(match("a"), ZONE), **even(app)},
    ]
)
PODS = st.tuples(st.sampled_from("abc"), SPECS, st.sampled_from([100, 300, 900]))
LAID = st.lists(st.tuples(PODS, st.sampled_from(sorted(ZONES))), max_size=8)


def made(pods, places):
    f = Furniture(NAMESPACE)
    found = []
    for n, ((app, spec, cpu), place) in enumerate(zip(pods, places, strict=True)):
        pod = f.pod(f"p{n}-{place}", place, app=app, **spec(app))
        pod["spec"]["containers"][0]["resources"] = {"requests": {"cpu": f"{cpu}m"}}
        found.append(pod)
    return found


def anti(pod):
    return pod["spec"].get("affinity", {}).get("podAntiAffinity", {}).get("requiredDuringSchedulingIgnoredDuringExecution", [])


def speaks_of(term, pod):
    return term["labelSelector"]["matchLabels"]["app"] == pod["metadata"]["labels"]["app"]


def objections(pod, place, everybody, nodes):
    """What is against ``pod`` on ``place``, judged anew from the API's objects; ``everybody``: the others, as (pod, node)."""
    labels = {n["metadata"]["name"]: n["metadata"]["labels"] for n in nodes}
    here, spec = labels[place], pod["spec"]
    if any(here.get(k) != v for k, v in spec.get("nodeSelector", {}).items()):
        yield "selector"
    for term in anti(pod):
        if any(speaks_of(term, other) and labels[at][term["topologyKey"]] == here[term["topologyKey"]] for other, at in everybody):
            yield "anti-affinity"
    for other, at in everybody:
        if any(speaks_of(term, pod) and labels[at][term["topologyKey"]] == here[term["topologyKey"]] for term in anti(other)):
            yield "another's anti-affinity"
    for term in spec.get("affinity", {}).get("podAffinity", {}).get("requiredDuringSchedulingIgnoredDuringExecution", []):
        friends = [labels[at][term["topologyKey"]] for other, at in everybody if speaks_of(term, other)]
        if here[term["topologyKey"]] not in friends and (friends or not speaks_of(term, pod)):
            yield "affinity"
    for constraint in spec.get("topologySpreadConstraints", []):
        yield from _skewed(constraint, pod, place, everybody, labels)


def _skewed(constraint, pod, place, everybody, labels):
    key = constraint["topologyKey"]
    taints = constraint.get("nodeTaintsPolicy") == "Honor"
    selector = pod["spec"].get("nodeSelector", {}).items()
    count = {n for n, ls in labels.items() if all(ls.get(k) == v for k, v in selector) and not (taints and n == TARGET)}
    inside = Counter({labels[name][key]: 0 for name in count})
    inside.update(labels[at][key] for other, at in everybody if at in count and speaks_of(constraint, other))
    least = min(inside.values()) if len(inside) >= constraint.get("minDomains", 1) else 0
    if inside[labels[place][key]] + speaks_of(constraint, pod) - least > constraint["maxSkew"]:
        yield "spread"


def cpu_of(pod):
    return int(pod["spec"]["containers"][0]["resources"]["requests"]["cpu"].removesuffix("m"))


@settings(max_examples=150)
@given(st.lists(PODS, min_size=1, max_size=7), LAID)
async def test_every_place_that_it_finds_holds_by_another_judge(going, laid):
    nodes = [node(name, cpu="1500m") for name in ZONES]
    moving = made(going, [TARGET] * len(going))
    staying = [pod for pod in made([p for p, _ in laid], [at for _, at in laid]) if pod["spec"]["nodeName"] != TARGET]
    found, _ = await judged(*moving, *staying, nodes=nodes)
    by_name = {f"{NAMESPACE}/{pod['metadata']['name']}": pod for pod in moving}
    everybody = [(pod, pod["spec"]["nodeName"]) for pod in staying]
    for name, place in found.places.items():
        assert place != TARGET
        assert list(objections(by_name[name], place, everybody, nodes)) == [], (name, place)
        everybody.append((by_name[name], place))
    taken = Counter()
    for pod, place in everybody:
        taken[place] += cpu_of(pod)
    filled = Counter()
    for pod in staying:
        filled[pod["spec"]["nodeName"]] += cpu_of(pod)
    assert all(taken[name] <= max(1500, filled[name]) for name in ZONES)
    for name in found.homeless:  # and what it leaves out has no place now: nothing that came since was its way in
        for place in set(ZONES) - {TARGET}:
            full = taken[place] + cpu_of(by_name[name]) > 1500
            assert full or list(objections(by_name[name], place, everybody, nodes)), (name, place)


@settings(max_examples=150)
@given(st.lists(PODS, min_size=1, max_size=7), LAID)
async def test_one_more_free_node_never_refuses_what_was_allowed(going, laid):
    """Spread left out: there an empty node is one more place that may be the emptiest, for the scheduler too."""
    nodes = [node(name, cpu="1500m") for name in ZONES]
    calm = [
        (app, lambda app, spec=spec: {k: v for k, v in spec(app).items() if k != "topologySpreadConstraints"}, cpu)
        for app, spec, cpu in going
    ]
    moving = made(calm, [TARGET] * len(calm))
    staying = [pod for pod in made([p for p, _ in laid], [at for _, at in laid]) if pod["spec"]["nodeName"] != TARGET]
    before, _ = await judged(*moving, *staying, nodes=nodes)
    after, _ = await judged(*moving, *staying, nodes=[*nodes, node("node-9", zone="zone-z", cpu="64")])
    if not before.homeless:
        assert not after.homeless
    assert len(after.homeless) <= len(before.homeless)


def test_the_table_speaks_of_every_kind_of_ask():
    text = json.dumps([case.moves for case in TABLE])
    for word in (
        "podAffinity",
        "podAntiAffinity",
        "namespaceSelector",
        "matchLabelKeys",
        "minDomains",
        "nodeTaintsPolicy",
        "matchFields",
        HOST,
    ):
        assert word in text
