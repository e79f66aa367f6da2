"""What mkdocs does not know of this repository: pages at its top, links out of ``docs/``, folders in the navigation.

Comes in: mkdocs' events (``hooks`` in mkdocs.yml). Goes out: the same pages with links that work on the site. A link to a file outside
of ``docs/`` leads to where the repository can be read (``extra.repository``); where that is not said, its path is named. A link to
nothing is a warning, which ends a strict build.
"""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from collections.abc import Callable

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

log = logging.getLogger("mkdocs.hooks.site")

ROOT = Path(__file__).resolve().parent.parent
TOP = {"index.md": "README.md", "architecture.md": "ARCHITECTURE.md", "contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
"""Pages of the site that lie at the top of the repository."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages of a folder where the navigation names the folder."""
    config.nav = _unfolded(config.nav)
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages from the top of the repository."""
    for page, source in TOP.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, **_: Any) -> str:
    """Make the page's links work on the site."""
    return relinked(markdown, page.file.src_uri, (config.extra["repository"] or "").rstrip("/"), log.warning)


def relinked(markdown: str, page: str, repository: str, warn: Callable[..., object]) -> str:
    """A page's text with links that work on the site.

    Args:
        markdown: the text, with links as they work in the repository.
        page: its path on the site, from ``docs/``.
        repository: the address of the repository's files, or "".
        warn: is told of links that lead to nothing.
    """
    source = TOP.get(page, f"docs/{page}")
    here = posixpath.dirname(source)

    def link(found: re.Match[str]) -> str:
        text, target, part = found["text"], found["target"], found["part"] or ""
        path = posixpath.normpath(posixpath.join(here, target))
        if not (ROOT / path).exists():
            warn("%s links to %s, which does not exist", source, target)
        if on_site := _on_site(path):
            return f"{text}({posixpath.relpath(on_site, posixpath.dirname(page) or '.')}{part})"
        if repository:
            return f"{text}({repository}/{path}{part})"
        inner = text[1:-1]
        return inner if inner.strip("`").rstrip("/") == path else f"{inner} (`{path}`)"

    pieces = re.split(r"(^```.*?^```$)", markdown, flags=re.MULTILINE | re.DOTALL)
    pattern = re.compile(r"(?P<text>\[(?:[^\[\]]|!\[[^\]]*\]\([^)]*\))*\])\((?![a-z]+:|#)(?P<target>[^)#\s]+)(?P<part>#[^)\s]*)?\)")
    return "".join(piece if piece.startswith("```") else pattern.sub(link, piece) for piece in pieces)


def _on_site(path: str) -> str | None:
    """Where a path of the repository is on the site; for a folder its first page."""
    for page, source in TOP.items():
        if path == source:
            return page
    if not path.startswith("docs/") or path.endswith(".py"):
        return None
    pages = sorted((ROOT / path).glob("*.md"))
    return (pages[0].relative_to(ROOT) if pages else Path(path)).relative_to("docs").as_posix()


def _unfolded(nav: Any) -> Any:
    if isinstance(nav, list):
        return [_unfolded(one) for one in nav]
    if isinstance(nav, dict):
        return {title: _unfolded(one) for title, one in nav.items()}
    if isinstance(nav, str) and nav.endswith("/"):
        return [f"{nav}{page.name}" for page in sorted((ROOT / "docs" / nav).glob("*.md"))]
    return nav
