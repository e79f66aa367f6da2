"""What is used of kubernetes-asyncio, without the rest of it: 840 generated modules, which are 30 MB and a third of a start.

``import kubernetes_asyncio`` runs the packages' ``__init__``, which import every API and every model there is. Here these packages are
known to the interpreter without that; a submodule is found as always, and whoever asks for anything else gets the whole package, late.
If somebody imported the library before, it is there as a whole, and nothing else differs.
"""

from __future__ import annotations

import importlib
import sys
from functools import partial
from importlib import util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["ApiClient", "ConfigException", "Configuration", "load_incluster_config", "load_kube_config"]

_LIBRARY = "kubernetes_asyncio"
_PACKAGES = (_LIBRARY, f"{_LIBRARY}.client", f"{_LIBRARY}.client.models")
_HOMES = {"ApiClient": "api_client", "Configuration": "configuration"}
"""What the library's own modules take from the package ``client``, and the module in which it is."""


def _postpone(name: str) -> None:
    """Put the package ``name`` in place with its ``__init__`` still to be run."""
    spec = util.find_spec(name)
    if spec is None:
        raise ModuleNotFoundError(f"no module named {name!r}", name=name)
    package = util.module_from_spec(spec)
    vars(package)["__getattr__"] = partial(_missing, package)
    sys.modules[name] = package
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, package)


def _missing(package: ModuleType, attribute: str) -> Any:
    """PEP 562: what the package does not have yet."""
    name = package.__name__
    if attribute.startswith("__"):
        raise AttributeError(f"module {name!r} has no attribute {attribute!r}")
    if name == f"{_LIBRARY}.client" and attribute in _HOMES:
        return getattr(importlib.import_module(f"{name}.{_HOMES[attribute]}"), attribute)
    if util.find_spec(f"{name}.{attribute}") is not None:
        return importlib.import_module(f"{name}.{attribute}")
    vars(package).pop("__getattr__", None)  # two threads may ask at once
    spec = package.__spec__
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(package)
    return getattr(package, attribute)


if _LIBRARY not in sys.modules:
    for _name in _PACKAGES:
        _postpone(_name)

from kubernetes_asyncio.client.api_client import ApiClient  # noqa: E402 - after what goes before it
from kubernetes_asyncio.client.configuration import Configuration  # noqa: E402 - likewise
from kubernetes_asyncio.config import ConfigException, load_incluster_config, load_kube_config  # noqa: E402 - likewise
