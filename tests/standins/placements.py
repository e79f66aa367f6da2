"""Pods that leave node-4 of a cluster of five, each with what stands for or against its having another place.

In: the namespace that all of it is in. Out: cases. The same ones are judged by the product and by the real scheduler.
Nodes and zones are those of the control plane in shared/: node-1 and node-4 in zone-b, node-2 and node-5 in zone-c, node-3 in zone-a.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

TARGET = "node-4"
ZONES = {"node-1": "zone-b", "node-2": "zone-c", "node-3": "zone-a", "node-4": "zone-b", "node-5": "zone-c"}
OTHERS = tuple(name for name in ZONES if name != TARGET)
HOST, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"

Object = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """``stays`` are pods elsewhere, ``things`` claims and the like; ``homeless`` names the pods of ``moves`` that find no place."""

    name: str
    moves: list[Object]
    stays: list[Object] = field(default_factory=list)
    things: list[Object] = field(default_factory=list)
    homeless: frozenset[str] = frozenset()

    @property
    def objects(self) -> list[Object]:
        return [*self.things, *self.stays, *self.moves]


def node(name: str, *, zone: str = "", cpu: str = "32", **labels: str) -> Object:
    """A node that is Ready."""
    found = {HOST: name, ZONE: zone or ZONES[name], **labels}
    status = {"conditions": [{"type": "Ready", "status": "True"}], "allocatable": {"cpu": cpu, "memory": "256Gi", "pods": "250"}}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": found}, "spec": {}, "status": status}


def apart(selector: Object | None, key: str = HOST, **more: Any) -> Object:
    """Anti-affinity."""
    return {"affinity": {"podAntiAffinity": {REQUIRED: [{"topologyKey": key, "labelSelector": selector, **more}]}}}


def together(selector: Object | None, key: str = HOST, **more: Any) -> Object:
    """Affinity."""
    return {"affinity": {"podAffinity": {REQUIRED: [{"topologyKey": key, "labelSelector": selector, **more}]}}}


def even(app: str, key: str = HOST, **more: Any) -> Object:
    """Spread."""
    constraint = {"topologyKey": key, "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": match(app), **more}
    return {"topologySpreadConstraints": [constraint]}


def match(app: str) -> Object:
    return {"matchLabels": {"app": app}}


class Furniture:
    """Makes objects in one namespace. Names of things outside of namespaces carry the namespace's."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

    def pod(self, name: str, at: str = TARGET, *, app: str = "", **spec: Any) -> Object:
        ports = [{"containerPort": spec["host_port"], "hostPort": spec.pop("host_port"), "protocol": "TCP"}] if "host_port" in spec else []
        container = {"name": "c", "image": "example.test/c:1", "ports": ports}
        metadata = {"name": name, "namespace": self.namespace, "labels": {"app": app or name}}
        whole = {"nodeName": at, "terminationGracePeriodSeconds": 0, "containers": [container], **spec}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": whole}

    def everywhere(self, app: str, places: tuple[str, ...] = OTHERS, **spec: Any) -> list[Object]:
        return [self.pod(f"{app}-{place}", place, app=app, **spec) for place in places]

    def using(self, name: str, claim: str, at: str = TARGET) -> Object:
        return self.pod(name, at, volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": claim}}])

    def storage(self, claim: str, nodes: list[str] | None, mode: str = "ReadWriteOnce", **labels: str) -> list[Object]:
        """A claim that is bound to a volume, reached from ``nodes`` only."""
        volume = f"{self.namespace}-{claim}"
        size, meta = {"storage": "1Gi"}, {"name": volume, "labels": labels}
        spec: Object = {"capacity": size, "accessModes": [mode], "csi": {"driver": "example.test", "volumeHandle": volume}}
        spec |= {"claimRef": {"namespace": self.namespace, "name": claim}, "persistentVolumeReclaimPolicy": "Retain"}
        if nodes is not None:
            expression = {"key": HOST, "operator": "In", "values": nodes}
            spec["nodeAffinity"] = {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}
        wanted = {"accessModes": [mode], "volumeName": volume, "storageClassName": "", "resources": {"requests": size}}
        return [
            {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": meta, "spec": {**spec, "storageClassName": ""}},
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": claim, "namespace": self.namespace},
                "spec": wanted,
            },
        ]

    def unbound(self, claim: str, zone: str) -> list[Object]:
        """A claim that waits for its pod, of a class that makes volumes in one zone only."""
        name = f"{self.namespace}-{claim}"
        topology = [{"matchLabelExpressions": [{"key": ZONE, "values": [zone]}]}]
        return [
            {
                "apiVersion": "storage.k8s.io/v1",
                "kind": "StorageClass",
                "metadata": {"name": name},
                "provisioner": "example.test",
                "volumeBindingMode": "WaitForFirstConsumer",
                "allowedTopologies": topology,
            },
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": claim, "namespace": self.namespace},
                "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": name, "resources": {"requests": {"storage": "1Gi"}}},
            },
        ]


