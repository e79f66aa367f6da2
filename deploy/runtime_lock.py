"""Prints of a lock file the part that the daemon needs, with its hashes: tools for tests and lint stay out of the image.

``python deploy/runtime_lock.py requirements.lock`` where everything in the lock is installed: there it is read what needs what.
"""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def needed(roots: list[str]) -> set[str]:
    """The names of ``roots`` and of all that they need on this machine."""
    found: set[tuple[str, frozenset[str]]] = set()
    waiting = [Requirement(text) for text in roots]
    while waiting:
        one = waiting.pop()
        key = canonicalize_name(one.name), frozenset(one.extras)
        if key in found:
            continue
        found.add(key)
        try:
            below = [Requirement(text) for text in requires(one.name) or ()]
        except PackageNotFoundError:
            raise SystemExit(f"{one.name} is not installed here; install the whole lock first") from None
        waiting += [r for r in below if r.marker is None or any(r.marker.evaluate({"extra": extra}) for extra in ("", *one.extras))]
    return {name for name, _ in found}


def part(lock: str, names: set[str]) -> str:
    """The blocks of ``lock`` for ``names``. Raises SystemExit for a name that it lacks."""
    blocks = re.findall(r"^[A-Za-z0-9][^\n]*\n(?:[ \t]+[^\n]*\n)*", lock, re.MULTILINE)
    kept = {canonicalize_name(re.split(r"[=\[; ]", block, maxsplit=1)[0]): block for block in blocks}
    if missing := sorted(names - kept.keys()):
        raise SystemExit(f"not in the lock: {', '.join(missing)}")
    return "".join(kept[name] for name in sorted(names))


def main() -> None:
    """Print it."""
    lock = Path(sys.argv[1])
    project = tomllib.loads((lock.parent / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    sys.stdout.write(part(lock.read_text(), needed([*project["dependencies"], *extras["postgres"], *extras["otel"]])))


if __name__ == "__main__":
    main()
