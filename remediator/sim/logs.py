"""``kubectl logs`` of the simulated API: what the containers of a pod wrote, as far as a test or a person put it there.

In: a pod, a container, how much. Out: lines with times. Refused as the API server refuses it: a container that the pod has not, one that
has not started, the one before where none was ever restarted; and a kubelet that is gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remediator.sim import status
from remediator.sim.objects import dig, key_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from remediator.sim.calls import Call
    from remediator.sim.cluster import Cluster

__all__ = ["container_log"]


def container_log(cluster: Cluster, call: Call, query: Mapping[str, str]) -> str:
    """The text. Raises ApiError."""
    pod = cluster.read(call.resource, call.name, call.namespace)
    names = [str(one["name"]) for one in dig(pod, "spec.containers") or ()]
    container, previous = query.get("container") or names[0], query.get("previous") == "true"
    if container not in names:
        raise status.bad_request(f"container {container} is not valid for pod {call.name}")
    node = str(dig(pod, "spec.nodeName") or "")
    if not cluster.kubelet_alive(node):
        why = f"Get https://{cluster.node_address(node)}:10250/containerLogs/{'/'.join(key_of(pod))}/{container}: connection refused"
        raise status.ApiError(500, "InternalError", f"Internal error occurred: {why}")
    found = next((one for one in dig(pod, "status.containerStatuses") or () if one["name"] == container), None)
    if found is None:
        raise status.bad_request(f'container "{container}" in pod "{call.name}" is waiting to start: ContainerCreating')
    ended = dig(found, "lastState.terminated")
    if previous and not ended:
        raise status.bad_request(f'previous terminated container "{container}" in pod "{call.name}" not found')
    at = str(ended["finishedAt"] if previous else dig(found, "state.running.startedAt") or dig(pod, "status.startTime"))
    written = cluster.logs.get((pod["metadata"]["uid"], container), [])
    lines = (
        [f"{at} container {container} ended with exit code {ended['exitCode']}"] if previous else [f"{at} {container} started", *written]
    )
    text = "".join(f"{line}\n" for line in lines[-int(query.get("tailLines") or len(lines)) :])
    return text[: int(query.get("limitBytes") or len(text))]