def cases(namespace: str) -> list[Case]:  # noqa: PLR0915 - a table
    """All of them; no pod of one minds those of another."""
    f = Furniture(namespace)
    found: list[Case] = []

    def add(name: str, moves: list[Object], stays: list[Object] = [], things: list[Object] = [], *, homeless: str = "") -> None:  # noqa: B006 - never changed
        found.append(Case(name, moves, stays, things, frozenset(homeless.split())))

    add("nothing asked", [f.pod("plain")])
    three = OTHERS[:3]
    add("apart from pods that are everywhere", [f.pod("a1", **apart(match("a")))], f.everywhere("a"), homeless="a1")
    add("apart, and one node is left", [f.pod("b1", **apart(match("b")))], f.everywhere("b", three))
    add("apart by zone, one zone left", [f.pod("c1", **apart(match("c"), ZONE))], f.everywhere("c", ("node-2", "node-1")))
    add(
        "apart by zone, none left",
        [f.pod("d1", **apart(match("d"), ZONE))],
        f.everywhere("d", ("node-1", "node-2", "node-3")),
        homeless="d1",
    )
    add("more of one kind than nodes", [f.pod("e1", app="e", **apart(match("e")))], f.everywhere("e", **apart(match("e"))), homeless="e1")
    shy = f.everywhere("shy", ("node-1", "node-2", "node-3"), **apart(match("g1"), ZONE))
    add("pods that are there keep it away", [f.pod("g1")], shy, homeless="g1")
    add(
        "pods that are there keep it away from some", [f.pod("h1")], f.everywhere("shy-h", ("node-1", "node-2"), **apart(match("h1"), ZONE))
    )
    two = [f.pod(name, app="i", **apart(match("i"))) for name in ("i1", "i2")]
    add("two that go and cannot be together", two, f.everywhere("i", ("node-1", "node-2")))
    add("one of two finds a place", [f.pod("j1", app="j", **apart(match("j")))], f.everywhere("j", ("node-1", "node-2", "node-3")))
    keys = {"matchLabelKeys": ["app"]}
    add("apart by the pod's own label", [f.pod("k1", **apart({}, **keys))], [*f.everywhere("k1")], homeless="k1")
    add("apart by another label than its own", [f.pod("l1", **apart({}, matchLabelKeys=["app"]))], [*f.everywhere("l")])
    anywhere = apart(match("m"), namespaceSelector={})
    add("apart in every namespace", [f.pod("m1", **anywhere)], f.everywhere("m"), homeless="m1")
    named = apart(match("n"), namespaceSelector={"matchLabels": {"kubernetes.io/metadata.name": namespace}})
    add("apart in namespaces by label", [f.pod("n1", **named)], f.everywhere("n"), homeless="n1")
    add("apart in another namespace only", [f.pod("o1", **apart(match("o"), namespaces=["kube-system"]))], f.everywhere("o"))
    add("apart from nobody: no selector", [f.pod("p1", **apart(None))], f.everywhere("p1"))

    add("together with one that is there", [f.pod("q1", **together(match("q")))], f.everywhere("q", ("node-3",)))
    add("together with one in the zone", [f.pod("r1", **together(match("r"), ZONE))], f.everywhere("r", ("node-3",)))
    add("together with nobody", [f.pod("s1", **together(match("s")))], homeless="s1")
    add("the first of its kind", [f.pod("t1", app="t", **together(match("t")))])
    add("together with another that goes", [f.pod("u1", **together(match("u2"))), f.pod("u2")])
    back = {"tolerations": [{"operator": "Exists"}]}
    add("together with one that stays behind", [f.pod("v1", **together(match("v")))], [f.pod("v", app="v", **back)], homeless="v1")
    add("no node has the key", [f.pod("w1", app="w", **together(match("w"), "example.test/rack"))], homeless="w1")

    add("the empty target counts as a place", [f.pod("x1", app="x", **even("x"))], f.everywhere("x"), homeless="x1")
    add("it does not where taints count", [f.pod("y1", app="y", **even("y", nodeTaintsPolicy="Honor"))], f.everywhere("y"))
    add("spread by zone", [f.pod("z1", app="z", **even("z", ZONE))], f.everywhere("z", ("node-2", "node-1")))
    uneven = [*f.everywhere("aa", ("node-2", "node-3")), f.pod("aa-more", "node-3", app="aa")]
    add("spread by zone, target's own has none", [f.pod("aa1", app="aa", **even("aa", ZONE))], uneven)
    few = even("bb", ZONE, minDomains=4)
    add("too few zones", [f.pod("bb1", app="bb", **few)], f.everywhere("bb", ("node-1", "node-2", "node-3")), homeless="bb1")
    only = {"nodeSelector": {ZONE: "zone-c"}}
    in_zone = f.everywhere("cc", ("node-2",))
    add("nodes that its selector leaves out are no places", [f.pod("cc1", app="cc", **even("cc"), **only)], in_zone)
    ignore = even("dd", nodeAffinityPolicy="Ignore")
    add(
        "and are some where that is ignored",
        [f.pod("dd1", app="dd", **ignore, **only)],
        f.everywhere("dd", ("node-2", "node-5")),
        homeless="dd1",
    )
    add("a key that some nodes lack", [f.pod("ee1", app="ee", **even("ee", "node-role.kubernetes.io/control-plane"))])
    add("a wish is no constraint", [f.pod("ff1", app="ff", **even("ff", whenUnsatisfiable="ScheduleAnyway"))], f.everywhere("ff"))
    many = [f.pod(f"gg{n}", app="gg", **even("gg", nodeTaintsPolicy="Honor")) for n in range(1, 6)]
    add("five over four nodes", many)
    of_kind = even("hh", matchLabelKeys=["app"])
    of_kind["topologySpreadConstraints"][0]["labelSelector"] = {}
    add("spread of those with the same label", [f.pod("hh1", app="hh", **of_kind)], f.everywhere("hh"), homeless="hh1")

    add("a host port that is taken everywhere", [f.pod("ii1", host_port=31001)], f.everywhere("ii", host_port=31001), homeless="ii1")
    add("a host port that is free somewhere", [f.pod("jj1", host_port=31002)], f.everywhere("jj", three, host_port=31002))

    def by_name(name: str) -> Object:
        term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}
        return {"affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [term]}}}}

    add("by the name of the target", [f.pod("kk1", **by_name(TARGET))], homeless="kk1")
    add("by the name of another node", [f.pod("ll1", **by_name("node-2"))])

    add("a volume of the target", [f.using("mm1", "mm")], things=f.storage("mm", [TARGET]), homeless="mm1")
    add("a volume of another node", [f.using("nn1", "nn")], things=f.storage("nn", ["node-2", TARGET]))
    add("a volume reached from everywhere", [f.using("oo1", "oo")], things=f.storage("oo", None))
    add("a volume of a zone, by label", [f.using("pp1", "pp")], things=f.storage("pp", None, **{ZONE: "zone-a"}))
    add(
        "a volume of another zone, by label",
        [f.using("qq1", "qq")],
        things=f.storage("qq", None, **{ZONE: "zone-x__zone-y"}),
        homeless="qq1",
    )
    add("a volume for one pod, its own", [f.using("rr1", "rr")], things=f.storage("rr", None, "ReadWriteOncePod"))
    used = [f.using("ss", "ss", "node-3")]
    add("a volume for one pod, another's", [f.using("ss1", "ss")], used, f.storage("ss", None, "ReadWriteOncePod"), homeless="ss1")
    add("a volume that can be made nowhere", [f.using("tt1", "tt")], things=f.unbound("tt", "zone-x"), homeless="tt1")
    return found
