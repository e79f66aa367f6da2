"""The Kubernetes API for stand-ins: JSON in, JSON out, one connection, blocking. Made for threads, each with its own.

It is none of the product's code, so that a stand-in cannot share a mistake with what it is there to judge.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
import urllib.parse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

Object = dict[str, Any]
_TRIES = 10
_KINDS = {kind: f"application/{kind}-patch+json" for kind in ("merge", "strategic-merge", "json")}


class ApiError(Exception):
    """The API server said no."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(f"{code}: {said}")
        self.code = code


class Api:
    """One user of one API server, by its kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        config = json.loads(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self._token = user["token"]
        where = urllib.parse.urlsplit(cluster["server"])
        context = ssl.create_default_context(cafile=cluster["certificate-authority"])
        self._connection = http.client.HTTPSConnection(str(where.hostname), where.port, timeout=15, context=context)

    def call(self, method: str, path: str, body: Any = None, *, content: str = "application/json") -> Any:
        """What the server answers; :class:`ApiError` where that is no success."""
        data = None if body is None else json.dumps(body)
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": content}
        status, text = self._again(method, path, data, headers)
        tries = 1
        while status == 429 and tries < _TRIES:  # a kind whose storage is not ready yet, or a server that has too much to do
            time.sleep(1)
            status, text = self._again(method, path, data, headers)
            tries += 1
        if status >= 300:
            raise ApiError(status, text.decode(errors="replace")[:500])
        return json.loads(text)

    def _again(self, method: str, path: str, data: str | None, headers: dict[str, str]) -> tuple[int, bytes]:
        try:
            return self._once(method, path, data, headers)
        except http.client.RemoteDisconnected:  # the server had closed a connection that was idle for long
            return self._once(method, path, data, headers)

    def _once(self, method: str, path: str, data: str | None, headers: dict[str, str]) -> tuple[int, bytes]:
        try:
            self._connection.request(method, path, data, headers)
            reply = self._connection.getresponse()
            return reply.status, reply.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()  # the next call opens it again
            raise

    def items(self, path: str) -> list[Object]:
        """Every object of a list; a list of a custom resource leaves nothing out either."""
        return list(self.call("GET", path)["items"])

    def get(self, path: str) -> Object | None:
        """The object, or None where there is none."""
        try:
            return dict(self.call("GET", path))
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    def create(self, path: str, body: Object) -> Object:
        return dict(self.call("POST", path, body))

    def patch(self, path: str, body: Any, kind: str = "merge") -> Object:
        return dict(self.call("PATCH", path, body, content=_KINDS[kind]))

    def replace(self, path: str, body: Object) -> Object:
        return dict(self.call("PUT", path, body))

    def delete(self, path: str) -> None:
        try:
            self.call("DELETE", path)
        except ApiError as error:
            if error.code != 404:
                raise

    def close(self) -> None:
        self._connection.close()


def selects(selector: Object | None, labels: dict[str, str], *, absent: bool = False) -> bool:
    """Whether a label selector takes ``labels``. ``absent``: what no selector at all means, which differs from field to field."""
    if selector is None:
        return absent
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    return all(_fits(one, labels) for one in selector.get("matchExpressions", ()))


def _fits(expression: Object, labels: dict[str, str]) -> bool:
    key, values = expression["key"], expression.get("values", ())
    match expression["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    raise ValueError(f"no operator of label selectors: {expression['operator']}")
