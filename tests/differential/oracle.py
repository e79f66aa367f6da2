"""The real ``kubectl drain`` as the one to compare with: how it is called, and what its words mean in our reason codes.

In come a copy of a state and the kubectl binary; out comes an ``Outcome``. Words that are not known are an error, not a guess: a kubectl
that speaks otherwise must not look like one that refuses nothing. (Its words: kubectl 1.36, pkg/drain/drain.go and pkg/cmd/drain/drain.go.)
"""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from differential.outcome import Before, Outcome, in_time, look

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from differential.cluster import Cluster
    from differential.copies import Copy
    from differential.states import Flags

__all__ = ["Kubectl", "arguments", "count_calls", "refusals"]

_RESPONSE = re.compile(r'^I\d{4} .* round_trippers\.go:\d+\] "Response" ', re.MULTILINE)
_REFUSED = re.compile(r"cannot delete (.+?): ((?:[\w.-]+/[\w.-]+(?:, )?)+)")
_EVICTING = re.compile(r'error when evicting pods/"([^"]+)" -n "([^"]+)": (.+)')
_RETRYING = re.compile(r'error when evicting pods/"([^"]+)" -n "([^"]+)" \(will retry after .+?\): .*disruption budget')
_WAITING = re.compile(r'error when waiting for pod "([^"]+)" in namespace "([^"]+)" to terminate: ')
_FILTERS = (
    (re.compile(r"Pods that declare no controller "), "unmanaged_pods"),
    (re.compile(r"Pods with local storage "), "local_storage"),
    (re.compile(r'daemonsets\.apps ".+" not found'), "unmanaged_pods"),
)
_SUMMARY = "There are pending nodes to be drained:"


def arguments(copy: Copy) -> list[str]:
    """How a person who knows the state's flags would call it."""
    flags: Flags = copy.state.flags
    found = ["drain", copy.home, "--ignore-daemonsets", f"--timeout={flags.timeout}s", "-v=6"]
    found += ["--force"] if flags.force else []
    found += ["--delete-emptydir-data"] if flags.delete_emptydir_data else []
    return found + ([f"--grace-period={flags.grace_period}"] if flags.grace_period is not None else [])


def count_calls(errors: str) -> int:
    """Answers of the API server that ``-v=6`` wrote down."""
    return len(_RESPONSE.findall(errors))


def refusals(errors: str) -> Iterator[tuple[str, str]]:
    """(reason code, namespace/name) of every pod that it complains of at its end. Raises ValueError for words that are not known."""
    lines = errors.splitlines()
    if _SUMMARY not in lines:
        raise ValueError(f"kubectl failed without the summary that is read here:\n{errors[-2000:]}")
    held = {f"{namespace}/{pod}" for pod, namespace in _RETRYING.findall(errors)}
    for line in lines[lines.index(_SUMMARY) + 2 :]:
        if line.strip():
            yield from _complaint(line, held)


def _complaint(line: str, held: set[str]) -> Iterator[tuple[str, str]]:
    if found := _REFUSED.fullmatch(line):
        reason = next((code for words, code in _FILTERS if words.match(found[1])), None)
        if reason is None:
            raise ValueError(f"kubectl refuses for a reason that is not known here: {line}")
        yield from ((reason, pod) for pod in found[2].split(", "))
    elif found := _EVICTING.fullmatch(line):
        pod = f"{found[2]}/{found[1]}"
        yield _why_not_evicted(pod, found[3], held), pod
    elif found := _WAITING.match(line):
        yield "deadline", f"{found[2]}/{found[1]}"
    else:
        raise ValueError(f"kubectl says something that is not known here: {line}")


def _why_not_evicted(pod: str, words: str, held: set[str]) -> str:
    if "more than one PodDisruptionBudget" in words:
        return "pdb"
    if "global timeout reached" in words:
        return "pdb" if pod in held else "deadline"
    raise ValueError(f"kubectl could not evict {pod} for a reason that is not known here: {words}")


@dataclass(frozen=True)
class Kubectl:
    """The binary, and how it finds the API server."""

    binary: str
    finds: Sequence[str]
    """``--kubeconfig=...``, or ``--server=...``"""
    cluster: Cluster

    async def drain(self, copy: Copy, before: Before) -> Outcome:
        """Run it to its end; what it did, and what it said."""
        began = time.monotonic()
        program = await asyncio.create_subprocess_exec(
            self.binary, *self.finds, *arguments(copy), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, errors = (text.decode() for text in await program.communicate())
        seconds = time.monotonic() - began
        fates, cordoned = await look(self.cluster, copy, before)
        no = frozenset((code, before.workload[pod]) for code, pod in refusals(errors)) if program.returncode else frozenset()
        said = "\n".join(line for line in (out + errors).splitlines() if not re.match(r"^I\d{4} ", line))
        return Outcome(
            drained=program.returncode == 0,
            fates=fates,
            refusals=no,
            cordoned=cordoned,
            seconds=seconds,
            in_time=in_time(seconds, copy.state.flags),
            calls=count_calls(errors),
            said=said,
        )
