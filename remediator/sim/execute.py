"""``kubectl exec`` of the simulated API: a websocket, and the commands that an agent's container knows.

In: a pod, a container, a command. Out: bytes on the channels of its output, and a Status on channel 3 that holds the exit code. Refused as
the API server refuses it: a request that is no upgrade, a container that the pod has not, no command. Where the kubelet is gone or the pod
does not run, the Status says so, as it does where the API server itself translates ``v5`` (KEP-4006). All but two programs are missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from aiohttp import web

from remediator.clock import iso
from remediator.sim import status
from remediator.sim.objects import dig, encode, key_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from remediator.sim.calls import Call
    from remediator.sim.cluster import Cluster
    from remediator.sim.objects import Obj

__all__ = ["execute"]

_PROTOCOLS: Final = ("v5.channel.k8s.io", "v4.channel.k8s.io")
_STDOUT, _STDERR, _STATUS = b"\x01", b"\x02", b"\x03"
_FRAME: Final = 32 * 1024
"""Bytes a message, as a kubelet copies them; it splits characters where it has to."""


class _Ended(NamedTuple):
    code: int
    stdout: str = ""
    stderr: str = ""


async def execute(cluster: Cluster, call: Call, request: web.Request) -> web.StreamResponse:
    """Answer one request on ``pods/exec``. Raises ApiError."""
    pod = cluster.read(call.resource, call.name, call.namespace)
    argv = request.query.getall("command", [])
    container = _container(pod, request.query.get("container", ""))
    if not argv:
        raise status.bad_request("you must specify at least one command for the container")
    if not any(request.query.get(stream, "") in ("1", "true") for stream in ("stdin", "stdout", "stderr")):
        raise status.bad_request("you must specify at least 1 of stdin, stdout, stderr")
    socket = web.WebSocketResponse(protocols=_PROTOCOLS, timeout=1)
    if not socket.can_prepare(request):
        raise status.bad_request("Upgrade request required")
    await socket.prepare(request)
    if broken := _broken(cluster, pod, container):
        await socket.send_bytes(_STATUS + encode(broken))
    else:
        await _play(socket, _run(cluster, pod, argv))
    await socket.close()
    return socket


async def _play(socket: web.WebSocketResponse, ended: _Ended) -> None:
    for channel, text in ((_STDOUT, ended.stdout), (_STDERR, ended.stderr)):
        data = text.encode()
        for start in range(0, len(data), _FRAME):
            await socket.send_bytes(channel + data[start : start + _FRAME])
    await socket.send_bytes(_STATUS + encode(_status(ended.code)))


def _status(code: int) -> Obj:
    if not code:
        return {"metadata": {}, "status": "Success"}
    message = f"command terminated with non-zero exit code: command terminated with exit code {code}"
    causes = [{"reason": "ExitCode", "message": str(code)}]
    return {"metadata": {}, "status": "Failure", "message": message, "reason": "NonZeroExitCode", "details": {"causes": causes}}


def _container(pod: Obj, asked: str) -> str:
    names = [str(container["name"]) for container in dig(pod, "spec.containers") or ()]
    if asked and asked not in names:
        raise status.bad_request(f"container {asked} is not valid for pod {key_of(pod)[1]}")
    return asked or names[0]


def _broken(cluster: Cluster, pod: Obj, container: str) -> Obj:
    """The Status that comes instead of output, if the command cannot start."""
    node = str(dig(pod, "spec.nodeName") or "")
    if not cluster.kubelet_alive(node):
        why = f"error sending request: Post https://{cluster.node_address(node)}:10250/exec: dial tcp: connect: connection refused"
    elif dig(pod, "status.phase") != "Running":
        why = f'unable to upgrade connection: container not found ("{container}")'
    else:
        return {}
    causes = {"causes": [{"message": why}]}
    body = status.ApiError(500, "InternalError", f"Internal error occurred: {why}", causes).body()
    return {key: value for key, value in body.items() if key not in ("kind", "apiVersion")}


def _run(cluster: Cluster, pod: Obj, argv: Sequence[str]) -> _Ended:
    if cluster.is_agent(pod):
        match list(argv):
            case ["cilium-dbg", "status", "--brief"]:
                return _status_brief(cluster, pod)
            case ["cilium-health", "status", "--probe", "-o", "json"]:
                return _health(cluster, pod)
            case _:
                pass
    return _Ended(127, stderr=f'exec: "{argv[0]}": executable file not found in $PATH\n')


def _hears(cluster: Cluster, pod: Obj) -> bool:
    """Whether the agent of this pod answers on its socket."""
    return cluster.agents.fault_of(pod) is None


def _status_brief(cluster: Cluster, pod: Obj) -> _Ended:
    """One line; the code is 1 only for what is wrong with the agent itself (cilium, cilium-dbg/cmd/status.go, pkg/client/client.go)."""
    if not _hears(cluster, pod):
        return _Ended(1, stderr="cilium: daemon unreachable\n")
    words = cluster.agents.complaints.get(pod["spec"]["nodeName"], "")
    return _Ended(int(words.startswith("cilium:")), f"error in {words}\n" if words else "OK\n")


def _health(cluster: Cluster, pod: Obj) -> _Ended:
    """A HealthStatusResponse (cilium, api/v1/health/openapi.yaml)."""
    if not _hears(cluster, pod):
        words = 'Put "http://localhost/v1beta/status/probe": dial unix /var/run/cilium/health.sock: connect: connection refused'
        return _Ended(1, stderr=f"Error: Cannot get status/probe: {words}\n\n")
    here = str(pod["spec"]["nodeName"])
    nodes = [_node(cluster, here, there) for there in cluster.node_names() if cluster.store.get(("cilium.io", "ciliumnodes"), there)]
    found = {"local": {"name": here}, "nodes": nodes, "timestamp": iso(cluster.clock.now())}
    return _Ended(0, encode(found).decode() + "\n")


def _node(cluster: Cluster, here: str, there: str) -> Obj:
    answered = here == there or cluster.network.probe_answered(here, there)
    latency = int(cluster.network.latency(here, there) * 1e9)
    cilium_node = cluster.store.get(("cilium.io", "ciliumnodes"), there) or {}
    endpoint = str(dig(cilium_node, "spec.health.ipv4") or "")
    return {
        "name": there,
        "host": {"primary-address": _path(cluster.node_address(there), latency, answered=answered)},
        "health-endpoint": {"primary-address": _path(endpoint, latency, answered=answered)},
    }


def _path(address: str, latency: int, *, answered: bool) -> Obj:
    if answered:
        return {"ip": address, "icmp": {"latency": latency}, "http": {"latency": latency}}
    refused = f'Get "http://{address}:4240/hello": dial tcp {address}:4240: connect: no route to host'
    return {"ip": address, "icmp": {"status": "Connection timed out"}, "http": {"status": refused}}
