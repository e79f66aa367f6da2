"""What kubectl says, read as reason codes; the transcripts are those of kubectl 1.36 on a real control plane."""

from __future__ import annotations

import pytest
from differential.copies import Copy
from differential.generate import SEEDS, generate
from differential.oracle import arguments, count_calls, refusals
from differential.states import Flags, State

HELD = """\
I1125 18:13:07.757617    4642 loader.go:407] Config loaded from file:  kubeconfig
I1125 18:13:05.676217    4521 round_trippers.go:632] "Response" verb="GET" url="https://h/api/v1/nodes/n" status="200 OK" milliseconds=7
I1125 18:13:05.694912    4521 round_trippers.go:632] "Response" verb="PATCH" url="https://h/api/v1/nodes/n" status="200 OK" milliseconds=17
error when evicting pods/"db-0-0" -n "ns" (will retry after 5s): Cannot evict pod as it would violate the pod's disruption budget.
There are pending pods in node "n" when an error occurred: [error when evicting pods/"db-0-0" -n "ns": global timeout reached: 12s]
pod/db-0-0
error: unable to drain node "n" due to error: [error when evicting pods/"db-0-0" -n "ns": global timeout reached: 12s], continuing...
There are pending nodes to be drained:
 n
"""


def said(*complaints):
    return HELD + "\n".join(complaints) + "\n"


@pytest.mark.parametrize(
    ("complaint", "read"),
    [
        (
            "cannot delete Pods that declare no controller (use --force to override): ns/a, ns/b",
            [("unmanaged_pods", "ns/a"), ("unmanaged_pods", "ns/b")],
        ),
        (
            "cannot delete Pods with local storage (use --delete-emptydir-data to override): ns/cache-0-799fdd7ff8-6kmns",
            [("local_storage", "ns/cache-0-799fdd7ff8-6kmns")],
        ),
        ('cannot delete daemonsets.apps "orphan-0" not found: ns/orphan-0-0', [("unmanaged_pods", "ns/orphan-0-0")]),
        ('error when evicting pods/"db-0-0" -n "ns": global timeout reached: 12s', [("pdb", "ns/db-0-0")]),
        ('error when evicting pods/"other" -n "ns": global timeout reached: 12s', [("deadline", "ns/other")]),
        (
            'error when evicting pods/"a" -n "ns": This pod has more than one PodDisruptionBudget, which the eviction subresource does not',
            [("pdb", "ns/a")],
        ),
        ('error when waiting for pod "a" in namespace "ns" to terminate: context deadline exceeded', [("deadline", "ns/a")]),
    ],
)
def test_a_complaint_is_a_reason_and_its_pods(complaint, read):
    assert list(refusals(said(complaint))) == read


def test_several_complaints_are_all_read():
    both = said(
        "cannot delete Pods with local storage (use --delete-emptydir-data to override): ns/a",
        "cannot delete Pods that declare no controller (use --force to override): ns/b",
    )
    assert list(refusals(both)) == [("local_storage", "ns/a"), ("unmanaged_pods", "ns/b")]


@pytest.mark.parametrize(
    "words",
    [
        "cannot delete Pods of some new kind (use --new to override): ns/a",
        'error when evicting pods/"a" -n "ns": pods "a" is forbidden',
        "something else altogether",
    ],
)
def test_words_that_are_not_known_are_an_error(words):
    with pytest.raises(ValueError, match="not known here"):
        list(refusals(said(words)))


def test_a_failure_without_the_summary_is_an_error():
    with pytest.raises(ValueError, match="without the summary"):
        list(refusals("error: nodes is forbidden"))


def test_calls_are_counted_from_its_own_log():
    assert count_calls(HELD) == 2


def test_flags_are_handed_over():
    flags = Flags(force=True, delete_emptydir_data=True, grace_period=0, timeout=12)
    copy = Copy(State(seed=7, workloads=(), flags=flags), "kubectl")
    assert arguments(copy) == [
        "drain",
        "diff-7-kubectl-home",
        "--ignore-daemonsets",
        "--timeout=12s",
        "-v=6",
        "--force",
        "--delete-emptydir-data",
        "--grace-period=0",
    ]


def test_copies_share_no_names():
    copies = [Copy(generate(seed), who) for seed in SEEDS for who in ("kubectl", "ours")]
    named = [name for copy in copies for name in (copy.home, copy.spare, *copy.namespaces)]
    assert len(named) == len(set(named))
